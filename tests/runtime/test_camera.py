from __future__ import annotations

import errno
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import cv2
import numpy as np
import pytest

from runtime import camera
from runtime.base.lock import only_run_on
from runtime.camera import main
from runtime.errors import OutputError
from runtime.network import options as network_options
from runtime.outputs import containers, video, watch, window
from runtime.segmenter import Segmenter
from runtime.sources import FakeSource, Late, LiveSource, opening

ROOT = Path(camera.__file__).parents[1]
WAIT_S = 60.0
POSIX_SIGNALS = pytest.mark.skipif(os.name != "posix", reason="POSIX signals")


@pytest.fixture
def images(tmp_path: Path) -> str:
    folder = tmp_path / "frames"
    folder.mkdir()
    for index in range(5):
        cv2.imwrite(str(folder / f"{index}.png"), np.full((48, 64, 3), index * 50, np.uint8))
    return str(folder / "*.png")


@pytest.fixture
def broken_video(tmp_path: Path) -> Path:
    path = tmp_path / "broken.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (64, 48))
    for level in range(40):
        writer.write(np.full((48, 64, 3), level, np.uint8))
    writer.release()
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    return path


def count_frames(path: Path) -> int:
    capture = cv2.VideoCapture(str(path))
    frames = 0
    while capture.read()[0]:
        frames += 1
    capture.release()
    return frames


def run_headless(model: Path, source: str, *more: str) -> int:
    return main(["--model", str(model), "--source", source, "--headless", *more])


def test_an_address_that_was_given_as_a_file_shows_no_password(
    tiny_onnx, images, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    assert run_headless(tiny_onnx, images, "--save", "rtsp://robot:s3cr3t@nas/out.avi") == 0
    assert "s3cr3t" not in "".join(capsys.readouterr())


def test_a_target_is_told_and_counted(tiny_onnx, images, tmp_path, capsys):
    lines = tmp_path / "lines.jsonl"
    more = ["--target-ms", "60000", "--threads", "1", "--jsonl", str(lines), "--json"]
    assert run_headless(tiny_onnx, images, *more) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["settings"] == {"tiny 32x48, 1 thread": 5}
    assert "target 60000 ms: tiny 32x48, 1 thread holds it; steps: tiny 32x48, 1 thread:" in err
    assert json.loads(lines.read_text().splitlines()[0])["setting"] == "tiny 32x48, 1 thread"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--steps", "a.onnx"], "steps: expected --target-ms too"),
        (["--steps", "a.onnx", "--target-ms", "9", "--model", "b.onnx"], "steps: expected neither --model"),
    ],
)
def test_steps_that_say_too_little_or_too_much(given, message, capsys):
    assert main(["--headless", *given]) == 1
    assert message in capsys.readouterr().err


def test_json_is_one_object_and_all_of_stdout(tiny_onnx, images, capsys):
    assert run_headless(tiny_onnx, images, "--json") == 0
    out, err = capsys.readouterr()
    summary = json.loads(out)
    assert list(summary) == ["frames", "fps", "dropped", "latency_ms", "settings"]
    assert (summary["frames"], summary["dropped"]) == (5, 0)
    assert summary["fps"] > 0
    assert list(summary["latency_ms"]) == ["resize", "network", "mask", "total"]
    assert all(list(stage) == ["p50", "p90", "p99", "max"] for stage in summary["latency_ms"].values())
    assert err == ""


def test_frames_that_are_too_old_are_dropped_and_counted(tiny_onnx, monkeypatch, capsys):
    picture = np.zeros((48, 64, 3), np.uint8)
    late = FakeSource([picture, Late(3_600_000), picture, picture])
    monkeypatch.setattr(opening, "open_source", lambda spec, **_: late)
    assert run_headless(tiny_onnx, "0", "--json", "--max-age-ms", "600000") == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["frames"], summary["dropped"]) == (2, 1)


def test_settings_of_the_network_reach_the_segmenter(tiny_onnx, images, monkeypatch, capsys):
    given = {}

    class Noted(Segmenter):
        def __init__(self, model, **settings):
            given.update(settings)
            super().__init__(model, **settings)

    monkeypatch.setattr(network_options, "Segmenter", Noted)
    assert run_headless(tiny_onnx, images, "--threads", "1", "--spin", "--imgsz", "32", "48") == 0
    assert (given["threads"], given["spin"], given["size_hw"]) == (1, True, (32, 48))
    assert run_headless(tiny_onnx, images, "--imgsz", "64", "96") == 1
    assert "export the model with --dynamic" in capsys.readouterr().err


