"""COCO: polygons and runs of all images in one JSON, and panoptic segments as PNG beside a JSON.

    ROOT/annotations/instances_train2017.json    or stuff_train2017.json, where there are no instances
    ROOT/train2017/000000000009.jpg
    ROOT/train/_annotations.coco.json            as Roboflow exports, images beside it
    ROOT/result.json, ROOT/images/               as Label Studio and others export, without splits

    ROOT/annotations/panoptic_train2017.json     `coco-panoptic`
    ROOT/annotations/panoptic_train2017/*.png    a segment's id is red + 256 green + 65536 blue, 0 is void

After the data format that cocodataset.org describes and the masks of its pycocotools. Polygons are lists [x,
y, …]; runs are {"counts", "size"}, plain or compressed. COCO does not say which object lies on top: large
ones are drawn first. What is a crowd (`iscrowd`) is drawn beneath all else, as its class. Pixels without an
instance are "background", which is added to the classes; of stuff and panoptic labels they are void. An
object that has a box alone cannot be drawn and is an error.
"""

from __future__ import annotations

import contextlib
import re
from array import array
from collections import defaultdict
from pathlib import Path
from typing import Any, TypeAlias

from runtime.base.images import is_clutter
from runtime.contract import Rgb
from runtime.errors import DatasetError
from training.data.dataset import IGNORE
from training.data.formats.reading import Vocabulary, in_order, inside, of_split, read_json, split_of, take
from training.data.formats.shapes import (
    Drawing,
    DrawnLabel,
    Polygons,
    Runs,
    Shape,
    ShapeError,
    Size,
    decode_coco_counts,
    ring_of,
)
from training.data.labels import LabelCode
from training.data.pairs import Pair, PairedFiles

ImageId: TypeAlias = int | str

_KINDS = ("instances", "stuff", "panoptic")
_NO_LABELS = ("captions", "person_keypoints", "image_info")  # other tasks of COCO
_SEGMENTS = LabelCode({0: IGNORE}, "segments")


def open_coco(root: Path, split: str) -> PairedFiles:
    """Open one split of polygons and runs.

    Args:
        root: the folder that holds `annotations`, or split folders with `_annotations.coco.json`, or a JSON.
        split: "train", "val" or "test", as the files' names say; "train" or "val" of a JSON without splits.

    Raises:
        DatasetError: an unknown split, a JSON that is damaged or names what is not there.
    """
    files = _annotation_files(root)
    path = _file_of(files, split, root)
    content = read_json(path, _compact)
    names, colors, name_of = _categories(content, path)
    vocabulary = Vocabulary.of(
        root,
        names,
        colors,
        void=("other",) if path.name.startswith("stuff") else (),
        adds_background=not path.name.startswith("stuff"),
        where=path,
    )
    drawn: dict[ImageId, list[_Object]] = defaultdict(list)
    for number, entry in enumerate(take(content, "annotations", list, path)):
        where = f"{path}: annotation {number}"
        category = take(entry, "category_id", int, where)
        if category not in name_of:
            raise DatasetError(
                f"{where}: expected a category that is listed, got id {category}; export it again"
            )
        drawn[_image_id(entry, "image_id", where)].append(
            _Object(vocabulary.index(name_of[category], where), entry.get("segmentation"))
        )
    faults: list[str] = []
    pairs = []
    for image_id, (image, size_hw) in _images(content, path, root, faults).items():
        label = _ImageLabel(f"{path}: {image.name}", size_hw, tuple(drawn.pop(image_id, ())))
        pairs.append((_split_name(path), Pair(image, DrawnLabel(label.name, label, vocabulary.empty))))
    if drawn and not faults:
        unlisted = min(map(str, drawn))
        faults.append(
            f"{path}: expected annotations of listed images, got image_id {unlisted}; export it again"
        )
    return vocabulary.files("coco", split, of_split(pairs, split, path, faults), faults)


