from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from runtime.contract import CAMVID_CLASSES, ClassMap
from runtime.errors import DatasetError
from training.data import Sample, channel_statistics, class_weights, count_pixels, open_dataset


@dataclass(frozen=True)
class MemoryDataset:
    """A data set of given images and labels."""

    images: list[np.ndarray]
    labels: list[np.ndarray]
    name: str = "memory"
    split: str = "train"
    classes: ClassMap = CAMVID_CLASSES
    terms: str = ""

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Sample:
        return Sample(self.images[index], self.labels[index], str(index))


def test_mean_and_deviation_are_those_of_all_pixels_together() -> None:
    small = np.full((1, 2, 3), (10, 20, 30), np.uint8)
    large = np.full((2, 3, 3), (50, 20, 0), np.uint8)
    large[0, 0, 1] = 100
    labels = [np.zeros(image.shape[:2], np.uint8) for image in (small, large)]
    mean, std = channel_statistics(MemoryDataset([small, large], labels))
    # Two pixels of the first and six of the second: blue 2 x 10, 6 x 50; green 7 x 20, 1 x 100; red 2 x 30.
    assert mean == pytest.approx((40.0, 30.0, 7.5))
    assert std == pytest.approx((np.sqrt(300), np.sqrt(700), np.sqrt(168.75)))


def test_statistics_agree_with_numpy_on_files(camvid_root: Path) -> None:
    dataset = open_dataset("camvid", camvid_root, "train")
    pixels = np.concatenate([dataset[index].image_bgr.reshape(-1, 3) for index in range(6)]).astype(float)
    mean, std = channel_statistics(dataset)
    assert mean == pytest.approx(pixels.mean(axis=0))
    assert std == pytest.approx(pixels.std(axis=0))


def test_a_limit_spreads_over_the_whole_data_set(camvid_root: Path) -> None:
    dataset = open_dataset("camvid", camvid_root, "train")
    ends = np.concatenate([dataset[index].image_bgr.reshape(-1, 3) for index in (0, 5)]).astype(float)
    assert channel_statistics(dataset, max_images=2)[0] == pytest.approx(ends.mean(axis=0))


def test_images_without_contrast_are_refused() -> None:
    flat = np.full((4, 4, 3), 7, np.uint8)
    dataset = MemoryDataset([flat], [np.zeros((4, 4), np.uint8)])
    with pytest.raises(DatasetError, match="standard deviation of 0 over 1 images"):
        channel_statistics(dataset)


def test_pixels_are_counted_by_class_without_void() -> None:
    image = np.zeros((2, 2, 3), np.uint8)
    labels = [np.array([[0, 0], [3, 255]], np.uint8), np.array([[10, 0], [255, 255]], np.uint8)]
    counts = count_pixels(MemoryDataset([image, image], labels))
    assert counts.tolist() == [3, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1]


def test_rare_classes_weigh_more() -> None:
    weights = class_weights(np.array([900, 100, 0]))
    # 1 / ln(1.1 + 0.9), 1 / ln(1.1 + 0.1), 1 / ln(1.1)
    assert weights.tolist() == pytest.approx([1.442695, 5.484815, 10.492059])
    assert weights.dtype == np.float32


def test_weights_of_no_pixels_are_refused() -> None:
    with pytest.raises(DatasetError, match="expected labelled pixels"):
        class_weights(np.zeros(3, np.int64))
