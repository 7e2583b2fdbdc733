"""CVAT: "CVAT for images 1.1", an XML of shapes. Its "Segmentation mask 1.1" is read by `voc`.

    ROOT/annotations.xml
    ROOT/images/NAME            or ROOT/images/SUBSET/NAME, or ROOT/NAME

After the pages on the XML format and on "CVAT for images" of docs.cvat.ai. Classes and colours are the labels
that the XML lists. Shapes with the larger `z_order` lie on top, of equal ones those that come later.
Polygons, masks (run lengths, row after row within a box, beginning with pixels outside), boxes and ellipses
are drawn, as CVAT's own mask export does; lines, points and tags cover no pixels, skeletons and cuboids are
passed over too. Pixels without a shape are void, or the class of a label that is named "background". The
subsets are the splits.

The XML is read as a stream; one that declares entities or a document type is refused, since CVAT writes none.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from xml.parsers import expat

from runtime.base.files import open_regular
from runtime.base.images import IMAGE_SUFFIXES
from runtime.base.shown import shown
from runtime.contract import Rgb
from runtime.errors import DatasetError
from training.data.formats.reading import Vocabulary, in_order, inside, of_split, split_of
from training.data.formats.shapes import (
    Drawing,
    DrawnLabel,
    Polygons,
    Runs,
    Shape,
    ShapeError,
    Size,
    box_ring,
    ellipse_ring,
    ring_of,
)
from training.data.pairs import Pair, PairedFiles

_FILE = "annotations.xml"
_OF_FRAMES = (".PNG", ".png", ".jpg", ".jpeg")  # of a video's, as several versions write them
_DRAWN = ("polygon", "mask", "box", "ellipse")


def open_cvat(root: Path, split: str) -> PairedFiles:
    """Open one split.

    Args:
        root: the folder that holds `annotations.xml`.
        split: a subset, such as "train"; "train" or "val" where there are no subsets.

    Raises:
        DatasetError: an unknown split, an XML that is damaged, hostile or of another kind.
    """
    path = root / _FILE
    export = _read(path)
    vocabulary = Vocabulary.of(root, list(export.colors), export.known_colors(), where=path)
    faults: list[str] = []
    pairs = []
    for image in export.images:
        where = f"{path}: image {shown(image.name, 100)!r}"
        places = [
            inside(folder, image.name, where)
            for folder in (root / "images", root / "images" / image.subset, root)
        ]
        if (
            Path(image.name).suffix.lower() not in IMAGE_SUFFIXES
        ):  # a frame of a video: its file has an ending
            places += [place.with_name(f"{place.name}{suffix}") for place in places for suffix in _OF_FRAMES]
        picture = next((place for place in places if place.is_file()), None)
        if picture is None:
            faults.append(f"{where}: expected its picture {places[0]}, found none; export with images")
            continue
        for label in {label for label, *_ in image.shapes}:
            vocabulary.index(label, where)
        reading = _ImageShapes(where, image, vocabulary.index_of)
        pairs.append((split_of(image.subset), Pair(picture, DrawnLabel(where, reading, vocabulary.empty))))
    pairs.sort(key=lambda pair: pair[1].image)
    return vocabulary.files("cvat", split, of_split(pairs, split, path, faults), faults)


def cvat_splits(root: Path) -> tuple[str, ...]:
    """Return the subsets of the images."""
    return in_order({split_of(image.subset) for image in _read(root / _FILE).images})


@dataclass
class _Image:
    """An image of the XML: its shapes are (label, z order, element, attributes)."""

    name: str
    size_hw: Size
    subset: str
    shapes: list[tuple[str, int, str, dict[str, str]]] = field(default_factory=list)


@dataclass
class _Export:
    """What an XML holds: labels with their colours, and images."""

    colors: dict[str, str] = field(default_factory=dict)
    images: list[_Image] = field(default_factory=list)

    def known_colors(self) -> dict[str, Rgb]:
        return {
            name: (int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16))
            for name, color in self.colors.items()
            if re.fullmatch("#[0-9a-fA-F]{6}", color)
        }


class _ImageShapes:
    """Makes the shapes of an image out of the attributes in the XML."""

    def __init__(self, where: str, image: _Image, index_of: Mapping[str, int]) -> None:
        self._where, self._image, self._index_of = where, image, index_of

    def __call__(self, _: Size) -> Drawing:
        shapes = []
        for label, _order, kind, said in sorted(self._image.shapes, key=lambda shape: shape[1]):
            try:
                shapes.append(_shape(kind, said, self._index_of[label]))
            except (ShapeError, ValueError, KeyError, OverflowError) as error:
                reason = (
                    error if isinstance(error, ShapeError) else f"expected a {kind}, got {shown(error, 60)}"
                )
                raise DatasetError(f"{self._where}: {reason}; correct the shape or remove it") from None
        return self._image.size_hw, shapes


def _shape(kind: str, said: dict[str, str], value: int) -> Shape:
    """Return an element's shape; a `ValueError` or `KeyError` says what is wrong with its attributes."""
    if kind == "mask":
        box = int(said["left"]), int(said["top"]), int(said["width"]), int(said["height"])
        return Runs(value, [int(count) for count in said["rle"].split(",")], box, by_column=False)
    degrees = _finite(said.get("rotation", "0"))
    if kind == "polygon":
        ring = ring_of(
            [[float(number) for number in point.split(",")] for point in said["points"].split(";")]
        )
    elif kind == "box":
        left, top, right, bottom = (_finite(said[name]) for name in ("xtl", "ytl", "xbr", "ybr"))
        ring = box_ring(left, top, right, bottom, degrees)
    else:
        x, y, across, down = (_finite(said[name]) for name in ("cx", "cy", "rx", "ry"))
        ring = ellipse_ring((x, y), (across, down), degrees)
    return Polygons(value, ((ring,),))


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number) or abs(number) > 1e7:
        raise ValueError(text)
    return number


