"""The formats of others: a tiny data set by hand in the layout of each, sound and damaged."""

from __future__ import annotations

import base64
import itertools
import json
import re
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from runtime.contract import ClassMap
from runtime.errors import DatasetError
from runtime.masks.formats import encode_palette_png, encode_rle
from training.data import open_dataset
from training.data.catalog import READERS
from training.data.formats.shapes import (
    Canvas,
    Runs,
    ShapeError,
    decode_coco_counts,
    label_studio_alpha,
    ring_of,
)
from training.data.inspection import inspect_dataset
from training.data.pairs import refuse_masks

SIZE_HW = (8, 12)
VOID = 255
ONE_COLOR = ClassMap(("any",), ((9, 9, 9),))  # of two ids with one colour, only the ids can tell
CAR = np.zeros(SIZE_HW, bool)
CAR[2:6, 3:7] = True
CAR_WITH_HOLE = CAR.copy()
CAR_WITH_HOLE[3, 4] = False
ROAD = np.zeros(SIZE_HW, bool)
ROAD[4:] = True
CAR_COUNTS = "j044MM13200V1"  # pycocotools' text for CAR_WITH_HOLE


def scene(road: int, car: int, empty: int, hole: bool = True) -> np.ndarray:
    """Return the road, and the car on top of it."""
    label = np.full(SIZE_HW, empty, np.uint8)
    label[ROAD] = road
    label[CAR_WITH_HOLE if hole else CAR] = car
    return label


def picture(path: Path, seed: int = 0, size_hw: tuple[int, int] = SIZE_HW) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng([seed, *path.name.encode()])
    cv2.imwrite(str(path), rng.integers(0, 256, (*size_hw, 3), np.uint8))


def png(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), pixels)


def write(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))


def edit(path: str, change: Callable[[Any], None]) -> Callable[[Path], None]:
    """Return what changes a JSON file below a root."""

    def apply(root: Path) -> None:
        content = json.loads((root / path).read_text())
        change(content)
        (root / path).write_text(json.dumps(content))

    return apply


def swap(path: str, old: str, new: str) -> Callable[[Path], None]:
    """Return what changes a text file below a root."""

    def apply(root: Path) -> None:
        text = (root / path).read_text()
        assert old in text
        (root / path).write_text(text.replace(old, new))

    return apply


def gone(path: str) -> Callable[[Path], None]:
    return lambda root: (root / path).unlink()


def smaller(path: str) -> Callable[[Path], None]:
    return lambda root: picture(root / path, size_hw=(4, 4))


@dataclass(frozen=True)
class Case:
    """A format: what writes it, what is read back, and what the doctor says of damage."""

    kind: str
    make: Callable[[Path], None]
    names: tuple[str, ...]
    masks: dict[str, list[np.ndarray]]
    damage: dict[str, tuple[Callable[[Path], None], str]] = field(default_factory=dict)


# --- COCO

HOUSE_SHAPES = [[3, 2, 7, 2, 7, 6, 3, 6]]
ROAD_POLYGON = [0, 4, 12, 4, 12, 8, 0, 8]
CATEGORIES = [{"id": 3, "name": "road"}, {"id": 9, "name": "car", "color": [1, 2, 3]}]


def coco_json(images: list[str], car: Any, **more: Any) -> dict[str, Any]:
    crowd = np.zeros(SIZE_HW, np.uint8)
    crowd[:, 11] = 1
    return {
        "images": [
            {"id": 7 + place, "file_name": name, "height": 8, "width": 12}
            for place, name in enumerate(images)
        ],
        "categories": CATEGORIES,
        "annotations": [
            annotation
            for place in range(len(images))
            for annotation in (
                {"image_id": 7 + place, "category_id": 9, "segmentation": car, "iscrowd": 0},
                {"image_id": 7 + place, "category_id": 3, "segmentation": [ROAD_POLYGON], "iscrowd": 0},
                {
                    "image_id": 7 + place,
                    "category_id": 9,
                    "segmentation": {"size": [8, 12], "counts": encode_rle(crowd)[1]},
                    "iscrowd": 1,
                },
            )
        ],
        **more,
    }


def make_coco(root: Path) -> None:
    car = {"size": [8, 12], "counts": CAR_COUNTS}
    write(root / "annotations/instances_train2017.json", coco_json(["a.jpg", "b.jpg"], car))
    write(root / "annotations/instances_val2017.json", coco_json(["c.jpg"], HOUSE_SHAPES))
    write(root / "annotations/captions_train2017.json", {})
    for name in ("train2017/a.jpg", "train2017/b.jpg", "val2017/c.jpg"):
        picture(root / name)


def with_crowd(label: np.ndarray) -> np.ndarray:
    label[:, 11] = 1  # above the road, since it is smaller
    return label


def make_roboflow(root: Path) -> None:
    for split, name in (("train", "a.jpg"), ("valid", "b.jpg")):
        write(root / split / "_annotations.coco.json", coco_json([name], HOUSE_SHAPES))
        picture(root / split / name)


TRAIN_JSON = "annotations/instances_train2017.json"
PANOPTIC_JSON = "annotations/panoptic_train2017.json"


def make_panoptic(root: Path) -> None:
    ids = {"road": 70_000, "car": 301}
    for split, names in (("train", ["a", "b"]), ("val", ["c"])):
        segments = np.zeros((*SIZE_HW, 3), np.uint8)  # blue, green, red
        for mask, name in ((ROAD, "road"), (CAR_WITH_HOLE, "car")):
            segments[mask] = (ids[name] >> 16, ids[name] >> 8 & 255, ids[name] & 255)
        content = {
            "images": [
                {"id": n, "file_name": f"{name}.jpg", "height": 8, "width": 12}
                for n, name in enumerate(names)
            ],
            "categories": CATEGORIES,
            "annotations": [
                {
                    "image_id": n,
                    "file_name": f"{name}.png",
                    "segments_info": [
                        {"id": ids["road"], "category_id": 3, "iscrowd": 0},
                        {"id": ids["car"], "category_id": 9, "iscrowd": 1},
                    ],
                }
                for n, name in enumerate(names)
            ],
        }
        write(root / f"annotations/panoptic_{split}2017.json", content)
        for name in names:
            picture(root / f"{split}2017" / f"{name}.jpg")
            png(root / f"annotations/panoptic_{split}2017" / f"{name}.png", segments)


