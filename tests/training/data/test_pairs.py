from collections.abc import Callable
from pathlib import Path

import pytest

from runtime.errors import DatasetError
from training.data import open_dataset
from training.data.camvid import open_camvid
from training.data.pairs import count_drives

RENAMED = {
    "0001TP_000001": "0006R0_f00930",
    "0001TP_000002": "0006R0_f00960",
    "0001TP_000005": "0016E5_00390",
}


@pytest.fixture
def three_drives(camvid_root: Path) -> Path:
    for old, new in RENAMED.items():
        for folder in ("train", "trainannot"):
            path = camvid_root / folder / f"{old}.png"
            path.rename(path.with_name(f"{new}.png"))
    return camvid_root


def names(root: Path, split: str, drive: str) -> list[str]:
    dataset = open_dataset("camvid", root, split, leave_out=drive)
    return [dataset[index].name for index in range(len(dataset))]


def test_a_drive_is_counted_by_the_start_of_its_names(three_drives: Path) -> None:
    assert count_drives(open_camvid(three_drives, "train")) == {"0001TP": 3, "0006R0": 2, "0016E5": 1}


def test_train_lacks_the_drive_and_val_is_the_drive(three_drives: Path) -> None:
    train, val = names(three_drives, "train", "0006R0"), names(three_drives, "val", "0006R0")
    assert val == ["0006R0_f00930.png", "0006R0_f00960.png"]
    assert len(train) == 4
    assert not set(train) & set(val)


def test_the_split_says_what_was_left_out(three_drives: Path) -> None:
    train = open_dataset("camvid", three_drives, "train", leave_out="0016E5")
    val = open_dataset("camvid", three_drives, "val", leave_out="0016E5")
    assert (train.name, train.split) == ("camvid", "train without drive 0016E5")
    assert (val.name, val.split) == ("camvid", "held-out drive 0016E5")


@pytest.mark.parametrize(
    ("split", "drive", "message"),
    [
        ("val", "0005VD", "expected a drive out of 0001TP, 0006R0, 0016E5, got '0005VD'"),
        ("test", "0006R0", "expected split train or val, got 'test'"),
    ],
)
def test_an_impossible_division_is_refused(three_drives: Path, split: str, drive: str, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        open_dataset("camvid", three_drives, split, leave_out=drive)


def test_the_only_drive_cannot_be_left_out(camvid_root: Path) -> None:
    with pytest.raises(DatasetError, match="expected more drives than 0001TP"):
        open_dataset("camvid", camvid_root, "train", leave_out="0001TP")


def test_missing_labels_are_refused_here_too(three_drives: Path) -> None:
    (three_drives / "trainannot" / "0006R0_f00930.png").unlink()
    with pytest.raises(
        DatasetError, match=r"0006R0_f00930\.png: expected a file of the same name, its label"
    ):
        open_dataset("camvid", three_drives, "train", leave_out="0016E5")


def test_a_city_of_cityscapes_can_be_left_out(make_cityscapes: Callable[..., Path]) -> None:
    root = make_cityscapes()
    assert open_dataset("cityscapes", root, "val", leave_out="bochum").split == "held-out drive bochum"
    assert len(open_dataset("cityscapes", root, "train", leave_out="bochum")) == 2


def test_a_data_set_without_drives_says_so(tmp_path: Path, camvid_root: Path) -> None:
    (tmp_path / "images").mkdir()
    (camvid_root / "train").rename(tmp_path / "images" / "train")
    (tmp_path / "labels").mkdir()
    (camvid_root / "trainannot").rename(tmp_path / "labels" / "train")
    (tmp_path / "classes.json").write_text('{"names": ["a", "b"]}')
    with pytest.raises(DatasetError, match="folder: expected file names that tell the drives, found none"):
        open_dataset("folder", tmp_path, "train", leave_out="0001TP")
    with pytest.raises(DatasetError, match="synthetic: expected no drive to leave out"):
        open_dataset("synthetic", None, "train", leave_out="0001TP")


@pytest.mark.parametrize(("drive", "train", "val"), [("0001TP", 305, 62), ("0006R0", 266, 101)])
def test_real_drives(real_camvid: Path, drive: str, train: int, val: int) -> None:
    sizes = [len(open_dataset("camvid", real_camvid, split, leave_out=drive)) for split in ("train", "val")]
    assert sizes == [train, val]
