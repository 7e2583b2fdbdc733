"""CamVid as the SegNet authors published it: 360x480, 11 classes.

    ROOT/train/0001TP_006690.png         8-bit colour
    ROOT/trainannot/0001TP_006690.png    8-bit ids: 0..10 in the order of `CAMVID_CLASSES`, 11 = void
    ROOT/val/, ROOT/valannot/, ROOT/test/, ROOT/testannot/

A name starts with the drive the frame comes from. Badrinarayanan et al. 2017, after Brostow et al. 2009.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from runtime.contract import CAMVID_CLASSES
from runtime.errors import DatasetError
from training.data.labels import plain_ids
from training.data.pairs import PairedFiles, pair_folders, plain_name

SPLITS = ("train", "val", "test")
VOID = 11
TERMS = "CamVid: research use"


def open_camvid(root: Path, split: str) -> PairedFiles:
    """Open one split.

    Args:
        root: the folder that holds `train`, `trainannot` and so on.
        split: "train", "val" or "test".

    Raises:
        DatasetError: an unknown split, a missing or empty folder.
    """
    if split not in SPLITS:
        raise DatasetError(f"camvid: expected a split out of {', '.join(SPLITS)}, got {split!r}; name one")
    pairs, faults = pair_folders(root / split, root / f"{split}annot")
    pairs = tuple(
        dataclasses.replace(pair, drive=plain_name(pair.image.stem.split("_")[0])) for pair in pairs
    )
    code = plain_ids(len(CAMVID_CLASSES), VOID)
    return PairedFiles("camvid", split, CAMVID_CLASSES, TERMS, pairs, code, faults)


def camvid_splits(root: Path) -> tuple[str, ...]:
    """Return the splits that a folder should hold: "train" and "val", and "test" where there is any of it."""
    has_test = (root / "test").exists() or (root / "testannot").exists()
    return SPLITS if has_test else SPLITS[:2]
