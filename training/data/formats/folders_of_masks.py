"""Published data sets that are folders of images and folders of masks: each is a layout and a list of values.

Mapillary Vistas (`vistas-v1.2`, `vistas-v2.0`; Neuhold et al. 2017), by the config file in it:

    ROOT/config_v2.0.json                      or config_v1.2.json, or config.json of the first release
    ROOT/training/images/KEY.jpg, ROOT/training/v2.0/labels/KEY.png     or training/labels/
    ROOT/validation/…                          testing has no labels

A mask's values are places in the config's list of labels; those that it does not evaluate are void.

BDD100K (`bdd100k`; Yu et al. 2020), the 10,000 images with semantic masks of Cityscapes' 19 train ids, 255
void:

    ROOT/images/10k/train/NAME.jpg, ROOT/labels/sem_seg/masks/train/NAME.png, and val

A2D2 (`a2d2`; Geyer et al. 2020), masks in the colours of its class_list.json, of which "Car 1" to "Car 4" and
the like are one class. It has no splits: the last fifth of its drives is "val".

    ROOT/class_list.json                       ROOT being camera_lidar_semantic
    ROOT/20180807_145028/camera/cam_front_center/20180807145028_camera_frontcenter_000000091.png
    ROOT/20180807_145028/label/cam_front_center/20180807145028_label_frontcenter_000000091.png

Pascal VOC (`voc`; Everingham et al. 2010), palette masks with 255 as the border, and what has its layout,
such as CVAT's "Segmentation mask 1.1", whose labelmap.txt lists "name:red,green,blue::" of masks in colours:

    ROOT/JPEGImages/NAME.jpg, ROOT/SegmentationClass/NAME.png
    ROOT/ImageSets/Segmentation/train.txt      names, one a line; "default.txt" is split by the last fifth
    ROOT/labelmap.txt                          without it the 20 classes of VOC and background

Layouts, ids and colours are those of the data sets' own descriptions and development kits.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

from runtime.base.images import IMAGE_SUFFIXES, is_clutter
from runtime.base.shown import shown
from runtime.contract import Rgb
from runtime.errors import DatasetError
from training.data.cityscapes import CITYSCAPES_CLASSES
from training.data.dataset import IGNORE
from training.data.formats.reading import (
    Vocabulary,
    in_order,
    inside,
    of_split,
    read_bytes,
    read_json,
    split_of,
    take,
)
from training.data.labels import LabelCode
from training.data.pairs import Pair, PairedFiles, match_files, pair_folders, plain_name

_BDD_TERMS = "BDD100K: educational, research and not-for-profit use"
_VISTAS_TERMS = "Mapillary Vistas, research edition: CC BY-NC-SA 4.0"
_A2D2_TERMS = "A2D2: CC BY-ND 4.0"
_VISTAS_SPLITS = {"train": "training", "val": "validation"}
_VOC_NAMES = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *(
        "diningtable",
        "dog",
        "horse",
        "motorbike",
        "person",
        "pottedplant",
        "sheep",
        "sofa",
        "train",
        "tvmonitor",
    ),
)
_VOC_BORDER = 0xE0E0C0
_MOST_LIST_BYTES = 1 << 26


def open_vistas(version: str, root: Path, split: str) -> PairedFiles:
    """Open one split of Mapillary Vistas.

    Args:
        version: of the classes, "v1.2" or "v2.0".
        root: the folder that holds the config file.
        split: "train" or "val".

    Raises:
        DatasetError: an unknown split, a missing folder, a config file that is damaged.
    """
    _expect(split, tuple(_VISTAS_SPLITS), root)
    folder = root / _VISTAS_SPLITS[split]
    config = root / f"config_{version}.json"
    labels = folder / version / "labels"
    if version == "v1.2" and not config.exists():
        config, labels = root / "config.json", folder / "labels"
    names, colors, void = [], {}, []
    for number, entry in enumerate(take(read_json(config), "labels", list, config)):
        where = f"{config}: label {number}"
        name, color = take(entry, "readable", str, where), take(entry, "color", list, where)
        names.append(name)
        if len(color) == 3 and all(type(each) is int and 0 <= each <= 255 for each in color):
            colors[name] = (color[0], color[1], color[2])
        if not take(entry, "evaluate", bool, where):
            void.append(name)
    vocabulary = Vocabulary.of(root, names, colors, void=void, where=config)
    class_of = {number: vocabulary.index(name, config) for number, name in enumerate(names[:256])}
    code = LabelCode(class_of, f"places in the list of {config.name}")
    pairs, faults = pair_folders(folder / "images", labels)
    return vocabulary.files(f"vistas-{version}", split, pairs, faults, code=code, terms=_VISTAS_TERMS)


def vistas_splits(_: Path) -> tuple[str, ...]:
    """Return "train" and "val": the labels of testing are withheld."""
    return tuple(_VISTAS_SPLITS)


def open_bdd100k(root: Path, split: str) -> PairedFiles:
    """Open one split, "train" or "val", of BDD100K's semantic masks; see `open_vistas`."""
    _expect(split, ("train", "val"), root)
    names, palette = CITYSCAPES_CLASSES.names, CITYSCAPES_CLASSES.palette_rgb
    vocabulary = Vocabulary.of(root, names, dict(zip(names, palette, strict=True)))
    class_of = {number: vocabulary.index(name, root) for number, name in enumerate(names)} | {IGNORE: IGNORE}
    code = LabelCode(class_of, f"train ids from 0 to {len(names) - 1} or 255 for void")
    pairs, faults = pair_folders(root / "images/10k" / split, root / "labels/sem_seg/masks" / split)
    files = vocabulary.files("bdd100k", split, pairs, faults, code=code, terms=_BDD_TERMS)
    if (root / "classes.json").exists():
        return files
    return dataclasses.replace(files, classes=CITYSCAPES_CLASSES)  # with what may be driven on


