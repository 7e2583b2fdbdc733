"""Which frames a training gets, out of all that could be labelled, and what each way to choose them gives."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks.render.document import Table
from runtime.errors import DatasetError
from training.data.pairs import PairedFiles
from training.teaching.selection import select_to_correct
from training.teaching.soft_labels import SoftLabels

SELECTED, SPACED = "selected", "evenly spaced"


def ways(draws: int) -> tuple[str, ...]:
    """Return the ways to choose: the one to judge, and those it must beat."""
    return (SELECTED, SPACED, *(f"random {number}" for number in range(1, draws + 1)))


def choose(train_set: PairedFiles, way: str, count: int, soft: SoftLabels) -> PairedFiles:
    """Return the part of a training split that one way chooses.

    Args:
        train_set: all frames that could be labelled.
        way: one of `ways`.
        count: how many frames.
        soft: what networks say of them, by which they are selected.

    Raises:
        DatasetError: fewer frames, or frames without soft labels.
    """
    stems = [pair.image.stem for pair in train_set.pairs]
    if len(stems) < count:
        raise DatasetError(
            f"{train_set.split}: expected at least {count} frames, got {len(stems)}; ask for fewer"
        )
    if way == SELECTED:
        lacking = [stem for stem in stems if stem not in soft]
        if lacking:
            raise DatasetError(
                f"{soft.folder}: expected soft labels of every frame, found none of {lacking[0]}; make "
                "them with training.label"
            )
        of_these = dataclasses.replace(soft, names=tuple(sorted(stems)))
        chosen = select_to_correct(
            of_these, count, lambda name: train_set[stems.index(name)].image_bgr, by="unsure"
        )
        if len(chosen) < count:
            raise DatasetError(
                f"{train_set.split}: expected {count} frames that do not look alike, found {len(chosen)}; "
                "ask for fewer"
            )
        places = sorted(stems.index(name) for name, _ in chosen)
    elif way == SPACED:
        places = np.linspace(0, len(stems) - 1, count).round().astype(int).tolist()
    else:
        drawn = np.random.default_rng(int(way.split()[-1])).permutation(len(stems))[:count]
        places = sorted(drawn.tolist())
    pairs = tuple(train_set.pairs[place] for place in places)
    return dataclasses.replace(train_set, split=f"{count} frames of {train_set.split}, {way}", pairs=pairs)


def folder_of(out: Path, place: str, count: int, way: str) -> Path:
    """Return where a training is kept."""
    return out / place / f"{count}-{way.replace(' ', '-')}"


def selection_table(
    miou: Mapping[tuple[str, str, int], float],
    way_names: Sequence[str],
    places: Sequence[str],
    counts: Sequence[int],
) -> Table:
    """Return the mIoU of each way by place and number of frames; the random draws as their mean and range."""
    columns = [(place, count) for place in places for count in counts]
    rows = [
        (way, *(f"{miou[way, place, count]:.4f}" for place, count in columns))
        for way in way_names
        if not way.startswith("random")
    ]
    draws = [way for way in way_names if way.startswith("random")]
    if draws:
        cells = []
        for place, count in columns:
            values = [miou[way, place, count] for way in draws]
            cells.append(f"{np.mean(values):.4f} ({min(values):.4f} to {max(values):.4f})")
        rows.append((f"random, mean of {len(draws)}", *cells))
    return Table(("frames chosen", *(f"{place}, {count}" for place, count in columns)), rows)
