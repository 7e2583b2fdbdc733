import numpy as np
import pytest

from runtime.errors import FrameError
from runtime.frame import check_image


def test_passes_a_bgr_picture_on_without_a_copy():
    image = np.zeros((2, 3, 3), np.uint8)
    assert check_image(image) is image


@pytest.mark.parametrize(
    ("image", "says"),
    [
        (np.zeros((4, 4), np.uint8), "COLOR_GRAY2BGR"),
        (np.zeros((4, 4, 1), np.uint8), "COLOR_GRAY2BGR"),
        (np.zeros((4, 4, 4), np.uint8), "COLOR_BGRA2BGR"),
        (np.zeros((4, 4, 3), np.float32), "astype"),
        (np.zeros((0, 4, 3), np.uint8), "check the source"),
        (np.zeros((2, 4, 4, 3), np.uint8), "check the source"),
        (None, "got NoneType"),
    ],
)
def test_refuses_what_no_camera_gives(image, says):
    with pytest.raises(FrameError, match=says):
        check_image(image)
