"""Data sets as they come from phones, label tools and network drives."""

from __future__ import annotations

import json
import os
import struct
import unicodedata
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from runtime.base.images import turn
from runtime.errors import DatasetError
from training.data import open_dataset
from training.data.inspection import inspect_dataset
from training.data.pairs import PairedFiles, refuse_masks

UNDONE = {1: 1, 2: 2, 3: 3, 4: 4, 5: 5, 6: 8, 7: 7, 8: 6}  # the turn that takes a turn back


def exif(orientation: int) -> bytes:
    return b"MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 274, 3, 1, orientation, 0, 0)


def tagged(png: bytes, orientation: int) -> bytes:
    """Return a PNG that says how to turn it."""
    data = exif(orientation)
    crc = zlib.crc32(b"eXIf" + data)
    return png[:33] + struct.pack(">I", len(data)) + b"eXIf" + data + struct.pack(">I", crc) + png[33:]


def png(pixels: np.ndarray) -> bytes:
    return cv2.imencode(".png", pixels)[1].tobytes()


def write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def upright_pair(size_hw: tuple[int, int] = (6, 10)) -> tuple[np.ndarray, np.ndarray]:
    """Return a picture whose blue channel is 100 times its label, and the label; no side like another."""
    label = np.random.default_rng(0).integers(0, 3, size_hw, np.uint8)
    return np.dstack([label * 100, label * 0, label * 0]), label


def make_root(root: Path, image: bytes, label: bytes, classes: dict[str, object] | None = None) -> Path:
    for name in ("a", "b"):
        write(root / "images" / "train" / f"{name}.png", image)
        write(root / "labels" / "train" / f"{name}.png", label)
    (root / "classes.json").write_text(json.dumps({"names": ["floor", "wall", "door"]} | (classes or {})))
    return root