def make_panoptic_of_cityscapes(root: Path) -> None:
    """Ids that are texts, as Cityscapes' own tool writes them."""
    make_panoptic(root)
    for path in root.glob("annotations/*.json"):
        said = json.loads(path.read_text())
        for image, annotation in zip(said["images"], said["annotations"], strict=True):
            image["id"] = annotation["image_id"] = f"aachen_{image['id']}"
        path.write_text(json.dumps(said))


# --- Ultralytics

YOLO_TEXT = "1 0.25 0.25 0.583334 0.25 0.583334 0.75 0.25 0.75\n0 0 0.5 1 0.5 1 1 0 1\n\n"


def make_yolo(root: Path) -> None:
    write(
        root / "data.yaml",
        "path: /home/author/data  # elsewhere\ntrain: ../images/train\nval: [images/val]\ntest:\n"
        "names: {0: road, 1: car}\ndownload: |\n  import this\n",
    )
    for split, names in (("train", ("a", "b")), ("val", ("c",))):
        for name in names:
            picture(root / "images" / split / f"{name}.jpg")
            write(root / "labels" / split / f"{name}.txt", YOLO_TEXT)
    (root / "labels/train/b.txt").unlink()


def make_yolo_masks(root: Path) -> None:
    write(
        root / "street.yaml",
        "train: images/train\nval: val.txt\nmasks_dir: masks\nnames: [road, car]\n"
        "label_mapping:\n  -1: ignore_label\n  0: ignore_label\n  7: 0\n  26: 1\n",
    )
    for split, name in (("train", "a"), ("val", "b")):
        picture(root / "images" / split / f"{name}.jpg")
        png(root / "masks" / split / f"{name}.png", scene(7, 26, 0))
    write(root / "val.txt", "./images/val/b.jpg\n")


# --- CVAT

CVAT_XML = """<?xml version="1.0" encoding="utf-8"?>
<annotations>
  <version>1.1</version>
  <meta><project><labels>
    <label><name>road</name><color>#804080</color><type>any</type>
      <attributes><attribute><name>wet</name></attribute></attributes></label>
    <label><name>car</name><color>#00008e</color></label>
  </labels></project></meta>
  <image id="0" name="a.png" subset="Train" width="12" height="8">
    <mask label="car" source="manual" occluded="0" rle="5, 1, 10" left="3" top="2" width="4" height="4"
      z_order="1"></mask>
    <polygon label="road" points="0.00,4.00;12.00,4.00;12.00,8.00;0.00,8.00" z_order="0"></polygon>
    <points label="car" points="1,1" z_order="3"></points>
  </image>
  <image id="1" name="b.png" subset="Validation" width="12" height="8">
    <box label="road" xtl="0" ytl="4" xbr="12" ybr="8" z_order="0"><attribute name="wet">no</attribute></box>
    <polygon label="car" points="3,2;7,2;7,6;3,6" z_order="0"></polygon>
  </image>
</annotations>
""".replace("5, 1, 10", "0, 5, 1, 10")
BOMB = '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;">]>\n<annotations>&b;'


def make_cvat(root: Path) -> None:
    write(root / "annotations.xml", CVAT_XML)
    picture(root / "images/a.png")
    picture(root / "images/Validation/b.png")


def make_cvat_masks(root: Path) -> None:
    write(
        root / "labelmap.txt",
        "# label:color_rgb:parts:actions\nbackground:0,0,0::\nroad:1,2,3::\ncar:4,5,6::\n",
    )
    colors = np.zeros((*SIZE_HW, 3), np.uint8)
    colors[ROAD] = (3, 2, 1)
    colors[CAR_WITH_HOLE] = (6, 5, 4)
    for name in "abcdef":
        picture(root / "JPEGImages" / f"{name}.jpg")
        png(root / "SegmentationClass" / f"{name}.png", colors)
    write(root / "ImageSets/Segmentation/default.txt", "\n".join("abcdef"))


# --- Label Studio


def pack_brush(mask: np.ndarray) -> list[int]:
    """Return a brush's picture packed, one run after the other and now and then single values."""
    values = np.repeat(mask.ravel().astype(np.uint8) * 255, 4)
    bits = f"{values.size:032b}{7:05b}" + "".join(f"{size - 1:04b}" for size in (3, 4, 8, 16))
    for value, group in itertools.groupby(values.tolist()):
        length = len(list(group))
        if length <= 8:
            bits += f"0{0:02b}{length - 1:03b}" + f"{value:08b}" * length
        else:
            bits += f"1{3:02b}{length - 1:016b}{value:08b}"
    bits += "0" * (-len(bits) % 8)
    return [int(bits[place : place + 8], 2) for place in range(0, len(bits), 8)]


def region(kind: str, label: str, **value: Any) -> dict[str, Any]:
    return {
        "type": kind,
        "original_width": 12,
        "original_height": 8,
        "image_rotation": 0,
        "value": {**value, kind: [label]},
    }


def make_label_studio(root: Path) -> None:
    road = region("polygonlabels", "road", points=[[0, 50], [100, 50], [100, 100], [0, 100]], closed=True)
    box = region("rectanglelabels", "road", x=0, y=50, width=100, height=50, rotation=0)
    car = region("brushlabels", "car", format="rle", rle=pack_brush(CAR_WITH_HOLE))
    wrong = region("brushlabels", "car", format="rle", rle=pack_brush(~CAR))
    points = region("keypointlabels", "nose", x=1, y=1, width=1)
    write(
        root / "project-1.json",
        [
            {
                "id": 1,
                "data": {"image": "/data/upload/4/0123abcd-a.png"},
                "annotations": [{"result": [road, car, points]}, {"result": [wrong], "was_cancelled": True}],
            },
            {
                "id": 2,
                "data": {"image": "/data/local-files/?d=drive/b.png"},
                "annotations": [{"result": [box, car], "ground_truth": True}, {"result": [wrong]}],
            },
            {"id": 3, "data": {"image": "/data/upload/4/none.png"}, "annotations": []},
        ],
    )
    picture(root / "images/a.png")
    picture(root / "images/drive/b.png")


