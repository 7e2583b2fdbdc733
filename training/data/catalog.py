"""Data sets by name, for command lines."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from runtime.base.flags import check_fields, flag
from runtime.errors import ConfigError, DatasetError
from training.data.camvid import camvid_splits, open_camvid
from training.data.cityscapes import cityscapes_splits, open_cityscapes
from training.data.dataset import SegmentationDataset
from training.data.folder import folder_splits, open_folder
from training.data.formats.coco import coco_panoptic_splits, coco_splits, open_coco, open_coco_panoptic
from training.data.formats.cvat import cvat_splits, open_cvat
from training.data.formats.folders_of_masks import (
    a2d2_splits,
    bdd100k_splits,
    open_a2d2,
    open_bdd100k,
    open_vistas_v1,
    open_vistas_v2,
    open_voc,
    vistas_splits,
    voc_splits,
)
from training.data.formats.label_studio import label_studio_splits, open_label_studio
from training.data.formats.supervisely import open_supervisely, supervisely_splits
from training.data.formats.yolo import open_yolo, yolo_splits
from training.data.pairs import PairedFiles, leave_out_drive
from training.data.synthetic import SyntheticStreets


@dataclass(frozen=True)
class Reader:
    """How a kind of data set is found in a folder.

    Attributes:
        open: returns one split of the folder, with its `faults`.
        splits: names the splits that the folder should hold.
        marks: what lies in such a folder and in no other, as patterns; all of them.
    """

    open: Callable[[Path, str], PairedFiles]
    splits: Callable[[Path], tuple[str, ...]]
    marks: tuple[str, ...]


READERS = {
    "camvid": Reader(open_camvid, camvid_splits, ("train", "trainannot")),
    "cityscapes": Reader(open_cityscapes, cityscapes_splits, ("leftImg8bit", "gtFine")),
    "folder": Reader(open_folder, folder_splits, ("images", "labels", "classes.json")),
    "coco": Reader(open_coco, coco_splits, ("annotations/instances_*.json",)),
    "coco-panoptic": Reader(open_coco_panoptic, coco_panoptic_splits, ("annotations/panoptic_*.json",)),
    "yolo": Reader(open_yolo, yolo_splits, ("*.y*ml", "images")),
    "cvat": Reader(open_cvat, cvat_splits, ("annotations.xml",)),
    "label-studio": Reader(open_label_studio, label_studio_splits, ()),
    "supervisely": Reader(open_supervisely, supervisely_splits, ("meta.json", "*/img")),
    "vistas-v1.2": Reader(open_vistas_v1, vistas_splits, ("training/images", "config*.json")),
    "vistas-v2.0": Reader(open_vistas_v2, vistas_splits, ("training/v2.0", "config_v2.0.json")),
    "bdd100k": Reader(open_bdd100k, bdd100k_splits, ("images/10k", "labels/sem_seg")),
    "a2d2": Reader(open_a2d2, a2d2_splits, ("*/camera/cam_*", "class_list.json")),
    "voc": Reader(open_voc, voc_splits, ("ImageSets/Segmentation", "SegmentationClass")),
}
DATASETS = (*READERS, "synthetic", "synthetic-varied")


def open_dataset(
    name: str, root: str | Path | None, split: str, *, leave_out: str | None = None
) -> SegmentationDataset:
    """Open one split of a data set.

    Opening looks at names only; each pair of files is checked when it is read.

    Args:
        name: one of `DATASETS`.
        root: the data set's folder; None for "synthetic" and "synthetic-varied", which have none.
        split: "train", "val" or "test".
        leave_out: a recording of "train", such as CamVid's drive 0006R0 or a city of Cityscapes: "train" is
            then all the others and "val" is this one, whatever the data set's own "val" holds.

    Raises:
        DatasetError: an unknown name, a root that is missing or has another layout, an unknown split, an
            image without its label, or a recording that cannot be left out.

    >>> dataset = open_dataset("synthetic", None, "val")
    >>> len(dataset), dataset[0].image_bgr.shape
    (60, (360, 480, 3))
    """
    if name not in DATASETS:
        raise DatasetError(f"data set: expected one of {', '.join(DATASETS)}, got {name!r}; choose one")
    if name not in READERS:
        if root is not None:
            raise DatasetError(f"{name}: expected no folder, got {root}; leave out --root")
        if leave_out is not None:
            raise DatasetError(
                f"{name}: expected no drive to leave out, since every scene is a street of its own, "
                f"got {leave_out!r}; give another data set"
            )
        return SyntheticStreets(split, name=name, varied=name == "synthetic-varied")
    if root is None:
        raise DatasetError(f"{name}: expected the data set's folder, got none; add --root DIR")
    folder = find_root(name, root)
    dataset = READERS[name].open(folder, split if leave_out is None else "train")
    if dataset.faults:
        more = f" ({len(dataset.faults)} such files)" if len(dataset.faults) > 1 else ""
        raise DatasetError(f"{dataset.faults[0]}{more}; training.doctor lists everything that is wrong")
    return dataset if leave_out is None else leave_out_drive(dataset, split, leave_out)


@dataclass(frozen=True)
class DataOptions:
    """Which data set a command works on: the flags that all of them share."""

    data: str = flag("kind of data set", choices=DATASETS)
    root: str | None = flag("the data set's folder; not needed for synthetic", default=None)

    def __post_init__(self) -> None:
        """Check the kind."""
        check_fields(self)

    def open(self, split: str, *, leave_out: str | None = None) -> SegmentationDataset:
        """Open one split, see `open_dataset`."""
        return open_dataset(self.data, self.root, split, leave_out=leave_out)


@dataclass(frozen=True)
class SplitOptions(DataOptions):
    """Which part of a data set a command measures on."""

    split: str = flag("part of the data set", default="val")
    leave_out: str | None = flag(
        "measure on this drive, which training.train --leave-out held back", default=None, metavar="DRIVE"
    )

    def open_split(self) -> SegmentationDataset:
        """Open it, see `open_dataset`."""
        return self.open(self.split, leave_out=self.leave_out)


@dataclass(frozen=True)
class OptionalData:
    """The same for commands that can do without a data set."""

    data: str | None = flag("kind of data set", default=None, choices=DATASETS)
    root: str | None = flag("the data set's folder; not needed for synthetic", default=None)

    def __post_init__(self) -> None:
        """Check the kind, and that a folder is one of a data set."""
        check_fields(self)
        if self.root is not None and self.data is None:
            raise ConfigError("root: expected --data beside it, got none; name the kind of data set")

    def open(self, split: str) -> SegmentationDataset | None:
        """Open one split, see `open_dataset`; None where no data set is named."""
        return None if self.data is None else open_dataset(self.data, self.root, split)


def find_root(name: str, root: str | Path) -> Path:
    """Return a data set's folder.

    Raises:
        DatasetError: there is none, or it looks like another kind of data set.
    """
    folder = Path(root)
    if not folder.is_dir():
        raise DatasetError(f"{folder}: expected a folder that holds {name} data, found none; check --root")
    if not _looks_like(name, folder):
        others = [other for other in READERS if READERS[other].marks and _looks_like(other, folder)]
        if others:
            raise DatasetError(
                f"{folder}: expected {name} data ({', '.join(READERS[name].marks)}), found what looks like "
                f"{' or '.join(others)}; use --data {others[0]}, or check --root"
            )
    return folder


def _looks_like(name: str, folder: Path) -> bool:
    return all(next(folder.glob(mark), None) is not None for mark in READERS[name].marks)
