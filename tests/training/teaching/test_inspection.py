"""What the doctor says of soft labels: how they agree with the labels, and what is wrong with them."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from runtime.contract import CAMVID_CLASSES
from training.data import open_dataset
from training.data.cityscapes import CITYSCAPES_CLASSES
from training.doctor import main
from training.teaching.inspection import inspect_soft_labels, inspect_unlabelled
from training.teaching.soft_labels import TeacherFile, write_description, write_soft_labels


@pytest.fixture
def soft(camvid_root: Path, tmp_path: Path) -> Path:
    """The labels themselves, as one who is quite sure would say them."""
    folder = tmp_path / "soft"
    folder.mkdir()
    write_description(folder, TeacherFile(CAMVID_CLASSES.names, stride=1))
    dataset = open_dataset("camvid", camvid_root, "train")
    for index in range(len(dataset)):
        sample = dataset[index]
        says = np.stack([sample.label == c for c in range(11)]) * 0.9 + 0.01
        write_soft_labels(folder, Path(sample.name).stem, says.astype(np.float32))
    return folder


def test_who_says_what_the_labels_say_is_right_everywhere(camvid_root: Path, soft: Path) -> None:
    dataset = open_dataset("camvid", camvid_root, "train")
    summary, findings = inspect_soft_labels(dataset, [soft], None)
    assert (findings, summary.images, summary.of, summary.agreement) == ([], 6, 6, 1.0)
    labelled = np.concatenate([dataset[index].label.ravel() for index in range(6)])
    for index, right in enumerate(summary.right):
        assert right == 1.0 if (labelled == index).any() else np.isnan(right)
    assert sum(summary.pixel_share) == pytest.approx(1)
    assert summary.groups == CAMVID_CLASSES.names


def _forget(folder: Path) -> None:
    (folder / "0001TP_000000.npz").unlink()


def _forget_all(folder: Path) -> None:
    for path in folder.glob("*.npz"):
        path.rename(path.with_name(f"of another {path.name}"))


def _swap(folder: Path) -> None:
    """Let all classes be the next one's."""
    for path in folder.glob("*.npz"):
        scores = np.array(np.load(path)["scores"])
        np.savez(path, scores=np.roll(scores, 1, axis=0))


@pytest.mark.parametrize(
    ("change", "level", "says"),
    [
        (_forget, "note", r"1 image \(.*0001TP_000000.*\) without soft labels"),
        (_forget_all, "error", "expected soft labels of camvid's 6 images, found those of none"),
        (_swap, "error", r"they do on \d+% of the labelled pixels; they are of other images"),
        (
            lambda folder: (folder / "0001TP_000001.npz").write_bytes(b"PK"),
            "error",
            r"0001TP_000001.npz: expected an npz file",
        ),
        (
            lambda folder: np.savez(folder / "0001TP_000001.npz", scores=np.zeros((11, 9, 64), np.uint8)),
            "error",
            "expected soft labels in the shape of the frame",
        ),
        (
            lambda folder: np.savez(folder / "other.npz", scores=np.zeros((11, 9, 64), np.uint8)),
            "note",
            r"1 soft label \(other\) of no image",
        ),
    ],
)
def test_what_is_wrong_is_said(
    camvid_root: Path,
    soft: Path,
    capsys: pytest.CaptureFixture[str],
    change: Callable[[Path], None],
    level: str,
    says: str,
) -> None:
    change(soft)
    given = ["--data", "camvid", "--root", str(camvid_root), "--soft-labels", str(soft)]
    assert main([*given, "--json"]) == (1 if level == "error" else 0)
    report = json.loads(capsys.readouterr().out)
    found = [one for one in report["findings"] if one["check"] == "soft labels"]
    assert [one["level"] for one in found if re.search(says, one["message"])] == [level]


def test_frames_without_labels_are_read_too(
    camvid_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    drive = tmp_path / "my drive"
    (drive / "images").mkdir(parents=True)
    (drive / "soft").mkdir()
    write_description(
        drive / "soft", TeacherFile(CITYSCAPES_CLASSES.names, 4, features=(2, 1), features_of="a" * 64)
    )
    road = np.zeros((19, 12, 16), np.float32)
    road[0] = 1
    for number in range(3):
        cv2.imwrite(str(drive / "images" / f"{number}.png"), np.full((48, 64, 3), 80, np.uint8))
        write_soft_labels(drive / "soft", str(number), road, np.full((3, 12, 16), 128, np.uint8))
    given = ["--data", "camvid", "--root", str(camvid_root), "--unlabelled", str(drive)]
    given += ["--class-map", "cityscapes-to-camvid"]
    assert main(given) == 0
    said = capsys.readouterr().out
    assert "unlabelled frames: 3 of 3 images, with 2 and 1 features" in said
    assert "right where labelled" not in said
    assert said.endswith(f" --unlabelled '{drive}' --class-map cityscapes-to-camvid\n")
    summary, findings = inspect_unlabelled(drive, "cityscapes-to-camvid", CAMVID_CLASSES)
    assert findings == []
    assert summary.pixel_share[3] == 1.0
    assert np.isnan(summary.agreement)
    (drive / "images" / "1.png").write_bytes(b"no picture")
    assert main(given) == 1
    assert "1.png: expected an image" in capsys.readouterr().out


def test_soft_labels_of_a_damaged_data_set_wait(
    camvid_root: Path, soft: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    next((camvid_root / "trainannot").iterdir()).unlink()
    given = ["--data", "camvid", "--root", str(camvid_root), "--soft-labels", str(soft)]
    assert main(given) == 1
    assert "the soft labels were not looked at" in capsys.readouterr().out


@pytest.mark.parametrize(
    "given",
    [
        ["--soft-labels", "x", "--class-map", "cityscapes-to-camvid"],
        ["--unlabelled", "x"],
        ["--data", "camvid", "--root", "x", "--class-map", "cityscapes-to-camvid"],
    ],
)
def test_a_command_that_names_too_little_or_too_much_is_refused(
    given: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(given) == 1
    assert "doctor: expected --data and --root" in capsys.readouterr().err
