"""Supervisely: a project as it is downloaded, with JSON annotations or with machine masks.

    ROOT/meta.json                      classes: title and color
    ROOT/DATASET/img/NAME.jpg           datasets may lie in datasets
    ROOT/DATASET/ann/NAME.jpg.json      size, objects
    ROOT/DATASET/masks_machine/NAME.png with ROOT/obj_class_to_machine_color.json, exported "as masks"

After the pages on the annotation format of developer.supervisely.com. Objects are drawn in their order, later
ones on top: bitmaps (base64 of a PNG, packed by zlib), polygons with holes, whose corners are pixels, and
rectangles; lines, points and graphs are passed over. Datasets named train, val (or validation) and test are
the splits; otherwise each is a drive, and the last fifth is "val". Pixels without an object are void, or the
class named "background". Machine masks are read where they are; 0 in them is a pixel without an object.
"""

from __future__ import annotations

import base64
import binascii
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from runtime.base.images import IMAGE_SUFFIXES, image_of, is_clutter
from runtime.base.shown import shown
from runtime.errors import DatasetError, SourceError
from training.data.formats.reading import Vocabulary, in_order, of_split, read_json, split_of, take
from training.data.formats.shapes import (
    Canvas,
    Drawing,
    DrawnLabel,
    Polygons,
    Shape,
    ShapeError,
    Size,
    box_ring,
    ring_of,
)
from training.data.labels import LabelCode
from training.data.pairs import Pair, PairedFiles, find_files, plain_name

_MACHINE_COLORS = "obj_class_to_machine_color.json"
_MOST_BITMAP_BYTES = 1 << 28  # of a PNG after it was unpacked


def open_supervisely(root: Path, split: str) -> PairedFiles:
    """Open one split.

    Args:
        root: the project's folder, which holds `meta.json`.
        split: a dataset named so; "train" or "val" of a project whose datasets are no splits.

    Raises:
        DatasetError: an unknown split, no project, a JSON that is damaged, an image without its annotation.
    """
    meta = root / "meta.json"
    names, colors = [], {}
    for number, entry in enumerate(take(read_json(meta), "classes", list, meta)):
        names.append(take(entry, "title", str, f"{meta}: class {number}"))
        color = entry.get("color")
        if isinstance(color, str) and re.fullmatch("#[0-9a-fA-F]{6}", color):
            colors[names[-1]] = (int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16))
    vocabulary = Vocabulary.of(root, names, colors, where=meta)
    folders = _datasets(root)
    has_splits = bool({split_of(folder.name) for folder in folders} & {"train", "val"})
    with_masks = (root / _MACHINE_COLORS).exists() and any(
        (each / "masks_machine").is_dir() for each in folders
    )
    pairs, faults = [], []
    for folder in folders:
        for image in find_files(folder / "img", IMAGE_SUFFIXES):
            if with_masks:
                annotation = folder / "masks_machine" / f"{image.stem}.png"
                label: Path | DrawnLabel = annotation
            else:
                annotation = folder / "ann" / f"{image.name}.json"
                label = DrawnLabel(
                    str(annotation), _Annotation(annotation, vocabulary.index_of), vocabulary.empty
                )
            if annotation.exists():
                drive = "" if has_splits else plain_name(folder.relative_to(root).parts[0])
                pairs.append((split_of(folder.name) if has_splits else "default", Pair(image, label, drive)))
            else:
                faults.append(f"{image}: expected its labels {annotation}, found none; download them too")
    chosen = of_split(pairs, split, root, faults)
    if with_masks:
        code = _machine_code(root / _MACHINE_COLORS, vocabulary)
        return vocabulary.files("supervisely", split, chosen, faults, code=code, labels_upright=True)
    return vocabulary.files("supervisely", split, chosen, faults)


def supervisely_splits(root: Path) -> tuple[str, ...]:
    """Return the names of the datasets, or "train" and "val" where they are no splits."""
    names = {split_of(folder.name) for folder in _datasets(root)}
    return in_order(names) if names & {"train", "val"} else ("train", "val")


def _datasets(root: Path) -> list[Path]:
    folders = [
        path.parent
        for path in sorted(root.glob("**/img"))
        if path.is_dir()
        and path.parent != root
        and not is_clutter(path.relative_to(root))
        and any(each.suffix.lower() in IMAGE_SUFFIXES for each in path.iterdir())  # none above nested sets
    ]
    if not folders:
        raise DatasetError(
            f"{root}: expected datasets with images in img and labels in ann, found none; check --root"
        )
    return folders


