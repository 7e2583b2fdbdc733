import cv2
import numpy as np
import pytest


@pytest.fixture(scope="session")
def camvid_root(tmp_path_factory):
    """Three drives of two blocky images each, in CamVid's layout, on which an epoch takes no time."""
    root = tmp_path_factory.mktemp("camvid")
    rng = np.random.default_rng(0)
    for split, drive in (("train", "0001TP"), ("train", "0006R0"), ("val", "0016E5")):
        for index in range(2):
            label = np.kron(rng.integers(0, 11, (4, 8), np.uint8), np.ones((8, 8), np.uint8))  # (32, 64)
            for folder, pixels in ((split, cv2.merge([label * 20] * 3)), (f"{split}annot", label)):
                (root / folder).mkdir(exist_ok=True)
                assert cv2.imwrite(str(root / folder / f"{drive}_{index}.png"), pixels)
    return root
