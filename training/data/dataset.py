"""What a data set is, and what a training must know of it before it starts: colours and class shares."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from runtime.contract import ClassMap
from runtime.errors import DatasetError
from runtime.frame import Image

Bgr = tuple[float, float, float]

IGNORE = 255  # the label value of void in every Sample, whatever value the files use


@dataclass(frozen=True)
class Sample:
    """One image and its label.

    Attributes:
        image_bgr: uint8 (H, W, 3).
        label: uint8 (H, W), class indices or 255 for pixels without a class.
        name: identifies the sample within its data set, such as a file name.
        turn_is_guessed: the image carries an EXIF orientation, and sizes do not tell whether the label does
            too.
        soft: what networks say of the image, if they were asked: uint8 (h, w, groups of classes), any h and
            w; probabilities x 255, all 0 where nothing is said; behind them features, if there are any.
    """

    image_bgr: Image
    label: Image
    name: str
    turn_is_guessed: bool = False
    soft: Image | None = None


class SegmentationDataset(Protocol):
    """One split of a data set; samples are read when asked for, always the same for the same index.

    Attributes:
        name: of the data set, as `open_dataset` knows it.
        split: which part, in words that a measured accuracy is quoted with: "train", "val", "test",
            "held-out drive 0006R0".
        classes: names and colours; its `ignore_index` is 255, as in the samples.
        terms: what the data allows, in words; empty when nothing is known.
    """

    @property
    def name(self) -> str: ...  # noqa: D102

    @property
    def split(self) -> str: ...  # noqa: D102

    @property
    def classes(self) -> ClassMap: ...  # noqa: D102

    @property
    def terms(self) -> str: ...  # noqa: D102

    def __len__(self) -> int:
        """Return the number of samples."""
        ...

    def __getitem__(self, index: int) -> Sample:
        """Return a sample.

        Raises:
            IndexError: an index that is not in the data set.
            DatasetError: a sample that cannot be read or whose parts do not fit together.
        """
        ...


def channel_statistics(dataset: SegmentationDataset, max_images: int = 200) -> tuple[Bgr, Bgr]:
    """Return mean and standard deviation of each channel.

    Args:
        dataset: whose images are read.
        max_images: reads at most so many, evenly spread over the data set.

    Returns:
        mean_bgr and std_bgr over all pixels read, in units of 0..255.

    Raises:
        DatasetError: a sample that cannot be read, or a channel that has the same value everywhere.
    """
    chosen = np.linspace(0, len(dataset) - 1, min(max_images, len(dataset))).round().astype(int)
    total, squares, pixels = np.zeros(3), np.zeros(3), 0
    for index in chosen:
        image_bgr = dataset[int(index)].image_bgr
        mean, std = (moment.ravel() for moment in cv2.meanStdDev(image_bgr))
        count = image_bgr.shape[0] * image_bgr.shape[1]
        total += mean * count
        squares += (std**2 + mean**2) * count
        pixels += count
    mean = total / pixels
    variance = squares / pixels - mean**2
    if variance.min() < 1e-6:
        raise DatasetError(
            f"{dataset.name} {dataset.split}: expected images with some contrast in each channel, "
            f"got a standard deviation of 0 over {len(chosen)} images; check the images"
        )
    return _bgr(mean), _bgr(np.sqrt(variance))


def count_pixels(dataset: SegmentationDataset) -> NDArray[np.int64]:
    """Return how many pixels each class has, int64 (classes,), without void; reads the whole data set.

    Raises:
        DatasetError: a sample that cannot be read.
    """
    counts = np.zeros(256, np.int64)
    for index in range(len(dataset)):
        counts += np.bincount(dataset[index].label.ravel(), minlength=256)
    return counts[:IGNORE][: len(dataset.classes)]


def class_weights(pixel_counts: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return loss weights 1 / log(1.1 + share) that lift rare classes, float32 (classes,).

    From ENet (Paszke et al. 2016), with 1.1 in place of their 1.02: from 1.3 for a class that fills
    every image to 10.5 for one that never occurs.

    Raises:
        DatasetError: no pixel was counted.

    >>> class_weights(np.array([75, 25])).round(1)
    array([1.6, 3.3], dtype=float32)
    """
    total = pixel_counts.sum()
    if total == 0:
        raise DatasetError("class weights: expected labelled pixels, found none; check the labels")
    weights: NDArray[np.float64] = 1 / np.log(1.1 + pixel_counts / total)
    return weights.astype(np.float32)


def _bgr(values: NDArray[np.float64]) -> Bgr:
    blue, green, red = (float(value) for value in values)
    return blue, green, red
