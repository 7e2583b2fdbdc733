from __future__ import annotations

import dataclasses
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from runtime.errors import ConfigError, FrameError, OutputError
from runtime.masks.overlay import LazyOverlay
from runtime.outputs import Recording, containers
from runtime.outputs.segments import SegmentOptions
from runtime.outputs.video import VideoWriter

SECOND_NS = 1_000_000_000


@pytest.fixture
def without_pyav(monkeypatch):
    monkeypatch.setattr(containers, "has_pyav", lambda: False)


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
    with VideoWriter(path, fps=10.0) as writer:
        for level in range(0, 200, 20):
            writer.write(picture(level))
        assert not path.exists()
    assert [round(image.mean(), -1) for image in frames_of(path)] == list(range(0, 200, 20))
    assert [entry.name for entry in path.parent.iterdir()] == [name]


def test_video_plays_at_its_pace(tmp_path):
    path = tmp_path / "out.mp4"
    with VideoWriter(path, fps=12.5) as writer:
        writer.write(picture(1))
    assert cv2.VideoCapture(str(path)).get(cv2.CAP_PROP_FPS) == pytest.approx(12.5)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_video_is_kept_when_the_run_breaks(tmp_path, error):
    path = tmp_path / "out.mp4"

    def record() -> None:
        with VideoWriter(path, fps=10.0) as writer:
            for _ in range(7):
                writer.write(picture(50))
            raise error

    with pytest.raises(error):
        record()
    assert len(list(frames_of(path))) == 7


def test_old_video_stays_until_the_new_one_is_done(tmp_path):
    path = tmp_path / "out.mp4"
    path.write_bytes(b"old")
    with VideoWriter(path, fps=10.0) as writer:
        writer.write(picture(1))
        assert path.read_bytes() == b"old"
    assert len(list(frames_of(path))) == 1


def test_no_frame_no_file(tmp_path):
    with VideoWriter(tmp_path / "out.mp4", fps=10.0):
        pass
    assert list(tmp_path.iterdir()) == []


def test_second_close_does_nothing(tmp_path):
    writer = VideoWriter(tmp_path / "out.mp4", fps=10.0)
    writer.write(picture(1))
    writer.close()
    writer.close()
    assert len(list(frames_of(tmp_path / "out.mp4"))) == 1


def test_frames_of_another_size_are_scaled_and_said_once(tmp_path, caplog):
    path = tmp_path / "out.mp4"
    with VideoWriter(path, fps=10.0) as writer:
        for size_hw in ((48, 64), (96, 128), (96, 128), (48, 64)):
            writer.write(picture(90, size_hw))
    assert [image.shape for image in frames_of(path)] == [(48, 64, 3)] * 4
    assert len([message for message in caplog.messages if "scaled" in message]) == 1


def test_odd_size(tmp_path):
    path = tmp_path / "out.mp4"
    with VideoWriter(path, fps=10.0) as writer:
        writer.write(picture(1, (47, 63)))
        writer.write(picture(2, (47, 63)))
    assert len(list(frames_of(path))) == 2


def test_slow_live_frames_are_repeated_to_keep_the_pace(tmp_path):
    path = tmp_path / "out.avi"
    with VideoWriter(path, fps=10.0) as writer:
        for tenths in (0, 1, 4, 4.2, 6):
            writer.write(picture(int(tenths * 40)), int(tenths * SECOND_NS / 10))
    levels = [round(image.mean() / 40, 1) for image in frames_of(path)]
    assert levels == pytest.approx([0, 1, 4, 4, 4, 4.2, 6], abs=0.15)


