from pathlib import Path

import cv2
import numpy as np
import pytest

from runtime.contract import CAMVID_CLASSES
from runtime.errors import DatasetError
from training.data import open_dataset


def test_splits_hold_their_own_files(camvid_root: Path) -> None:
    sizes = {split: len(open_dataset("camvid", camvid_root, split)) for split in ("train", "val", "test")}
    assert sizes == {"train": 6, "val": 3, "test": 2}


def test_a_data_set_says_what_it_is(camvid_root: Path) -> None:
    dataset = open_dataset("camvid", camvid_root, "val")
    assert (dataset.name, dataset.split, dataset.classes) == ("camvid", "val", CAMVID_CLASSES)
    assert "research" in dataset.terms


def test_samples_are_the_files_pixels_with_void_as_255(camvid_root: Path) -> None:
    sample = open_dataset("camvid", camvid_root, "train")[2]
    stored = cv2.imread(str(camvid_root / "trainannot" / "0001TP_000002.png"), cv2.IMREAD_UNCHANGED)
    image = cv2.imread(str(camvid_root / "train" / "0001TP_000002.png"))
    assert sample.name == "0001TP_000002.png"
    assert np.array_equal(sample.image_bgr, image)
    assert (sample.label[:2] == 255).all()
    assert np.array_equal(sample.label[2:], stored[2:])


def test_samples_come_in_name_order_and_end(camvid_root: Path) -> None:
    dataset = open_dataset("camvid", camvid_root, "val")
    assert [sample.name for sample in dataset] == [f"0001TP_{index:06d}.png" for index in range(3)]  # type: ignore[attr-defined]


def test_other_files_are_passed_over(camvid_root: Path) -> None:
    (camvid_root / "val" / ".DS_Store").write_bytes(b"x")
    (camvid_root / "val" / "._0001TP_000000.png").write_bytes(b"x")
    (camvid_root / "val" / "notes.txt").write_text("x")
    assert len(open_dataset("camvid", camvid_root, "val")) == 3


def damage_nothing_found(root: Path) -> None:
    for path in (root / "val").iterdir():
        path.unlink()


def damage_folder(root: Path) -> None:
    damage_nothing_found(root)
    (root / "val").rmdir()


def damage_label_folder(root: Path) -> None:
    (root / "valannot").rename(root / "labels")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damage_nothing_found, r"val: expected files ending in .*found none"),
        (damage_folder, r"val: expected a folder, found none"),
        (damage_label_folder, r"valannot: expected a folder, found none"),
        (
            lambda root: (root / "valannot" / "0001TP_000001.png").unlink(),
            r"0001TP_000001\.png: expected a file of the same name, its label, in .*valannot",
        ),
        (
            lambda root: (root / "val" / "0001TP_000001.png").unlink(),
            r"0001TP_000001\.png: expected a file of the same name, its image, in .*val",
        ),
    ],
)
def test_opening_refuses_a_damaged_layout(camvid_root: Path, damage: object, message: str) -> None:
    damage(camvid_root)  # type: ignore[operator]
    with pytest.raises(DatasetError, match=message):
        open_dataset("camvid", camvid_root, "val")


def test_a_refusal_says_how_many_files_lack_a_partner(camvid_root: Path) -> None:
    for index in range(2):
        (camvid_root / "valannot" / f"0001TP_{index:06d}.png").unlink()
    with pytest.raises(DatasetError, match=r"0001TP_000000\.png: .*\(2 such files\).*training\.doctor"):
        open_dataset("camvid", camvid_root, "val")


def write_label(root: Path, label: np.ndarray) -> None:
    cv2.imwrite(str(root / "valannot" / "0001TP_000000.png"), label)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:60])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda root: write_label(root, np.full((48, 64), 12, np.uint8)),
            "expected class ids from 0 to 10 or 11 for void, got 12",
        ),
        (
            lambda root: write_label(root, np.zeros((48, 32), np.uint8)),
            "expected the size of its image, 64x48 pixels, got 32x48 pixels",
        ),
        (lambda root: write_label(root, np.zeros((48, 64, 3), np.uint8)), "one 8-bit channel .* got uint8"),
        (lambda root: write_label(root, np.zeros((48, 64), np.uint16)), "one 8-bit channel .* got uint16"),
        (
            lambda root: truncate(root / "valannot" / "0001TP_000000.png"),
            "whole, got a PNG file that is truncated",
        ),
        (
            lambda root: truncate(root / "val" / "0001TP_000000.png"),
            "whole, got a PNG file that is truncated",
        ),
        (
            lambda root: (root / "val" / "0001TP_000000.png").write_bytes(b""),
            "expected an image, got an empty file",
        ),
        (
            lambda root: (root / "val" / "0001TP_000000.png").unlink(),
            "expected an image file, cannot read it",
        ),
    ],
)
def test_reading_refuses_a_damaged_pair_by_its_name(camvid_root: Path, damage: object, message: str) -> None:
    dataset = open_dataset("camvid", camvid_root, "val")
    damage(camvid_root)  # type: ignore[operator]
    with pytest.raises(DatasetError, match=r"0001TP_000000\.png: .*" + message) as caught:
        dataset[0]
    assert "\n" not in str(caught.value)
    assert len(dataset[1].name) > 0


@pytest.mark.parametrize(
    ("name", "root", "split", "message"),
    [
        ("kitti", ".", "train", "expected one of camvid, .*, synthetic, synthetic-varied, got 'kitti'"),
        ("camvid", None, "train", "expected the data set's folder, got none; add --root"),
        ("camvid", "no/such/folder", "train", "no/such/folder: expected a folder"),
        ("camvid", ".", "dev", "expected a split out of train, val, test, got 'dev'"),
        ("synthetic", ".", "train", "expected no folder"),
    ],
)
def test_open_dataset_refuses_what_it_does_not_know(
    name: str, root: str | None, split: str, message: str
) -> None:
    with pytest.raises(DatasetError, match=message):
        open_dataset(name, root, split)


def test_every_real_pair_can_be_read(real_camvid: Path) -> None:
    dataset = open_dataset("camvid", real_camvid, "val")
    assert len(dataset) == 101
    for index in range(0, 101, 10):
        assert dataset[index].image_bgr.shape == (360, 480, 3)