def bdd100k_splits(_: Path) -> tuple[str, ...]:
    """Return "train" and "val": the labels of test are withheld."""
    return ("train", "val")


def open_a2d2(root: Path, split: str) -> PairedFiles:
    """Open "train" or "val" of A2D2's masks; an image's drive is its recording; see `open_vistas`."""
    listed = root / "class_list.json"
    content = read_json(listed)
    if not isinstance(content, dict):
        raise DatasetError(
            f"{listed}: expected names by colours, got {type(content).__name__}; copy it again"
        )
    name_of: dict[int, str] = {}
    colors: dict[str, Rgb] = {}
    for key, name in content.items():
        if not re.fullmatch("#[0-9a-fA-F]{6}", key) or not isinstance(name, str):
            raise DatasetError(
                f'{listed}: expected names by colours such as "#ff0000", got {shown(key, 40)!r}'
            )
        color = int(key[1:], 16)
        name_of[color] = re.sub(r" \d+$", "", name)
        colors.setdefault(name_of[color], (color >> 16, color >> 8 & 255, color & 255))
    vocabulary = Vocabulary.of(root, list(colors), colors, where=listed)
    class_of = {color: vocabulary.index(name, listed) for color, name in name_of.items()}
    code = LabelCode(class_of, "colours of class_list.json", "colors")
    images, labels = _a2d2_files(root, "camera"), _a2d2_files(root, "label")
    pairs, faults = match_files(images, labels, root, root)
    with_drives = [
        ("default", dataclasses.replace(pair, drive=plain_name(pair.image.relative_to(root).parts[0])))
        for pair in pairs
    ]
    chosen = of_split(with_drives, split, root, faults)
    return vocabulary.files("a2d2", split, chosen, faults, code=code, terms=_A2D2_TERMS)


def a2d2_splits(_: Path) -> tuple[str, ...]:
    """Return "train" and "val", which are made here."""
    return ("train", "val")


