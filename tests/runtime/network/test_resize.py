import numpy as np
import pytest

from runtime.errors import FrameError
from runtime.network.resize import fit_image


def test_halves_a_picture_by_the_mean_of_each_two_by_two_block():
    image = np.zeros((4, 4, 3), np.uint8)
    image[:2, :2, 0] = [[10, 20], [30, 40]]
    image[2:, 2:, 2] = 200
    fitted = fit_image(image, (2, 2))
    assert fitted[..., 0].tolist() == [[25, 0], [0, 0]]
    assert fitted[..., 2].tolist() == [[0, 0], [0, 200]]


def test_enlarges_a_row_with_half_pixel_centres():
    image = np.zeros((1, 2, 3), np.uint8)
    image[0, 1] = 100
    # Output centres lie at -0.25, 0.25, 0.75 and 1.25 input pixels.
    assert fit_image(image, (1, 4))[0, :, 1].tolist() == [0, 25, 75, 100]


def test_keeps_a_picture_that_already_fits():
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    assert np.shares_memory(fit_image(image, (5, 7)), image)


@pytest.mark.parametrize("size_hw", [(3, 5), (64, 32), (1, 1)])
def test_gives_the_size_that_was_asked_for(size_hw):
    assert fit_image(np.zeros((16, 24, 3), np.uint8), size_hw).shape == (*size_hw, 3)


def test_takes_a_mirrored_view():
    image = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
    mirrored = image[:, ::-1]
    assert np.array_equal(fit_image(mirrored, (3, 4)), fit_image(mirrored.copy(), (3, 4)))


def test_refuses_what_is_no_bgr_picture():
    with pytest.raises(FrameError, match="COLOR_GRAY2BGR"):
        fit_image(np.zeros((4, 4), np.uint8), (2, 2))
