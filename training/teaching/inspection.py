"""Checks soft labels and unlabelled frames before a training learns from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from runtime.base.progress import tracked
from runtime.contract import ClassMap
from runtime.errors import DatasetError
from runtime.frame import Image
from training.data.dataset import IGNORE, SegmentationDataset
from training.data.inspection import Finding
from training.teaching.lessons import Lessons, UnlabelledFrames

POOR_AGREEMENT = 0.5  # of the labelled pixels; below it, soft labels are those of other images or classes
_SHOWN = 3  # names in a message


@dataclass(frozen=True)
class SoftSummary:
    """What soft labels say, group of classes by group.

    Attributes:
        groups: names of the classes that each is the sum of.
        images: that have soft labels.
        of: how many there are.
        right: share of a group's labelled pixels that the soft labels give it; NaN where none is labelled.
        pixel_share: share of all pixels that they give it.
        agreement: share of all labelled pixels; NaN without labels.
        features: how many there are of each layer; empty for none.
    """

    groups: tuple[str, ...]
    images: int
    of: int
    right: tuple[float, ...]
    pixel_share: tuple[float, ...]
    agreement: float
    features: tuple[int, ...]


def inspect_soft_labels(
    dataset: SegmentationDataset, folders: Sequence[str | Path], class_map: str | None
) -> tuple[SoftSummary, list[Finding]]:
    """Compare soft labels with the labels of the images that they are for.

    Args:
        dataset: the labelled images.
        folders: of soft labels, joined as a training joins them.
        class_map: as a training's.

    Returns:
        What they say, and what is wrong or worth knowing.

    Raises:
        DatasetError: folders that cannot be opened or do not fit the classes or each other.
    """
    lessons = Lessons.open(folders, class_map, dataset.classes)
    survey = _Survey(lessons, dataset.classes)
    findings, names, without = [], set(), []
    for index in tracked(range(len(dataset)), "soft labels"):
        sample = dataset[index]
        stem = Path(sample.name).stem
        if stem in names:
            findings.append(_error(f"{sample.name}: expected a name of its own, another image has it too"))
        names.add(stem)
        try:
            said = lessons.of(stem, (sample.label.shape[0], sample.label.shape[1]))
        except DatasetError as error:
            findings.append(_error(str(error)))
            continue
        if said is None:
            without.append(sample.name)
        else:
            survey.add(said, sample.label)
    if without and survey.images:
        findings.append(_note(f"{_some(without, 'image')} without soft labels: labels alone teach them"))
    elif without:
        findings.append(
            _error(
                f"{', '.join(map(str, folders))}: expected soft labels of {dataset.name}'s "
                f"{len(dataset)} images, found those of none; label them with training.label"
            )
        )
    unused = sorted({name for soft, _ in lessons.parts for name in soft.names} - names)
    if unused:
        findings.append(_note(f"{_some(unused, 'soft label')} of no image: nobody learns from them"))
    summary = survey.summary(len(dataset))
    if summary.agreement < POOR_AGREEMENT:
        findings.append(
            _error(
                "soft labels: expected them to agree with the labels, they do on "
                f"{summary.agreement:.0%} of the labelled pixels; they are of other images, or the class map "
                "mixes classes up"
            )
        )
    return summary, findings


def inspect_unlabelled(
    folder: str | Path, class_map: str | None, classes: ClassMap
) -> tuple[SoftSummary, list[Finding]]:
    """Read all frames that have soft labels and no others; see `inspect_soft_labels`.

    Raises:
        DatasetError: no frames, a frame without soft labels, or classes that do not match.
    """
    frames = UnlabelledFrames.open(folder, class_map, classes)
    survey = _Survey(frames.lessons, classes)
    findings = []
    for index in tracked(range(len(frames)), "frames"):
        try:
            sample = frames[index]
        except DatasetError as error:
            findings.append(_error(str(error)))
            continue
        assert sample.soft is not None  # seen to in `UnlabelledFrames.open`
        survey.add(sample.soft, sample.label)
    return survey.summary(len(frames)), findings


class _Survey:
    """Counts what soft labels say."""

    def __init__(self, lessons: Lessons, classes: ClassMap) -> None:
        self.lessons, self.classes = lessons, classes
        count = len(lessons.groups)
        self.group_of = np.full(IGNORE + 1, count)  # of each class; `count` for void and what nobody says
        for group, members in enumerate(lessons.groups):
            self.group_of[list(members)] = group
        self.confusion = np.zeros((count + 1, count), np.int64)  # labelled x said
        self.images = 0

    def add(self, said: Image, label: Image) -> None:
        """Count an image."""
        groups = said[:, :, : len(self.lessons.groups)]
        likeliest = groups.argmax(axis=2).astype(np.uint8)
        height, width = label.shape
        full = cv2.resize(likeliest, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
        pairs = self.group_of[label].astype(np.int64) * groups.shape[2] + full
        self.confusion += np.bincount(pairs.ravel(), minlength=self.confusion.size).reshape(
            self.confusion.shape
        )
        self.images += 1

    def summary(self, of: int) -> SoftSummary:
        """Return the counts as shares."""
        labelled = self.confusion[:-1]
        hits = np.diagonal(labelled)
        with np.errstate(invalid="ignore"):
            right: NDArray[np.float64] = hits / labelled.sum(axis=1)
            agreement = float(hits.sum() / np.float64(labelled.sum()))
        shares = self.confusion.sum(axis=0) / max(1, self.confusion.sum())
        names = self.classes.names
        return SoftSummary(
            tuple(" + ".join(names[member] for member in group) for group in self.lessons.groups),
            self.images,
            of,
            tuple(right.tolist()),
            tuple(shares.tolist()),
            agreement,
            self.lessons.features,
        )


def soft_table(title: str, summary: SoftSummary) -> str:
    """Return what soft labels say as a table for people."""
    beside = f", with {' and '.join(map(str, summary.features))} features" if summary.features else ""
    lines = [f"{title}: {summary.images} of {summary.of} images{beside}"]
    has_labels = not np.isnan(summary.agreement)
    width = max(len(name) for name in (*summary.groups, "all"))
    lines.append(
        f"{'':<{width}}{'of the pixels':>15}" + (f"{'right where labelled':>22}" if has_labels else "")
    )
    for name, share, right in zip(summary.groups, summary.pixel_share, summary.right, strict=True):
        told = "" if not has_labels else f"{'-' if np.isnan(right) else f'{right:.1%}':>22}"
        lines.append(f"{name:<{width}}{share:>15.2%}{told}")
    if has_labels:
        lines.append(f"{'all':<{width}}{'':15}{summary.agreement:>22.1%}")
    return "\n".join(lines)


def _error(message: str) -> Finding:
    return Finding("error", "soft labels", "train", message)


def _note(message: str) -> Finding:
    return Finding("note", "soft labels", "train", message)


def _some(names: Sequence[str], kind: str) -> str:
    """Return how many there are, and the first names."""
    more = ", …" if len(names) > _SHOWN else ""
    return f"{len(names)} {kind}{'' if len(names) == 1 else 's'} ({', '.join(names[:_SHOWN])}{more})"