def test_live_frames_that_come_too_fast_are_left_out_to_keep_the_pace(tmp_path):
    path = tmp_path / "out.avi"
    with VideoWriter(path, fps=15.0) as writer:
        for count in range(120):
            writer.write(picture(count), count * SECOND_NS // 30)
    levels = [image.mean() for image in frames_of(path)]
    assert 60 <= len(levels) <= 61
    assert np.diff(levels).mean() == pytest.approx(2, abs=0.1)


def test_a_camera_at_the_pace_of_the_video_loses_no_frame_to_its_jitter(tmp_path):
    path = tmp_path / "out.avi"
    shifts = np.random.default_rng(0).uniform(-0.9, 0.4, 60)
    shifts[0] = 0
    with VideoWriter(path, fps=10.0) as writer:
        for count, shift in enumerate(shifts):
            writer.write(picture(count * 4), int((count + shift) * SECOND_NS / 10))
    assert [round(image.mean() / 4) for image in frames_of(path)] == list(range(60))


@pytest.mark.parametrize("name", ["out.mp4", "out.avi"])
@pytest.mark.usefixtures("without_pyav")
@pytest.mark.parametrize(
    ("fps", "stated"), [(239.673, 239.67), (90.123, 90.12), (59.94006, 59.94), (700.1, 700.1)]
)
def test_fps_that_mpeg_4_cannot_state_exactly(tmp_path, name, fps, stated):
    path = tmp_path / name
    with VideoWriter(path, fps) as writer:
        writer.write(picture(1))
    assert cv2.VideoCapture(str(path)).get(cv2.CAP_PROP_FPS) == pytest.approx(stated)


@pytest.mark.parametrize("name", ["out.mp4", "out.avi"])
@pytest.mark.parametrize("size_hw", [(600, 2), (2, 600), (15, 64)])
def test_frames_too_small_for_a_video(tmp_path, name, size_hw):
    with (
        VideoWriter(tmp_path / name, fps=10.0) as writer,
        pytest.raises(OutputError, match="at least 16 pixels a side"),
    ):
        writer.write(picture(1, size_hw))
    assert list(tmp_path.iterdir()) == []


def test_relative_name_that_looks_like_a_protocol(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with VideoWriter("12:30.mp4", fps=10.0) as writer:
        writer.write(picture(1))
    assert len(list(frames_of(tmp_path / "12:30.mp4"))) == 1


@pytest.mark.usefixtures("without_pyav")
def test_interrupt_before_the_first_frame_is_in_leaves_no_file(tmp_path, monkeypatch):
    class InterruptedWriter:
        fourcc = cv2.VideoWriter.fourcc

        def __init__(self, *_: object) -> None: ...

        def isOpened(self) -> bool:
            return True

        def write(self, image: np.ndarray) -> None:
            raise KeyboardInterrupt

        def release(self) -> None: ...

    monkeypatch.setattr(containers.cv2, "VideoWriter", InterruptedWriter)
    with pytest.raises(KeyboardInterrupt), VideoWriter(tmp_path / "out.mp4", fps=10.0) as writer:
        writer.write(picture(1))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["out.webm", "out", "out.mp4.txt"])
def test_unknown_ending(tmp_path, name):
    with pytest.raises(OutputError, match=r"ends in \.mp4, \.mkv, \.avi"):
        VideoWriter(tmp_path / name, fps=10.0)


@pytest.mark.parametrize("fps", [0.0, -1.0, float("nan"), float("inf")])
def test_fps_that_cannot_be(tmp_path, fps):
    with pytest.raises(OutputError, match="positive frame rate"):
        VideoWriter(tmp_path / "out.mp4", fps)


def test_target_that_is_a_folder(tmp_path):
    (tmp_path / "out.mp4").mkdir()
    with pytest.raises(OutputError, match="got a folder"):
        VideoWriter(tmp_path / "out.mp4", fps=10.0)


def test_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with (
        VideoWriter(tmp_path / "file" / "out.mp4", fps=10.0) as writer,
        pytest.raises(OutputError, match="cannot write"),
    ):
        writer.write(picture(1))


def test_writer_that_does_not_open_leaves_nothing(tmp_path):
    with (
        VideoWriter(tmp_path / "out.avi", fps=1e-9) as writer,
        pytest.raises(OutputError, match="OpenCV cannot write"),
    ):
        writer.write(picture(1))
    assert list(tmp_path.iterdir()) == []


def test_grey_frame(tmp_path):
    with VideoWriter(tmp_path / "out.mp4", fps=10.0) as writer, pytest.raises(FrameError):
        writer.write(np.zeros((48, 64), np.uint8))


@pytest.mark.parametrize(("stored", "kept"), [(3, ["out.avi"]), (0, [])])
def test_full_disk_is_told_and_what_plays_is_kept(tmp_path, monkeypatch, stored, kept):
    class ForgetfulWriter:
        fourcc = cv2.VideoWriter.fourcc

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
    writer = VideoWriter(tmp_path / "out.avi", fps=10.0)
    monkeypatch.setattr(containers.cv2, "VideoWriter", ForgetfulWriter)
    for level in range(5):
        writer.write(picture(level))
    with pytest.raises(OutputError, match="check the free disk space"):
        writer.close()
    assert [entry.name for entry in tmp_path.iterdir()] == kept
    assert [path.name for path in writer.saved] == kept


@pytest.mark.usefixtures("without_pyav")
def test_recording_ends_while_the_disk_has_room_for_its_end(tmp_path, monkeypatch):
    path = tmp_path / "out.mp4"
    free_bytes = 1 << 40
    real = containers.os.statvfs(tmp_path)

    class Disk:
        f_frsize = 1

        @property
        def f_bavail(self) -> int:
            return free_bytes

    monkeypatch.setattr(containers.os, "statvfs", lambda _: Disk())
    assert real.f_bavail

    def record() -> None:
        nonlocal free_bytes
        with VideoWriter(path, fps=10.0) as writer:
            for level in range(20):
                free_bytes = (1 << 40) if level < 12 else (1 << 20)
                writer.write(picture(level * 8))

    with pytest.raises(
        OutputError, match=r"out\.mp4: cannot write it \(No space left on device\); free some"
    ):
        record()
    assert len(list(frames_of(path))) == 16


@pytest.mark.usefixtures("without_pyav")
def test_memory_card_that_is_pulled_out(tmp_path):
    writer = VideoWriter(tmp_path / "card" / "out.mkv", fps=10.0)
    for _ in range(8):
        writer.write(picture(1))
    shutil.rmtree(tmp_path / "card")
    with pytest.raises(OutputError, match=r"out\.mkv: cannot write it \(No such file"):
        writer.write(picture(2))
    with pytest.raises(OutputError, match="cannot be played"):
        writer.close()
    assert not writer.saved


KILLED = """
import os, sys
sys.path[:0] = [sys.argv[2]]
import numpy as np
from runtime.outputs.segments import SegmentOptions
from runtime.outputs.video import VideoWriter

writer = VideoWriter(sys.argv[1], fps=10.0)
rng = np.random.default_rng(0)
for _ in range(40):
    writer.write(rng.integers(0, 255, (240, 320, 3), dtype=np.uint8))
os._exit(9)
"""


@pytest.mark.parametrize("name", ["out.mkv", "out.avi"])
def test_what_a_killed_recording_leaves_can_be_played(tmp_path, name):
    root = Path(containers.__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / name), str(root)], check=False)
    assert done.returncode == 9
    (part,) = tmp_path.iterdir()
    assert len(list(frames_of(part))) >= 15