def open_coco_panoptic(root: Path, split: str) -> PairedFiles:
    """Open one split of panoptic segments, see `open_coco`."""
    path = _file_of(_annotation_files(root, panoptic=True), split, root)
    content = read_json(path)
    names, colors, name_of = _categories(content, path)
    vocabulary = Vocabulary.of(root, names, colors, where=path)
    faults: list[str] = []
    images = _images(content, path, root, faults)
    pairs = []
    for number, entry in enumerate(take(content, "annotations", list, path)):
        where = f"{path}: annotation {number}"
        class_of = {0: IGNORE}
        for segment in take(entry, "segments_info", list, where):
            category = take(segment, "category_id", int, where)
            if category not in name_of:
                raise DatasetError(
                    f"{where}: expected a category that is listed, got id {category}; export it again"
                )
            class_of[_color(take(segment, "id", int, where))] = vocabulary.index(name_of[category], where)
        image_id = _image_id(entry, "image_id", where)
        if image_id not in images:
            if not faults:
                faults.append(f"{where}: expected a listed image, got image_id {image_id}; export it again")
            continue
        segments = inside(path.with_suffix(""), take(entry, "file_name", str, where), where)
        code = LabelCode(class_of, "the segments that its JSON lists", "colors")
        pairs.append((_split_name(path), Pair(images[image_id][0], segments, code=code)))
    pairs.sort(key=lambda pair: pair[1].image)
    return vocabulary.files(
        "coco-panoptic", split, of_split(pairs, split, path, faults), faults, code=_SEGMENTS
    )


def coco_splits(root: Path) -> tuple[str, ...]:
    """Return the splits that the JSON files' names tell."""
    return in_order(set(_annotation_files(root)))


def coco_panoptic_splits(root: Path) -> tuple[str, ...]:
    """Return the splits that the JSON files' names tell."""
    return in_order(set(_annotation_files(root, panoptic=True)))


class _Object:
    """An annotation: class index and `segmentation`."""

    __slots__ = ("segmentation", "value")

    def __init__(self, value: int, segmentation: Any) -> None:
        self.value, self.segmentation = value, segmentation

    def shape(self, size_hw: Size) -> Shape:
        if isinstance(self.segmentation, dict):
            size, counts = self.segmentation.get("size"), self.segmentation.get("counts")
            if size != list(size_hw):
                raise ShapeError(f"expected runs of size {list(size_hw)}, got {str(size)[:60]}")
            if isinstance(counts, str):
                counts = decode_coco_counts(counts, size_hw[0] * size_hw[1])
            if not isinstance(counts, list) or not all(type(count) is int for count in counts):
                raise ShapeError("expected counts as a list of whole numbers or a text, got something else")
            return Runs(self.value, counts)
        if not isinstance(self.segmentation, list) or not self.segmentation:
            raise ShapeError("expected a segmentation, got a box alone")
        return Polygons(self.value, tuple((ring_of(part),) for part in self.segmentation))


class _ImageLabel:
    """The objects of an image as shapes, the large ones first; all masks of CVAT say that they are crowds."""

    def __init__(self, name: str, size_hw: Size, objects: tuple[_Object, ...]) -> None:
        self.name, self._size_hw, self._objects = name, size_hw, objects

    def __call__(self, _: Size) -> Drawing:
        try:
            shapes = [one.shape(self._size_hw) for one in self._objects]
        except ShapeError as error:
            raise DatasetError(f"{self.name}: {error}; correct the annotation or remove it") from None
        return self._size_hw, sorted(shapes, key=lambda shape: -shape.area())


def _compact(entry: dict[str, Any]) -> dict[str, Any]:
    """Keep of an annotation what is needed, numbers as arrays; COCO's train split would take 3 GB."""
    if "category_id" not in entry or "image_id" not in entry:
        return entry
    kept: dict[str, Any] = {
        key: entry[key] for key in ("image_id", "category_id", "segmentation") if key in entry
    }
    parts = entry.get("segmentation")
    if isinstance(parts, list):
        with contextlib.suppress(
            TypeError, OverflowError
        ):  # what is no number is told where the image is read
            kept["segmentation"] = [array("f", part) for part in parts]
    return kept


