"""What is counted over labelled pixels: which class for which, and how sure where it was right. No torch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from runtime.errors import DatasetError
from runtime.frame import Image
from runtime.network.mask import WHOLE, Window, sample
from training.data.dataset import IGNORE

BINS = 15


class ConfusionMatrix:
    """Counts of pixels by labelled and predicted class, over any number of images.

    Pixels labelled 255 count nowhere. Frames are pooled: the figures are those of all pixels together,
    as the segmentation literature reports them, not a mean over images.

    Attributes:
        matrix: int64 (classes, classes); row = label, column = prediction.
        missed: int64 (classes,); labelled pixels of which the mask says nothing, 255, as around a crop. They
            count as wrong.

    >>> confusion = ConfusionMatrix(2)
    >>> confusion.update(np.array([[0, 0], [1, 255]], np.uint8), np.array([[0, 1], [1, 1]], np.uint8))
    >>> confusion.matrix.tolist()
    [[1, 1], [0, 1]]
    >>> confusion.per_class_iou
    [0.5, 0.5]
    """

    def __init__(self, num_classes: int) -> None:
        """Start with no pixels.

        Args:
            num_classes: from 1 to 255.
        """
        self.matrix: NDArray[np.int64] = np.zeros((num_classes, num_classes), np.int64)
        self.missed: NDArray[np.int64] = np.zeros(num_classes, np.int64)

    def update(self, label: Image, mask: Image) -> None:
        """Count the pixels of one image, or of several in one array.

        Args:
            label: uint8, class indices or 255.
            mask: uint8 of the same shape, predicted class indices or 255.

        Raises:
            DatasetError: shapes or types that differ, an id outside the classes; nothing is counted then.
        """
        if label.shape != mask.shape or label.dtype != np.uint8 or mask.dtype != np.uint8:
            raise DatasetError(
                f"metrics: expected a uint8 mask of the label's shape {label.shape}, "
                f"got label {label.dtype} and mask {mask.dtype} {mask.shape}; resize the mask to the label"
            )
        # Every (label, mask) pair of bytes has a bin of its own, so ids outside the classes show up in
        # the counts and no pass over the pixels is spent on a check.
        pairs = (label.astype(np.uint16) << 8) | mask
        counts = np.bincount(pairs.ravel(), minlength=1 << 16).reshape(256, 256)[:IGNORE]
        known = len(self.matrix)
        if counts[known:].any() or counts[:, known:IGNORE].any():
            labels, masks = np.nonzero(counts)
            raise DatasetError(
                f"metrics: expected class ids from 0 to {known - 1}, got labels up to {labels.max()} and "
                f"predictions up to {masks.max()}; compare a model with data of its own classes"
            )
        self.matrix += counts[:known, :known]
        self.missed += counts[:known, IGNORE]

    def __add__(self, other: ConfusionMatrix) -> ConfusionMatrix:
        """Return the counts of both together.

        Raises:
            DatasetError: different numbers of classes.
        """
        if len(self.matrix) != len(other.matrix):
            raise DatasetError(
                f"metrics: expected matrices of as many classes, got {len(self.matrix)} and "
                f"{len(other.matrix)}; merge results of the same classes"
            )
        total = ConfusionMatrix(len(self.matrix))
        total.matrix = self.matrix + other.matrix
        total.missed = self.missed + other.missed
        return total

    @property
    def per_class_iou(self) -> list[float | None]:
        """Intersection over union of each class, 0..1; None for a class in neither labels nor predictions."""
        hits = np.diagonal(self.matrix)
        union = self.matrix.sum(axis=0) + self._labelled - hits
        return _ratios(hits, union)

    @property
    def per_class_precision(self) -> list[float | None]:
        """Share of a class's predictions that are right, 0..1; None for a class that is never predicted."""
        return _ratios(np.diagonal(self.matrix), self.matrix.sum(axis=0))

    @property
    def per_class_recall(self) -> list[float | None]:
        """Share of a class's labelled pixels that are found, 0..1; None for one that is never labelled."""
        return _ratios(np.diagonal(self.matrix), self._labelled)

    @property
    def per_class_share(self) -> list[float]:
        """Share of the labelled pixels that each class has, 0..1.

        Raises:
            DatasetError: no labelled pixel was counted.
        """
        self._expect_pixels()
        return [float(share) for share in self._labelled / self._labelled.sum()]

    @property
    def miou(self) -> float:
        """Mean IoU, 0..1, over the classes that occur in labels or predictions.

        A class that is predicted but never labelled counts with 0.

        Raises:
            DatasetError: no labelled pixel was counted.
        """
        self._expect_pixels()
        return float(np.mean([iou for iou in self.per_class_iou if iou is not None]))

    @property
    def pixel_accuracy(self) -> float:
        """Share of labelled pixels with the right class, 0..1.

        Raises:
            DatasetError: no labelled pixel was counted.
        """
        self._expect_pixels()
        return float(np.trace(self.matrix) / self._labelled.sum())

    @property
    def _labelled(self) -> NDArray[np.int64]:
        """The labelled pixels of each class."""
        labelled: NDArray[np.int64] = self.matrix.sum(axis=1) + self.missed
        return labelled

    def _expect_pixels(self) -> None:
        if not self._labelled.any():
            raise DatasetError(
                "metrics: expected labelled pixels, found none; check that the labels are not all void"
            )


