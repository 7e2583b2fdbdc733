"""Any data set of your own, as a folder.

    ROOT/images/train/NAME.png    also .jpg, .jpeg, .bmp
    ROOT/labels/train/NAME.png    8-bit grey, one class id a pixel, same name and size as the image
    ROOT/images/val/, ROOT/labels/val/, and other splits by their names
    ROOT/classes.json

Files may also lie in `images/` and `labels/` without split folders. Then the last fifth in name order
(at least one image) is "val" and the rest "train": neighbours in a video stay on one side, apart from
the cut.

`classes.json` gives names in the order of their ids; all but `names` may be left out:

    {
      "names": ["floor", "wall", "door"],
      "palette": [[128, 64, 128], [128, 0, 0], [64, 0, 128]],
      "ignore_index": 255,
      "terms": "CC BY 4.0"
    }

`palette` holds one red-green-blue colour a class and is generated when absent. `ignore_index` is the id
of void in the label files, not below the number of classes. `terms` says what the data allows, and travels
with the models trained on it.
"""

from __future__ import annotations

import colorsys
import json
from dataclasses import dataclass
from pathlib import Path

from runtime.codec import DecodeError, from_plain
from runtime.contract import ClassMap, Rgb
from runtime.errors import ContractError, DatasetError
from training.data.dataset import IGNORE, Pair, PairedFiles, pair_files


@dataclass(frozen=True)
class FolderClasses:
    """The content of `classes.json`."""

    names: tuple[str, ...]
    palette: tuple[Rgb, ...] | None = None
    ignore_index: int = IGNORE
    terms: str = ""


def open_folder(root: Path, split: str) -> PairedFiles:
    """Open one split.

    Args:
        root: the folder that holds `images`, `labels` and `classes.json`.
        split: the name of a folder in `images`; without split folders "train" or "val".

    Raises:
        DatasetError: a missing or empty folder, an unknown split, an image without its label, a
            `classes.json` that is missing or says something impossible.
    """
    path = root / "classes.json"
    described = _read_classes(path)
    palette = distinct_palette(len(described.names)) if described.palette is None else described.palette
    try:
        ClassMap(described.names, palette, described.ignore_index)  # the ids as the files have them
        classes = ClassMap(described.names, palette, IGNORE)
    except ContractError as error:
        raise DatasetError(f"{path}: {error}; correct the file") from None
    pairs = _find_pairs(root, split)
    return PairedFiles("folder", split, classes, described.terms, pairs, described.ignore_index)


def distinct_palette(count: int) -> tuple[Rgb, ...]:
    """Return `count` colours that are easy to tell apart, the same ones every time.

    Hues follow the golden angle, so that neighbouring ids are far apart; brightness takes turns.
    """
    colors = []
    for index in range(count):
        value = (0.95, 0.65, 0.8)[index % 3]
        red, green, blue = colorsys.hsv_to_rgb(index * 0.618034 % 1, 0.75, value)
        colors.append((round(red * 255), round(green * 255), round(blue * 255)))
    return tuple(colors)


def _read_classes(path: Path) -> FolderClasses:
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DatasetError(
            f'{path}: expected a file such as {{"names": ["road", "car"]}}, got {error.strerror}; write it'
        ) from None
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{path}: expected JSON, got text that is not ({error}); correct it") from None
    try:
        return from_plain(FolderClasses, plain)
    except DecodeError as error:
        raise DatasetError(f"{path}: {error}; correct the file") from None


def _find_pairs(root: Path, split: str) -> tuple[Pair, ...]:
    images, labels = root / "images", root / "labels"
    if not images.is_dir():
        raise DatasetError(f"{images}: expected a folder of images, found none; check --root")
    splits = sorted(path.name for path in images.iterdir() if path.is_dir() and not path.name.startswith("."))
    if splits:
        if split not in splits:
            raise DatasetError(f"{images}: expected a folder {split!r}, found {splits}; choose one of them")
        return pair_files(images / split, labels / split)
    pairs = pair_files(images, labels)
    cut = len(pairs) - max(1, len(pairs) // 5)
    if split not in ("train", "val") or cut == 0:
        raise DatasetError(
            f"{images}: expected split folders, or at least 2 images for train and val, "
            f"got split {split!r} of {len(pairs)} images without folders; "
            f"make images/{split} and labels/{split}"
        )
    return pairs[:cut] if split == "train" else pairs[cut:]