@pytest.mark.parametrize(
    ("view", "width", "level"), [("overlay", 64, 40), ("mask", 64, None), ("side-by-side", 128, 40)]
)
def test_recording_shows_what_was_asked_for(tmp_path, make_stream, step, view, width, level):
    path = tmp_path / "out.avi"
    stream = make_stream(alpha=0.0)
    mask = np.full((48, 64), 2, np.uint8)
    with Recording(path, view) as output:
        output.open(stream)
        taken = step(2, mask)
        overlay = LazyOverlay(stream.overlay, taken.frame.image_bgr, mask, "")
        output.take(dataclasses.replace(taken, overlay=overlay))
    _, image_bgr = cv2.VideoCapture(str(path)).read()
    assert image_bgr.shape == (48, width, 3)
    left, right = image_bgr[24, 10].tolist(), image_bgr[24, -10].tolist()
    if level is not None:
        assert left == pytest.approx([level] * 3, abs=6)
    if view != "overlay":
        assert right == pytest.approx([0, 255, 0], abs=6)


def test_recording_shows_what_a_function_draws(tmp_path, stream, step):
    path = tmp_path / "out.avi"
    with Recording(path, lambda taken: taken.frame.image_bgr + 100) as output:
        output.open(stream)
        output.take(step(fed=False))
    _, image_bgr = cv2.VideoCapture(str(path)).read()
    assert image_bgr.mean() == pytest.approx(140, abs=2)