class ConfidenceBins:
    """Confidence beside correctness, in 15 bins of equal width, over any number of images.

    Pixels labelled 255 count nowhere; the pixels of all images are pooled. Guo et al. 2017, "On Calibration
    of Modern Neural Networks".

    Attributes:
        counts: int64 (15,), labelled pixels whose confidence is in bin i: above i / 15, up to (i + 1) / 15.
        hits: int64 (15,), those of them whose class is right.
        confidence_sums: float64 (15,), the sum of their confidences.

    >>> bins = ConfidenceBins()
    >>> label, mask = np.array([0, 1, 255], np.uint8), np.array([0, 0, 0], np.uint8)
    >>> bins.update(label, mask, np.array([0.9, 0.7, 0.6], np.float32))
    >>> round(bins.ece, 3)  # 0.1 too careful on one pixel, 0.7 too sure on the other
    0.4
    """

    def __init__(self) -> None:
        """Start with no pixels."""
        self.counts: NDArray[np.int64] = np.zeros(BINS, np.int64)
        self.hits: NDArray[np.int64] = np.zeros(BINS, np.int64)
        self.confidence_sums: NDArray[np.float64] = np.zeros(BINS, np.float64)

    def update(self, label: Image, mask: Image, confidence: NDArray[np.float32]) -> None:
        """Count the pixels of one image.

        Args:
            label: uint8, class indices or 255.
            mask: uint8 of the same shape, predicted class indices or 255.
            confidence: float32 of the same shape, the probability given to the predicted class, 0..1.

        Raises:
            DatasetError: shapes that differ, or confidences outside 0..1; nothing is counted then.
        """
        if not label.shape == mask.shape == confidence.shape:
            raise DatasetError(
                f"ece: expected a mask and confidences of the label's shape {label.shape}, got "
                f"{mask.shape} and {confidence.shape}; resize both to the label"
            )
        labelled = label != IGNORE
        sure = confidence[labelled].astype(np.float64)
        if not ((sure >= 0) & (sure <= 1)).all():
            raise DatasetError(
                "ece: expected confidences from 0 to 1, got others; pass probabilities, not logits"
            )
        right = label[labelled] == mask[labelled]
        bins = np.clip(np.ceil(sure * BINS).astype(np.int64) - 1, 0, BINS - 1)
        self.counts += np.bincount(bins, minlength=BINS)
        self.hits += np.bincount(bins[right], minlength=BINS)
        self.confidence_sums += np.bincount(bins, weights=sure, minlength=BINS)

    @property
    def ece(self) -> float:
        """Expected calibration error, 0..1: mean over pixels of their bin's |accuracy - confidence|.

        Raises:
            DatasetError: no labelled pixel was counted.
        """
        self._expect_pixels()
        return float(np.abs(self.hits - self.confidence_sums).sum() / self.counts.sum())

    @property
    def mean_confidence(self) -> float:
        """Mean over the pixels, 0..1; above the pixel accuracy, the network is over-confident.

        Raises:
            DatasetError: no labelled pixel was counted.
        """
        self._expect_pixels()
        return float(self.confidence_sums.sum() / self.counts.sum())

    def _expect_pixels(self) -> None:
        if not self.counts.any():
            raise DatasetError(
                "ece: expected labelled pixels, found none; check that the labels are not all void"
            )


def class_probabilities(
    logits: NDArray[np.float32], size_hw: tuple[int, int], window: Window = WHOLE
) -> NDArray[np.float32]:
    """Upsample logits bilinearly, as `runtime.network.mask.class_mask` does, and take the softmax.

    Args:
        logits: float32 (1, C, h, w), finite.
        size_hw: height and width (H, W) of the result in pixels.
        window: the part of the logits that the result covers.

    Returns:
        float32 (C, H, W), 0..1; each pixel's classes add up to 1. Its highest is the confidence of a mask.

    >>> even = np.zeros((1, 4, 2, 3), np.float32)
    >>> float(class_probabilities(even, (4, 6)).max())
    0.25
    """
    wide = np.empty((logits.shape[1], *size_hw), np.float32)
    for plane, coarse in zip(wide, logits[0], strict=True):
        plane[:] = sample(coarse, size_hw, window)
    wide -= wide.max(axis=0)
    np.exp(wide, out=wide)
    wide /= wide.sum(axis=0)
    return wide


def _ratios(parts: NDArray[np.int64], wholes: NDArray[np.int64]) -> list[float | None]:
    """Return part / whole of each class; None where the whole is 0."""
    return [float(part / whole) if whole else None for part, whole in zip(parts, wholes, strict=True)]
