"""Cityscapes as its authors publish it: 1024x2048, 19 of its classes.

    ROOT/leftImg8bit/train/aachen/aachen_000000_000019_leftImg8bit.png     8-bit colour
    ROOT/gtFine/train/aachen/aachen_000000_000019_gtFine_labelIds.png      8-bit ids
    ROOT/leftImg8bit/val/, ROOT/gtFine/val/, ROOT/leftImg8bit/test/, ROOT/gtFine/test/

Where a split has no `_labelIds.png`, its `_labelTrainIds.png` are read. The labels of "test" are withheld:
its files hold void alone. Cordts et al. 2016; classes, ids and colours as in the authors' cityscapesScripts.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from runtime.base.images import is_clutter
from runtime.contract import ClassMap
from runtime.errors import DatasetError
from training.data.dataset import IGNORE
from training.data.labels import LabelCode, plain_ids
from training.data.pairs import PairedFiles, match_files, plain_name

SPLITS = ("train", "val", "test")
TERMS = (
    "Cityscapes: non-commercial use only, such as research, teaching and personal experiments; name the data "
    "set in works that use it; models trained on it may be passed on, the images may not"
)
MAX_ID = 33

# Label id, name and colour (red, green, blue) of the classes that are trained and evaluated; their order
# is that of the train ids.
_EVALUATED = (
    (7, "road", (128, 64, 128)),
    (8, "sidewalk", (244, 35, 232)),
    (11, "building", (70, 70, 70)),
    (12, "wall", (102, 102, 156)),
    (13, "fence", (190, 153, 153)),
    (17, "pole", (153, 153, 153)),
    (19, "traffic light", (250, 170, 30)),
    (20, "traffic sign", (220, 220, 0)),
    (21, "vegetation", (107, 142, 35)),
    (22, "terrain", (152, 251, 152)),
    (23, "sky", (70, 130, 180)),
    (24, "person", (220, 20, 60)),
    (25, "rider", (255, 0, 0)),
    (26, "car", (0, 0, 142)),
    (27, "truck", (0, 0, 70)),
    (28, "bus", (0, 60, 100)),
    (31, "train", (0, 80, 100)),
    (32, "motorcycle", (0, 0, 230)),
    (33, "bicycle", (119, 11, 32)),
)
CITYSCAPES_CLASSES = ClassMap(
    names=tuple(name for _, name, _ in _EVALUATED),
    palette_rgb=tuple(color for _, _, color in _EVALUATED),
    traversable=("road",),
)
LABEL_IDS = LabelCode(
    class_of=dict.fromkeys((*range(MAX_ID + 1), IGNORE), IGNORE)
    | {label_id: train_id for train_id, (label_id, _, _) in enumerate(_EVALUATED)},
    expected=f"Cityscapes label ids from 0 to {MAX_ID} or 255",
)
_CODES = {"_gtFine_labelIds.png": LABEL_IDS, "_gtFine_labelTrainIds.png": plain_ids(len(_EVALUATED), IGNORE)}
_IMAGE_ENDING = "_leftImg8bit.png"


def open_cityscapes(root: Path, split: str) -> PairedFiles:
    """Open one split; an image's drive is its city.

    Args:
        root: the folder that holds `leftImg8bit` and `gtFine`.
        split: "train", "val" or "test".

    Raises:
        DatasetError: an unknown split, a missing or empty folder.
    """
    if split not in SPLITS:
        raise DatasetError(
            f"cityscapes: expected a split out of {', '.join(SPLITS)}, got {split!r}; name one"
        )
    image_folder, label_folder = root / "leftImg8bit" / split, root / "gtFine" / split
    images = _by_frame(image_folder, _IMAGE_ENDING)
    label_ending = next(
        (ending for ending in _CODES if any(label_folder.glob(f"*/*{ending}"))), next(iter(_CODES))
    )
    labels = _by_frame(label_folder, label_ending)
    pairs, faults = match_files(images, labels, image_folder, label_folder)
    pairs = tuple(dataclasses.replace(pair, drive=plain_name(pair.image.parent.name)) for pair in pairs)
    return PairedFiles("cityscapes", split, CITYSCAPES_CLASSES, TERMS, pairs, _CODES[label_ending], faults)


def cityscapes_splits(root: Path) -> tuple[str, ...]:
    """Return the splits that a folder should hold: "train" and "val", and "test" where there is any of it."""
    has_test = (root / "leftImg8bit" / "test").exists()
    return SPLITS if has_test else SPLITS[:2]


def _by_frame(folder: Path, ending: str) -> dict[str, Path]:
    """Return a split's files with this ending by city and frame, "aachen/aachen_000000_000019"."""
    if not folder.is_dir():
        raise DatasetError(f"{folder}: expected a folder, found none; check --root and the data set's layout")
    files = {
        plain_name(f"{path.parent.name}/{path.name.removesuffix(ending)}"): path
        for path in folder.glob(f"*/*{ending}")
        if not is_clutter(Path(path.parent.name, path.name))
    }
    if not files:
        raise DatasetError(
            f"{folder}: expected files CITY/*{ending}, found none; check --root and the data set's layout"
        )
    return files
