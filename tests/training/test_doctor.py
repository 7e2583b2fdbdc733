import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from training.data import Sample
from training.data.duplicates import NEAR_BITS, fingerprint, near_images, same_images
from training.data.inspection import Inspection, inspect_dataset
from training.doctor import main


def messages(inspection: Inspection, check: str) -> list[tuple[str, str, str]]:
    return [
        (found.level, found.split, found.message) for found in inspection.findings if found.check == check
    ]


def image_path(root: Path, split: str, index: int) -> Path:
    return root / split / f"0001TP_{index:06d}.png"


def label_path(root: Path, split: str, index: int) -> Path:
    return root / f"{split}annot" / f"0001TP_{index:06d}.png"


def test_a_sound_data_set_has_no_errors(camvid_root: Path) -> None:
    inspection = inspect_dataset("camvid", camvid_root)
    assert inspection.errors == 0
    assert [(summary.split, summary.images) for summary in inspection.splits] == [
        ("train", 6),
        ("val", 3),
        ("test", 2),
    ]


def test_every_fault_of_every_split_is_listed(camvid_root: Path) -> None:
    label_path(camvid_root, "train", 0).unlink()
    label_path(camvid_root, "train", 1).unlink()
    image_path(camvid_root, "val", 0).unlink()
    image_path(camvid_root, "train", 2).write_bytes(b"no image")
    label_path(camvid_root, "train", 2).write_bytes(b"no label")
    cv2.imwrite(str(label_path(camvid_root, "train", 3)), np.full((48, 64), 12, np.uint8))
    cv2.imwrite(str(label_path(camvid_root, "test", 1)), np.zeros((4, 4), np.uint8))
    inspection = inspect_dataset("camvid", camvid_root)
    lonely = [
        ("train", image_path(camvid_root, "train", 0), "its label"),
        ("train", image_path(camvid_root, "train", 1), "its label"),
        ("val", label_path(camvid_root, "val", 0), "its image"),
    ]
    for (level, split, message), (in_split, path, partner) in zip(
        messages(inspection, "pairs"), lonely, strict=True
    ):
        assert (level, split) == ("error", in_split)
        assert message.startswith(f"{path}: ")
        assert partner in message
    damaged = [
        ("train", image_path(camvid_root, "train", 2), "expected an image"),
        ("train", label_path(camvid_root, "train", 2), "expected an image"),
        ("train", label_path(camvid_root, "train", 3), "got 12"),
        ("test", label_path(camvid_root, "test", 1), "expected the size of its image"),
    ]
    for (level, split, message), (in_split, path, words) in zip(
        messages(inspection, "files"), damaged, strict=True
    ):
        assert (level, split) == ("error", in_split)
        assert message.startswith(f"{path}: ")
        assert words in message
    assert inspection.errors == 7


def test_a_missing_split_leaves_the_others_checked(camvid_root: Path) -> None:
    (camvid_root / "val").rename(camvid_root / "elsewhere")
    inspection = inspect_dataset("camvid", camvid_root)
    ((level, split, message),) = messages(inspection, "layout")
    assert (level, split) == ("error", "val")
    assert "val: expected a folder, found none" in message
    assert [summary.split for summary in inspection.splits] == ["train", "test"]


def test_shares_are_those_of_an_independent_count(camvid_root: Path) -> None:
    summary = inspect_dataset("camvid", camvid_root).splits[1]
    labels = np.stack([cv2.imread(str(label_path(camvid_root, "val", i)), -1) for i in range(3)])
    assert summary.pixel_share["road"] == pytest.approx((labels == 3).sum() / (labels != 11).sum())
    assert summary.image_share["road"] == pytest.approx((labels == 3).any(axis=(1, 2)).mean())
    assert summary.void_share == pytest.approx((labels == 11).mean())
    assert sum(summary.pixel_share.values()) == pytest.approx(1)


def test_classes_that_never_occur_are_named(camvid_root: Path) -> None:
    for index in range(2):
        cv2.imwrite(
            str(label_path(camvid_root, "test", index)),
            (np.arange(48 * 64) % 9).astype(np.uint8).reshape(48, 64),
        )
    ((level, split, message),) = messages(inspect_dataset("camvid", camvid_root), "classes")
    assert (level, split) == ("note", "test")
    assert message.endswith("2 of 11 classes never occur, nothing is measured on them: pedestrian, bicyclist")


