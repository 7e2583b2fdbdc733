import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from runtime import Segmenter
from training.data import open_dataset
from training.label import main
from training.teaching.lessons import UnlabelledFrames
from training.teaching.soft_labels import SoftLabels


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Five frames whose left and right halves have colours of their own."""
    folder = tmp_path_factory.mktemp("pictures")
    for index in range(5):
        image_bgr = np.random.default_rng(index).integers(0, 90, (48, 72, 3), np.uint8)
        image_bgr[:, : 12 * (index + 1), index % 3] = 255
        image_bgr[:, 12 * (index + 1) :, (index + 1) % 3] = 255
        assert cv2.imwrite(str(folder / f"frame_{index}.{'jpg' if index == 3 else 'png'}"), image_bgr)
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory, write_tiny_onnx):
    return write_tiny_onnx(tmp_path_factory.mktemp("model") / "tiny.onnx", scale=1 / 30)


@pytest.fixture(scope="module")
def labelled(tmp_path_factory, pictures, model):
    out = tmp_path_factory.mktemp("labelled") / "drive"
    arguments = ["--model", str(model), "--source", str(pictures), "--out", str(out), "--threads", "1"]
    assert main(arguments) == 0
    return out, arguments


def contents(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes())
        for part in ("images", "labels", "soft")
        for path in (folder / part).iterdir()
        if path.name != "teacher.json"
    }


def test_labels_open_as_a_data_set_and_as_frames_to_learn_from(labelled, model):
    out, _ = labelled
    datasets = [open_dataset("folder", out, split) for split in ("train", "val")]
    samples = [dataset[index] for dataset in datasets for index in range(len(dataset))]
    with Segmenter(model, threads=1) as segment:
        for sample in samples:
            sure = sample.label != 255
            assert 0.5 < sure.mean() <= 1
            assert (sample.label == segment(sample.image_bgr).mask)[sure].mean() > 0.97
    soft = SoftLabels.open(out / "soft")
    assert soft.names == tuple(f"frame_{index}" for index in range(5))
    assert (soft.teacher.classes, soft.teacher.stride) == (("blue", "green", "red"), 4)
    assert soft.read("frame_3").shape == (3, 12, 18)
    assert np.abs(soft.read("frame_3").sum(axis=0, dtype=int) - 255).max() <= 1
    assert len(UnlabelledFrames.open(out, None, datasets[0].classes)) == 5
    assert cv2.imread(str(out / "sheets" / "labels-1.png")).shape[2] == 3


def test_a_run_that_goes_on_makes_only_what_is_missing_or_damaged(tmp_path, labelled, capsys):
    out = shutil.copytree(labelled[0], tmp_path / "drive")
    before = contents(out)
    (out / "soft" / "frame_1.npz").write_bytes(b"PK damaged")
    (out / "labels" / "frame_2.png").unlink()
    (out / "soft" / ".frame_1.7-0123.part.npz").write_bytes(b"of a run that was killed")
    arguments = [*labelled[1], "--out", str(out)]
    assert main(arguments) == 0
    assert "5 frames" in (said := capsys.readouterr().out)
    assert "3 of them labelled before" in said
    after = contents(out)
    assert {name: content for name, (_, content) in after.items() if "npz" not in name} == {
        name: content for name, (_, content) in before.items() if "npz" not in name
    }
    touched = {name for name, (when, _) in after.items() if when != before[name][0]}
    assert {Path(name).stem for name in touched} == {"frame_1", "frame_2"}


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        (["--void-below", "0.7"], "made with void_below 0.7, it holds some made with 0.5"),
        (["--flip"], "flip True"),
        (["--every", "2"], "every 2"),
        (["--select", "0"], "select"),
        (["--source", "nowhere.mp4"], "nowhere.mp4"),
        (["--weight", "1", "--weight", "2"], "one for each of 1 models"),
        (["--class-map", "no-such-map"], "no-such-map"),
        (["--model", "no-such.onnx"], "no-such.onnx"),
        (["--source", "synthetic", "--out", "{new}"], "add --limit"),
        (["--source", "0", "--out", "{new}"], "record it first"),
        (["--source", "{pictures}/*.png", "--out", "{new}"], "give the folder of the images"),
        (["--source", "{pictures}/..", "--out", "{new}"], "check --source"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_does_not_fit_is_refused_in_one_line(tmp_path, labelled, pictures, capsys, changed, says):
    before = contents(labelled[0])
    places = {"new": tmp_path / "new", "pictures": pictures}
    assert main([*labelled[1], *(word.format(**places) for word in changed)]) == 1
    captured = capsys.readouterr()
    lines = [line for line in captured.err.splitlines() if line.startswith("error")]
    assert len(lines) == 1
    assert says in lines[0]
    assert contents(labelled[0]) == before


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "expected --model and --source, or --select"),
        (["--model", "a.onnx"], "expected --source beside --model"),
        (["--source", "a.mp4"], "expected --model beside --source"),
        (["--select", "3"], "label a recording with --model and --source first"),
    ],
)
def test_a_command_without_a_task_says_what_is_missing(tmp_path, capsys, arguments, says):
    assert main(["--out", str(tmp_path / "out"), *arguments]) == 1
    assert says in capsys.readouterr().err


@pytest.mark.parametrize("name", ["labels/0.png", "images/0.png", "soft/0.npz", "classes.json"])
def test_a_folder_of_ones_own_is_left_as_it_is(tmp_path, pictures, model, capsys, name):
    own = tmp_path / "mine" / name
    own.parent.mkdir(parents=True)
    own.write_bytes(b"made by hand")
    assert main(["--model", str(model), "--source", str(pictures), "--out", str(tmp_path / "mine")]) == 1
    assert "expected a new folder, or one that training.label filled" in capsys.readouterr().err
    assert own.read_bytes() == b"made by hand"
    assert [path for path in (tmp_path / "mine").rglob("*") if path.is_file()] == [own]


def test_another_recording_of_the_same_name_is_refused(tmp_path, model, capsys):
    for day, seed in (("mon", 0), ("tue", 1)):
        (tmp_path / day).mkdir()
        pixels = np.random.default_rng(seed).integers(0, 255, (4, 48, 64, 3), np.uint8)
        video = cv2.VideoWriter(
            str(tmp_path / day / "front.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 25, (64, 48)
        )
        for image_bgr in pixels:
            video.write(image_bgr)
        video.release()
    arguments = ["--model", str(model), "--out", str(tmp_path / "out"), "--source"]
    assert main([*arguments, str(tmp_path / "mon" / "front.avi")]) == 0
    before = contents(tmp_path / "out")
    assert main([*arguments, str(tmp_path / "tue" / "front.avi")]) == 1
    assert "it holds some made with" in capsys.readouterr().err
    shutil.move(tmp_path / "mon", tmp_path / "kept")
    assert main([*arguments, str(tmp_path / "kept" / "front.avi")]) == 0  # wherever it lies
    assert contents(tmp_path / "out") == before


def test_other_images_of_the_same_names_are_refused(tmp_path, pictures, model, capsys):
    source = shutil.copytree(pictures, tmp_path / "day" / "images")
    arguments = ["--model", str(model), "--source", str(source), "--out", str(tmp_path / "out")]
    (source / "frame_4.png").rename(tmp_path / "later.png")
    assert main(arguments) == 0
    before = contents(tmp_path / "out")
    shutil.move(tmp_path / "later.png", source / "frame_4.png")  # a folder may grow
    assert main(arguments) == 0
    assert before.items() <= contents(tmp_path / "out").items()
    shutil.copy(source / "frame_0.png", source / "frame_1.png")
    assert main(arguments) == 1
    assert "frame_1.png: expected the picture that" in capsys.readouterr().err


def test_two_images_of_one_name_are_refused(tmp_path, pictures, model, capsys):
    source = shutil.copytree(pictures, tmp_path / "twice")
    shutil.copy(source / "frame_0.png", source / "frame_3.png")
    assert main(["--model", str(model), "--source", str(source), "--out", str(tmp_path / "out")]) == 1
    assert "frame_3.jpg too; rename one" in capsys.readouterr().err


def test_odd_names_are_kept(tmp_path, pictures, model):
    (tmp_path / "odd").mkdir()
    odd = "caf\udce9 [1] ✓"  # not UTF-8, and a pattern
    shutil.copy(pictures / "frame_0.png", tmp_path / "odd" / f"{odd}.png")
    out = tmp_path / "out"
    arguments = ["--model", str(model), "--source", str(tmp_path / "odd"), "--out", str(out)]
    assert main([*arguments, "--select", "1"]) == 0
    assert (out / "round-1" / "images" / f"{odd}.png").is_file()
    assert (out / "soft" / f"{odd}.npz").is_file()


def test_a_video_gives_every_nth_frame_once(tmp_path, model, capsys):
    out = tmp_path / "out"
    arguments = ["--model", str(model), "--source", "synthetic", "--out", str(out), "--every", "7"]
    assert main([*arguments, "--limit", "2"]) == 0
    first = contents(out)
    assert sorted(path.name for path in (out / "images").iterdir()) == [
        "synthetic_000000.png",
        "synthetic_000007.png",
    ]
    assert main([*arguments, "--limit", "3"]) == 0
    assert "3 frames" in capsys.readouterr().out.splitlines()[-4]
    after = contents(out)
    assert first.items() <= after.items()
    assert "images/synthetic_000014.png" in after
    frames = cv2.VideoCapture(str(Path("runtime/assets/synthetic.avi").resolve()))
    wanted = [frames.read()[1] for _ in range(15)][14]
    np.testing.assert_array_equal(cv2.imread(str(out / "images" / "synthetic_000014.png")), wanted)


def test_a_bag_gives_every_frame_once_though_one_is_damaged(tmp_path, pictures, model, capsys):
    pytest.importorskip("rosbags.rosbag2")
    from tests.runtime.ros import bag_files

    jpeg = (pictures / "frame_3.jpg").read_bytes()
    messages = [bag_files.compressed(b"damaged" if index == 2 else jpeg) for index in range(5)]
    entries = [("/camera", bag_files.START_NS + index, message) for index, message in enumerate(messages)]
    bag = bag_files.write_ros2(tmp_path / "drive", entries)
    out = tmp_path / "out"
    arguments = ["--model", str(model), "--source", str(bag), "--out", str(out), "--every", "2"]
    for labelled_before in (0, 3):
        assert main(arguments) == 0
        assert f"3 frames in {out}, {labelled_before} of them labelled before" in capsys.readouterr().out
        # The third picture is damaged, so the next one stands for it.
        names = [path.stem for path in (out / "images").iterdir()]
        assert sorted(names) == ["drive_000000", "drive_000003", "drive_000004"]


def test_rounds_hold_other_frames_each_and_end(tmp_path, labelled, capsys):
    out = shutil.copytree(labelled[0], tmp_path / "drive")
    assert main(["--out", str(out), "--select", "3"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].endswith(f"--data folder --root {out}/round-1")
    (out / "round-one").mkdir()
    assert main(["--out", str(out), "--select", "3"]) == 0
    held = [{path.stem for path in (out / f"round-{n}" / "images").iterdir()} for n in (1, 2)]
    assert len(held[0]) == 3
    assert 0 < len(held[1]) <= 2
    assert not held[0] & held[1]
    tasks = json.loads((out / "round-1" / "tasks" / "label-studio.json").read_text())
    assert len(tasks) == 3
    capsys.readouterr()
    assert main(["--out", str(out), "--select", "3"]) == 1
    assert "label more of them" in capsys.readouterr().err


def test_labelling_needs_no_torch(heavy_modules_loaded_by):
    assert "torch" not in heavy_modules_loaded_by("training.label")
