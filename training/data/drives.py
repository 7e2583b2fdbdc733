"""Training and validating on different recordings, because neighbours in a video are nearly copies.

A validation split that continues a drive of the training split measures how well a network remembers a
street. Leaving one drive out of train and validating on it measures what a robot will meet.
"""

from __future__ import annotations

import dataclasses
from collections import Counter

from runtime.errors import DatasetError
from training.data.pairs import PairedFiles


def count_drives(dataset: PairedFiles) -> dict[str, int]:
    """Return how many images each recording has, in name order; empty when the files do not tell."""
    return dict(sorted(Counter(pair.drive for pair in dataset.pairs if pair.drive).items()))


def leave_out_drive(train_set: PairedFiles, split: str, drive: str) -> PairedFiles:
    """Return one part of a training split that is divided by recordings.

    Args:
        train_set: the data set's "train".
        split: "train" for all its images but those of `drive`, "val" for those of `drive` alone.
        drive: the recording to leave out.

    Returns:
        A data set whose `split` says what was left out, so that an accuracy measured on it does too.

    Raises:
        DatasetError: another split, files that do not name their recording, an unknown recording, or a
            recording that is all of the training split.
    """
    if split not in ("train", "val"):
        raise DatasetError(
            f"leave out {drive}: expected split train or val, got {split!r}; "
            "the drive left out of train is what to measure on"
        )
    present = count_drives(train_set)
    if not present:
        raise DatasetError(
            f"{train_set.name}: expected file names that tell the drives, found none; "
            "use a validation split instead of leaving a drive out"
        )
    if drive not in present:
        raise DatasetError(
            f"{train_set.name} train: expected a drive out of {', '.join(present)}, got {drive!r}; name one"
        )
    if len(present) == 1:
        raise DatasetError(
            f"{train_set.name} train: expected more drives than {drive} alone, found none; "
            "nothing would be left to train on"
        )
    if split == "val":
        pairs = tuple(pair for pair in train_set.pairs if pair.drive == drive)
        return dataclasses.replace(train_set, split=f"held-out drive {drive}", pairs=pairs)
    pairs = tuple(pair for pair in train_set.pairs if pair.drive != drive)
    return dataclasses.replace(train_set, split=f"train without drive {drive}", pairs=pairs)