@pytest.mark.parametrize("size_hw", [(6, 10), (8, 8)], ids=["oblong", "square"])
@pytest.mark.parametrize("drawn", ["as stored", "as stored, tagged too", "upright"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_and_its_label_are_turned_together(
    tmp_path: Path, orientation: int, drawn: str, size_hw: tuple[int, int]
) -> None:
    picture, label = upright_pair(size_hw)
    stored = turn(label, UNDONE[orientation])
    image = tagged(png(turn(picture, UNDONE[orientation])), orientation)
    content = {
        "as stored": png(stored),
        "as stored, tagged too": tagged(png(stored), orientation),
        "upright": png(label),
    }[drawn]
    size_tells = orientation >= 5 and size_hw[0] != size_hw[1]
    stated = {"labels_upright": True} if drawn == "upright" and not size_tells else {}
    sample = open_dataset("folder", make_root(tmp_path, image, content, stated), "train")[0]
    assert np.array_equal(sample.image_bgr, picture)
    assert np.array_equal(sample.label, label)
    assert sample.turn_is_guessed == (orientation != 1 and not size_tells and "tagged" not in drawn)


def test_labels_in_colours_are_turned_too(tmp_path: Path) -> None:
    picture, label = upright_pair()
    classes = {"class_of": {"#000000": "floor", "#000064": "wall", "#0000c8": "door"}}
    image = tagged(png(turn(picture, UNDONE[6])), 6)
    sample = open_dataset(
        "folder", make_root(tmp_path, image, png(turn(picture, UNDONE[6])), classes), "train"
    )[0]
    assert np.array_equal(sample.label, label)


def test_a_label_of_neither_size_is_refused(tmp_path: Path) -> None:
    picture, label = upright_pair()
    root = make_root(tmp_path, tagged(png(turn(picture, UNDONE[6])), 6), png(label[:4]))
    with pytest.raises(DatasetError, match=r"expected the size of its image, 10x6 pixels"):
        open_dataset("folder", root, "train")[0]


def test_the_doctor_says_which_turns_are_guessed(tmp_path: Path) -> None:
    picture, label = upright_pair()
    root = make_root(tmp_path, tagged(png(turn(picture, 3)), 3), png(turn(label, 3)))
    (note,) = (finding for finding in inspect_dataset("folder", root).findings if "EXIF" in finding.message)
    assert note.level == "note"
    assert note.message.startswith("2 images have an EXIF orientation, and sizes do not tell")
    assert '"labels_upright": true' in note.message


def test_deep_pictures_of_a_data_set_are_scaled_alike_where_it_says_so(tmp_path: Path) -> None:
    _, label = upright_pair()
    root = make_root(tmp_path, png(np.full((6, 10), 500, np.uint16)), png(label), {"bits": 12})
    assert open_dataset("folder", root, "train")[0].image_bgr.max() == 31
    make_root(tmp_path, png(np.full((6, 10), 500, np.uint16)), png(label))
    assert open_dataset("folder", root, "train")[0].image_bgr.max() == 125
    make_root(tmp_path, png(np.full((6, 10), 500, np.uint16)), png(label), {"bits": 17})
    with pytest.raises(DatasetError, match=r"bits: expected from 8 to 16, got 17"):
        open_dataset("folder", root, "train")


MASK = np.where(np.eye(8) > 0, 255, 0).astype(np.uint8)


@pytest.mark.parametrize(
    ("classes", "mask", "line"),
    [
        (
            {"names": ["ground", "person"]},
            MASK,
            '"names": ["ground", "person"], "class_of": {"0": "ground", "255": "person"}',
        ),
        ({"names": ["地面", "人"], "ignore_index": 255}, MASK, '"class_of": {"0": "地面", "255": "人"}'),
        ({"names": ["person"]}, MASK, '"names": ["background", "person"]'),
        ({"names": ["ground", "person"]}, MASK // 255, None),
        ({"names": ["ground", "person"]}, MASK * 0, None),
        ({"names": ["ground", "person"]}, MASK | np.eye(8, k=1, dtype=np.uint8), None),
        ({"names": ["ground", "person", "car"]}, MASK, None),
        (
            {"names": ["ground", "person"], "class_of": {"0": "ground", "1": "person", "255": None}},
            MASK,
            None,
        ),
        ({"names": ["ground", "person"], "class_of": {"0": "ground", "255": "person"}}, MASK, None),
    ],
)
def test_masks_of_0_and_255_get_the_line_to_add(
    tmp_path: Path, classes: dict[str, object], mask: np.ndarray, line: str | None
) -> None:
    root = make_root(tmp_path, png(np.random.default_rng(0).integers(0, 255, (8, 8, 3), np.uint8)), png(mask))
    (root / "classes.json").write_text(json.dumps(classes, ensure_ascii=False), encoding="utf-8")
    found = [f for f in inspect_dataset("folder", root).findings if "as masks do" in f.message]
    train_set = open_dataset("folder", root, "train")
    if line is None:
        assert not found
        refuse_masks(train_set)
        return
    assert [finding.level for finding in found] == ["error"]
    assert line in found[0].message
    with pytest.raises(DatasetError, match="as masks do"):
        refuse_masks(train_set)
    added = json.loads("{" + found[0].message.split("write ")[1].split(" into")[0] + "}")
    (root / "classes.json").write_text(json.dumps(added, ensure_ascii=False), encoding="utf-8")
    assert set(np.unique(open_dataset("folder", root, "train")[0].label)) == {0, 1}


CLUTTER = (
    "@eaDir/a.png/SYNOFILE_THUMB_M.png",
    "__MACOSX/a.png",
    "._a.png",
    ".DS_Store",
    "Thumbs.db",
    "desktop.ini",
)


@pytest.mark.parametrize("kind", ["folder", "folder without splits", "camvid", "cityscapes"])
def test_what_systems_leave_lying_about_is_no_data(tmp_path: Path, kind: str) -> None:
    picture, label = upright_pair()
    names = {
        "folder": ("images/train/a.png", "labels/train/a.png"),
        "folder without splits": ("images/a.png", "labels/a.png"),
        "camvid": ("train/a.png", "trainannot/a.png"),
        "cityscapes": (
            "leftImg8bit/train/ulm/ulm_0_leftImg8bit.png",
            "gtFine/train/ulm/ulm_0_gtFine_labelIds.png",
        ),
    }[kind]
    (tmp_path / "classes.json").write_text('{"names": ["a", "b", "c"]}')
    for name, pixels in zip(names, (picture, label), strict=True):
        write(tmp_path / name, png(pixels))
        write(tmp_path / name.replace("/a.", "/b.").replace("_0_", "_1_"), png(pixels))
        for folder in {(tmp_path / name).parent, (tmp_path / name).parent.parent}:
            for clutter in CLUTTER:
                write(folder / clutter, b"no image")
    data = kind.split()[0]
    dataset = open_dataset(data, tmp_path, "train")
    assert len(dataset) == (1 if kind.endswith("splits") else 2)
    findings = inspect_dataset(data, tmp_path).findings
    assert not [f for f in findings if "__MACOSX" in f.message or "eaDir" in f.message or "._" in f.message]
    assert dataset[0].label.shape == label.shape


@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize("name", ["Straßenkreuzung Süd", "가", "é", "が"])
def test_names_match_however_their_accents_are_written(tmp_path: Path, name: str, form: str) -> None:
    other = "NFD" if form == "NFC" else "NFC"
    picture, label = upright_pair()
    (tmp_path / "classes.json").write_text('{"names": ["a", "b", "c"]}')
    image = tmp_path / "images" / unicodedata.normalize(form, f"{name}-1")
    write(image / f"{unicodedata.normalize(form, name)}.PNG", png(picture))
    label_folder = tmp_path / "labels" / unicodedata.normalize(other, f"{name}-1")
    write(label_folder / f"{unicodedata.normalize(other, name)}.png", png(label))
    for asked in ("NFC", "NFD"):
        dataset = open_dataset("folder", tmp_path, unicodedata.normalize(asked, f"{name}-1"))
        assert np.array_equal(dataset[0].label, label)
    assert [split.images for split in inspect_dataset("folder", tmp_path).splits] == [1]


def test_two_names_that_look_alike_are_told(tmp_path: Path) -> None:
    picture, label = upright_pair()
    root = make_root(tmp_path, png(picture), png(label))
    for form in ("NFC", "NFD"):
        write(root / "images" / "train" / f"{unicodedata.normalize(form, 'é')}.png", png(picture))
    write(root / "labels" / "train" / "é.png", png(label))
    if len(list((root / "images" / "train").iterdir())) < 4:
        pytest.skip("this file system takes both names for one")
    with pytest.raises(DatasetError, match="expected one file a name"):
        open_dataset("folder", root, "train")


def test_a_city_is_left_out_however_it_is_written(tmp_path: Path) -> None:
    picture, label = upright_pair()
    for city in (unicodedata.normalize("NFD", "Münster"), "Ulm"):
        write(tmp_path / f"leftImg8bit/train/{city}/{city}_0_leftImg8bit.png", png(picture))
        write(tmp_path / f"gtFine/train/{city}/{city}_0_gtFine_labelIds.png", png(label))
    dataset = open_dataset("cityscapes", tmp_path, "val", leave_out=unicodedata.normalize("NFC", "Münster"))
    assert len(dataset) == 1


@pytest.mark.parametrize(("image", "label"), [("a.JPG", "a.png"), ("a.jpeg", "a.PNG"), ("a.WebP", "a.Png")])
def test_suffixes_may_differ_in_case(tmp_path: Path, image: str, label: str) -> None:
    picture, ids = upright_pair()
    (tmp_path / "classes.json").write_text('{"names": ["a", "b", "c"]}')
    write(
        tmp_path / "images" / "train" / image, cv2.imencode(Path(image).suffix.lower(), picture)[1].tobytes()
    )
    write(tmp_path / "labels" / "train" / label, png(ids))
    assert open_dataset("folder", tmp_path, "train")[0].name == image


def test_names_that_are_not_utf_8_are_read(tmp_path: Path) -> None:
    picture, label = upright_pair()
    root = make_root(tmp_path, png(picture), png(label))
    name = os.fsdecode(b"caf\xe9.png")
    try:
        write(root / "images" / "train" / name, png(picture))
    except OSError:
        pytest.skip("this file system takes no such name")
    write(root / "labels" / "train" / name, png(label))
    dataset = open_dataset("folder", root, "train")
    assert len(dataset) == 3
    assert isinstance(dataset, PairedFiles)
    assert all(np.array_equal(dataset[index].label, label) for index in range(3))