@pytest.mark.parametrize(
    ("mask", "packed_by_theirs"),  # made with mask2rle of label-studio-sdk 2.1.2
    [
        (
            np.add.outer(np.arange(5), np.arange(7)) % 3 == 0,
            "0000008c391bfc7ff38047ff38047ff38047ff38047ff38047ff38047ff38047ff38047ff38047ff38047ff38047ff1800",
        ),
        (np.pad(np.ones((3, 3), bool), ((1, 1), (2, 2))), "0000008c391bfe2300b7ff7c02dffdf00b7ff88c00"),
    ],
)
def test_a_brush_packed_by_label_studio_is_read(mask: np.ndarray, packed_by_theirs: str) -> None:
    np.testing.assert_array_equal(label_studio_alpha(bytes.fromhex(packed_by_theirs), mask.shape), mask)


# --- Supervisely


def packed(mask: np.ndarray) -> str:
    return base64.b64encode(zlib.compress(cv2.imencode(".png", mask)[1].tobytes())).decode()


def make_supervisely(root: Path) -> None:
    write(
        root / "meta.json",
        {"classes": [{"title": "road", "color": "#804080"}, {"title": "car", "color": "#00008E"}]},
    )
    alpha = np.zeros((4, 4, 4), np.uint8)
    alpha[..., 3] = CAR_WITH_HOLE[2:6, 3:7] * 255
    cars = (
        {"classTitle": "car", "geometryType": "bitmap", "bitmap": {"origin": [3, 2], "data": packed(alpha)}},
        {
            "classTitle": "car",
            "geometryType": "bitmap",
            "bitmap": {"origin": [3, 2], "data": packed(CAR_WITH_HOLE[2:6, 3:7].astype(np.uint8) * 255)},
        },
        {
            "classTitle": "car",
            "geometryType": "polygon",
            "points": {"exterior": [[3, 2], [6, 2], [6, 5], [3, 5]], "interior": [[[4, 3], [4, 3], [4, 3]]]},
        },
    )
    road = {
        "classTitle": "road",
        "geometryType": "polygon",
        "points": {"exterior": [[0, 4], [11, 4], [11, 7], [0, 7]], "interior": []},
    }
    line = {
        "classTitle": "car",
        "geometryType": "line",
        "points": {"exterior": [[0, 0], [1, 1]], "interior": []},
    }
    for place, (dataset, name) in enumerate((("train", "a"), ("train", "b"), ("val", "c"))):
        picture(root / dataset / "img" / f"{name}.jpg")
        write(
            root / dataset / "ann" / f"{name}.jpg.json",
            {"size": {"height": 8, "width": 12}, "tags": [], "objects": [road, cars[place], line]},
        )


def make_supervisely_masks(root: Path) -> None:
    write(
        root / "meta.json",
        {"classes": [{"title": "road", "color": "#804080"}, {"title": "car", "color": "#00008E"}]},
    )
    write(root / "obj_class_to_machine_color.json", {"road": [1, 1, 1], "car": [2, 2, 2]})
    for dataset in ("drive 1", "drive 2"):
        for name in ("a", "b"):
            picture(root / dataset / "img" / f"{name}{dataset[-1]}.jpg")
            png(root / dataset / "masks_machine" / f"{name}{dataset[-1]}.png", scene(1, 2, 0))


# --- folders of masks


def make_vistas(root: Path, version: str, layout: str) -> None:
    labels = [
        {"readable": "Road", "name": "r", "color": [128, 64, 128], "evaluate": True, "instances": False},
        {"readable": "Unlabeled", "name": "u", "color": [0, 0, 0], "evaluate": False, "instances": False},
        {"readable": "Car", "name": "c", "color": [0, 0, 142], "evaluate": True, "instances": True},
    ]
    write(root / f"config{version}.json", {"labels": labels})
    for split, name in (("training", "a"), ("validation", "b"), ("testing", "c")):
        picture(root / split / "images" / f"{name}.jpg")
        if split != "testing":
            path = root / split / layout / f"{name}.png"
            path.parent.mkdir(parents=True)
            path.write_bytes(encode_palette_png(scene(0, 2, 1), ONE_COLOR))


def make_bdd100k(root: Path) -> None:
    for split, name in (("train", "a"), ("val", "b")):
        picture(root / "images/10k" / split / f"{name}.jpg")
        png(root / "labels/sem_seg/masks" / split / f"{name}.png", scene(0, 13, 255))


def make_a2d2(root: Path) -> None:
    write(
        root / "class_list.json",
        {"#ff0000": "Car 1", "#c80000": "Car 2", "#ff00ff": "RD normal street", "#87ceff": "Sky"},
    )
    colors = np.zeros((*SIZE_HW, 3), np.uint8)
    colors[:] = (255, 206, 135)
    colors[ROAD] = (255, 0, 255)
    colors[CAR_WITH_HOLE] = (0, 0, 255)
    colors[CAR_WITH_HOLE & ROAD] = (0, 0, 200)
    for drive in ("20180807_145028", "20181108_091945"):
        for frame in range(2):
            name = f"{drive.replace('_', '')}_camera_frontcenter_{frame:09d}.png"
            place = root / drive
            picture(place / "camera/cam_front_center" / name)
            png(place / "label/cam_front_center" / name.replace("camera", "label"), colors)


def make_voc(root: Path) -> None:
    for split, name in (("train", "2007_1"), ("val", "2007_2")):
        write(root / "ImageSets/Segmentation" / f"{split}.txt", f"{name}\n")
        picture(root / "JPEGImages" / f"{name}.jpg")
        label = scene(0, 7, 0)
        label[0] = 255
        (root / "SegmentationClass").mkdir(exist_ok=True)
        (root / "SegmentationClass" / f"{name}.png").write_bytes(encode_palette_png(label, ONE_COLOR))
    write(root / "ImageSets/Segmentation/trainval.txt", "2007_1\n2007_2\n")
    write(root / "ImageSets/Segmentation/test.txt", "2007_3\n")


