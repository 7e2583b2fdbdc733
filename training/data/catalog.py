"""Data sets by name, for command lines."""

from __future__ import annotations

from pathlib import Path

from runtime.errors import DatasetError
from training.data.camvid import open_camvid
from training.data.dataset import SegmentationDataset
from training.data.folder import open_folder
from training.data.synthetic import SyntheticStreets

DATASETS = ("camvid", "folder", "synthetic")


def open_dataset(name: str, root: str | Path | None, split: str) -> SegmentationDataset:
    """Open one split of a data set.

    Opening looks at names only; each pair of files is checked when it is read.

    Args:
        name: one of `DATASETS`.
        root: the data set's folder; None for "synthetic", which has none.
        split: "train", "val" or "test".

    Raises:
        DatasetError: an unknown name, a root that is missing or has another layout, an unknown split.

    >>> dataset = open_dataset("synthetic", None, "val")
    >>> len(dataset), dataset[0].image_bgr.shape
    (60, (360, 480, 3))
    """
    if name not in DATASETS:
        raise DatasetError(f"data set: expected one of {', '.join(DATASETS)}, got {name!r}; choose one")
    if name == "synthetic":
        if root is not None:
            raise DatasetError(f"synthetic: expected no folder, got {root}; leave out --root")
        return SyntheticStreets(split)
    if root is None:
        raise DatasetError(f"{name}: expected the data set's folder, got none; add --root DIR")
    folder = Path(root)
    if not folder.is_dir():
        raise DatasetError(f"{folder}: expected a folder that holds {name} data, found none; check --root")
    return open_camvid(folder, split) if name == "camvid" else open_folder(folder, split)
