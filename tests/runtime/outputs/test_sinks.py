from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from runtime import sinks
from runtime.errors import FrameError, OutputError
from runtime.sinks import VideoSink, WindowSink, write_contact_sheet

SECOND_NS = 1_000_000_000


def picture(level: int, size_hw: tuple[int, int] = (48, 64)) -> np.ndarray:
    return np.full((*size_hw, 3), level, np.uint8)


def frames_of(path: Path) -> Iterator[np.ndarray]:
    capture = cv2.VideoCapture(str(path))
    while True:
        delivered, image_bgr = capture.read()
        if not delivered:
            break
        yield image_bgr
    capture.release()


@pytest.mark.parametrize("name", ["out.mp4", "out.mkv", "out.avi", "OUT.MP4"])
def test_video_holds_every_frame_and_leaves_nothing_else(tmp_path, name):
    path = tmp_path / "new folder" / name
    with VideoSink(path, fps=10.0) as sink:
        assert all(sink.write(picture(level)) for level in range(0, 200, 20))
        assert not path.exists()
    assert [round(image.mean(), -1) for image in frames_of(path)] == list(range(0, 200, 20))
    assert [entry.name for entry in path.parent.iterdir()] == [name]


def test_video_plays_at_its_pace(tmp_path):
    path = tmp_path / "out.mp4"
    with VideoSink(path, fps=12.5) as sink:
        sink.write(picture(1))
    assert cv2.VideoCapture(str(path)).get(cv2.CAP_PROP_FPS) == pytest.approx(12.5)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_video_is_kept_when_the_run_breaks(tmp_path, error):
    path = tmp_path / "out.mp4"

    def record() -> None:
        with VideoSink(path, fps=10.0) as sink:
            for _ in range(7):
                sink.write(picture(50))
            raise error

    with pytest.raises(error):
        record()
    assert len(list(frames_of(path))) == 7


def test_old_video_stays_until_the_new_one_is_done(tmp_path):
    path = tmp_path / "out.mp4"
    path.write_bytes(b"old")
    with VideoSink(path, fps=10.0) as sink:
        sink.write(picture(1))
        assert path.read_bytes() == b"old"
    assert len(list(frames_of(path))) == 1


def test_no_frame_no_file(tmp_path):
    with VideoSink(tmp_path / "out.mp4", fps=10.0):
        pass
    assert list(tmp_path.iterdir()) == []


def test_second_close_does_nothing(tmp_path):
    sink = VideoSink(tmp_path / "out.mp4", fps=10.0)
    sink.write(picture(1))
    sink.close()
    sink.close()
    assert len(list(frames_of(tmp_path / "out.mp4"))) == 1


def test_frames_of_another_size_are_scaled_and_said_once(tmp_path, caplog):
    path = tmp_path / "out.mp4"
    with VideoSink(path, fps=10.0) as sink:
        for size_hw in ((48, 64), (96, 128), (96, 128), (48, 64)):
            sink.write(picture(90, size_hw))
    assert [image.shape for image in frames_of(path)] == [(48, 64, 3)] * 4
    assert len(caplog.records) == 1


def test_odd_size(tmp_path):
    path = tmp_path / "out.mp4"
    with VideoSink(path, fps=10.0) as sink:
        sink.write(picture(1, (47, 63)))
        sink.write(picture(2, (47, 63)))
    assert len(list(frames_of(path))) == 2


def test_slow_live_frames_are_repeated_to_keep_the_pace(tmp_path):
    path = tmp_path / "out.mp4"
    with VideoSink(path, fps=10.0) as sink:
        for tenths in (0, 1, 4, 4.2, 6):
            sink.write(picture(int(tenths * 40)), captured_ns=7 * SECOND_NS + int(tenths * SECOND_NS / 10))
    levels = [round(image.mean() / 40, 1) for image in frames_of(path)]
    assert levels == pytest.approx([0, 1, 4, 4, 4, 4.2, 6], abs=0.15)


