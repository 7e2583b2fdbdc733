"""Any data set of your own, as a folder.

    ROOT/images/train/NAME.png    or JPEG, WebP, TIFF and what else `runtime.base.images` reads
    ROOT/labels/train/NAME.png    8-bit grey or palette, one class id a pixel, name and size of the image
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
      "traversable": ["floor"],
      "terms": "CC BY 4.0"
    }

`palette` holds one red-green-blue colour a class and is generated when absent. `ignore_index` is the id
of void in the label files, not below the number of classes. `traversable` names the
classes that a robot may drive on, and `terms` says what the data allows; both travel with the models trained
on it.

Labels made for other or more classes need not be rewritten: `class_of` names the class of each id, null for
void. Labels with a palette count by their palette's indices. What label tools and others write has readers of
its own, see `training.data.formats`:

    {
      "names": ["drivable", "person", "vehicle"],
      "class_of": {"13": "drivable", "24": "drivable", "19": "person", "55": "vehicle", "65": null},
      "unlisted": "void",
      "terms": "our own"
    }

Labels drawn in colours take colours in place of ids: `"class_of": {"#804080": "road", "#000000": null}`.
`unlisted` says what a value is that is not in the list: "error", which is what holds when it is absent, or
"void". With `class_of`, write null for void and leave `ignore_index` out. Masks of 0 and 255 are two classes
with `"class_of": {"0": "ground", "255": "person"}`; without it 255 is void.

A picture with an EXIF orientation is turned upright, and its label with it, unless the label's size shows
that it was drawn over the upright picture. Where sizes cannot tell (half a turn, mirrored, square),
`"labels_upright": true` says so. `"bits": 12` says how many bits of 16-bit pictures are in use; otherwise
each picture is scaled by its own largest value.
"""

from __future__ import annotations

import colorsys
import dataclasses
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from runtime.base.codec import DecodeError, from_plain
from runtime.base.files import read_regular
from runtime.base.images import is_clutter
from runtime.contract import ClassMap, Rgb
from runtime.errors import ContractError, DatasetError
from training.data.dataset import IGNORE
from training.data.labels import LabelCode, plain_ids
from training.data.pairs import Pair, PairedFiles, last_fifth, pair_folders, plain_name, same_named


@dataclass(frozen=True)
class FolderClasses:
    """The content of `classes.json`."""

    names: tuple[str, ...]
    palette: tuple[Rgb, ...] | None = None
    ignore_index: int | None = None
    class_of: dict[str, str | None] | None = None
    unlisted: Literal["error", "void"] = "error"
    terms: str = ""
    traversable: tuple[str, ...] | None = None
    labels_upright: bool = False
    bits: int | None = None
    unlabelled: str = (
        ""  # the class of pixels that no shape covers, or "void": only for labels that are shapes
    )


def open_folder(root: Path, split: str) -> PairedFiles:
    """Open one split.

    Args:
        root: the folder that holds `images`, `labels` and `classes.json`.
        split: the name of a folder in `images`; without split folders "train" or "val".

    Raises:
        DatasetError: a missing or empty folder, an unknown split, a `classes.json` that is missing or says
            something impossible.
    """
    path = root / "classes.json"
    described = _read_classes(path)
    if described.bits is not None and not 8 <= described.bits <= 16:
        raise DatasetError(f"{path}: bits: expected from 8 to 16, got {described.bits}; correct the file")
    try:
        classes = _class_map(described)
        code = _label_code(described)
    except (ContractError, DatasetError) as error:
        raise DatasetError(f"{path}: {error}; correct the file") from None
    pairs, faults = _find_pairs(root, split)
    return PairedFiles(
        "folder",
        split,
        classes,
        described.terms,
        pairs,
        code,
        faults,
        labels_upright=described.labels_upright,
        bits=described.bits,
    )


def read_classes(root: Path) -> ClassMap:
    """Return the classes of a folder, whether or not it holds labels yet.

    Raises:
        DatasetError: a `classes.json` that is missing or says something impossible.
    """
    path = root / "classes.json"
    try:
        return _class_map(_read_classes(path))
    except ContractError as error:
        raise DatasetError(f"{path}: {error}; correct the file") from None