def test_a_recording_becomes_one_file_of_that_name_at_its_own_pace(tmp_path, make_stream, step):
    with Recording(tmp_path / "out.avi") as output:
        output.open(make_stream(fps=10.0))
        output.take(step(0, captured_ns=SECOND_NS))
        output.take(step(1, captured_ns=2 * SECOND_NS))
    assert output.saved == (tmp_path / "out.avi",)
    assert len(list(frames_of(tmp_path / "out.avi"))) == 2


HOUR_NS = 3600 * SECOND_NS


@pytest.mark.parametrize(
    ("times_ns", "frames"),
    [
        ([0, 100_000_000, 600_000_000], 7),  # the picture at 0.1 s is shown until 0.6 s
        ([5 * HOUR_NS, 5 * HOUR_NS + 100_000_000], 2),  # a recording's first time may be any
        ([0, 100_000_000, 9 * HOUR_NS, 9 * HOUR_NS + 100_000_000], 4),  # no copies for hours
        ([9 * HOUR_NS, 0, 100_000_000], 3),  # a clock that was set goes on
    ],
    ids=["uneven", "offset", "gap", "back"],
)
@pytest.mark.parametrize("stamp", ["pts_ns", "stamp_ns"])
def test_frames_of_a_recording_keep_their_times(tmp_path, make_stream, step, times_ns, frames, stamp):
    with Recording(tmp_path / "out.avi") as output:
        output.open(make_stream(fps=10.0))
        for number, time_ns in enumerate(times_ns):
            taken = step(number)
            frame = dataclasses.replace(taken.frame, **{stamp: time_ns})
            output.take(dataclasses.replace(taken, frame=frame))
    assert len(list(frames_of(tmp_path / "out.avi"))) == frames


def test_a_camera_is_recorded_in_segments_by_the_clock(tmp_path, make_stream, step):
    with Recording(tmp_path / "out.avi") as output:
        output.open(make_stream(fps=10.0, live=True))
        output.take(step(0, captured_ns=SECOND_NS))
        output.take(step(1, captured_ns=2 * SECOND_NS))
    (path,) = output.saved
    assert path.name.startswith("out-000001-")
    assert list(tmp_path.iterdir()) == [path]
    assert len(list(frames_of(path))) == 11


def test_a_recording_is_cut_into_segments_where_asked(tmp_path, make_stream, step):
    with Recording(tmp_path / "out.avi", options=SegmentOptions(segment_s=0.5)) as output:
        output.open(make_stream(fps=10.0))
        for number in range(12):
            output.take(step(number))
    assert [len(list(frames_of(path))) for path in output.saved] == [5, 5, 2]


def test_recording_of_a_source_without_a_rate_plays_at_15_frames_a_second(tmp_path, make_stream, step):
    with Recording(tmp_path / "out.avi") as output:
        output.open(make_stream(fps=None))
        output.take(step())
    assert cv2.VideoCapture(str(tmp_path / "out.avi")).get(cv2.CAP_PROP_FPS) == pytest.approx(15)


def test_recording_an_overlay_that_nobody_draws(tmp_path, stream, step):
    with Recording(tmp_path / "out.avi") as output:
        output.open(stream)
        with pytest.raises(ConfigError, match="overlay"):
            output.take(step(fed=False))


@pytest.mark.parametrize("name", ["out.webm", "out", "folder.mp4"])
def test_recording_refuses_a_name_before_anything_is_open(tmp_path, name):
    (tmp_path / "folder.mp4").mkdir()
    with pytest.raises(OutputError, match=r"expected (a video name|the name of a video)"):
        Recording(tmp_path / name)


def test_recording_an_unknown_view(tmp_path):
    with pytest.raises(ConfigError, match="overlay, mask, side-by-side, got 'logits'"):
        Recording(tmp_path / "out.avi", "logits")  # type: ignore[arg-type]