def _annotation_files(root: Path, panoptic: bool = False) -> dict[str, Path]:
    """Return the JSON file of each split."""
    paths = [
        path
        for pattern in ("annotations/*.json", "*/_annotations.coco.json", "*.json")
        for path in sorted(root.glob(pattern))
        if not is_clutter(path.relative_to(root))
        and path.name != "classes.json"
        and not path.name.startswith(_NO_LABELS)
        and path.name.startswith("panoptic") == panoptic
    ]
    if any(path.name.startswith("instances") for path in paths):
        paths = [path for path in paths if not path.name.startswith("stuff")]
    if not paths:
        wanted = "annotations/panoptic_*.json" if panoptic else "annotations/instances_*.json or another JSON"
        raise DatasetError(f"{root}: expected {wanted}, found none; check --root")
    files: dict[str, Path] = {}
    for path in paths:
        name = _split_name(path)
        if name in files:
            raise DatasetError(
                f"{path}: expected one file of labels a split, found {files[name].name} too; move one away"
            )
        files[name] = path
    return files


def _split_name(path: Path) -> str:
    """Return the split that a file's name tells, such as "train" of instances_train2017.json."""
    if path.name == "_annotations.coco.json":
        return split_of(path.parent.name)
    return split_of(re.sub(rf"^({'|'.join(_KINDS)})[_-]?", "", path.stem) or path.stem)


def _file_of(files: dict[str, Path], split: str, root: Path) -> Path:
    if split in files:
        return files[split]
    if len(files) == 1 and not set(files) & {"train", "val", "test"}:
        return next(iter(files.values()))
    raise DatasetError(
        f"{root}: expected a split out of {', '.join(in_order(set(files)))}, got {split!r}; name one"
    )


def _categories(content: Any, path: Path) -> tuple[list[str], dict[str, Rgb], dict[int, str]]:
    """Return the names in the order of their ids, the colours that are stated, and the name of each id."""
    entries = take(content, "categories", list, path)
    name_of, colors = {}, {}
    for number, entry in enumerate(entries):
        where = f"{path}: category {number}"
        name = take(entry, "name", str, where)
        name_of[take(entry, "id", int, where)] = name
        color = entry.get("color")
        if (
            isinstance(color, list)
            and len(color) == 3
            and all(type(c) is int and 0 <= c <= 255 for c in color)
        ):
            colors[name] = (color[0], color[1], color[2])
    return [name_of[key] for key in sorted(name_of)], colors, name_of


def _images(content: Any, path: Path, root: Path, faults: list[str]) -> dict[ImageId, tuple[Path, Size]]:
    """Return file and size of each image by its id, in the order of files; missing ones become faults."""
    split = _split_name(path)
    named = [each.name for each in sorted(root.iterdir()) if each.is_dir() and split_of(each.name) == split]
    folders = [path.parent] if path.name == "_annotations.coco.json" else [root / name for name in named]
    pictures = root / "images"
    if pictures.is_dir():
        named += [name.name for name in sorted(pictures.iterdir()) if split_of(name.name) == split]
    folders += [pictures, pictures / split, *(pictures / name for name in named), root]
    found = {}
    for number, entry in enumerate(take(content, "images", list, path)):
        where = f"{path}: image {number}"
        size_hw = take(entry, "height", int, where), take(entry, "width", int, where)
        name = take(entry, "file_name", str, where)
        beneath = inside(folders[0], name, where).relative_to(folders[0])
        image = next((place for folder in folders if (place := folder / beneath).exists()), None)
        if image is None:
            faults.append(f"{where}: expected its picture {folders[0] / beneath}, found none; copy it there")
            continue
        found[_image_id(entry, "id", where)] = image, size_hw
    return dict(sorted(found.items(), key=lambda item: item[1][0]))


def _image_id(entry: Any, key: str, where: str) -> ImageId:
    """Return an image's id, a number or, as Cityscapes' panoptic files have it, a text."""
    if isinstance(entry, dict) and isinstance(entry.get(key), str):
        return take(entry, key, str, where)
    return take(entry, key, int, where)


def _color(segment: int) -> int:
    """Return 0xRRGGBB of a segment's id, whose lowest byte is red."""
    return (segment & 255) << 16 | segment & 0xFF00 | segment >> 16 & 255