def voc_mask() -> np.ndarray:
    label = scene(0, 7, 0)
    label[0] = 255
    return label


COCO_MASK = with_crowd(scene(0, 1, 2))
COCO_PLAIN = with_crowd(scene(0, 1, 2, hole=False))
CASES = {
    "coco": Case(
        "coco",
        make_coco,
        ("road", "car", "background"),
        {"train": [COCO_MASK, COCO_MASK], "val": [COCO_PLAIN]},
        {
            "image missing": (
                gone("train2017/a.jpg"),
                r"image 0: expected its picture .*train2017/a\.jpg, found none",
            ),
            "image of another size": (
                smaller("train2017/b.jpg"),
                r"b\.jpg: expected labels of a picture of 4x4 pixels, got some of 12x8",
            ),
            "runs overflow": (
                edit(TRAIN_JSON, lambda said: said["annotations"][2]["segmentation"].update(counts=[90, 90])),
                r"a\.jpg: expected runs that sum to 96 pixels, got a sum of 180",
            ),
            "runs cut off": (
                edit(TRAIN_JSON, lambda said: said["annotations"][0]["segmentation"].update(counts="j04`")),
                r"a\.jpg: expected COCO's compressed runs, got some that are cut off",
            ),
            "a box alone": (
                edit(TRAIN_JSON, lambda said: said["annotations"][1].update(segmentation=[])),
                r"a\.jpg: expected a segmentation, got a box alone",
            ),
            "polygon far away": (
                edit(
                    TRAIN_JSON,
                    lambda said: said["annotations"][1].update(segmentation=[[0, 0, 9e6, 0, 0, 9]]),
                ),
                r"a\.jpg: expected corners within 12x8 pixels, got some from \(0, 0\) to \(9e\+06, 9\)",
            ),
            "a number of 400 digits": (
                edit(TRAIN_JSON, lambda said: said["annotations"][1].update(segmentation=[[10**400] * 6])),
                r"a\.jpg: expected corners as numbers",
            ),
            "words for numbers": (
                edit(TRAIN_JSON, lambda said: said["annotations"][1].update(segmentation=[["a"] * 6])),
                r"a\.jpg: expected corners as numbers",
            ),
            "unknown category": (
                edit(TRAIN_JSON, lambda said: said["annotations"][0].update(category_id=5)),
                r"annotation 0: expected a category that is listed, got id 5",
            ),
            "unknown image": (
                edit(TRAIN_JSON, lambda said: said["annotations"][0].update(image_id=99)),
                r"expected annotations of listed images, got image_id 99",
            ),
            "path out of the folder": (
                edit(TRAIN_JSON, lambda said: said["images"][0].update(file_name="../../etc/passwd")),
                r"image 0: expected a path within .*, got '\.\./\.\./etc/passwd'",
            ),
            "cut off": (
                lambda root: write(root / TRAIN_JSON, '{"images": ['),
                r"expected JSON, got text that is not",
            ),
            "nested": (
                lambda root: write(root / TRAIN_JSON, "[" * 100_000),
                r"expected JSON, got text that is not",
            ),
            "a list": (lambda root: write(root / TRAIN_JSON, []), r"expected an object, got list"),
        },
    ),
    "coco as Roboflow exports": Case(
        "coco", make_roboflow, ("road", "car", "background"), {"train": [COCO_PLAIN], "val": [COCO_PLAIN]}
    ),
    "coco-panoptic": Case(
        "coco-panoptic",
        make_panoptic,
        ("road", "car"),
        {"train": [scene(0, 1, VOID)] * 2, "val": [scene(0, 1, VOID)]},
        {
            "segment not listed": (
                edit(PANOPTIC_JSON, lambda said: said["annotations"][0]["segments_info"].pop()),
                r"a\.png: expected the segments that its JSON lists, got #2d0100",
            ),
            "mask missing": (gone("annotations/panoptic_train2017/a.png"), r"a\.png: .*[Nn]o such file"),
            "path out of the folder": (
                edit(PANOPTIC_JSON, lambda said: said["annotations"][0].update(file_name="/etc/passwd")),
                r"annotation 0: expected a path within .*, got '/etc/passwd'",
            ),
        },
    ),
    "coco-panoptic of Cityscapes": Case(
        "coco-panoptic",
        make_panoptic_of_cityscapes,
        ("road", "car"),
        {"train": [scene(0, 1, VOID)] * 2, "val": [scene(0, 1, VOID)]},
        {
            "image not listed": (
                edit(PANOPTIC_JSON, lambda said: said["annotations"][0].update(image_id="bonn_1")),
                r"annotation 0: expected a listed image, got image_id bonn_1",
            ),
            "id of another kind": (
                edit(PANOPTIC_JSON, lambda said: said["annotations"][0].update(image_id=1.5)),
                r"annotation 0: image_id: expected int, got float",
            ),
        },
    ),
    "yolo": Case(
        "yolo",
        make_yolo,
        ("road", "car", "background"),
        {
            "train": [scene(0, 1, 2, hole=False), np.full(SIZE_HW, 2, np.uint8)],
            "val": [scene(0, 1, 2, hole=False)],
        },
        {
            "a box": (
                swap("labels/train/a.txt", "0 0 0.5 1 0.5 1 1 0 1", "0 .5 .5 1 1"),
                r"line 2: .* got a box",
            ),
            "pixels": (
                swap("labels/train/a.txt", "0 0 0.5", "0 0 5"),
                r"line 2: expected shares .* got 0 to 5",
            ),
            "unknown class": (
                swap("labels/train/a.txt", "0 0 0.5", "4 0 0.5"),
                r"line 2: .* out of the YAML's names",
            ),
            "words": (swap("labels/train/a.txt", "0 0 0.5", "0 0 x"), r"line 2: expected numbers"),
            "no number": (swap("labels/train/a.txt", "0 0 0.5", "0 0 nan"), r"line 2: expected corners"),
            "no texts": (
                gone("labels/val/c.txt"),
                r"expected label texts such as .*labels/val/c\.txt, found none",
            ),
            "no folder": (
                swap("data.yaml", "images/train", "pictures"),
                r"train: expected the folder .*pictures",
            ),
            "path out of the folder": (
                swap("data.yaml", "../images/train", "a/../../../etc"),
                r"expected a path within .*, got 'a/\.\./\.\./\.\./etc'",
            ),
            "no YAML": (
                lambda root: write(root / "data.yaml", "a: [b"),
                r"expected YAML, got text that is not",
            ),
        },
    ),
    "yolo with masks": Case(
        "yolo",
        make_yolo_masks,
        ("road", "car"),
        {"train": [scene(0, 1, VOID)], "val": [scene(0, 1, VOID)]},
        {
            "mask missing": (
                gone("masks/train/a.png"),
                r"a\.jpg: expected its mask .*masks/train/a\.png, found none",
            ),
            "id not mapped": (
                swap("street.yaml", "  26: 1\n", ""),
                r"expected ids of the YAML's names.*, got 26",
            ),
            "a wrong target": (
                swap("street.yaml", "26: 1", "26: 9"),
                r"label_mapping: expected an id of names",
            ),
        },
    ),
    "cvat": Case(
        "cvat",
        make_cvat,
        ("road", "car"),
        {"train": [scene(0, 1, VOID)], "val": [scene(0, 1, VOID, hole=False)]},
        {
            "image missing": (gone("images/a.png"), r"image 'a\.png': expected its picture .*, found none"),
            "entities": (
                lambda root: write(root / "annotations.xml", BOMB),
                r"with a document type or entities",
            ),
            "an unknown encoding": (
                swap("annotations.xml", "utf-8", "ut3-8"),
                r"expected XML, got text that is not",
            ),
            "cut off": (swap("annotations.xml", "</annotations>", ""), r"expected XML, got text that is not"),
            "runs overflow": (
                swap("annotations.xml", "1, 10", "1, 11"),
                r"a\.png': expected runs that sum to 16",
            ),
            "box overflows": (
                swap("annotations.xml", 'left="3"', 'left="9"'),
                r"expected a mask within the picture",
            ),
            "huge box": (
                swap("annotations.xml", 'left="3" top="2" width="4"', 'left="3" top="2" width="400000000"'),
                r"expected runs in a box within the picture",
            ),
            "unknown label": (
                swap("annotations.xml", 'label="road" p', 'label="sea" p'),
                r"data set's list, got 'sea'",
            ),
            "words": (
                swap("annotations.xml", "0.00,4.00;12", "0.00,x;12"),
                r"a\.png': expected a polygon, got",
            ),
            "tracks": (
                swap("annotations.xml", '<image id="0"', "<track></track><image id='0'"),
                r"for images 1\.1",
            ),
            "path out of the folder": (
                swap("annotations.xml", 'name="a.png"', 'name="../a.png"'),
                r"expected a path within .*, got '\.\./a\.png'",
            ),
        },
    ),
    "cvat's masks": Case(
        "voc",
        make_cvat_masks,
        ("background", "road", "car"),
        {"train": [scene(1, 2, 0)] * 5, "val": [scene(1, 2, 0)]},
        {
            "colour not listed": (
                swap("labelmap.txt", "car:4,5,6::\n", ""),
                r"colours of labelmap\.txt, got #040506",
            ),
            "bad line": (
                swap("labelmap.txt", "car:4,5,6", "car:4,5,600"),
                r"labelmap\.txt line 4: expected name:red",
            ),
        },
    ),
    "label-studio": Case(
        "label-studio",
        make_label_studio,
        ("car", "road"),
        {"train": [scene(1, 0, VOID)], "val": [scene(1, 0, VOID)]},
        {
            "image missing": (
                gone("images/a.png"),
                r"task 1: expected its picture .*0123abcd-a\.png, found none",
            ),
            "brush of another size": (
                edit(
                    "project-1.json",
                    lambda said: said[0]["annotations"][0]["result"][1]["value"]["rle"].__setitem__(2, 9),
                ),
                r"task 1: expected a brush of 384 values for 12x8 pixels, got one of",
            ),
            "brush cut off": (
                edit(
                    "project-1.json",
                    lambda said: said[0]["annotations"][0]["result"][1]["value"]["rle"].__delitem__(
                        slice(40, None)
                    ),
                ),
                r"task 1: expected a whole brush, got one that is cut off",
            ),
            "huge picture": (
                edit(
                    "project-1.json",
                    lambda said: [
                        one.update(original_width=10**9) for one in said[0]["annotations"][0]["result"]
                    ],
                ),
                r"task 1: expected labels of a picture of 12x8 pixels, got some of 1000000000x8",
            ),
            "words": (
                edit(
                    "project-1.json",
                    lambda said: said[0]["annotations"][0]["result"][0]["value"].update(points=[["a", "b"]]),
                ),
                r"task 1: expected corners as numbers",
            ),
            "a bitmask": (
                edit(
                    "project-1.json",
                    lambda said: said[0]["annotations"][0]["result"].append(
                        {"value": {"imageDataURL": "data:image/png;base64,", "bitmasklabels": ["car"]}}
                    ),
                ),
                r"expected brushes or shapes, got a bitmask",
            ),
            "path out of the folder": (
                edit(
                    "project-1.json",
                    lambda said: said[1]["data"].update(image="/data/local-files/?d=../x.png"),
                ),
                r"task 2: expected a path within .*, got '\.\./x\.png'",
            ),
            "JSON-MIN": (
                lambda root: write(root / "project-1.json", [{"image": "a.png"}]),
                r"as JSON, not JSON-MIN",
            ),
        },
    ),
    "supervisely": Case(
        "supervisely",
        make_supervisely,
        ("road", "car"),
        {"train": [scene(0, 1, VOID)] * 2, "val": [scene(0, 1, VOID)]},
        {
            "annotation missing": (
                gone("train/ann/a.jpg.json"),
                r"a\.jpg: expected its labels .*, found none",
            ),
            "bitmap overflows": (
                edit(
                    "train/ann/a.jpg.json", lambda said: said["objects"][1]["bitmap"].update(origin=[10, 2])
                ),
                r"a\.jpg\.json: expected a mask within the picture of 12x8 pixels, got 4x4 at \(10, 2\)",
            ),
            "no base64": (
                edit("train/ann/a.jpg.json", lambda said: said["objects"][1]["bitmap"].update(data="%%%")),
                r"a\.jpg\.json: expected a bitmap as base64 of a PNG",
            ),
            "holes that are none": (
                edit("train/ann/a.jpg.json", lambda said: said["objects"][0]["points"].update(interior=7)),
                r"object 0: interior: expected list, got int",
            ),
            "an alpha mask": (
                edit(
                    "train/ann/a.jpg.json", lambda said: said["objects"][1].update(geometryType="alpha_mask")
                ),
                r"object 1: expected a bitmap, a polygon or a rectangle, got an alpha_mask",
            ),
            "unknown class": (
                edit("train/ann/a.jpg.json", lambda said: said["objects"][1].update(classTitle="sea")),
                r"object 1: expected a class of meta\.json, got 'sea'",
            ),
        },
    ),
    "supervisely's masks": Case(
        "supervisely",
        make_supervisely_masks,
        ("road", "car"),
        {"train": [scene(0, 1, VOID)] * 2, "val": [scene(0, 1, VOID)] * 2},
        {
            "mask missing": (
                gone("drive 1/masks_machine/a1.png"),
                r"a1\.jpg: expected its labels .*, found none",
            ),
            "two classes of one colour": (
                edit("obj_class_to_machine_color.json", lambda said: said.update(car=[1, 1, 1])),
                r"expected a colour of its own for 'car', got \[1, 1, 1\] of another class",
            ),
        },
    ),
    "vistas-v1.2": Case(
        "vistas-v1.2",
        lambda root: make_vistas(root, "_v1.2", "v1.2/labels"),
        ("Road", "Car"),
        {"train": [scene(0, 1, VOID)], "val": [scene(0, 1, VOID)]},
        {
            "no config": (
                gone("config_v1.2.json"),
                r"config\.json: expected a file of labels, cannot read it",
            ),
            "id not listed": (
                edit("config_v1.2.json", lambda said: said["labels"].pop()),
                r"a\.png: expected places in the list of config_v1\.2\.json, got 2",
            ),
        },
    ),
    "vistas-v1.2, first release": Case(
        "vistas-v1.2",
        lambda root: make_vistas(root, "", "labels"),
        ("Road", "Car"),
        {"train": [scene(0, 1, VOID)], "val": [scene(0, 1, VOID)]},
    ),
    "vistas-v2.0": Case(
        "vistas-v2.0",
        lambda root: make_vistas(root, "_v2.0", "v2.0/labels"),
        ("Road", "Car"),
        {"train": [scene(0, 1, VOID)], "val": [scene(0, 1, VOID)]},
        {"image missing": (gone("training/images/a.jpg"), r"training/images: expected files ending in")},
    ),
    "bdd100k": Case(
        "bdd100k",
        make_bdd100k,
        ("road", "sidewalk"),
        {"train": [scene(0, 13, VOID)], "val": [scene(0, 13, VOID)]},
        {
            "image of another size": (
                smaller("images/10k/train/a.jpg"),
                r"expected the size of its image, 4x4",
            ),
            "id not listed": (
                lambda root: png(root / "labels/sem_seg/masks/val/b.png", scene(0, 40, 255)),
                r"b\.png: expected train ids from 0 to 18 or 255 for void, got 40",
            ),
        },
    ),
    "a2d2": Case(
        "a2d2",
        make_a2d2,
        ("Car", "RD normal street", "Sky"),
        {"train": [scene(1, 0, 2)] * 2, "val": [scene(1, 0, 2)] * 2},
        {
            "colour not listed": (
                edit("class_list.json", lambda said: said.pop("#c80000")),
                r"expected colours of class_list\.json, got #c80000",
            ),
            "label missing": (
                gone("20180807_145028/label/cam_front_center/20180807145028_label_frontcenter_000000000.png"),
                r"camera_frontcenter_000000000\.png: expected a file of the same name, its label",
            ),
        },
    ),
    "voc": Case(
        "voc",
        make_voc,
        ("background", "aeroplane"),
        {"train": [voc_mask()], "val": [voc_mask()]},
        {
            "mask missing": (
                gone("SegmentationClass/2007_1.png"),
                r"train\.txt: expected .*2007_1\.png, found none",
            ),
            "path out of the folder": (
                swap("ImageSets/Segmentation/train.txt", "2007_1", "../../secret"),
                r"train\.txt: expected a path within .*, got '\.\./\.\./secret\.png'",
            ),
        },
    ),
}
DAMAGED = [(name, what) for name, case in CASES.items() for what in case.damage]


