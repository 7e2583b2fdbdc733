"""Frames to correct as tasks of annotation tools, with pre-filled masks: CVAT and Label Studio.

    ROUND/images/                   the frames, as browsers show them
    ROUND/labels/                   the masks, uint8 class indices, 255 for void
    ROUND/classes.json              with these two: --data folder --root ROUND
    ROUND/tasks/annotations.xml     "CVAT for images 1.1": upload it as annotations of a task of these images
    ROUND/tasks/cvat-labels.json    its labels, for CVAT's "Raw" constructor
    ROUND/tasks/label-studio.json   tasks with predictions; images are served from ROUND's parent
    ROUND/tasks/label-studio.xml    their labelling configuration

What comes back is put beside these: CVAT's annotations.xml (--data cvat), Label Studio's JSON (--data
label-studio); `classes.json` keeps the order of the classes.

A mask holds one class of a frame, whole; void is left unmarked. CVAT's masks are run lengths over their own
box, row by row, beginning with what is not the class (docs.cvat.ai, "XML annotation format"). Label Studio's
are the bytes of a picture of four channels, packed as @thi.ng/rle-pack does.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from runtime.base.files import write_text
from runtime.contract import ClassMap
from runtime.frame import Image
from runtime.masks.formats import encode_palette_png
from training.data.dataset import Sample
from training.teaching.labelling import write_classes

_RUN_BITS = (4, 8, 12, 16)  # of the lengths in Label Studio's packing
_TAG, _IMAGE = "label", "image"  # names in its configuration


def write_tasks(
    folder: Path, names: Iterable[str], read: Callable[[str], Sample], classes: ClassMap, terms: str = ""
) -> None:
    """Write a folder of tasks, whole or not at all.

    Args:
        folder: must not exist.
        names: of the frames, which become file names.
        read: returns a frame with its pre-filled mask by its name.
        classes: names and colours.
        terms: what the labels allow, in words.

    Raises:
        OSError: a folder that exists, or cannot be written.
        DatasetError: what `read` raises.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    for leftover in folder.parent.glob(f".{folder.name}.*"):  # of a run that was killed
        shutil.rmtree(leftover, ignore_errors=True)
    part = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        part.chmod(0o755)
        _write(part, folder, sorted(names), read, classes, terms)
        part.rename(folder)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise


def _write(
    part: Path,
    folder: Path,
    names: Sequence[str],
    read: Callable[[str], Sample],
    classes: ClassMap,
    terms: str,
) -> None:
    for name in ("images", "labels", "tasks"):
        (part / name).mkdir()
    cvat = _cvat_head(folder.name, classes)
    studio = []
    for number, name in enumerate(names):  # CVAT counts the images of a task in the order of their names
        sample, file = read(name), f"{name}.png"
        (part / "images" / file).write_bytes(cv2.imencode(".png", sample.image_bgr)[1].tobytes())
        (part / "labels" / file).write_bytes(encode_palette_png(sample.label, classes))
        cvat.append(_cvat_image(number, file, sample.label, classes))
        studio.append(_studio_task(f"{folder.name}/images/{file}", sample.label, classes))
    ElementTree.indent(cvat)
    view = _studio_view(classes)
    ElementTree.indent(view)
    for name, text in (
        ("annotations.xml", ElementTree.tostring(cvat, encoding="unicode", xml_declaration=True)),
        ("cvat-labels.json", json.dumps(_cvat_labels(classes), ensure_ascii=False, indent=1)),
        ("label-studio.json", json.dumps(studio, ensure_ascii=False)),
        ("label-studio.xml", ElementTree.tostring(view, encoding="unicode")),
    ):
        write_text(part / "tasks" / name, text)
    write_classes(part, classes, terms)


