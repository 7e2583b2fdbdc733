"""CamVid as the SegNet authors published it: 360x480, 11 classes.

    ROOT/train/0001TP_006690.png         8-bit colour
    ROOT/trainannot/0001TP_006690.png    8-bit ids: 0..10 in the order of `CAMVID_CLASSES`, 11 = void
    ROOT/val/, ROOT/valannot/, ROOT/test/, ROOT/testannot/

A name starts with the drive the frame comes from. Badrinarayanan et al. 2017, after Brostow et al. 2009.
"""

from __future__ import annotations

from pathlib import Path

from runtime.contract import CAMVID_CLASSES
from runtime.errors import DatasetError
from training.data.dataset import PairedFiles, pair_files

SPLITS = ("train", "val", "test")
VOID = 11
TERMS = "CamVid: research use"


def open_camvid(root: Path, split: str) -> PairedFiles:
    """Open one split.

    Args:
        root: the folder that holds `train`, `trainannot` and so on.
        split: "train", "val" or "test".

    Raises:
        DatasetError: an unknown split, a missing or empty folder, an image without its label.
    """
    if split not in SPLITS:
        raise DatasetError(f"camvid: expected a split out of {', '.join(SPLITS)}, got {split!r}; name one")
    pairs = pair_files(root / split, root / f"{split}annot")
    return PairedFiles("camvid", split, CAMVID_CLASSES, TERMS, pairs, VOID)