def _read(path: Path) -> _Export:
    """Return what an XML holds.

    Raises:
        DatasetError: no such file, no XML, entities, or another of CVAT's formats.
    """
    export = _Export()
    open_elements: list[str] = []
    text: list[str] = []
    label = {"name": "", "color": ""}

    def refuse(*_: object) -> None:
        raise DatasetError(
            f"{path}: expected an XML of CVAT, got one with a document type or entities; export it again"
        )

    def begin(name: str, said: dict[str, str]) -> None:
        if not open_elements and name != "annotations":
            raise DatasetError(f"{path}: expected an XML of CVAT with annotations, got {shown(name, 40)!r}")
        open_elements.append(name)
        text.clear()
        if name == "track":
            raise DatasetError(f"{path}: expected CVAT for images 1.1, got tracks; export it as that")
        if name == "label":
            label.update(name="", color="")
        elif name == "image" and open_elements == ["annotations", "image"]:
            export.images.append(_image(said, path))
        elif name in _DRAWN and open_elements[:-1] == ["annotations", "image"]:
            image = export.images[-1]
            order = said.get("z_order", "0")
            if not re.fullmatch(r"-?\d{1,9}", order) or "label" not in said:
                raise DatasetError(
                    f"{path}: image {shown(image.name, 100)!r}: expected a label and a z_order"
                )
            image.shapes.append((said["label"], int(order), name, said))

    def end(name: str) -> None:
        open_elements.pop()
        if open_elements[-1:] == ["label"] and name in label:
            label[name] = "".join(text).strip()
        elif name == "label" and label["name"]:
            export.colors[label["name"]] = label["color"]

    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = parser.EntityDeclHandler = refuse
    parser.StartElementHandler, parser.EndElementHandler = begin, end
    parser.CharacterDataHandler = text.append
    try:
        with open_regular(path) as file:
            parser.ParseFile(file)
    except OSError as error:
        raise DatasetError(f"{path}: expected CVAT's XML, cannot read it ({error.strerror})") from None
    except (expat.ExpatError, LookupError, ValueError) as error:  # LookupError: an encoding
        raise DatasetError(f"{path}: expected XML, got text that is not ({error}); export it again") from None
    if not export.colors:
        raise DatasetError(f"{path}: expected a list of labels, found none; export it again")
    return export


def _image(said: dict[str, str], path: Path) -> _Image:
    name = said.get("name", "")
    sides = [said.get(side, "") for side in ("height", "width")]
    if not name or not all(re.fullmatch(r"\d{1,6}", side) for side in sides):
        raise DatasetError(
            f"{path}: image {shown(name, 100)!r}: expected a name, a width and a height; export it again"
        )
    return _Image(name, (int(sides[0]), int(sides[1])), said.get("subset", "default"))