def test_live_frames_that_come_too_fast_are_left_out_to_keep_the_pace(tmp_path):
    path = tmp_path / "out.mp4"
    with VideoSink(path, fps=15.0) as sink:
        for count in range(120):
            sink.write(picture(count), captured_ns=7 * SECOND_NS + count * SECOND_NS // 30)
    levels = [image.mean() for image in frames_of(path)]
    assert 60 <= len(levels) <= 61
    assert np.diff(levels).mean() == pytest.approx(2, abs=0.1)


def test_a_camera_at_the_pace_of_the_video_loses_no_frame_to_its_jitter(tmp_path):
    path = tmp_path / "out.avi"
    shifts = np.random.default_rng(0).uniform(-0.9, 0.4, 60)
    shifts[0] = 0
    with VideoSink(path, fps=10.0) as sink:
        for count, shift in enumerate(shifts):
            sink.write(picture(count * 4), captured_ns=7 * SECOND_NS + int((count + shift) * SECOND_NS / 10))
    assert [round(image.mean() / 4) for image in frames_of(path)] == list(range(60))


@pytest.mark.parametrize("name", ["out.mp4", "out.avi"])
@pytest.mark.parametrize(
    ("fps", "stated"), [(239.673, 239.67), (90.123, 90.12), (59.94006, 59.94), (700.1, 700.1)]
)
def test_fps_that_mpeg_4_cannot_state_exactly(tmp_path, name, fps, stated):
    path = tmp_path / name
    with VideoSink(path, fps) as sink:
        sink.write(picture(1))
    assert cv2.VideoCapture(str(path)).get(cv2.CAP_PROP_FPS) == pytest.approx(stated)


@pytest.mark.parametrize("name", ["out.mp4", "out.avi"])
@pytest.mark.parametrize("size_hw", [(600, 2), (2, 600), (15, 64)])
def test_frames_too_small_for_a_video(tmp_path, name, size_hw):
    with (
        VideoSink(tmp_path / name, fps=10.0) as sink,
        pytest.raises(OutputError, match="at least 16 pixels a side"),
    ):
        sink.write(picture(1, size_hw))
    assert list(tmp_path.iterdir()) == []


def test_relative_name_that_looks_like_a_protocol(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with VideoSink("12:30.mp4", fps=10.0) as sink:
        sink.write(picture(1))
    assert len(list(frames_of(tmp_path / "12:30.mp4"))) == 1


def test_interrupt_before_the_first_frame_is_in_leaves_no_file(tmp_path, monkeypatch):
    class InterruptedWriter:
        fourcc = cv2.VideoWriter.fourcc

        def __init__(self, *_: object) -> None: ...

        def isOpened(self) -> bool:
            return True

        def write(self, image: np.ndarray) -> None:
            raise KeyboardInterrupt

        def release(self) -> None: ...

    monkeypatch.setattr(sinks.cv2, "VideoWriter", InterruptedWriter)
    with pytest.raises(KeyboardInterrupt), VideoSink(tmp_path / "out.mp4", fps=10.0) as sink:
        sink.write(picture(1))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["out.webm", "out", "out.mp4.txt"])
def test_unknown_ending(tmp_path, name):
    with pytest.raises(OutputError, match=r"ends in \.mp4, \.mkv, \.avi"):
        VideoSink(tmp_path / name, fps=10.0)


@pytest.mark.parametrize("fps", [0.0, -1.0, float("nan"), float("inf")])
def test_fps_that_cannot_be(tmp_path, fps):
    with pytest.raises(OutputError, match="positive frames a second"):
        VideoSink(tmp_path / "out.mp4", fps)


def test_target_that_is_a_folder(tmp_path):
    (tmp_path / "out.mp4").mkdir()
    with pytest.raises(OutputError, match="got a folder"):
        VideoSink(tmp_path / "out.mp4", fps=10.0)


def test_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with (
        VideoSink(tmp_path / "file" / "out.mp4", fps=10.0) as sink,
        pytest.raises(OutputError, match="cannot write"),
    ):
        sink.write(picture(1))


def test_writer_that_does_not_open_leaves_nothing(tmp_path):
    with (
        VideoSink(tmp_path / "out.avi", fps=1e-9) as sink,
        pytest.raises(OutputError, match="OpenCV cannot write"),
    ):
        sink.write(picture(1))
    assert list(tmp_path.iterdir()) == []


def test_grey_frame(tmp_path):
    with VideoSink(tmp_path / "out.mp4", fps=10.0) as sink, pytest.raises(FrameError):
        sink.write(np.zeros((48, 64), np.uint8))


@pytest.mark.parametrize(("stored", "kept"), [(3, ["out.avi"]), (0, [])])
def test_full_disk_is_told_and_what_plays_is_kept(tmp_path, monkeypatch, stored, kept):
    class ForgetfulWriter:
        def __init__(self, *arguments: object) -> None:
            self.real = cv2_writer(*arguments)
            self.left = stored

        def isOpened(self) -> bool:
            return self.real.isOpened()

        def write(self, image: np.ndarray) -> None:
            if self.left:
                self.real.write(image)
                self.left -= 1

        def release(self) -> None:
            self.real.release()

    cv2_writer = cv2.VideoWriter
    sink = VideoSink(tmp_path / "out.avi", fps=10.0)
    monkeypatch.setattr(sinks.cv2, "VideoWriter", ForgetfulWriter)
    for level in range(5):
        sink.write(picture(level))
    with pytest.raises(OutputError, match="check the free disk space"):
        sink.close()
    assert [entry.name for entry in tmp_path.iterdir()] == kept
    assert sink.is_stored == bool(kept)


def test_recording_ends_while_the_disk_has_room_for_its_end(tmp_path, monkeypatch):
    path = tmp_path / "out.mp4"
    free_bytes = 1 << 40
    monkeypatch.setattr(sinks.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(0, 0, free_bytes))
    monkeypatch.setattr(sinks, "_DISK_CHECK_NS", 0)

    def record() -> None:
        nonlocal free_bytes
        with VideoSink(path, fps=10.0) as sink:
            for level in range(9):
                free_bytes = (1 << 40) if level < 5 else (31 << 20)
                sink.write(picture(level * 20))

    with pytest.raises(OutputError, match="expected at least 32 MiB of free disk space, found 31"):
        record()
    assert len(list(frames_of(path))) == 6


def test_memory_card_that_is_pulled_out(tmp_path, monkeypatch):
    monkeypatch.setattr(sinks, "_DISK_CHECK_NS", 0)
    sink = VideoSink(tmp_path / "card" / "out.mkv", fps=10.0)
    sink.write(picture(1))
    shutil.rmtree(tmp_path / "card")
    with pytest.raises(OutputError, match=r"out\.mkv: cannot write it \(No such file"):
        sink.write(picture(2))
    with pytest.raises(OutputError, match="cannot be played"):
        sink.close()
    assert not sink.is_stored


KILLED = """
import os, sys
sys.path[:0] = [sys.argv[2]]
import numpy as np
from runtime.sinks import VideoSink

sink = VideoSink(sys.argv[1], fps=10.0)
rng = np.random.default_rng(0)
for _ in range(40):
    sink.write(rng.integers(0, 255, (240, 320, 3), dtype=np.uint8))
os._exit(9)
"""


@pytest.mark.parametrize("name", ["out.mkv", "out.avi"])
def test_what_a_killed_recording_leaves_can_be_played(tmp_path, name):
    root = Path(sinks.__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / name), str(root)], check=False)
    assert done.returncode == 9
    (part,) = tmp_path.iterdir()
    assert len(list(frames_of(part))) >= 15


