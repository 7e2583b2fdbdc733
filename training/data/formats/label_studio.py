"""Label Studio: its JSON export, with the images beside it.

    ROOT/export.json            or any other one *.json: a list of tasks, exported as "JSON"
    ROOT/images/NAME            or ROOT/NAME: the pictures, under the names that the tasks have for them

After the page on export formats of labelstud.io and the source of its converter. A task's picture is found by
the path in its `data`, with or without folders and without the code that an upload puts before its name
(`1a2b3c4d-NAME`). Of several annotations of a task the one that is `ground_truth` counts, else the last that
was not cancelled; tasks without one are left out. Brushes, polygons, rectangles and ellipses are drawn in the
order of the result, later ones on top. Classes are the labels that occur, in alphabetical order, since the
export does not list them; a `classes.json` may list them all. Pixels without a shape are void, or the class
of a label that is named "background". The PNG export names the task of a mask and not its image;
the JSON has both and the same masks. JSON-MIN leaves out whether a picture was turned.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from runtime.base.images import IMAGE_SUFFIXES, is_clutter
from runtime.base.shown import shown
from runtime.errors import DatasetError
from training.data.formats.reading import Vocabulary, inside, of_split, read_json, take
from training.data.formats.shapes import (
    Canvas,
    Drawing,
    DrawnLabel,
    Polygons,
    Shape,
    ShapeError,
    Size,
    box_ring,
    ellipse_ring,
    label_studio_alpha,
    ring_of,
)
from training.data.pairs import Pair, PairedFiles

_KINDS = ("brushlabels", "polygonlabels", "rectanglelabels", "ellipselabels", "labels")


def open_label_studio(root: Path, split: str) -> PairedFiles:
    """Open one split; without splits of its own the last fifth of the images is "val".

    Args:
        root: the folder that holds the JSON.
        split: "train" or "val".

    Raises:
        DatasetError: an unknown split, a JSON that is damaged or names what is not there.
    """
    path = _export(root)
    tasks = read_json(path)
    if not isinstance(tasks, list):
        raise DatasetError(f"{path}: expected a list of tasks, got {type(tasks).__name__}; export as JSON")
    labelled = []
    for number, task in enumerate(tasks):
        where = f"{path}: task {task.get('id', number) if isinstance(task, dict) else number}"
        if (result := _result(task, where)) is not None:
            labelled.append((where, task, result))
    names = sorted({name for where, _, result in labelled for one in result for name in _labels(one, where)})
    if not names:
        raise DatasetError(
            f"{path}: expected tasks with drawn labels, found none; label some and export as JSON"
        )
    vocabulary = Vocabulary.of(root, names, only_found=True, where=path)
    pairs, faults = [], []
    for where, task, result in labelled:
        picture = _picture(root, task, where)
        if picture.exists():
            label = DrawnLabel(where, _Result(where, result, vocabulary.index_of), vocabulary.empty)
            pairs.append(("default", Pair(picture, label)))
        else:
            faults.append(f"{where}: expected its picture {picture}, found none; copy it there")
    pairs.sort(key=lambda pair: pair[1].image)
    return vocabulary.files("label-studio", split, of_split(pairs, split, path, faults), faults)


def label_studio_splits(root: Path) -> tuple[str, ...]:
    """Return "train" and "val": the export knows no splits."""
    _export(root)
    return ("train", "val")


@dataclass(frozen=True)
class _Brush:
    """A brush's mask, packed; see `label_studio_alpha`."""

    value: int
    packed: bytes

    def paint(self, canvas: Canvas) -> None:
        canvas.stamp(label_studio_alpha(self.packed, canvas.label.shape), 0, 0, self.value)

    def area(self) -> float:
        return float(len(self.packed))


class _Result:
    """Makes the shapes of an annotation's result."""

    def __init__(self, where: str, result: list[Any], index_of: Mapping[str, int]) -> None:
        self._where, self._result, self._index_of = where, result, index_of

    def __call__(self, size_hw: Size) -> Drawing:
        shapes: list[Shape] = []
        own_hw = size_hw
        for region in self._result:
            for name in _labels(region, self._where):
                height, width = (
                    take(region, f"original_{side}", int, self._where) for side in ("height", "width")
                )
                own_hw = height, width
                try:
                    shapes.append(_shape(region, own_hw, self._index_of[name]))
                except ShapeError as error:
                    raise DatasetError(f"{self._where}: {error}; correct the region or remove it") from None
                except (KeyError, TypeError, ValueError, OverflowError):
                    raise DatasetError(
                        f"{self._where}: expected the numbers of a shape, got others; export as JSON again"
                    ) from None
        return own_hw, shapes


