"""Checks a data set as a whole and collects everything that is wrong with it, not only the first thing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from runtime.base.progress import tracked
from runtime.errors import DatasetError
from training.data.catalog import READERS, find_root
from training.data.dataset import IGNORE, Sample
from training.data.duplicates import (
    HASH_BITS,
    NEAR_BITS,
    Fingerprint,
    Twin,
    fingerprint,
    near_images,
    same_images,
)
from training.data.pairs import PairedFiles, count_drives

_MUCH_VOID = 0.1  # share of pixels
_SHOWN = 3  # examples in a note that stands for many files


@dataclass(frozen=True)
class Finding:
    """Something to know about a data set.

    Attributes:
        level: "error" must be corrected before a training makes sense; "note" is for the reader to judge.
        check: which check found it: "layout", "pairs", "files", "sizes", "void", "classes", "duplicates" or
            "drives".
        split: where.
        message: one line.
    """

    level: Literal["error", "note"]
    check: str
    split: str
    message: str


@dataclass(frozen=True)
class SplitSummary:
    """What is in one split; shares are over the images that could be read.

    Attributes:
        split: its name.
        images: number of pairs.
        sizes: number of images of each size, "480x360" (width, height).
        drives: number of images of each recording; empty when file names do not tell.
        pixel_share: share of the labelled pixels of each class, 0..1.
        image_share: share of the images in which each class occurs, 0..1.
        void_share: share of all pixels that have no class, 0..1.
    """

    split: str
    images: int
    sizes: dict[str, int]
    drives: dict[str, int]
    pixel_share: dict[str, float]
    image_share: dict[str, float]
    void_share: float


@dataclass(frozen=True)
class Inspection:
    """The result of `inspect_dataset`.

    Attributes:
        splits: what could be opened.
        findings: everything found, in the order of the splits.
        readable: of each split that could be opened, the data set and the places of its sound samples.
    """

    splits: tuple[SplitSummary, ...]
    findings: tuple[Finding, ...]
    readable: tuple[tuple[PairedFiles, tuple[int, ...]], ...]

    @property
    def errors(self) -> int:
        """Number of findings that are errors."""
        return sum(finding.level == "error" for finding in self.findings)

    def spread_samples(self, most: int = 8) -> Iterator[tuple[PairedFiles, list[int]]]:
        """Yield each split that has a sound sample, with the places of up to `most`, evenly spread."""
        for dataset, readable in self.readable:
            if readable:
                places = np.linspace(0, len(readable) - 1, min(most, len(readable))).round().astype(int)
                yield dataset, [readable[place] for place in places]


@dataclass
class _Survey:
    """What one reading of a split gathers."""

    dataset: PairedFiles
    faults: list[str] = field(default_factory=list)
    readable: list[int] = field(default_factory=list)
    all_void: list[int] = field(default_factory=list)
    guessed: list[int] = field(default_factory=list)
    fingerprints: list[Fingerprint] = field(default_factory=list)  # of the readable samples
    sizes: Counter[str] = field(default_factory=Counter)
    pixels: NDArray[np.int64] = field(default_factory=lambda: np.zeros(256, np.int64))
    occurs: NDArray[np.int64] = field(default_factory=lambda: np.zeros(256, np.int64))

    def add(self, index: int, sample: Sample) -> None:
        pixels = np.bincount(sample.label.ravel(), minlength=256)
        if pixels[IGNORE] == sample.label.size:
            self.all_void.append(index)
        if sample.turn_is_guessed:
            self.guessed.append(index)
        self.readable.append(index)
        self.fingerprints.append(fingerprint(sample.image_bgr))
        self.sizes[f"{sample.label.shape[1]}x{sample.label.shape[0]}"] += 1
        self.pixels += pixels
        self.occurs += pixels > 0

    def image_of(self, place: int) -> Path:
        """Return the file of a readable sample."""
        return self.dataset.pairs[self.readable[place]].image


def inspect_dataset(name: str, root: str | Path) -> Inspection:
    """Read every pair of every split and report on them.

    Args:
        name: a kind of data set that consists of files, a key of `training.data.catalog.READERS`.
        root: its folder.

    Raises:
        DatasetError: `root` is no folder; everything else becomes a finding.
    """
    folder, reader = find_root(name, root), READERS[name]
    surveys: list[_Survey] = []
    findings: list[Finding] = []
    try:
        names = reader.splits(folder)
    except DatasetError as error:
        return Inspection((), (Finding("error", "layout", "", str(error)),), ())
    for split in names:
        try:
            survey = _survey(reader.open(folder, split))
        except DatasetError as error:
            found = [Finding("error", "layout", split, str(error))]
        else:
            surveys.append(survey)
            found = list(_findings_of(survey))
        # Splits may share their folders and their list of classes, and then the faults in these.
        known = {finding.message for finding in findings if finding.level == "error"}
        findings.extend(finding for finding in found if finding.message not in known)
    for earlier, later in combinations(surveys, 2):
        findings.extend(_shared(earlier, later))
    return Inspection(
        tuple(_summary(survey) for survey in surveys),
        tuple(findings),
        tuple((survey.dataset, tuple(survey.readable)) for survey in surveys),
    )


def _survey(dataset: PairedFiles) -> _Survey:
    survey = _Survey(dataset)
    for index in tracked(range(len(dataset)), f"reading {dataset.split}"):
        read = dataset.examine(index)
        if isinstance(read, Sample):
            survey.add(index, read)
        else:
            survey.faults.extend(read)
    return survey


def _summary(survey: _Survey) -> SplitSummary:
    dataset, names = survey.dataset, survey.dataset.classes.names
    labelled = max(1, int(survey.pixels[: len(names)].sum()))
    images = max(1, len(survey.readable))
    return SplitSummary(
        split=dataset.split,
        images=len(dataset),
        sizes=dict(survey.sizes.most_common()),
        drives=count_drives(dataset),
        pixel_share={name: int(survey.pixels[i]) / labelled for i, name in enumerate(names)},
        image_share={name: int(survey.occurs[i]) / images for i, name in enumerate(names)},
        void_share=int(survey.pixels[IGNORE]) / max(1, int(survey.pixels.sum())),
    )


def _findings_of(survey: _Survey) -> Iterator[Finding]:
    """Yield what one split shows by itself."""
    dataset = survey.dataset
    split, names = dataset.split, dataset.classes.names
    for fault in dataset.faults:
        yield Finding("error", "pairs", split, fault)
    for fault in survey.faults:
        yield Finding("error", "files", split, fault)
    if len(survey.sizes) > 1:
        sizes = [f"{size} ({count})" for size, count in survey.sizes.most_common()]
        yield Finding("note", "sizes", split, f"images of {len(sizes)} sizes: {_some(sizes)}")
    if survey.guessed:
        files = [dataset.pairs[index].image.name for index in survey.guessed]
        how = (
            "were left, as labels_upright says"
            if dataset.labels_upright
            else "were turned with them; if they were drawn over the upright images, add "
            '"labels_upright": true to classes.json'
        )
        yield Finding(
            "note",
            "sizes",
            split,
            f"{_count(files, 'image')} an EXIF orientation, and sizes do not tell whether the labels have it "
            f"too; these {how}; look at --out: {_some(files)}",
        )
    if not survey.readable:
        yield Finding("error", "files", split, "no pair of image and label can be used")
        return
    if len(survey.all_void) == len(survey.readable):
        level: Literal["error", "note"] = "error" if split == "train" else "note"
        yield Finding(level, "void", split, "every label is void, so there is nothing to learn or measure")
        return
    if survey.all_void:
        files = [dataset.pairs[index].label.name for index in survey.all_void]
        yield Finding("note", "void", split, f"{_count(files, 'label')} void alone: {_some(files)}")
    void_share = int(survey.pixels[IGNORE]) / int(survey.pixels.sum())
    if void_share > _MUCH_VOID and any(not isinstance(pair.label, Path) for pair in dataset.pairs):
        yield Finding(
            "note",
            "void",
            split,
            f"{void_share:.0%} of the pixels lie in no shape and count as void, so nothing is learnt there; "
            'if they are one class, such as background, say so with "unlabelled" in classes.json',
        )
    if mask := dataset.code.mask_fault(names, survey.pixels):
        yield Finding("error", "classes", split, mask)
        return
    absent = [name for index, name in enumerate(names) if not survey.occurs[index]]
    if absent:
        why = "a network cannot learn them" if split == "train" else "nothing is measured on them"
        yield Finding(
            "note",
            "classes",
            split,
            f"{len(absent)} of {len(names)} classes never occur, {why}: {', '.join(absent)}",
        )
    copies = [
        f"{survey.image_of(index).name} = {survey.image_of(first).name}"
        for index, first in _repeated(survey.fingerprints)
    ]
    if copies:
        yield Finding(
            "note", "duplicates", split, f"{_count(copies, 'image')} the pixels of another: {_some(copies)}"
        )


def _shared(earlier: _Survey, later: _Survey) -> Iterator[Finding]:
    """Yield what two splits have in common and should not."""
    split, other = later.dataset.split, earlier.dataset.split
    for twin in same_images(later.fingerprints, earlier.fingerprints):
        yield Finding(
            "error",
            "duplicates",
            split,
            f"{later.image_of(twin.first)}: the same pixels as {earlier.image_of(twin.second)} in {other}; "
            "remove one of them",
        )
    near = near_images(later.fingerprints, earlier.fingerprints)
    if near:
        yield Finding(
            "note",
            "duplicates",
            split,
            f"{len(near)} of {len(later.fingerprints)} images look like one of {other} (at most {NEAR_BITS} "
            f"of {HASH_BITS} dHash bits differ): {_some(_in_words(near, earlier, later))}",
        )
    drives, known = count_drives(later.dataset), count_drives(earlier.dataset)
    common = [drive for drive in drives if drive in known]
    if common:
        yield Finding(
            "note",
            "drives",
            split,
            f"{sum(drives[drive] for drive in common)} of {len(later.dataset)} images are of drives that "
            f"{other} holds too ({', '.join(common)}), so accuracy on {split} flatters a network trained on "
            f"{other}; --leave-out measures on a drive of its own",
        )


def _in_words(near: Sequence[Twin], earlier: _Survey, later: _Survey) -> list[str]:
    """Return near twins as text, the nearest first."""
    return [
        f"{later.image_of(twin.first).name} ~ {earlier.image_of(twin.second).name} ({twin.differing_bits})"
        for twin in sorted(near, key=lambda twin: twin.differing_bits)
    ]


def _repeated(fingerprints: Sequence[Fingerprint]) -> list[tuple[int, int]]:
    """Return each place whose pixels were there before, with the first such place."""
    return [
        (twin.first, twin.second)
        for twin in same_images(fingerprints, fingerprints)
        if twin.first != twin.second
    ]


def _count(items: Sequence[str], kind: str) -> str:
    """Return the start of a sentence that says what these have."""
    return f"1 {kind} has" if len(items) == 1 else f"{len(items)} {kind}s have"


def _some(items: Sequence[str]) -> str:
    more = f" and {len(items) - _SHOWN} more" if len(items) > _SHOWN else ""
    return ", ".join(items[:_SHOWN]) + more


def summary_table(inspection: Inspection) -> str:
    """Return images, sizes and drives of each split, then each class's share of pixels and of images."""
    splits = inspection.splits
    lines = []
    for summary in splits:
        sizes = ", ".join(f"{size} ({count})" for size, count in list(summary.sizes.items())[:4])
        drives = ", ".join(f"{drive} ({count})" for drive, count in summary.drives.items())
        lines.append(f"{summary.split}: {summary.images} pairs; {sizes}" + (f"; {drives}" if drives else ""))
    if not splits:
        return ""
    width = max(len(name) for name in [*splits[0].pixel_share, "share of pixels, images"])
    lines += ["", f"{'share of pixels, images':<{width}}" + "".join(f"{s.split:>16}" for s in splits)]
    for name in splits[0].pixel_share:
        shares = "".join(f"{s.pixel_share[name]:>9.2%}{s.image_share[name]:>7.0%}" for s in splits)
        lines.append(f"{name:<{width}}{shares}")
    lines.append(f"{'void':<{width}}" + "".join(f"{s.void_share:>9.2%}{'':7}" for s in splits).rstrip())
    return "\n".join(lines)
