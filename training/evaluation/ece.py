"""Whether confidence can be trusted: class probabilities of every pixel, and their error, the ECE.

Of all pixels to which a network gives, say, 0.8, eight in ten should be right. No torch, so an exported file
is measured by the same code.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from runtime.errors import DatasetError
from runtime.frame import Image
from training.data.dataset import IGNORE

BINS = 15


def class_probabilities(logits: NDArray[np.float32], size_hw: tuple[int, int]) -> NDArray[np.float32]:
    """Upsample logits bilinearly, as `runtime.network.mask.class_mask` does, and take the softmax.

    Args:
        logits: float32 (1, C, h, w), finite.
        size_hw: height and width (H, W) of the result in pixels.

    Returns:
        float32 (C, H, W), 0..1; each pixel's classes add up to 1. Its highest is the confidence of a mask.

    >>> even = np.zeros((1, 4, 2, 3), np.float32)
    >>> float(class_probabilities(even, (4, 6)).max())
    0.25
    """
    height, width = size_hw
    wide = np.empty((logits.shape[1], height, width), np.float32)
    for plane, coarse in zip(wide, logits[0], strict=True):
        cv2.resize(coarse, (width, height), dst=plane)
    wide -= wide.max(axis=0)
    np.exp(wide, out=wide)
    wide /= wide.sum(axis=0)
    return wide


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
            mask: uint8 of the same shape, predicted class indices.
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