@dataclass(frozen=True)
class _Bitmap:
    """A mask whose upper left corner lies somewhere in the picture."""

    value: int
    data: str
    left: int
    top: int

    def paint(self, canvas: Canvas) -> None:
        try:
            packed = base64.b64decode(self.data, validate=True)
            unpacking = zlib.decompressobj()
            content = unpacking.decompress(packed, _MOST_BITMAP_BYTES) if packed[:1] == b"x" else packed
            mask = image_of(content, "bitmap").decode(cv2.IMREAD_UNCHANGED, content)
        except (binascii.Error, ValueError, zlib.error, SourceError) as error:
            raise ShapeError(f"expected a bitmap as base64 of a PNG, got something else ({error})") from None
        if mask.ndim == 3:
            mask = mask[:, :, 3] if mask.shape[2] == 4 else mask.max(axis=2)
        canvas.stamp(np.asarray(mask > 0), self.top, self.left, self.value)

    def area(self) -> float:
        return float(len(self.data))


class _Annotation:
    """Reads the objects of one annotation file."""

    def __init__(self, path: Path, index_of: Mapping[str, int]) -> None:
        self._path, self._index_of = path, index_of

    def __call__(self, _: Size) -> Drawing:
        content = read_json(self._path)
        size = take(content, "size", dict, self._path)
        own_hw = take(size, "height", int, self._path), take(size, "width", int, self._path)
        shapes = []
        for number, entry in enumerate(take(content, "objects", list, self._path)):
            where = f"{self._path}: object {number}"
            name, kind = take(entry, "classTitle", str, where), take(entry, "geometryType", str, where)
            if name not in self._index_of:
                raise DatasetError(
                    f"{where}: expected a class of meta.json, got {shown(name, 60)!r}; add it there"
                )
            try:
                shape = _shape(entry, kind, self._index_of[name], where)
            except ShapeError as error:
                raise DatasetError(f"{where}: {error}; correct the object or remove it") from None
            if shape is not None:
                shapes.append(shape)
        return own_hw, shapes


def _shape(entry: dict[str, Any], kind: str, value: int, where: str) -> Shape | None:
    """Return an object's shape; None for what covers no pixels."""
    if kind == "bitmap":
        bitmap = take(entry, "bitmap", dict, where)
        origin = take(bitmap, "origin", list, where)
        if len(origin) != 2 or not all(type(each) is int for each in origin):
            raise ShapeError("expected an origin of two whole numbers, got something else")
        return _Bitmap(value, take(bitmap, "data", str, where), origin[0], origin[1])
    if kind == "alpha_mask":  # pixels that would be missing without a word
        raise ShapeError(
            "expected a bitmap, a polygon or a rectangle, got an alpha_mask; convert it to a bitmap"
        )
    if kind not in ("polygon", "rectangle"):
        return None
    points = take(entry, "points", dict, where)
    outline = ring_of(take(points, "exterior", list, where))
    if kind == "polygon":
        holes = take(points, "interior", list, where) if points.get("interior") else []
        return Polygons(value, ((outline, *map(ring_of, holes)),), corners_are_pixels=True)
    if len(outline) != 2:
        raise ShapeError(f"expected two corners of a rectangle, got {len(outline)}")
    (left, top), (right, bottom) = outline.min(axis=0).tolist(), outline.max(axis=0).tolist()
    return Polygons(value, ((box_ring(left, top, right, bottom),),), corners_are_pixels=True)


def _machine_code(path: Path, vocabulary: Vocabulary) -> LabelCode:
    """Return what the colours of machine masks mean."""
    content = read_json(path)
    if not isinstance(content, dict):
        raise DatasetError(f"{path}: expected a colour of each class, got {type(content).__name__}")
    class_of = {0: vocabulary.empty}
    for name, color in content.items():
        if (
            not isinstance(color, list)
            or len(color) != 3
            or not all(type(each) is int and 0 <= each <= 255 for each in color)
        ):
            raise DatasetError(
                f"{path}: expected a colour of three values from 0 to 255 for {shown(name, 60)!r}"
            )
        red, green, blue = color
        if color in list(content.values())[: list(content).index(name)]:
            raise DatasetError(
                f"{path}: expected a colour of its own for {shown(name, 60)!r}, got {color} of another class "
                "too; export again with other colours"
            )
        class_of[red << 16 | green << 8 | blue] = vocabulary.index(name, path)
    return LabelCode(class_of, "colours that obj_class_to_machine_color.json lists", "colors")