def test_saved_video_has_every_frame_and_is_drawn_in_the_background(tiny_onnx, images, tmp_path, capsys):
    path = tmp_path / "out.mp4"
    assert run_headless(tiny_onnx, images, "--save", str(path), "--json") == 0
    assert "outputs" in json.loads(capsys.readouterr().out)["latency_ms"]
    assert count_frames(path) == 5


def test_metres_are_drawn_into_the_video(tiny_onnx, images, tmp_path, capsys):
    file = tmp_path / "camera.yaml"
    file.write_text(
        "image_width: 640\nimage_height: 480\ncamera_matrix:\n  data: [400, 0, 320, 0, 400, 240, 0, 0, 1]\n"
        "pose:\n  height_m: 1.0\n  pitch_rad: 0.3\n"
    )
    metres = ["--camera", str(file), "--free", "red", "--draw-grid"]
    pictures = []
    for number, more in enumerate(([], metres)):
        path = tmp_path / f"{number}.avi"
        assert run_headless(tiny_onnx, images, "--save", str(path), "--max-frames", "1", *more) == 0
        pictures.append(cv2.VideoCapture(str(path)).read()[1])
    assert np.abs(pictures[0].astype(int) - pictures[1]).max() > 60
    assert run_headless(tiny_onnx, images, "--save", str(path), *metres[:2], "--draw-grid") == 1
    assert "free: expected the classes that may be driven on" in capsys.readouterr().err


def test_max_frames(tiny_onnx, images, tmp_path, capsys):
    path = tmp_path / "out.mp4"
    assert run_headless(tiny_onnx, images, "--save", str(path), "--max-frames", "3", "--json") == 0
    assert json.loads(capsys.readouterr().out)["frames"] == 3
    assert count_frames(path) == 3


def test_table_ends_with_the_next_command(tiny_onnx, images, tmp_path, capsys):
    assert run_headless(tiny_onnx, images, "--save", str(tmp_path / "out.avi")) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("5 frames, ")
    stages = [line.split()[0] for line in lines[1:-2]]
    assert [stage for stage in stages if stage != "draw"] == [
        "ms", "resize", "network", "mask", "outputs", "total",
    ]  # fmt: skip
    assert lines[-2] == f"saved {tmp_path / 'out.avi'}"
    assert lines[-1] == f"next: python -m benchmarks.latency --model {tiny_onnx}"


def test_video_that_breaks_keeps_what_was_recorded(tiny_onnx, broken_video, tmp_path, capsys):
    path = tmp_path / "out.mp4"
    assert run_headless(tiny_onnx, str(broken_video), "--save", str(path), "--json") == 1
    out, err = capsys.readouterr()
    summary = json.loads(out)
    assert 0 < summary["frames"] < 40
    assert err.count("\n") == 1
    assert f"file is truncated after frame {summary['frames']} " in err
    assert count_frames(path) == summary["frames"]


@pytest.mark.parametrize("more", [[], ["--save", "out.webm"]])
def test_known_errors_are_one_line_and_exit_1(tiny_onnx, images, capsys, more):
    source = images if more else images.replace("*", "nothing*")
    assert run_headless(tiny_onnx, source, "--json", *more) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/dev/null is no camera only there")
@pytest.mark.parametrize("source", ["{}/junk.mp4", "/dev/null"])
def test_nothing_of_opencv_reaches_stderr(tiny_onnx, tmp_path, source):
    (tmp_path / "junk.mp4").write_bytes(b"not a video" * 100)
    command = [sys.executable, "-m", "runtime.camera", "--model", str(tiny_onnx), "--headless"]
    done = subprocess.run(
        [*command, "--source", source.format(tmp_path)],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if not name.startswith("OPENCV_")},
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1


def test_provider_options_reach_the_session(tiny_onnx, images, capsys):
    assert run_headless(tiny_onnx, images, "--provider-option", "a=1", "--provider-option", "b=x=y") == 1
    assert "got a=1, b=x=y" in capsys.readouterr().err


def test_missing_model(images, tmp_path, capsys):
    assert run_headless(tmp_path / "nope.onnx", images) == 1
    assert "nope.onnx" in capsys.readouterr().err


@pytest.mark.parametrize("more", [[], ["--save", "out.mp4"]], ids=["nothing drawn", "drawn"])
def test_alpha_outside_its_range(tiny_onnx, images, capsys, more):
    assert run_headless(tiny_onnx, images, "--alpha", "2", *more) == 1
    assert "alpha: expected a number from 0 to 1" in capsys.readouterr().err