def test_labels_of_void_alone_are_named(camvid_root: Path) -> None:
    void = np.full((48, 64), 11, np.uint8)
    cv2.imwrite(str(label_path(camvid_root, "train", 4)), void)
    for index in range(2):
        cv2.imwrite(str(label_path(camvid_root, "test", index)), void)
    assert messages(inspect_dataset("camvid", camvid_root), "void") == [
        ("note", "train", "1 label has void alone: 0001TP_000004.png"),
        ("note", "test", "every label is void, so there is nothing to learn or measure"),
    ]


def test_a_training_split_of_void_alone_is_an_error(camvid_root: Path) -> None:
    for index in range(6):
        cv2.imwrite(str(label_path(camvid_root, "train", index)), np.full((48, 64), 255, np.uint8))
    ((level, split, _),) = messages(inspect_dataset("camvid", camvid_root), "void")
    assert (level, split) == ("error", "train")


def test_images_of_several_sizes_are_a_note(camvid_root: Path) -> None:
    cv2.imwrite(str(image_path(camvid_root, "val", 2)), np.zeros((20, 30, 3), np.uint8))
    cv2.imwrite(str(label_path(camvid_root, "val", 2)), np.zeros((20, 30), np.uint8))
    inspection = inspect_dataset("camvid", camvid_root)
    assert messages(inspection, "sizes") == [("note", "val", "images of 2 sizes: 64x48 (2), 30x20 (1)")]
    assert inspection.splits[1].sizes == {"64x48": 2, "30x20": 1}


def test_the_same_pixels_in_two_splits_are_an_error(camvid_root: Path) -> None:
    pixels = cv2.imread(str(image_path(camvid_root, "train", 5)))
    cv2.imwrite(str(image_path(camvid_root, "val", 1)), pixels, [cv2.IMWRITE_PNG_COMPRESSION, 9])
    ((level, split, message),) = messages(inspect_dataset("camvid", camvid_root), "duplicates")
    earlier, later = image_path(camvid_root, "train", 5), image_path(camvid_root, "val", 1)
    assert (level, split) == ("error", "val")
    assert message.startswith(f"{later}: the same pixels as {earlier} in train")


def test_a_nearly_equal_image_in_two_splits_is_a_note(camvid_root: Path) -> None:
    pixels = cv2.imread(str(image_path(camvid_root, "train", 5)))
    cv2.imwrite(str(image_path(camvid_root, "test", 1)), cv2.convertScaleAbs(pixels, alpha=0.9, beta=9))
    ((level, split, message),) = messages(inspect_dataset("camvid", camvid_root), "duplicates")
    assert (level, split) == ("note", "test")
    assert message.startswith(f"1 of 2 images look like one of train (at most {NEAR_BITS} of 64 dHash bits")
    assert "0001TP_000001.png ~ 0001TP_000005.png" in message


def test_the_same_pixels_twice_in_a_split_are_a_note(camvid_root: Path) -> None:
    image_path(camvid_root, "train", 5).write_bytes(image_path(camvid_root, "train", 0).read_bytes())
    assert messages(inspect_dataset("camvid", camvid_root), "duplicates") == [
        ("note", "train", "1 image has the pixels of another: 0001TP_000005.png = 0001TP_000000.png")
    ]


def test_a_drive_on_both_sides_is_a_note(camvid_root: Path) -> None:
    found = messages(inspect_dataset("camvid", camvid_root), "drives")
    assert [(level, split) for level, split, _ in found] == [
        ("note", "val"),
        ("note", "test"),
        ("note", "test"),
    ]
    assert found[0][2].startswith("3 of 3 images are of drives that train holds too (0001TP)")


def test_cityscapes_keeps_its_cities_apart(make_cityscapes: Callable[..., Path]) -> None:
    inspection = inspect_dataset("cityscapes", make_cityscapes())
    assert inspection.errors == 0
    assert inspection.splits[0].drives == {"aachen": 2, "bochum": 1}
    assert messages(inspection, "drives") == []


def test_a_bad_list_of_classes_is_said_once(tmp_path: Path) -> None:
    for split in ("train", "val"):
        (tmp_path / "images" / split).mkdir(parents=True)
    (tmp_path / "classes.json").write_text("{}")
    inspection = inspect_dataset("folder", tmp_path)
    ((_, _, message),) = messages(inspection, "layout")
    assert "classes.json: names: missing" in message


