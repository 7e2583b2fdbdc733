"""The command as a whole: every kind of recording, resuming, and recordings that are not what they seem."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from runtime.archives.reading import _Reader
from runtime.archives.shards import read_shard
from runtime.masks.formats import decode_palette_png
from runtime.segmenter import Segmenter
from runtime.sources import ImageFiles, VideoFile
from tests.runtime.archives.conftest import frames_of, shards_of, write_images
from tests.runtime.sources.media import picture, write_av, write_cv2

ROOT = Path(__file__).parents[3]
EVEN_MS = [40 * number for number in range(24)]


@pytest.mark.parametrize("form", ["npz", "parquet"])
def test_every_frame_of_every_recording_is_segmented_once(fleet, model, run, tmp_path, form):
    if form == "parquet":
        pytest.importorskip("pyarrow")
    report = run(fleet, "--out", tmp_path / "out", "--format", form)
    assert (report["code"], report["recordings"], report["frames"]) == (0, 4, 112)
    assert frames_of(tmp_path / "out") == {
        "indexed.mp4": list(range(40)),
        "plain.mkv": list(range(24)),
        "motion.avi": list(range(24)),
        "stills": list(range(24)),
    }
    masks = {}
    for entry in json.loads((tmp_path / "out/manifest.json").read_text())["recordings"]:
        for one in entry["shards"]:
            shard = read_shard(tmp_path / "out" / one["file"])
            areas = shard.areas()
            for row, png in enumerate(shard.columns["mask"]):
                mask = decode_palette_png(png)
                assert np.bincount(mask.ravel(), minlength=3)[:3].tolist() == areas[row].tolist()
                masks[Path(entry["name"]).name, int(shard.columns["frame"][row])] = mask
    stills = [fleet / "stills" / f"frame_{number}.png" for number in range(24)]
    with Segmenter(model, threads=1) as segment:
        for source in (VideoFile(fleet / "indexed.mp4"), ImageFiles(stills)):
            name = "indexed.mp4" if isinstance(source, VideoFile) else "stills"
            with source:
                for frame in source:
                    np.testing.assert_array_equal(segment(frame).mask, masks[name, frame.frame_id])
    assert (tmp_path / "out/contact-sheet.jpg").stat().st_size > 1000
    assert len(list((tmp_path / "out/timelines").glob("*.png"))) == 4
    if form == "parquet":
        table = pytest.importorskip("pyarrow.parquet").read_table(tmp_path / "out/frames.parquet").to_pylist()
    else:
        with (tmp_path / "out/frames.csv").open(newline="") as file:
            table = list(csv.DictReader(file))
    assert len(table) == 112
    assert all(sum(float(row[f"share_{name}"]) for name in ("blue", "green", "red")) > 0.999 for row in table)
    assert all(0 < float(row["confidence"]) <= 1 for row in table)


def test_the_same_bytes_without_an_index_are_the_same_frames(fleet, run, tmp_path, monkeypatch):
    pytest.importorskip("av")
    run(fleet / "indexed.mp4", "--out", tmp_path / "indexed", "--no-masks")
    monkeypatch.setitem(sys.modules, "av", None)  # the base install
    run(fleet / "indexed.mp4", "--out", tmp_path / "base", "--no-masks")
    assert len(shards_of(tmp_path / "base")) == len(shards_of(tmp_path / "indexed")) == 4
    assert frames_of(tmp_path / "base") == frames_of(tmp_path / "indexed")


def test_chunks_that_follow_each_other_need_no_jump_and_are_what_they_are_alone(
    fleet, run, tmp_path, monkeypatch
):
    pytest.importorskip("av")
    jumps, seek = [], VideoFile.seek

    def jump(self: VideoFile, time_ns: int, number: int) -> None:
        jumps.append(number)
        seek(self, time_ns, number)

    monkeypatch.setattr(VideoFile, "seek", jump)
    for name, expected in (("indexed.mp4", 4), ("motion.avi", 2)):
        jumps.clear()
        run(fleet / name, "--out", tmp_path / name)
        assert jumps == []
        with monkeypatch.context() as alone:
            alone.setattr(_Reader, "_stands_at", lambda *_: False)
            run(fleet / name, "--out", tmp_path / f"{name} alone")
        assert len(jumps) == expected
        assert shards_of(tmp_path / name) == shards_of(tmp_path / f"{name} alone")


@pytest.mark.parametrize("every", [3, 7, 11, 50])
def test_every_nth_frame_is_the_same_however_a_recording_is_cut(fleet, run, tmp_path, every):
    run(fleet, "--out", tmp_path / "out", "--every", str(every))
    expected = {"indexed.mp4": 40, "plain.mkv": 24, "motion.avi": 24, "stills": 24}
    found = {name: list(range(0, count, every)) for name, count in expected.items()}
    assert frames_of(tmp_path / "out") == found


def test_masks_may_be_smaller_and_occupancy_comes_with_a_camera(fleet, run, tmp_path):
    flags = ["--mask-scale", "0.5", "--camera", ROOT / "docs/examples/camera.yaml", "--free", "red"]
    flags += ["--grid-ahead", "0", "10", "--cell-m", "0.5"]
    assert run(fleet / "motion.avi", "--out", tmp_path, *flags)["frames"] == 24
    for path in (tmp_path / "shards").rglob("0*"):
        shard = read_shard(path)
        assert set(zip(shard.columns["height"], shard.columns["width"], strict=True)) == {(24, 32)}
        assert (shard.areas().sum(axis=1) == 24 * 32).all()
        assert {decode_palette_png(png).shape for png in shard.columns["mask"]} == {(24, 32)}
        grid = cv2.imdecode(np.frombuffer(shard.columns["occupancy"][0], np.uint8), cv2.IMREAD_UNCHANGED)
        assert grid.shape == (40, 20)
        assert set(np.unique(grid)) <= {0, 100, 255}
    refused = run(fleet / "motion.avi", "--out", tmp_path, *flags[:-1], "0.25")
    assert "expected results of the same ground" in refused["said"]


def test_what_is_there_is_not_done_again(fleet, run, tmp_path):
    out = tmp_path / "out"
    first = run(fleet, "--out", out)
    before, times = shards_of(out), {path: path.stat().st_mtime_ns for path in out.rglob("0*")}
    again = run(fleet, "--out", out)
    assert (again["frames"], again["frames_there"], again["chunks"]) == (0, 112, 0)
    assert again["chunks_there"] == first["chunks"]
    assert {path: path.stat().st_mtime_ns for path in out.rglob("0*")} == times
    damaged, gone, *_ = sorted(path for path in out.rglob("0*") if path.is_file())
    damaged.write_bytes(damaged.read_bytes()[:-40] + bytes(40))
    gone.unlink()
    (gone.with_name(f".{gone.stem}.1-ab.part{gone.suffix}")).write_bytes(b"of a worker that was killed")
    (gone.with_name(f".{gone.name}.lock")).touch()
    mended = run(fleet, "--out", out)
    assert mended["chunks"] == 2
    assert shards_of(out) == before
    assert [path for path in out.rglob(".*") if path.parent != out] == []


def test_results_of_another_model_or_other_options_are_refused(fleet, run, tmp_path):
    run(fleet / "motion.avi", "--out", tmp_path)
    refused = run(fleet / "motion.avi", "--out", tmp_path, "--every", "2")
    assert refused["code"] == 1
    assert "expected results of the same every, got every 1 there and 2 now" in refused["said"]


def test_runs_into_one_folder_make_one_manifest_and_copies_are_segmented_once(fleet, run, tmp_path):
    shutil.copy(fleet / "motion.avi", tmp_path / "copy.avi")
    run(fleet / "plain.mkv", "--out", tmp_path / "out")
    report = run(fleet / "motion.avi", tmp_path / "copy.avi", "--out", tmp_path / "out")
    assert report["frames"] == 24
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    assert [Path(one["name"]).name for one in manifest["recordings"]] == ["motion.avi", "plain.mkv"]
    assert manifest["recordings"][0]["copies"] == [str(tmp_path / "copy.avi")]


def test_lists_patterns_and_addresses_name_recordings(fleet, run, tmp_path):
    pytest.importorskip("fsspec")
    listed = tmp_path / "list.txt"
    (tmp_path / "here.avi").symlink_to(fleet / "motion.avi")
    listed.write_text(f"# tonight\nhere.avi\n\nfile://{fleet}/plain.mkv\n{fleet}/still*/*.png\n")
    report = run(listed, "--out", tmp_path / "out")
    assert (report["code"], report["frames"]) == (0, 72)
    assert run(f"file://{fleet}/*.mkv", "--out", tmp_path / "out")["frames_there"] == 24


def test_recordings_in_an_object_store_are_fetched_and_bad_ones_do_not_stop_the_rest(
    fleet, run, tmp_path, monkeypatch
):
    store = pytest.importorskip("fsspec").filesystem("memory")  # has keys and no folders, as S3
    for path in (fleet / "motion.avi", fleet / "plain.mkv", *(fleet / "stills").iterdir()):
        store.pipe(f"/drives/{path.relative_to(fleet)}", path.read_bytes())
    whole = type(store)._open

    class Overloaded(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise RuntimeError("503 slow down")  # of no kind that Python knows, as each store's errors

    def opened(self: object, path: str, *how: object, **more: object) -> object:
        return Overloaded(bytes(99)) if "busy" in path else whole(self, path, *how, **more)

    monkeypatch.setattr(type(store), "_open", opened)
    bad = ["memory://drives/busy.avi", "memory://drives/gone.avi"]
    try:
        report = run("memory://drives/*.*", "memory://drives/stills/*", *bad, "--out", tmp_path / "far")
    finally:
        store.rm("/drives", recursive=True)
    assert (report["code"], report["recordings"], report["frames"]) == (1, 5, 72)
    failed = [json.loads(line) for line in (tmp_path / "far/failed.jsonl").read_text().splitlines()]
    assert [one["recording"] for one in failed] == bad
    assert "cannot fetch it (503 slow down)" in failed[0]["reason"]
    run(fleet / "motion.avi", fleet / "plain.mkv", fleet / "stills", "--out", tmp_path / "near")
    assert frames_of(tmp_path / "far") == frames_of(tmp_path / "near") | {"busy.avi": [], "gone.avi": []}
    assert masks_of(tmp_path / "far") == masks_of(tmp_path / "near")


def test_recordings_inside_of_an_archive_are_found(fleet, run, tmp_path):
    pytest.importorskip("fsspec")
    with zipfile.ZipFile(tmp_path / "drives.zip", "w") as packed:
        packed.write(fleet / "motion.avi", "night/motion.avi")
    report = run(f"zip://night/*.avi::file://{tmp_path}/drives.zip", "--out", tmp_path / "zip")
    assert (report["code"], report["frames"]) == (0, 24)
    run(fleet / "motion.avi", "--out", tmp_path / "near")
    assert masks_of(tmp_path / "zip") == masks_of(tmp_path / "near")


def masks_of(out: Path) -> set[tuple[str, int, bytes]]:
    """Return every mask of an archive, with its recording's digest and its frame's number."""
    return {
        (shard.head.digest, int(number), png)
        for shard in map(read_shard, (out / "shards").rglob("0*.*"))
        for number, png in zip(shard.columns["frame"], shard.columns["mask"], strict=True)
    }


def test_links_are_followed_and_results_are_no_recordings(fleet, run, tmp_path):
    (tmp_path / "fleet").symlink_to(fleet)
    (tmp_path / "round").symlink_to(tmp_path)
    for _ in range(2):
        report = run(tmp_path, "--out", tmp_path / "out", "--select", "3")
        assert (report["code"], report["recordings"]) == (0, 4)


def cut(folder: Path) -> Path:
    path = write_av(folder / "cut.mp4", EVEN_MS, options={"movflags": "faststart"})
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 7 // 8])
    return path


def lying(folder: Path) -> Path:
    """An AVI whose head states ten times as many frames as there are."""
    path = write_cv2(folder / "lying.avi", 24)
    data = bytearray(path.read_bytes())
    for place in (data.index(b"avih") + 24, data.index(b"strh") + 40):
        data[place : place + 4] = (240).to_bytes(4, "little")
    path.write_bytes(data)
    return path


def without_key_frames(folder: Path) -> Path:
    """An MPEG-TS that begins behind its only key frame."""
    av = pytest.importorskip("av")
    path = folder / "nokey.ts"
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=25, options={"x264-params": "keyint=999:scenecut=0"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        packets = [
            packet
            for number in range(24)
            for packet in stream.encode(av.VideoFrame.from_ndarray(picture(number), format="bgr24"))
        ]
        for packet in [*packets, *stream.encode(None)][1:]:
            file.mux(packet)
    return path


def of_two_sizes(folder: Path) -> Path:
    write_images(folder / "sizes", 12)
    for number in range(12, 24):
        content = cv2.imencode(".png", np.full((30, 80, 3), number, np.uint8))[1].tobytes()
        (folder / "sizes" / f"frame_{number}.png").write_bytes(content)
    return folder / "sizes"


def with_a_damaged_image(folder: Path) -> Path:
    images = write_images(folder / "damaged", 24)
    (images / "frame_13.png").write_bytes((images / "frame_13.png").read_bytes()[:200])
    return images


def text(folder: Path) -> Path:
    (folder / "text.mp4").write_text("no video " * 99)
    return folder / "text.mp4"


def empty(folder: Path) -> Path:
    (folder / "empty.mp4").touch()
    return folder / "empty.mp4"


FAULTS = {  # what is wrong: frames at least, and what failed.jsonl says
    cut: (10, "file is truncated after frame"),
    lying: (24, ""),
    without_key_frames: (0, "expected a video, got"),
    of_two_sizes: (24, ""),
    with_a_damaged_image: (23, "expected an image that is whole"),
    text: (0, "expected a video, got a file that OpenCV cannot open"),
    empty: (0, "got an empty file"),
    lambda folder: folder / "gone.mp4": (0, "found no such file"),
    lambda folder: folder / "*.mkv": (0, "no file matches"),
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_bad_recording_does_not_stop_the_rest(fleet, run, tmp_path, fault):
    frames, said = FAULTS[fault]
    bad = fault(tmp_path)
    report = run(bad, fleet / "motion.avi", "--out", tmp_path / "out")
    found = frames_of(tmp_path / "out")
    assert found.pop("motion.avi") == list(range(24))
    (numbers,) = found.values() or [[]]
    assert len(numbers) >= frames
    assert sorted(set(numbers)) == numbers
    failed = [json.loads(line) for line in (tmp_path / "out/failed.jsonl").read_text().splitlines()]
    assert [one["recording"] for one in failed] == [str(bad)] * bool(said)
    assert all(said in one["reason"] for one in failed)
    assert report["code"] == bool(said)
    again = run(bad, fleet / "motion.avi", "--out", tmp_path / "out")
    assert (again["code"], again["frames_there"] + again["frames"]) == (report["code"], report["frames"])


def test_a_full_disk_ends_the_run_and_leaves_only_what_is_whole(fleet, model, run, tmp_path):
    out = tmp_path / "out"
    limited = f"""