@pytest.mark.parametrize("name", CASES)
def test_a_data_set_is_read_as_its_format_means_it(tmp_path: Path, name: str) -> None:
    case = CASES[name]
    case.make(tmp_path)
    assert set(READERS[case.kind].splits(tmp_path)) == set(case.masks)
    for split, masks in case.masks.items():
        dataset = open_dataset(case.kind, tmp_path, split)
        assert dataset.classes.names[: len(case.names)] == case.names
        assert (dataset.name, dataset.split) == (case.kind, split)
        labels = [dataset[index].label for index in range(len(dataset))]
        assert len(labels) == len(masks)
        for label, mask in zip(labels, masks, strict=True):
            np.testing.assert_array_equal(label, mask)
    findings = inspect_dataset(case.kind, tmp_path).findings
    assert [found.message for found in findings if found.level == "error"] == []
    with pytest.raises(DatasetError, match="'elsewhere'"):
        open_dataset(case.kind, tmp_path, "elsewhere")


@pytest.mark.parametrize(("name", "what"), DAMAGED)
def test_the_doctor_says_what_is_wrong_in_one_line(tmp_path: Path, name: str, what: str) -> None:
    case = CASES[name]
    case.make(tmp_path)
    damage, message = case.damage[what]
    damage(tmp_path)
    errors = [
        found.message for found in inspect_dataset(case.kind, tmp_path).findings if found.level == "error"
    ]
    assert any(re.search(message, error) for error in errors), errors
    assert not any("\n" in error or "Traceback" in error for error in errors)