def test_a_fault_that_splits_share_is_said_once(tmp_path: Path, camvid_root: Path) -> None:
    (camvid_root / "train").rename(tmp_path / "images")
    (camvid_root / "trainannot").rename(tmp_path / "labels")
    (tmp_path / "classes.json").write_text('{"names": ["a", "b"], "unlisted": "void"}')
    (tmp_path / "labels" / "0001TP_000000.png").unlink()
    inspection = inspect_dataset("folder", tmp_path)
    assert [summary.images for summary in inspection.splits] == [4, 1]
    assert len(messages(inspection, "pairs")) == inspection.errors == 1


def test_a_folder_without_images_is_an_error(tmp_path: Path) -> None:
    ((level, _, message),) = messages(inspect_dataset("folder", tmp_path), "layout")
    assert level == "error"
    assert "images: expected a folder of images" in message


def test_fingerprints_stay_near_when_a_picture_changes_a_little(make_sample: Callable[..., Sample]) -> None:
    images = [make_sample(seed, (90, 120)).image_bgr for seed in range(6)]
    images = [cv2.GaussianBlur(image, (0, 0), 6) for image in images]
    originals = [fingerprint(image) for image in images]
    changed = [
        fingerprint(cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 90])[1], 1))
        for image in images
    ]
    assert [(twin.first, twin.second) for twin in near_images(changed, originals)] == [
        (i, i) for i in range(6)
    ]
    assert same_images(changed, originals) == []
    assert near_images(originals, originals) == []
    assert len(same_images(originals, originals)) == 6


def test_the_command_reports_and_draws(
    camvid_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "sheets"
    assert main(["--data", "camvid", "--root", str(camvid_root), "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "train: 6 pairs; 64x48 (6); 0001TP (6)" in printed
    assert "note: val: 3 of 3 images are of drives" in printed
    assert printed.splitlines()[-1].startswith("next: python -m training.train --data camvid")
    assert sorted(path.name for path in out.iterdir()) == [
        "samples-test.png",
        "samples-train.png",
        "samples-val.png",
    ]
    assert cv2.imread(str(out / "samples-train.png")).std() > 10


def test_the_command_fails_after_it_has_listed_everything(
    camvid_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    label_path(camvid_root, "train", 0).unlink()
    image_path(camvid_root, "val", 0).unlink()
    assert main(["--data", "camvid", "--root", str(camvid_root)]) == 1
    printed = capsys.readouterr()
    assert sum(line.startswith("error: ") for line in printed.out.splitlines()) == 2
    assert "found 2 errors" in printed.err
    assert "next:" not in printed.out


def test_json_is_one_object_also_when_there_are_errors(
    camvid_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    label_path(camvid_root, "train", 0).unlink()
    assert main(["--data", "camvid", "--root", str(camvid_root), "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["errors"] == 1
    assert report["findings"][0]["check"] == "pairs"
    assert report["splits"][1]["sizes"] == {"64x48": 3}
    assert report["sheets"] == []


def test_the_command_needs_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--data", "folder", "--root", str(tmp_path / "none")]) == 1
    assert "expected a folder that holds folder data, found none" in capsys.readouterr().err


def test_a_class_map_is_shown_with_what_it_loses(capsys: pytest.CaptureFixture[str], tiny_onnx: Path) -> None:
    assert main(["--class-map", "mapillary-to-camvid"]) == 0
    said = capsys.readouterr().out
    assert "Person → pedestrian" in said
    assert "lost, as no class of the target is meant: Bird" in said
    assert main(["--class-map", "cityscapes-to-camvid", "--model", str(tiny_onnx)]) == 1
    assert "expected groups of ['blue', 'green', 'red']" in capsys.readouterr().err
    assert main(["--class-map", "camvid-to-cityscapes", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["source"][0] == "road"


@pytest.mark.parametrize("words", [[], ["--data", "camvid"], ["--data", "camvid", "--class-map", "x"]])
def test_the_command_needs_one_thing_to_look_at(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 1
    assert "error: doctor: expected --" in capsys.readouterr().err


def test_sheets_that_cannot_be_written_are_a_known_error(
    camvid_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("x")
    argv = ["--data", "camvid", "--root", str(camvid_root), "--out", str(tmp_path / "file")]
    assert main(argv) == 1
    assert "expected a folder that can be written" in capsys.readouterr().err


def test_the_doctor_needs_no_torch(heavy_modules_loaded_by: Callable[..., list[str]]) -> None:
    assert heavy_modules_loaded_by("training.doctor") == []


def test_real_val_is_of_a_drive_of_train_and_shares_no_picture(real_camvid: Path) -> None:
    inspection = inspect_dataset("camvid", real_camvid)
    assert inspection.errors == 0
    assert [found.check for found in inspection.findings if found.split == "val"] == ["drives"]