def test_window_is_the_default_and_its_lack_is_told(tiny_onnx, images, monkeypatch, capsys):
    def no_screen() -> None:
        raise OutputError("window: no screen")

    monkeypatch.setattr(window, "_check_display", no_screen)
    assert main(["--model", str(tiny_onnx), "--source", images]) == 1
    assert capsys.readouterr().err == "error: window: no screen\n"


@pytest.mark.parametrize(
    "argv",
    [
        ["--max-frames", "many"],
        ["--threads", "two"],
        ["--snapshot-every", "soon", "folder"],
        ["--serve", "8080"],
        ["--provider", "magic"],
        ["--provider-option", "device_id"],
        ["--provider-option", "=1"],
        ["--what"],
    ],
)
def test_wrong_usage_exits_2(argv, capsys):
    with pytest.raises(SystemExit) as caught:
        main(argv)
    assert caught.value.code == 2
    assert "usage" in capsys.readouterr().err


def test_save_over_its_own_source_is_refused(tiny_onnx, broken_video, capsys):
    data = broken_video.read_bytes()
    assert run_headless(tiny_onnx, str(broken_video), "--save", str(broken_video)) == 1
    assert "which it would replace" in capsys.readouterr().err
    assert broken_video.read_bytes() == data


def start_drive(model: Path, video: Path, *more: str) -> subprocess.Popen[str]:
    """Start an endless run in another process and wait until it records."""
    command = [sys.executable, "-m", "runtime.camera", "--model", str(model), "--source", "synthetic"]
    process = subprocess.Popen(
        [*command, "--headless", "--save", str(video), *more],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + WAIT_S
    while not any(part.stat().st_size > 100_000 for part in video.parent.glob(f".{video.stem}.*")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return process


@POSIX_SIGNALS
@pytest.mark.parametrize(
    ("number", "code", "message"),
    [(signal.SIGINT, 130, "interrupted\n"), (signal.SIGTERM, 143, ""), (signal.SIGHUP, 129, "")],
    ids=["Ctrl-C", "SIGTERM", "SIGHUP"],
)
def test_signal_ends_with_a_whole_video_and_the_summary(tiny_onnx, tmp_path, number, code, message):
    folder = tmp_path / "recorded"
    folder.mkdir()
    process = start_drive(tiny_onnx, folder / "out.avi", "--json")
    process.send_signal(number)
    out, err = process.communicate(timeout=WAIT_S)
    assert (process.returncode, err) == (code, message)
    frames = json.loads(out)["frames"]
    assert frames > 0
    assert count_frames(folder / "out.avi") == frames
    assert [entry.name for entry in folder.iterdir()] == ["out.avi"]


@POSIX_SIGNALS
def test_second_ctrl_c_while_closing_does_not_cost_the_video(
    tiny_onnx, images, tmp_path, monkeypatch, capsys
):
    def interrupted_count(path: Path) -> int:
        os.kill(os.getpid(), signal.SIGINT)
        return count_frames(path)

    monkeypatch.setattr(video, "count_frames", interrupted_count)
    assert run_headless(tiny_onnx, images, "--save", str(tmp_path / "out.mp4"), "--json") == 130
    assert json.loads(capsys.readouterr().out)["frames"] == 5
    assert count_frames(tmp_path / "out.mp4") == 5


def interrupted(function: Callable[..., object], at_call: int) -> Callable[..., object]:
    """Wrap a function so that one of its calls is followed by Ctrl-C, three times at once."""
    calls = itertools.count(1)

    def call(*arguments: object, **options: object) -> object:
        result = function(*arguments, **options)
        if next(calls) == at_call:
            for _ in range(3):
                os.kill(os.getpid(), signal.SIGINT)
        return result

    return call


@POSIX_SIGNALS
@pytest.mark.parametrize(
    ("method", "at_call", "frames"),
    [("_open", 1, 1), ("write", 2, 2), ("__init__", 1, 0), ("close", 1, 5)],
    ids=["opening the video", "storing a frame", "before the first frame", "after closing"],
)
def test_ctrl_c_three_times_costs_no_frame(
    tiny_onnx, images, tmp_path, monkeypatch, capsys, method, at_call, frames
):
    monkeypatch.setattr(video.VideoWriter, method, interrupted(getattr(video.VideoWriter, method), at_call))
    path = tmp_path / "out.mp4"
    assert run_headless(tiny_onnx, images, "--save", str(path), "--json") == 130
    out, err = capsys.readouterr()
    assert err == "interrupted\n"
    done = json.loads(out)["frames"]
    assert done >= frames  # the loop may be ahead of the recording's thread
    assert path.exists() == (done > 0)
    assert count_frames(path) == done
    assert not list(tmp_path.glob(".out*"))


@POSIX_SIGNALS
def test_ctrl_c_between_the_last_frame_and_the_end(tiny_onnx, images, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(watch.Progress, "finish", interrupted(watch.Progress.finish, 1))
    assert run_headless(tiny_onnx, images, "--save", str(tmp_path / "out.mp4"), "--json") == 130
    assert json.loads(capsys.readouterr().out)["frames"] == 5
    assert count_frames(tmp_path / "out.mp4") == 5


@POSIX_SIGNALS
@pytest.mark.parametrize(("module", "stage"), [(network_options, "Segmenter"), (opening, "open_source")])
def test_ctrl_c_while_opening_ends_there(tiny_onnx, images, tmp_path, monkeypatch, capsys, module, stage):
    monkeypatch.setattr(module, stage, interrupted(getattr(module, stage), 1))
    monkeypatch.setattr(watch, "run", None)  # would be a TypeError
    monkeypatch.setattr(watch.RunLog, "summary", interrupted(watch.RunLog.summary, 1))
    assert run_headless(tiny_onnx, images, "--save", str(tmp_path / "out.mp4"), "--json") == 130
    assert capsys.readouterr().err == "interrupted\n"
    assert not list(tmp_path.glob("*.mp4"))


@POSIX_SIGNALS
def test_second_ctrl_c_does_not_cut_short_what_the_first_began_to_close(
    tiny_onnx, images, monkeypatch, capsys
):
    closed = []
    close = Segmenter.close

    def interrupted_close(segment: Segmenter) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        close(segment)
        closed.append(segment)

    monkeypatch.setattr(opening, "open_source", interrupted(opening.open_source, 1))
    monkeypatch.setattr(Segmenter, "close", interrupted_close)
    assert run_headless(tiny_onnx, images, "--json") == 130
    assert len(closed) == 1


@POSIX_SIGNALS
def test_ctrl_c_while_an_error_is_told(tiny_onnx, images, monkeypatch, capsys):
    monkeypatch.setattr(ExitStack, "__exit__", interrupted(ExitStack.__exit__, 1))
    assert run_headless(tiny_onnx, images.replace("*", "nothing*")) == 1
    assert "no file matches" in capsys.readouterr().err


def test_a_video_that_cannot_be_kept_is_not_called_saved(tiny_onnx, images, tmp_path, monkeypatch, capsys):
    path = tmp_path / "out.mp4"
    path.write_bytes(b"an older one")
    monkeypatch.setattr(video, "count_frames", lambda _: 0)
    assert run_headless(tiny_onnx, images, "--save", str(path)) == 1
    out, err = capsys.readouterr()
    assert out.startswith("5 frames, ")
    assert "saved" not in out
    assert "check the free disk space" in err


class SilentCapture:
    """A camera that opens and never gives a frame: it presses Ctrl-C instead."""

    def __init__(self) -> None:
        self.closed = threading.Event()

    def isOpened(self) -> bool:
        return True

    def grab(self) -> bool:
        os.kill(os.getpid(), signal.SIGINT)
        self.closed.wait(0.2)
        return False

    def get(self, prop: int) -> float:
        return 0.0

    def release(self) -> None:
        self.closed.set()


@POSIX_SIGNALS
def test_ctrl_c_while_waiting_for_a_camera(tiny_onnx, monkeypatch, capsys):
    capture = SilentCapture()
    monkeypatch.setattr(opening, "open_source", lambda spec, **_: LiveSource(lambda: capture, spec))
    assert run_headless(tiny_onnx, "0", "--json") == 130
    out, err = capsys.readouterr()
    assert json.loads(out) == {"frames": 0, "fps": 0.0, "dropped": 0, "latency_ms": {}, "settings": {}}
    assert err == "interrupted\n"
    assert capture.closed.is_set()


def test_progress_is_for_terminals_only(tiny_onnx, images, monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert run_headless(tiny_onnx, images, "--json") == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["frames"] == 5
    assert "\rframe 1  " in err
    assert err.endswith("\n")


def test_all_outputs_at_once(tiny_onnx, images, tmp_path, capsys):
    more = ["--save", str(tmp_path / "o.avi"), "--save-what", "side-by-side", "--serve", "127.0.0.1:0"]
    more += ["--save-masks", str(tmp_path / "masks"), "--snapshot-every", "60", str(tmp_path / "shots")]
    more += ["--jsonl", str(tmp_path / "log.jsonl"), "--jsonl-masks", "polygons", "--json"]
    assert main(["--model", str(tiny_onnx), "--source", images, *more]) == 0
    out, err = capsys.readouterr()
    assert "outputs" in json.loads(out)["latency_ms"]
    assert err.startswith("page: http://127.0.0.1:")
    assert count_frames(tmp_path / "o.avi") == len(list((tmp_path / "masks").iterdir())) == 5
    assert len(list((tmp_path / "shots").iterdir())) == 1
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 5


@pytest.fixture
def disk_that_fills(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is full for a video from its third frame on."""
    write, calls = containers.OpenCvContainer.write, itertools.count()

    def limited(self: containers.OpenCvContainer, image_bgr: np.ndarray, time_ns: int) -> None:
        if next(calls) >= 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(self, image_bgr, time_ns)

    monkeypatch.setattr(containers, "has_pyav", lambda: False)
    monkeypatch.setattr(containers.OpenCvContainer, "write", limited)


def test_a_full_disk_ends_the_recording_and_nothing_else(
    tiny_onnx, images, tmp_path, capsys, disk_that_fills
):
    more = ["--save", str(tmp_path / "o.avi"), "--jsonl", str(tmp_path / "log.jsonl"), "--json"]
    assert run_headless(tiny_onnx, images, *more) == 1
    out, err = capsys.readouterr()
    assert json.loads(out)["frames"] == 5
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 5
    assert count_frames(tmp_path / "o.avi") == 2
    *warnings, error = err.splitlines()  # without one where the loop was over by then
    said = f"{tmp_path / 'o.avi'}: cannot write it (No space left on device); free some space"
    assert error.startswith(f"error: {said}")
    assert all(line.startswith(f"warning: {said}") for line in warnings)
    assert all(line.endswith("going on without it") for line in warnings)


def test_a_full_disk_ends_a_run_that_only_records(tiny_onnx, images, tmp_path, capsys, disk_that_fills):
    assert run_headless(tiny_onnx, images, "--save", str(tmp_path / "o.avi"), "--json") == 1
    out, err = capsys.readouterr()
    assert 1 <= json.loads(out)["frames"] <= 5
    assert err.count("\n") == 1
    assert count_frames(tmp_path / "o.avi") == 2


def test_frames_that_are_too_old_are_dropped(tiny_onnx, images, tmp_path, capsys):
    path = tmp_path / "log.jsonl"
    for limit_ms, lines in (("60000", 5), ("0.000001", 0)):
        assert run_headless(tiny_onnx, images, "--max-age-ms", limit_ms, "--jsonl", str(path), "--json") == 0
        assert json.loads(capsys.readouterr().out)["frames"] == lines
        assert len(path.read_text().splitlines()) == lines
        path.unlink()


@pytest.mark.parametrize(
    "more",
    [
        ["--max-frames", "0"],
        ["--max-frames", "-3"],
        ["--max-age-ms", "0"],
        ["--give-up-s", "-1"],
        ["--imgsz", "0", "32"],
        ["--save-what", "mask"],
        ["--jsonl-masks", "rle"],
        ["--token", "x" * 20],
        ["--snapshot-every", "0", "folder"],
    ],
)
def test_values_out_of_range_and_outputs_that_make_no_sense_exit_1(tiny_onnx, images, capsys, more):
    assert run_headless(tiny_onnx, images, *more) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"error: {more[0][2:].replace('-', '_').replace('imgsz', 'size_hw')}: expected ")
    assert err.count("\n") == 1


def test_a_page_for_others_without_a_token(tiny_onnx, images, monkeypatch, capsys):
    monkeypatch.delenv("EDGESEG_TOKEN", raising=False)
    assert run_headless(tiny_onnx, images, "--serve", "0.0.0.0:0") == 1
    assert "expected a token" in capsys.readouterr().err


@POSIX_SIGNALS
@pytest.mark.parametrize("flag", ["--save", "--jsonl", "--save-masks"])
def test_a_second_run_on_one_output_is_refused_with_the_first_ones_process(
    tiny_onnx, images, tmp_path, capsys, flag
):
    target = tmp_path / {"--save": "out.avi", "--jsonl": "log.jsonl", "--save-masks": "masks"}[flag]
    with only_run_on(target / "mask" if flag == "--save-masks" else target):
        assert run_headless(tiny_onnx, images, flag, str(target)) == 1
    assert f"but process {os.getpid()} does; wait for it" in capsys.readouterr().err
    assert run_headless(tiny_onnx, images, flag, str(target)) == 0
    assert [path.name for path in tmp_path.rglob("*lock")] == []