def open_voc(root: Path, split: str) -> PairedFiles:
    """Open one split of Pascal VOC's layout, see `open_vistas`."""
    lists = _voc_lists(root)
    labelmap = root / "labelmap.txt"
    if labelmap.exists():
        color_of = _read_labelmap(labelmap)
        vocabulary = Vocabulary.of(root, list(color_of), color_of, where=labelmap)
        class_of = {
            red << 16 | green << 8 | blue: vocabulary.index(name, labelmap)
            for name, (red, green, blue) in color_of.items()
        }
        class_of.setdefault(_VOC_BORDER, IGNORE)
        code = LabelCode(class_of, "colours of labelmap.txt", "colors")
    else:
        colors = {name: _voc_color(index) for index, name in enumerate(_VOC_NAMES)}
        vocabulary = Vocabulary.of(root, _VOC_NAMES, colors)
        class_of = {index: vocabulary.index(name, root) for index, name in enumerate(_VOC_NAMES)}
        code = LabelCode(class_of | {IGNORE: IGNORE}, "VOC's ids from 0 to 20 or 255 for the border")
    pictures = root / "JPEGImages"
    images = {
        plain_name(path.relative_to(pictures).with_suffix("").as_posix()): path
        for path in sorted(pictures.rglob("*"))
        if path.suffix.lower() in IMAGE_SUFFIXES and not is_clutter(path.relative_to(pictures))
    }
    splits = in_order(set(lists))
    listed = lists.get(split)
    if listed is None and split in splits:  # made of a single list of another name, see `in_order`
        (listed,) = lists.values()
    if listed is None:
        raise DatasetError(f"{root}: expected a split out of {', '.join(splits)}, got {split!r}; name one")
    pairs, faults = [], []
    for name in dict.fromkeys(read_bytes(listed, _MOST_LIST_BYTES).decode("utf-8", "replace").split("\n")):
        if not name.strip():
            continue
        mask = inside(root / "SegmentationClass", f"{name.strip()}.png", listed)
        image = images.get(plain_name(name.strip()))
        if image is not None and labelmap.exists() and not mask.exists():
            continue  # CVAT lists frames that nobody has labelled yet
        if image is None or not mask.exists():
            missing = mask if image else root / "JPEGImages" / f"{shown(name.strip(), 100)}.jpg"
            faults.append(f"{listed}: expected {missing}, found none; copy it there, or take the name out")
        else:
            pairs.append((split_of(listed.stem), Pair(image, mask)))
    return vocabulary.files("voc", split, of_split(pairs, split, listed, faults), faults, code=code)


def voc_splits(root: Path) -> tuple[str, ...]:
    """Return the names of the lists, without "trainval" and without a test whose labels are withheld."""
    lists = _voc_lists(root)
    if "test" in lists and len(lists) > 1:
        first = read_bytes(lists["test"], _MOST_LIST_BYTES).decode("utf-8", "replace").split()[:1]
        if not first or not inside(root / "SegmentationClass", f"{first[0]}.png", lists["test"]).exists():
            del lists["test"]
    return in_order(set(lists))


open_vistas_v1: Callable[[Path, str], PairedFiles] = partial(open_vistas, "v1.2")
open_vistas_v2: Callable[[Path, str], PairedFiles] = partial(open_vistas, "v2.0")


def _expect(split: str, splits: tuple[str, ...], root: Path) -> None:
    if split not in splits:
        raise DatasetError(f"{root}: expected a split out of {', '.join(splits)}, got {split!r}; name one")


def _a2d2_files(folder: Path, kind: str) -> dict[str, Path]:
    """Return the files of "camera" or "label" by drive, camera and what their names share."""
    return {
        plain_name(f"{path.parts[-4]}/{path.parts[-2]}/{path.name.replace(f'_{kind}_', '_')}"): path
        for path in sorted(folder.glob(f"*/{kind}/cam_*/*.png"))
        if not is_clutter(path.relative_to(folder))
    }


def _voc_lists(root: Path) -> dict[str, Path]:
    folder = root / "ImageSets" / "Segmentation"
    lists = {
        split_of(path.stem): path
        for path in sorted(folder.glob("*.txt"))
        if not is_clutter(path.name) and path.stem != "trainval"
    }
    if not lists:
        raise DatasetError(f"{folder}: expected lists such as train.txt, found none; check --root")
    return lists


def _voc_color(index: int) -> Rgb:
    """Return the colour of an index in VOC's palette: its bits, three at a time, from the highest down."""
    color = [0, 0, 0]
    for bit in range(8):
        for channel in range(3):
            color[channel] |= (index >> 3 * bit + channel & 1) << 7 - bit
    return color[0], color[1], color[2]


def _read_labelmap(path: Path) -> dict[str, Rgb]:
    """Return the colours of a labelmap.txt, whose lines are "name:red,green,blue:parts:actions"."""
    colors: dict[str, Rgb] = {}
    for number, line in enumerate(read_bytes(path, 1 << 20).decode("utf-8", "replace").splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        match = re.fullmatch(r"(.+?):(\d{1,3}),(\d{1,3}),(\d{1,3})(:.*)?", line.strip())
        if match is None or max(int(match[each]) for each in (2, 3, 4)) > 255:
            raise DatasetError(
                f"{path} line {number}: expected name:red,green,blue::, got {shown(line, 60)!r}"
            )
        color = int(match[2]), int(match[3]), int(match[4])
        if color in colors.values():
            raise DatasetError(
                f"{path} line {number}: expected a colour of its own, got {shown(line, 60)!r}, whose colour "
                "another class has too; give the labels other colours and export again"
            )
        colors[match[1]] = color
    return colors