@pytest.mark.parametrize("name", CASES)
def test_classes_json_chooses_and_merges_what_a_format_names(tmp_path: Path, name: str) -> None:
    case = CASES[name]
    case.make(tmp_path)
    vehicle = next(
        each for each in ("car", "Car") if each in open_dataset(case.kind, tmp_path, "train").classes.names
    )
    described = {
        "names": ["ground", "vehicle"],
        "class_of": {vehicle: "vehicle"},
        "unlisted": "void",
        "traversable": ["ground"],
        "terms": "mine",
    }
    write(tmp_path / "classes.json", described)
    dataset = open_dataset(case.kind, tmp_path, "train")
    assert (dataset.classes.names, dataset.classes.traversable, dataset.terms) == (
        ("ground", "vehicle"),
        ("ground",),
        "mine",
    )
    np.testing.assert_array_equal(
        dataset[0].label == 1, case.masks["train"][0] == case.masks["train"][0][5, 5]
    )
    if case.kind != "label-studio":  # which does not list its labels
        write(tmp_path / "classes.json", {**described, "class_of": {"tank": "vehicle"}})
        with pytest.raises(
            DatasetError, match=r"classes\.json: expected names of the data set's classes, .* got 'tank'"
        ):
            open_dataset(case.kind, tmp_path, "train")
    write(tmp_path / "classes.json", {**described, "unlisted": "error"})
    with pytest.raises(DatasetError, match=r"classes\.json: expected a class for each .* got none for"):
        open_dataset(case.kind, tmp_path, "train")


