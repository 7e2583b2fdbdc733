"""Some labelled pixels of each image, with what a network says of them: what one fits to."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from runtime.errors import DatasetError
from runtime.frame import Image
from training.data.dataset import IGNORE

PIXELS = 4_000_000  # of all images; with 19 classes 300 MB
PIXELS_AN_IMAGE = 4000
_TINY = 1e-12


class PixelSample:
    """Collects pixels of labelled images.

    >>> sample = PixelSample(images=1)
    >>> sample.add(np.array([[1, 255]], np.uint8), np.array([[[0.25, 1]], [[0.75, 0]]], np.float32))
    >>> logits, labels = sample.pixels()
    >>> np.exp(logits).tolist(), labels.tolist()
    ([[0.25, 0.75]], [1])
    """

    def __init__(self, images: int, seed: int = 0) -> None:
        """Start without pixels.

        Args:
            images: how many there will be.
            seed: of which pixels are drawn.
        """
        self._most = max(1, min(PIXELS_AN_IMAGE, PIXELS // max(1, images)))
        self._rng = np.random.default_rng(seed)
        self._logits: list[NDArray[np.float32]] = []
        self._labels: list[NDArray[np.intp]] = []

    def add(self, label: Image, probabilities: NDArray[np.float32]) -> None:
        """Add some labelled pixels of an image, drawn at random.

        Args:
            label: uint8 (H, W), class indices or 255.
            probabilities: float32 (C, H, W) at temperature 1.
        """
        places = np.flatnonzero(label != IGNORE)
        if len(places) > self._most:
            places = self._rng.choice(places, self._most, replace=False)
        chosen = probabilities.reshape(len(probabilities), -1)[:, places].T  # (n, C)
        self._logits.append(np.log(np.maximum(chosen, _TINY), dtype=np.float32))
        self._labels.append(label.reshape(-1)[places].astype(np.intp))

    def pixels(self) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
        """Return the logarithms of the probabilities (n, C), and the labels (n,).

        Raises:
            DatasetError: no labelled pixel was added.
        """
        if not any(len(labels) for labels in self._labels):
            raise DatasetError("fit: expected labelled pixels, found none; check the labels")
        return np.concatenate(self._logits), np.concatenate(self._labels)
