"""The pictures int8 is calibrated on, and the judge that says how much accuracy a file has left."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from export.int8.progress import tracked
from runtime.contract import Accuracy
from runtime.errors import ConfigError
from runtime.frame import Image
from runtime.network.resize import fit_image
from runtime.segmenter import Segmenter
from runtime.sources import open_source
from training.data import SegmentationDataset
from training.evaluation.measure import measure_segmenter

MAX_SOURCE_FRAMES = 256


class Judge(Protocol):
    """Says how good a file is, in points of 100."""

    measure: str  # what the points are, in words

    def points(self, path: Path) -> tuple[float, Accuracy | None]:
        """Return a file's points, and its accuracy where there are labels."""
        ...


class LabelJudge:
    """Mean IoU on a labelled data set."""

    def __init__(self, dataset: SegmentationDataset, limit: int | None, threads: int | None) -> None:
        """Choose the first `limit` images, all with None.

        Raises:
            ConfigError: a limit below 1.
        """
        if limit is not None and limit < 1:
            raise ConfigError(f"limit: expected at least 1 image, got {limit}; leave it out for all")
        self._dataset, self._threads = dataset, threads
        self._frames = len(dataset) if limit is None else min(limit, len(dataset))
        self.measure = f"mIoU on {self._frames} images of {dataset.name} {dataset.split}"

    def points(self, path: Path) -> tuple[float, Accuracy | None]:
        """Return 100 * mIoU, and the whole accuracy.

        Raises:
            DatasetError: classes other than the model's, or a sample that cannot be read.
        """
        with Segmenter(path, threads=self._threads) as segment:
            accuracy = measure_segmenter(segment, self._dataset, limit=self._frames).accuracy
        return 100 * accuracy.miou, accuracy


class AgreementJudge:
    """Share of pixels with the class that the float32 file gives them; for pictures without labels."""

    def __init__(self, reference: Path, images_bgr: Sequence[Image], threads: int | None) -> None:
        """Make the masks to agree with."""
        self._images_bgr, self._threads = images_bgr, threads
        self.measure = f"mask agreement with the float32 file on {len(images_bgr)} frames"
        with Segmenter(reference, threads=threads) as segment:
            self._masks = [segment(image).mask for image in images_bgr]

    def points(self, path: Path) -> tuple[float, Accuracy | None]:
        """Return the agreement in %."""
        same = pixels = 0
        with Segmenter(path, threads=self._threads) as segment:
            pairs = zip(self._images_bgr, self._masks, strict=True)
            for image, mask in tracked(pairs, len(self._masks), "agreement"):
                same += int((segment(image).mask == mask).sum())
                pixels += mask.size
        return 100 * same / pixels, None


def dataset_images(dataset: SegmentationDataset, count: int, size_hw: tuple[int, int]) -> list[Image]:
    """Return up to `count` evenly spaced images of a data set, resized as the runtime does."""
    chosen = spaced(len(dataset), count)
    return [fit_image(dataset[index].image_bgr, size_hw) for index in tracked(chosen, len(chosen), "reading")]


def source_images(source: str) -> tuple[list[Image], list[Image]]:
    """Return frames to calibrate on and frames to judge by, in turn from the first 256 of a source.

    Raises:
        SourceError: a source that cannot be read.
        ConfigError: a source of one frame.
    """
    with open_source(source) as frames:
        images = [frame.image_bgr for frame in itertools.islice(frames, MAX_SOURCE_FRAMES)]
    if len(images) < 2:
        raise ConfigError(
            f"frames {source}: expected at least 2 frames, one to calibrate on and one to judge by, got "
            f"{len(images)}; give more"
        )
    return images[::2], images[1::2]


def spaced(total: int, count: int) -> list[int]:
    """Return up to `count` indices, evenly spread.

    >>> spaced(10, 3), spaced(2, 5)
    ([0, 3, 6], [0, 1])
    """
    count = min(total, count)
    return [index * total // count for index in range(count)]