@pytest.mark.parametrize(("unlabelled", "value"), [("void", VOID), ("road", 0)])
def test_classes_json_says_what_is_between_the_shapes(tmp_path: Path, unlabelled: str, value: int) -> None:
    make_coco(tmp_path)
    write(tmp_path / "classes.json", {"names": ["road", "car"], "unlabelled": unlabelled})
    np.testing.assert_array_equal(
        open_dataset("coco", tmp_path, "train")[0].label, with_crowd(scene(0, 1, value))
    )


def test_classes_json_lists_labels_that_an_export_happens_not_to_hold(tmp_path: Path) -> None:
    make_label_studio(tmp_path)
    write(tmp_path / "classes.json", {"names": ["sky", "road", "car"]})
    np.testing.assert_array_equal(open_dataset("label-studio", tmp_path, "train")[0].label, scene(1, 2, VOID))


def test_the_doctor_asks_what_is_between_the_shapes(tmp_path: Path) -> None:
    make_cvat(tmp_path)
    asked = [found.message for found in inspect_dataset("cvat", tmp_path).findings if found.check == "void"]
    assert len(asked) == 2
    assert asked[0].startswith("43% of the pixels lie in no shape and count as void")
    write(tmp_path / "classes.json", {"names": ["road", "car", "background"], "unlabelled": "background"})
    assert [found for found in inspect_dataset("cvat", tmp_path).findings if found.check == "void"] == []
    np.testing.assert_array_equal(open_dataset("cvat", tmp_path, "train")[0].label, scene(0, 1, 2))


@pytest.mark.parametrize("name", CASES)
def test_a_wrong_kind_is_told_where_the_layout_shows_it(tmp_path: Path, name: str) -> None:
    CASES[name].make(tmp_path)
    if not READERS[CASES[name].kind].marks or name == "coco as Roboflow exports":
        pytest.skip("its layout is not like anything")
    with pytest.raises(DatasetError, match=rf"found what looks like .*{re.escape(CASES[name].kind)}"):
        open_dataset("camvid", tmp_path, "train")