def cvat_runs(mask: NDArray[np.bool_]) -> tuple[list[int], tuple[int, int, int, int]]:
    """Return CVAT's form of a mask.

    Args:
        mask: (H, W), with at least one pixel set.

    Returns:
        The run lengths inside of its box, row by row, first of pixels that are not set; and the box: left,
        top, width, height.

    >>> cvat_runs(np.array([[0, 0, 0], [0, 0, 1], [0, 1, 1]], bool))
    ([1, 3], (1, 1, 2, 2))
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    top, left = int(rows[0]), int(columns[0])
    height, width = int(rows[-1]) + 1 - top, int(columns[-1]) + 1 - left
    return _runs(mask[top : top + height, left : left + width]), (left, top, width, height)


def brush_runs(mask: NDArray[np.bool_]) -> list[int]:
    """Return Label Studio's form of a mask: a picture of four channels, 255 where it is set, packed.

    The stream holds 32 bits for the number of values, 5 for the bits a value (less 1), four times 4 for the
    bits of four sorts of lengths (less 1); then each run: 1, its sort in 2 bits, its length less 1, its
    value.

    Args:
        mask: (H, W).
    """
    lengths = np.array(_runs(mask), np.int64) * 4
    values = np.arange(len(lengths)) % 2 * 255
    longest = 1 << _RUN_BITS[-1]
    pieces = -(-lengths // longest)  # a run of 0 becomes none
    values = np.repeat(values, pieces)
    whole = np.full(len(values), longest)
    whole[np.cumsum(pieces)[pieces > 0] - 1] = (lengths - (pieces - 1) * longest)[pieces > 0]
    sort = np.searchsorted([1 << bits for bits in _RUN_BITS], whole)
    bits = np.array(_RUN_BITS)[sort]
    words = ((4 | sort) << bits | whole - 1) << 8 | values
    sizes = bits + 11
    header = [(mask.size * 4, 32), (8 - 1, 5), *((bits - 1, 4) for bits in _RUN_BITS)]
    stream = np.concatenate(
        [
            _bits(np.array([word for word, _ in header]), np.array([size for _, size in header])),
            _bits(words, sizes),
        ]
    )
    return np.packbits(stream).tolist()


def _bits(words: NDArray[np.int64], sizes: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Return the lowest `sizes` bits of each word, one after the other, the highest first."""
    most = int(sizes.max())
    places = np.arange(most)
    spread = (words[:, None] << (most - sizes)[:, None]) >> (most - 1 - places) & 1  # (N, most)
    return spread[places < sizes[:, None]].astype(np.uint8)


def _runs(mask: NDArray[np.bool_]) -> list[int]:
    """Return the lengths of runs, row by row, which alternate and begin with pixels that are not set."""
    pixels = mask.ravel()
    ends = np.append(np.flatnonzero(pixels[1:] != pixels[:-1]) + 1, len(pixels))
    lengths = np.diff(ends, prepend=0).tolist()
    return [0, *lengths] if pixels[0] else lengths


def _classes_in(label: Image, classes: ClassMap) -> list[int]:
    return [index for index in np.unique(label).tolist() if index < len(classes)]


def _cvat_labels(classes: ClassMap) -> list[dict[str, Any]]:
    return [
        {"name": name, "color": _hex(rgb), "type": "mask", "attributes": []}
        for name, rgb in zip(classes.names, classes.palette_rgb, strict=True)
    ]


def _cvat_head(task: str, classes: ClassMap) -> ElementTree.Element:
    root = ElementTree.Element("annotations")
    _leaf(root, "version", "1.1")
    about = ElementTree.SubElement(ElementTree.SubElement(root, "meta"), "task")
    _leaf(about, "name", task)
    _leaf(about, "mode", "annotation")
    labels = ElementTree.SubElement(about, "labels")
    for each in _cvat_labels(classes):
        label = ElementTree.SubElement(labels, "label")
        for key in ("name", "color", "type"):
            _leaf(label, key, each[key])
        ElementTree.SubElement(label, "attributes")
    return root


def _leaf(parent: ElementTree.Element, tag: str, text: str) -> None:
    ElementTree.SubElement(parent, tag).text = text


def _cvat_image(number: int, file: str, label: Image, classes: ClassMap) -> ElementTree.Element:
    height, width = label.shape
    about = {"id": str(number), "name": file, "width": str(width), "height": str(height)}
    image = ElementTree.Element("image", about)
    for index in _classes_in(label, classes):
        runs, box = cvat_runs(label == index)
        mask = {"label": classes.names[index], "source": "auto", "occluded": "0"}
        mask["rle"] = ", ".join(map(str, runs))
        mask |= {key: str(side) for key, side in zip(("left", "top", "width", "height"), box, strict=True)}
        ElementTree.SubElement(image, "mask", mask | {"z_order": "0"})
    return image


def _studio_task(path: str, label: Image, classes: ClassMap) -> dict[str, Any]:
    height, width = label.shape
    result = [
        {
            "id": f"class-{index}",
            "type": "brushlabels",
            "from_name": _TAG,
            "to_name": _IMAGE,
            "original_width": width,
            "original_height": height,
            "image_rotation": 0,
            "value": {
                "format": "rle",
                "rle": brush_runs(label == index),
                "brushlabels": [classes.names[index]],
            },
        }
        for index in _classes_in(label, classes)
    ]
    predictions = [{"model_version": "edgeseg", "result": result}]
    return {"data": {_IMAGE: f"/data/local-files/?d={path}"}, "predictions": predictions}


def _studio_view(classes: ClassMap) -> ElementTree.Element:
    view = ElementTree.Element("View")
    ElementTree.SubElement(view, "Image", {"name": _IMAGE, "value": f"${_IMAGE}", "zoom": "true"})
    labels = ElementTree.SubElement(view, "BrushLabels", {"name": _TAG, "toName": _IMAGE})
    for name, rgb in zip(classes.names, classes.palette_rgb, strict=True):
        ElementTree.SubElement(labels, "Label", {"value": name, "background": _hex(rgb)})
    return view


def _hex(rgb: tuple[int, int, int]) -> str:
    return "#" + "".join(f"{channel:02x}" for channel in rgb)