def _shape(region: dict[str, Any], size_hw: Size, index: int) -> Shape:
    """Return what a region describes, whose numbers are percent of the picture's size."""
    height, width = size_hw
    value = region["value"]
    if region.get("image_rotation"):
        raise ShapeError("expected a picture that was not turned while it was labelled, got one that was")
    if "rle" in value:
        return _Brush(index, bytes(value["rle"]))
    if "points" in value:
        ring = ring_of(value["points"]) * (width / 100, height / 100)
    else:
        said = {key: float(value[key]) for key in _NUMBERS if key in value}
        if any(not abs(number) < 1e4 for number in said.values()):
            raise ShapeError("expected shares of the picture in percent, got other numbers")
        left, top, degrees = said["x"] * width / 100, said["y"] * height / 100, said.get("rotation", 0.0)
        if "radiusX" in said and "radiusY" in said:
            radii = said["radiusX"] * width / 100, said["radiusY"] * height / 100
            ring = ellipse_ring((left, top), radii, degrees)
        else:
            right, bottom = left + said["width"] * width / 100, top + said["height"] * height / 100
            ring = box_ring(left, top, right, bottom, degrees, about_corner=True)
    return Polygons(index, ((ring,),))


_NUMBERS = ("x", "y", "width", "height", "radiusX", "radiusY", "rotation")


def _result(task: Any, where: str) -> list[Any] | None:
    """Return the result that counts for a task; None where there is none."""
    if not isinstance(task, dict) or "data" not in task:
        raise DatasetError(
            f"{where}: expected a task with data, got another object; export as JSON, not JSON-MIN"
        )
    found = [
        one
        for one in take(task, "annotations", list, where)
        if isinstance(one, dict) and not one.get("was_cancelled")
    ]
    if not found:
        return None
    chosen = next((one for one in found if one.get("ground_truth")), found[-1])
    return take(chosen, "result", list, where)


def _labels(one: Any, where: str) -> list[str]:
    """Return the label of a region that can be drawn, as a list; none for others, such as key points."""
    if not isinstance(one, dict) or not isinstance(one.get("value"), dict):
        return []
    value = one["value"]
    for kind in _KINDS:
        if kind in value and (kind != "labels" or {"rle", "points", "width", "radiusX"} & set(value)):
            names = value[kind]
            if not isinstance(names, list) or len(names) != 1 or not isinstance(names[0], str):
                raise DatasetError(
                    f"{where}: expected one label a region, got {shown(names, 60)}; correct it"
                )
            return names
    if "bitmasklabels" in value:  # pixels that would be missing without a word
        raise DatasetError(f"{where}: expected brushes or shapes, got a bitmask; draw it with BrushLabels")
    return []


def _picture(root: Path, task: dict[str, Any], where: str) -> Path:
    """Return where a task's picture is, or should be."""
    texts = (
        [text for text in task["data"].values() if isinstance(text, str)]
        if isinstance(task["data"], dict)
        else []
    )
    stated = []
    for text in texts:
        parts = urlsplit(text)
        path = parse_qs(parts.query).get("d", [unquote(parts.path)])[0]
        if Path(path).suffix.lower() in IMAGE_SUFFIXES:
            stated.append(path)
    if len(stated) != 1:
        raise DatasetError(
            f"{where}: expected one image in its data, got {len(stated)}; export one image a task"
        )
    whole = stated[0].lstrip("/")
    name = whole.rsplit("/", 1)[-1]
    names = dict.fromkeys((whole, name, re.sub(r"^[0-9a-f]{8}-", "", name)))
    places = [inside(folder, each, where) for each in names for folder in (root / "images", root)]
    return next((place for place in places if place.exists()), root / "images" / name)


def _export(root: Path) -> Path:
    """Return the one JSON of the folder."""
    paths = [
        path
        for path in sorted(root.glob("*.json"))
        if not is_clutter(path.name) and path.name != "classes.json"
    ]
    if len(paths) == 1:
        return paths[0]
    if not paths and any(root.glob("**/task-*-annotation-*.png")):
        raise DatasetError(
            f"{root}: expected Label Studio's JSON, found its PNG masks, which name tasks and not images; "
            "export as JSON, which has both and the same masks"
        )
    found = ", ".join(path.name for path in paths[:4]) or "none"
    raise DatasetError(f"{root}: expected one JSON of Label Studio, found {found}; keep one, check --root")