def folder_splits(root: Path) -> tuple[str, ...]:
    """Return the names of the split folders in `images` or `labels`; "train" and "val" where there are none.

    Raises:
        DatasetError: there is no folder `images`.
    """
    labels = root / "labels"
    folders = (*_folders(root / "images"), *(_folders(labels) if labels.is_dir() else ()))
    names = set(map(plain_name, folders))
    return tuple(sorted(names, key=lambda name: (name != "train", name != "val", name))) or ("train", "val")


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
        plain = json.loads(read_regular(path).decode("utf-8"))
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


def _class_map(described: FolderClasses) -> ClassMap:
    """Return names and colours; a `ContractError` lacks the file's name."""
    palette = distinct_palette(len(described.names)) if described.palette is None else described.palette
    return ClassMap(described.names, palette, IGNORE, described.traversable)


def _label_code(described: FolderClasses) -> LabelCode:
    """Return what the label files' values mean; a `DatasetError` lacks the file's name."""
    count = len(described.names)
    if described.class_of is None:
        void = IGNORE if described.ignore_index is None else described.ignore_index
        if not count <= void <= 255:
            raise DatasetError(f"expected an ignore index from {count} to 255, got {void}")
        return dataclasses.replace(plain_ids(count, void), unlisted=described.unlisted)
    if described.ignore_index is not None:
        raise DatasetError(
            f'expected no ignore_index beside class_of, got both; write "{described.ignore_index}": null'
        )
    unknown = sorted({name for name in described.class_of.values() if name} - {*described.names})
    if unknown:
        raise DatasetError(f"class_of: expected names out of {list(described.names)}, got {unknown[0]!r}")
    unused = [name for name in described.names if name not in described.class_of.values()]
    if unused:
        raise DatasetError(f"class_of: expected a value for each class, got none for {unused[0]!r}")
    kinds = {"colors" if key.startswith("#") else "ids" for key in described.class_of}
    if len(kinds) == 2:
        raise DatasetError("class_of: expected ids or colours, got both")
    index_of = {name: index for index, name in enumerate(described.names)}
    class_of = {
        _value_of(key): IGNORE if name is None else index_of[name] for key, name in described.class_of.items()
    }
    if kinds == {"colors"}:
        return LabelCode(class_of, "colours that class_of lists", "colors", described.unlisted)
    class_of.setdefault(IGNORE, IGNORE)
    return LabelCode(class_of, "ids that class_of lists, or 255 for void", "ids", described.unlisted)


def _value_of(key: str) -> int:
    """Return the id or the colour 0xRRGGBB that a key of `class_of` stands for."""
    if re.fullmatch("#[0-9a-fA-F]{6}", key):
        return int(key[1:], 16)
    if re.fullmatch("[0-9]{1,3}", key) and int(key) <= 255:
        return int(key)
    raise DatasetError(f'class_of: expected ids from 0 to 255 or colours such as "#804080", got {key!r}')


def _folders(folder: Path) -> list[str]:
    if not folder.is_dir():
        raise DatasetError(f"{folder}: expected a folder of images, found none; check --root")
    return sorted(path.name for path in folder.iterdir() if path.is_dir() and not is_clutter(path.name))


def _find_pairs(root: Path, split: str) -> tuple[tuple[Pair, ...], tuple[str, ...]]:
    images, labels = root / "images", root / "labels"
    splits = _folders(images)
    if splits:
        if plain_name(split) not in map(plain_name, splits):
            raise DatasetError(f"{images}: expected a folder {split!r}, found {splits}; choose one of them")
        return pair_folders(same_named(images, split), same_named(labels, split))
    pairs, faults = pair_folders(images, labels)
    try:
        return last_fifth(pairs, split), faults
    except DatasetError as error:
        raise DatasetError(f"{images}: {error}, or make images/{split} and labels/{split}") from None