import resource, runpy, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))
sys.argv = ["", {str(fleet / "indexed.mp4")!r}, "--out", {str(out)!r}, "--model", {str(model)!r}]
sys.argv += ["--workers", "0", "--threads", "1", "--chunk-frames", "10"]
runpy.run_module("runtime.archive", run_name="__main__")
"""
    done = subprocess.run(
        [sys.executable, "-c", limited], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "expected a file that can be written, got File too large" in done.stderr
    assert len(done.stderr.strip().splitlines()[-1]) < 400
    assert shards_of(out) == {}
    assert not [path for path in out.rglob("*") if ".part" in path.name]
    assert run(fleet / "indexed.mp4", "--out", out)["frames"] == 40


def test_results_may_lie_on_another_file_system(fleet, run, tmp_path):
    shared = Path("/dev/shm")
    if not shared.is_dir() or shared.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("needs a second file system")
    out = shared / f"edgeseg-{os.getpid()}"
    try:
        assert run(fleet / "motion.avi", "--out", out)["frames"] == 24
    finally:
        shutil.rmtree(out)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="names are bytes on Linux only")
def test_recordings_and_folders_of_any_name(fleet, model, tmp_path):
    for name in ("a b'c 路面".encode(), b"caf\xe9 \x1b[2J"):
        folder = tmp_path / os.fsdecode(name)
        folder.mkdir()
        shutil.copy(fleet / "indexed.mp4", folder / os.fsdecode(name + b".mp4"))
        whole = (fleet / "plain.mkv").read_bytes()
        (folder / os.fsdecode(name + b".mkv")).write_bytes(whole[: len(whole) // 2])
        write_images(folder / os.fsdecode(name), 2)
        out = tmp_path / os.fsdecode(name + b" out")
        command = [sys.executable, "-m", "runtime.archive", folder, "--out", out, "--model", model, "--json"]
        command += ["--workers", "0", "--select", "3"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)  # OpenCV might end it
        assert (done.returncode, bool(done.stdout)) == (1, True), done.stderr  # for the one that is cut
        assert all(line.isprintable() for line in done.stderr.decode().splitlines())
        assert json.loads(done.stdout)["frames"] >= 43
        assert len(list(out.glob("selected-001/images/*.png"))) == 3


def test_selected_frames_are_a_folder_to_label(fleet, run, tmp_path):
    report = run(fleet, "--out", tmp_path / "out", "--select", "8", "--known", fleet / "stills")
    folder = Path(str(report["selected"]))
    chosen = [json.loads(line) for line in (folder / "selected.jsonl").read_text().splitlines()]
    assert chosen
    assert sorted(one["file"] for one in chosen) == sorted(
        path.relative_to(folder).as_posix() for path in folder.glob("images/*")
    )
    assert json.loads((folder / "classes.json").read_text())["names"] == ["blue", "green", "red"]
    for one in chosen:
        if one["recording"].endswith("motion.avi"):
            with VideoFile(fleet / "motion.avi") as source:
                image_bgr = list(source)[one["frame"]].image_bgr
            np.testing.assert_array_equal(cv2.imread(str(folder / one["file"])), image_bgr)
    assert run(fleet, "--out", tmp_path / "out", "--select", "8")["selected"].endswith("selected-002")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--known", "x"], "known: expected --select N"),
        (["--address", "auto"], "address: expected workers"),
        (["--model", "no.onnx"], "no.onnx"),
    ],
)
def test_what_cannot_work_is_refused_at_once(fleet, run, tmp_path, arguments, said):
    refused = run(fleet, "--out", tmp_path / "out", *arguments)
    assert refused["code"] == 1
    assert said in refused["said"]


def test_without_a_recording_there_is_nothing_to_do(run, tmp_path):
    (tmp_path / "none").mkdir()
    assert "expected at least one" in run(tmp_path / "none", "--out", tmp_path / "out")["said"]


@pytest.mark.parametrize("missing", ["ray", "pyarrow"])
def test_a_package_that_is_missing_is_named(fleet, model, tmp_path, capsys, monkeypatch, missing):
    from runtime import archive

    monkeypatch.setitem(sys.modules, missing, None)
    flags = {"ray": ["--workers", "2"], "pyarrow": ["--workers", "0", "--format", "parquet"]}[missing]
    code = archive.main([str(fleet), "--out", str(tmp_path), "--model", str(model), *flags])
    assert code == 1
    assert "pip install 'edgeseg[archive]'" in capsys.readouterr().err


def test_two_runs_share_a_folder_and_the_work(fleet, model, tmp_path):
    command = [sys.executable, "-m", "runtime.archive", fleet, "--out", tmp_path, "--model", model, "--json"]
    command += ["--workers", "0", "--threads", "1", "--chunk-frames", "4"]
    runs = [
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(2)
    ]
    reports = [json.loads(run.communicate()[0]) for run in runs]
    assert [run.returncode for run in runs] == [0, 0]
    assert sum(report["frames"] for report in reports) == 112
    assert [report["frames"] + report["frames_there"] for report in reports] == [112, 112]
    assert sum(map(len, frames_of(tmp_path).values())) == 112


def test_what_was_segmented_stays_when_its_recording_is_gone(fleet, run, tmp_path):
    for name in ("motion.avi", "plain.mkv"):
        shutil.copy(fleet / name, tmp_path / name)
    recordings, out = (tmp_path / "motion.avi", tmp_path / "plain.mkv"), tmp_path / "out"
    assert run(*recordings, "--out", out)["code"] == 0
    (tmp_path / "plain.mkv").rename(tmp_path / "cold.mkv")
    report = run(*recordings, "--out", out)
    assert report["code"] == 1
    assert "no such file" in json.loads((out / "failed.jsonl").read_text())["reason"]
    assert frames_of(out) == {"motion.avi": list(range(24)), "plain.mkv": list(range(24))}
    (tmp_path / "cold.mkv").rename(tmp_path / "plain.mkv")
    assert run(*recordings, "--out", out)["code"] == 0
    assert (out / "failed.jsonl").read_text() == ""


def test_a_failure_stays_until_its_recording_succeeds(fleet, run, tmp_path):
    bad, out = tmp_path / "bad.avi", tmp_path / "out"
    bad.touch()
    run(bad, "--out", out)
    assert run(fleet / "plain.mkv", "--out", out)["code"] == 0  # of its own recordings none failed
    assert json.loads((out / "failed.jsonl").read_text())["recording"] == str(bad)
    shutil.copy(fleet / "motion.avi", bad)
    run(bad, "--out", out)
    assert (out / "failed.jsonl").read_text() == ""


@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_damaged_middle_is_told_and_numbers_stay_those_of_the_times(run, tmp_path, suffix, every):
    av = pytest.importorskip("av")
    path = tmp_path / f"drive{suffix}"
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=25, options={"g": "10", "bf": "0"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        packets = []
        for number in range(100):
            packets += stream.encode(av.VideoFrame.from_ndarray(picture(number % 60), format="bgr24"))
        packets += stream.encode(None)
        sizes = [bytes(packet) for packet in packets]
        for packet in packets:
            file.mux(packet)
    data = path.read_bytes()
    for content in sizes[35:58]:
        data = data.replace(
            content[4:], bytes(len(content) - 4)
        )  # lengths stay, so that all else is in place
    path.write_bytes(data)
    report = run(path, "--out", tmp_path / "out", "--chunk-frames", "20", "--every", str(every))
    assert report["code"] == 1
    assert "frames are damaged" in (tmp_path / "out/failed.jsonl").read_text()
    rows = [
        (int(number), round(int(pts_ns) / 4e7))
        for name in shards_of(tmp_path / "out")
        for columns in [read_shard(tmp_path / "out" / name).columns]
        for number, pts_ns in zip(columns["frame"], columns["pts_ns"], strict=True)
    ]
    numbers = [number for number, _ in rows]
    assert len(set(numbers)) == len(numbers)
    if suffix == ".mp4":
        assert all(number == by_time for number, by_time in rows)
        assert set(range(0, 35, every)) <= set(numbers)
    assert max(by_time for _, by_time in rows) >= 97  # what lies behind the damage is there


def test_results_are_no_recordings_but_what_lies_beside_them_is(fleet, run, tmp_path):
    out = shutil.copytree(fleet, tmp_path / "fleet")
    shutil.copytree(fleet / "stills", out, dirs_exist_ok=True)
    (out / "frame_0.png").unlink()  # else a copy
    assert run(out, "--out", out, "--select", "2")["frames"] == 112 + 23
    again = run(out, "--out", out)
    assert (again["code"], again["recordings"], again["frames"]) == (0, 5, 0)


def test_a_folder_of_bags_and_videos_is_no_bag(fleet, run, tmp_path):
    pytest.importorskip("rosbags.rosbag2")
    from tests.runtime.ros import bag_files

    folder = tmp_path / "drives"
    folder.mkdir()
    entries = [
        (
            "/camera",
            bag_files.START_NS + index,
            bag_files.compressed(cv2.imencode(".png", picture(index))[1].tobytes()),
        )
        for index in range(5)
    ]
    for name in ("a", "b"):
        part = bag_files.write_ros2(tmp_path / f"bag {name}", entries[: 3 if name == "a" else 5])
        shutil.copy(part, folder / f"{name}{part.suffix}")
    shutil.copy(fleet / "motion.avi", folder)
    report = run(folder, "--out", tmp_path / "out")
    assert (report["code"], report["recordings"], report["frames"]) == (0, 3, 32)


def test_what_cannot_be_looked_into_is_one_failure(fleet, run, tmp_path):
    listed = tmp_path / "list.txt"
    listed.write_bytes(b"\xef\xbb\xbf" + os.fsencode(fleet / "motion.avi") + b"\r\n" + b"y" * 300 + b"\n")
    report = run(listed, "x" * 300, "--out", tmp_path / "out")
    assert (report["code"], report["frames"]) == (1, 24)
    reasons = [
        json.loads(line)["reason"] for line in (tmp_path / "out/failed.jsonl").read_text().splitlines()
    ]
    assert len(reasons) == 2
    assert all("File name too long" in reason for reason in reasons)


def test_a_folder_that_may_not_be_read_is_a_failure(fleet, run, tmp_path, monkeypatch):
    folder = shutil.copytree(fleet, tmp_path / "fleet")
    (folder / "locked").mkdir()
    scandir = os.scandir

    def refusing(path: str | Path = ".") -> object:
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    report = run(folder, "--out", tmp_path / "out")
    assert (report["code"], report["frames"]) == (1, 112)
    assert "Permission denied" in (tmp_path / "out/failed.jsonl").read_text()


def test_known_images_that_are_missing_are_told(fleet, run, tmp_path):
    arguments = ("--out", tmp_path / "out", "--select", "2", "--known", fleet / "stills", tmp_path / "typo")
    refused = run(fleet / "motion.avi", *arguments)
    assert refused["code"] == 1
    assert "found no such file" in refused["said"]


def test_images_of_16_bits_are_as_bright_in_every_chunk(run, tmp_path, monkeypatch):
    folder = tmp_path / "deep"
    folder.mkdir()
    for number in range(24):
        image = picture(number).astype(np.uint16) * 4
        if number >= 18:  # the last chunk alone shows that there are 12 bits
            image[:4, :4] = 4095
        (folder / f"frame_{number:02d}.png").write_bytes(cv2.imencode(".png", image)[1].tobytes())

    def confidences(name, *flags):
        report = run("--out", tmp_path / name, folder, *flags)
        assert report["code"] == 0
        shards = json.loads((tmp_path / name / "manifest.json").read_text())["recordings"][0]["shards"]
        read = [read_shard(tmp_path / name / shard["file"], ("confidence",)).columns for shard in shards]
        return np.concatenate([columns["confidence"] for columns in read]).tolist(), len(shards)

    in_chunks, count = confidences("chunks")
    assert count == 3
    at_once, count = confidences("once", "--chunk-frames", "40")
    assert count == 1
    assert in_chunks == at_once
    monkeypatch.setenv("EDGESEG_IMAGE_BITS", "12")
    assert confidences("stated")[0] == in_chunks
    assert confidences("chunks")[0] == in_chunks
    monkeypatch.setenv("EDGESEG_IMAGE_BITS", "16")
    darker, count = confidences("chunks")  # no shard of before stands for it
    assert count == 3
    assert darker != in_chunks