@pytest.mark.parametrize("drawn_over", ["upright", "as stored"])
def test_shapes_are_turned_with_a_picture_that_was_stored_lying(tmp_path: Path, drawn_over: str) -> None:
    make_coco(tmp_path)
    lying = cv2.imencode(".jpg", np.zeros((12, 8, 3), np.uint8))[1].tobytes()
    exif = b"Exif\0\0MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 274, 3, 1, 6, 0, 0)  # turned a quarter
    (tmp_path / "train2017/a.jpg").write_bytes(
        lying[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + lying[2:]
    )
    expected = COCO_MASK
    if drawn_over == "as stored":

        def lay(said: dict[str, Any]) -> None:
            said["images"][0].update(width=8, height=12)
            said["annotations"] = [
                {"image_id": 7, "category_id": 9, "segmentation": [[0, 0, 8, 0, 8, 1, 0, 1]]}
            ]

        edit(TRAIN_JSON, lay)(tmp_path)
        expected = np.full(SIZE_HW, 2, np.uint8)
        expected[:, 11] = 1  # what was the first row is the last column
    np.testing.assert_array_equal(open_dataset("coco", tmp_path, "train")[0].label, expected)


def test_a_network_trained_on_shapes_needs_no_files_of_labels(tmp_path: Path) -> None:
    make_coco(tmp_path)
    assert [
        found.message for found in inspect_dataset("coco", tmp_path).findings if found.check == "classes"
    ] == []
    refuse_masks(open_dataset("coco", tmp_path, "train"))


# --- shapes


def relocated_frames(root: Path) -> None:
    """CVAT's export of a video's task: names without an ending, files with one."""
    swap("annotations.xml", 'name="a.png"', 'name="frame_000000"')(root)
    (root / "images/a.png").rename(root / "images/frame_000000.PNG")


def one_frame_not_labelled(root: Path) -> None:
    (root / "SegmentationClass/f.png").unlink()


def in_folders(root: Path) -> None:
    """Tasks whose images lie in folders keep them."""
    for folder in ("JPEGImages", "SegmentationClass"):
        (root / folder / "d1").mkdir()
        (path,) = (root / folder).glob("a.*")
        path.rename(root / folder / "d1" / path.name)
    swap("ImageSets/Segmentation/default.txt", "a\n", "d1/a\n")(root)


def a_subset_of_another_name(root: Path) -> None:
    (root / "ImageSets/Segmentation/default.txt").rename(root / "ImageSets/Segmentation/Morning.txt")


def an_empty_set_above(root: Path) -> None:
    """Supervisely's nested data sets: the one above may hold no picture of its own."""
    (root / "above/img").mkdir(parents=True)
    (root / "above/ann").mkdir()


def listed_below_data(root: Path) -> None:
    write(root / "val.txt", "data/images/val/b.jpg\n")


def in_a_subset_of_images(root: Path) -> None:
    """Pictures in images/Train and images/Val, as CVAT names its subsets."""
    (root / "images").mkdir()
    (root / "train2017").rename(root / "images/Train")
    (root / "val2017").rename(root / "images/Validation")


@pytest.mark.parametrize(
    ("kind", "make", "change", "frames"),
    [
        ("cvat", make_cvat, relocated_frames, 2),
        ("voc", make_cvat_masks, one_frame_not_labelled, 5),
        ("voc", make_cvat_masks, in_folders, 6),
        ("voc", make_cvat_masks, a_subset_of_another_name, 6),
        ("supervisely", make_supervisely, an_empty_set_above, 3),
        ("yolo", make_yolo_masks, listed_below_data, 2),
        ("coco", make_coco, in_a_subset_of_images, 3),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_exports_as_label_tools_really_write_them(
    tmp_path: Path, kind: str, make: Callable[[Path], None], change: Callable[[Path], None], frames: int
) -> None:
    def samples() -> dict[str, np.ndarray]:
        datasets = [open_dataset(kind, tmp_path, split) for split in ("train", "val")]
        read = [dataset[index] for dataset in datasets for index in range(len(dataset))]
        return {Path(one.name).stem: one.label for one in read}

    make(tmp_path)
    before = samples()
    change(tmp_path)
    after = samples()
    assert len(after) == frames
    renamed = {"frame_000000": "a"}
    for name, label in after.items():
        assert np.array_equal(label, before[renamed.get(name, name)])


@pytest.mark.parametrize(
    ("kind", "make", "change", "says"),
    [
        (
            "voc",
            make_cvat_masks,
            swap("labelmap.txt", "car:4,5,6", "car:1,2,3"),
            "labelmap.txt line 4: expected a colour of its own",
        ),
    ],
)
def test_classes_of_one_colour_are_refused(
    tmp_path: Path, kind: str, make: Callable[[Path], None], change: Callable[[Path], None], says: str
) -> None:
    make(tmp_path)
    change(tmp_path)
    with pytest.raises(DatasetError, match=says):
        open_dataset(kind, tmp_path, "train")


def inside_of(rings: list[np.ndarray], size_hw: tuple[int, int]) -> np.ndarray:
    """Return which pixel centres lie inside, each by itself: the edges to their left are odd in number."""
    mask = np.zeros(size_hw, bool)
    for row, column in np.ndindex(*size_hw):
        x, y = column + 0.5, row + 0.5
        for ring in rings:
            for (x0, y0), (x1, y1) in zip(ring, np.roll(ring, -1, axis=0), strict=True):
                if (y0 <= y) != (y1 <= y) and x >= x0 + (y - y0) * (x1 - x0) / (y1 - y0):
                    mask[row, column] ^= True
    return mask


@pytest.mark.parametrize("seed", range(6))
def test_polygons_hold_the_pixels_whose_centres_are_inside(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rings = [rng.uniform(-6, 26, (corners, 2)) for corners in (3, 7, 12)[: 1 + seed % 3]]
    if seed == 5:
        rings = [np.rint(ring) for ring in rings]
    canvas = Canvas((18, 21), 0)
    canvas.fill(rings, 1)
    np.testing.assert_array_equal(canvas.label == 1, inside_of(rings, (18, 21)))


def test_polygons_and_runs_agree_with_cocos_own_tool() -> None:
    """The text is what pycocotools 2.0 made of this mask; it fills the polygon with the same pixels."""
    counts = "e0`0g00000000000000000000000000000000000000NA\\O?d0200000000000000000000000000000N\\OAd0?2"
    counts += "0000000000000000000000000H"
    canvas = Canvas((40, 50), 0)
    Runs(1, decode_coco_counts(counts, 2000)).paint(canvas)
    np.testing.assert_array_equal(canvas.label, np.add.outer(np.arange(40), np.arange(50)) % 37 > 20)
    canvas = Canvas(SIZE_HW, 0)
    canvas.fill([ring_of(HOUSE_SHAPES[0])], 1)
    np.testing.assert_array_equal(canvas.label == 1, CAR)


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda canvas: canvas.fill([zigzag(1_000_000, 4000)], 1), "one that crosses"),
        (lambda canvas: [canvas.fill([zigzag(4, 4000)], 1) for _ in range(200_000)], "drawn in some seconds"),
        (lambda canvas: canvas.fill_pixels([zigzag(1_000_000, 4000)], 1), "one that crosses"),
        (lambda canvas: Runs(1, [16_000_000, 10**30]).paint(canvas), "other than whole numbers"),
        (lambda canvas: Runs(1, [-1, 16_000_001]).paint(canvas), "negative or longer"),
        (lambda canvas: Runs(1, []).paint(canvas), "negative or longer"),
        (lambda canvas: decode_coco_counts("0" * 100, 4), "got 100 characters"),
        (lambda canvas: decode_coco_counts("oooooooooooo", 4), "other characters"),
        (lambda canvas: label_studio_alpha(bytes(1 << 23), SIZE_HW), "a brush of at most"),
        (lambda canvas: label_studio_alpha(b"", SIZE_HW), "cut off"),
        (lambda canvas: ring_of([1, 2, 3]), "pairs of numbers"),
        (lambda canvas: ring_of([[1, 2], [3]]), "corners as numbers"),
        (lambda canvas: ring_of([1, 1e300]), "pairs of numbers"),
    ],
)
def test_shapes_that_would_take_memory_or_time_are_refused(
    monkeypatch: pytest.MonkeyPatch, draw: Callable[[Canvas], None], message: str
) -> None:
    monkeypatch.setattr("training.data.formats.shapes.MOST_WORK", 50_000_000)
    with pytest.raises(ShapeError, match=message):
        draw(Canvas((4000, 4000), 0))


def zigzag(corners: int, height: int) -> np.ndarray:
    ring = np.zeros((corners, 2))
    ring[:, 0] = np.linspace(0, height, corners)
    ring[1::2, 1] = height
    return ring
