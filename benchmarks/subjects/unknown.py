"""How much of a picture is not sure enough: the share of unknown pixels, by kind of picture."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from runtime.base.progress import tracked
from runtime.frame import Image
from runtime.masks.confidence import CERTAIN, least_confidence
from runtime.segmenter import Segmenter
from runtime.sources import open_recorded
from training.data.dataset import SegmentationDataset

MOST_FRAMES = 300


@dataclass(frozen=True)
class UnknownShare:
    """What a network thinks of some pictures.

    Attributes:
        name: of the pictures.
        frames: how many.
        mean_confidence: 0 to 1.
        shares: of their pixels under each probability that was asked for.
        right: how many of the labelled pixels above each are right; none without labels.
    """

    name: str
    frames: int
    mean_confidence: float
    shares: tuple[float, ...]
    right: tuple[float, ...] = ()


def unknown_of_labelled(
    segment: Segmenter, dataset: SegmentationDataset, below: Sequence[float], limit: int | None = None
) -> UnknownShare:
    """Measure on images with labels.

    Args:
        segment: gives confidences.
        dataset: images with labels.
        below: probabilities from 0 to 1.
        limit: measure on the first so many images only.
    """
    counts, right = np.zeros(CERTAIN + 1, np.int64), np.zeros((2, CERTAIN + 1), np.int64)
    frames = min(len(dataset), MOST_FRAMES if limit is None else limit)
    for index in tracked(range(frames), "unknown pixels"):
        sample = dataset[index]
        mask, confidence = _seen(segment, sample.image_bgr)
        counts += np.bincount(confidence.reshape(-1), minlength=CERTAIN + 1)
        labelled = sample.label != dataset.classes.ignore_index
        is_right = (mask == sample.label)[labelled].astype(np.intp)
        places = is_right * (CERTAIN + 1) + confidence[labelled]
        right += np.bincount(places, minlength=right.size).reshape(right.shape)
    kept = [right[:, least_confidence(probability) :].sum(axis=1) for probability in below]
    name = f"{dataset.name} {dataset.split}"
    return _share(name, frames, counts, below, tuple(float(one[1] / max(1, one.sum())) for one in kept))


def unknown_of(
    segment: Segmenter, source: str, below: Sequence[float], limit: int | None = None
) -> UnknownShare:
    """Measure on pictures without labels.

    Args:
        segment: gives confidences.
        source: a video, images ("frames/*.png") or what else `open_source` takes.
        below: probabilities from 0 to 1.
        limit: measure on the first so many only; None for 300.

    Raises:
        SourceError: a source that cannot be read, or that is live.
    """
    counts, frames = np.zeros(CERTAIN + 1, np.int64), 0
    with open_recorded(source, "unlabelled") as pictures:
        for frame in islice(pictures, limit or MOST_FRAMES):
            _, confidence = _seen(segment, frame.image_bgr)
            counts += np.bincount(confidence.reshape(-1), minlength=CERTAIN + 1)
            frames += 1
    return _share(source, frames, counts, below)


def unknown_rows(found: Iterable[UnknownShare]) -> list[tuple[str, ...]]:
    """Return a table's rows: name, frames, mean confidence, and shares in percent."""
    return [
        (
            each.name,
            str(each.frames),
            f"{each.mean_confidence:.3f}",
            *(f"{100 * share:.1f}" for share in each.shares),
        )
        for each in found
    ]


def _seen(segment: Segmenter, image_bgr: Image) -> tuple[Image, Image]:
    answer = segment(image_bgr)
    assert answer.confidence is not None
    return answer.mask, answer.confidence


def _share(
    name: str,
    frames: int,
    counts: np.ndarray[tuple[int], np.dtype[np.int64]],
    below: Sequence[float],
    right: tuple[float, ...] = (),
) -> UnknownShare:
    total = max(1, int(counts.sum()))
    mean = float(counts @ np.arange(CERTAIN + 1)) / (total * CERTAIN)
    shares = tuple(float(counts[: least_confidence(one)].sum() / total) for one in below)
    return UnknownShare(name, frames, mean, shares, right)