needs_linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="how Linux names its screens")


@needs_linux
def test_window_without_a_screen(monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with pytest.raises(OutputError, match="neither DISPLAY nor WAYLAND_DISPLAY is set; run without a window"):
        WindowSink()


@needs_linux
def test_window_with_a_screen_that_does_not_answer(monkeypatch):
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setenv("DISPLAY", ":4711")
    with pytest.raises(OutputError, match="found none; run without a window"):
        WindowSink()


class FakeHighGui:
    """Stands for OpenCV's window functions; `keys` are pressed one a frame."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, keys: list[int]) -> None:
        self.keys = keys
        self.visible = 1.0
        self.open_windows: set[str] = set()
        monkeypatch.setattr(sinks, "_check_display", lambda: None)
        monkeypatch.setattr(sinks.cv2, "namedWindow", lambda title, flags: self.open_windows.add(title))
        monkeypatch.setattr(sinks.cv2, "resizeWindow", lambda *_: None)
        monkeypatch.setattr(sinks.cv2, "imshow", lambda title, image: None)
        monkeypatch.setattr(sinks.cv2, "waitKey", lambda delay_ms: self.keys.pop(0))
        monkeypatch.setattr(sinks.cv2, "getWindowProperty", lambda title, prop: self.visible)
        monkeypatch.setattr(sinks.cv2, "destroyAllWindows", self.open_windows.clear)


@pytest.mark.parametrize(("key", "goes_on"), [(-1, True), (ord("x"), True), (ord("q"), False), (27, False)])
def test_window_ends_with_q_or_escape(monkeypatch, key, goes_on):
    gui = FakeHighGui(monkeypatch, [key])
    with WindowSink() as window:
        assert window.write(picture(1)) is goes_on
        assert gui.open_windows
    assert not gui.open_windows


def test_window_ends_with_its_close_button(monkeypatch):
    gui = FakeHighGui(monkeypatch, [-1])
    gui.visible = 0.0
    with WindowSink() as window:
        assert window.write(picture(1)) is False


def test_window_ends_when_opencv_forgot_it(monkeypatch):
    def forgotten(*_: object) -> float:
        raise cv2.error("NULL guiReceiver")

    FakeHighGui(monkeypatch, [-1])
    monkeypatch.setattr(sinks.cv2, "getWindowProperty", forgotten)
    with WindowSink() as window:
        assert window.write(picture(1)) is False


def test_opencv_without_windows(monkeypatch):
    def refuse(*_: object) -> None:
        raise cv2.error("The function is not implemented")

    FakeHighGui(monkeypatch, [])
    monkeypatch.setattr(sinks.cv2, "namedWindow", refuse)
    with WindowSink() as window, pytest.raises(OutputError, match="built without windows"):
        window.write(picture(1))


def test_contact_sheet_lays_pictures_out_in_rows(tmp_path):
    path = tmp_path / "sheet.png"
    write_contact_sheet(path, [picture(level) for level in (10, 20, 30)], columns=2)
    sheet = cv2.imread(str(path))
    assert sheet.shape == (48 * 2 + 4, 64 * 2 + 4, 3)
    assert [int(sheet[y, x, 0]) for y, x in ((0, 0), (0, 68), (52, 0), (52, 68), (49, 0))] == [
        10,
        20,
        30,
        255,
        255,
    ]
    assert [entry.name for entry in tmp_path.iterdir()] == ["sheet.png"]


@pytest.mark.parametrize(
    ("images", "columns"),
    [([], 2), ([picture(1)], 0), ([picture(1), picture(1, (10, 10))], 2)],
    ids=["none", "no column", "sizes"],
)
def test_contact_sheet_that_cannot_be(tmp_path, images, columns):
    with pytest.raises(OutputError, match="expected pictures of one size and at least one column"):
        write_contact_sheet(tmp_path / "sheet.png", images, columns)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "message"), [("sheet.what", "OpenCV can write"), ("file/sheet.png", "cannot write")]
)
def test_contact_sheet_at_a_wrong_place(tmp_path, name, message):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=message):
        write_contact_sheet(tmp_path / name, [picture(1)], 1)
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]
