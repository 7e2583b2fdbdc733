from __future__ import annotations

import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from runtime.errors import FrameError, SourceError
from runtime.frame import Frame
from runtime.sources import ImageFiles, LiveSource, VideoFile, live, open_source, opening

WAIT_S = 20.0


def grey_level(level: int, shape: tuple[int, ...] = (48, 64, 3)) -> np.ndarray:
    return np.full(shape, level, np.uint8)


class ScriptedCapture:
    """Gives pictures one by one, as many as were allowed; after the last one a read fails."""

    def __init__(
        self, images: Sequence[object], *, announced: int | None = None, allowed: int = 0, fps: float = 30.0
    ) -> None:
        self.images = list(images)
        self.properties = {
            cv2.CAP_PROP_FPS: fps,
            cv2.CAP_PROP_FRAME_COUNT: len(images) if announced is None else announced,
        }
        self.gate = threading.Semaphore(allowed)
        self.reads_begun = 0
        self.released = False

    def isOpened(self) -> bool:
        return True

    def read(self) -> tuple[bool, np.ndarray | None]:
        self.reads_begun += 1
        assert self.gate.acquire(timeout=WAIT_S)
        if not self.images:
            return False, None
        image = self.images.pop(0)
        if isinstance(image, Exception):
            raise image
        return True, image

    def get(self, prop: int) -> float:
        return float(self.properties[prop])

    def release(self) -> None:
        self.released = True

    def allow(self, reads: int) -> None:
        self.gate.release(reads)

    def wait_until_waiting(self, read: int) -> None:
        """Wait until read number `read` has begun, so that all pictures before are in the slot."""
        deadline = time.monotonic() + WAIT_S
        while self.reads_begun < read:
            assert time.monotonic() < deadline
            time.sleep(0.001)


@pytest.fixture
def live_source() -> Iterator[Callable[..., LiveSource]]:
    made: list[tuple[LiveSource, ScriptedCapture]] = []

    def make(capture: ScriptedCapture, stall_s: float = WAIT_S) -> LiveSource:
        source = LiveSource(capture, "camera 0", stall_s=stall_s)
        made.append((source, capture))
        return source

    yield make
    for source, capture in made:
        capture.allow(100)
        source.close()


@pytest.fixture
def write_video(tmp_path: Path) -> Callable[[int], Path]:
    def write(frames: int) -> Path:
        path = tmp_path / "clip.avi"
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 12.5, (64, 48))
        for index in range(frames):
            writer.write(grey_level(index * 4))
        writer.release()
        return path

    return write


def scripted_file(tmp_path: Path, capture: ScriptedCapture) -> VideoFile:
    path = tmp_path / "clip.mp4"
    path.touch()
    capture.allow(1000)
    return VideoFile(path, lambda _: capture)


def collect(source: VideoFile | ImageFiles) -> tuple[list[Frame], str]:
    """Return the frames until the source broke, and its message."""
    frames: list[Frame] = []
    with source, pytest.raises(SourceError) as caught:
        frames.extend(source)
    return frames, str(caught.value)


def test_video_gives_every_frame_in_order(write_video):
    with open_source(str(write_video(40))) as source:
        frames = list(source)
    assert [frame.frame_id for frame in frames] == list(range(40))
    assert [round(frame.image_bgr.mean() / 4) for frame in frames] == list(range(40))
    assert [frame.captured_ns for frame in frames] == sorted(frame.captured_ns for frame in frames)
    assert (source.fps, source.live, source.dropped) == (12.5, False, 0)


def test_iterating_again_goes_on(write_video):
    with open_source(str(write_video(5))) as source:
        first = next(iter(source))
        rest = list(source)
    assert [first.frame_id, *(frame.frame_id for frame in rest)] == [0, 1, 2, 3, 4]


def test_missing_video(tmp_path):
    with pytest.raises(SourceError, match=r"nope\.mp4: expected a video file, found none"):
        VideoFile(tmp_path / "nope.mp4")


def test_file_that_is_no_video(tmp_path):
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"not a video" * 100)
    with pytest.raises(SourceError, match="expected a video, got a file that OpenCV cannot open"):
        open_source(str(path))


def test_relative_name_that_looks_like_a_protocol(tmp_path, monkeypatch):
    writer = cv2.VideoWriter(str(tmp_path / "12:30.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 10.0, (64, 48))
    writer.write(grey_level(1))
    writer.release()
    monkeypatch.chdir(tmp_path)
    with open_source("12:30.mp4") as source:
        assert len(list(source)) == 1


def test_video_without_frames(tmp_path):
    frames, message = collect(scripted_file(tmp_path, ScriptedCapture([])))
    assert frames == []
    assert "without a frame" in message


def test_video_that_was_cut_off_gives_its_good_frames_first(write_video):
    path = write_video(40)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    frames, message = collect(VideoFile(path))
    assert 0 < len(frames) < 30
    assert f"the video broke after frame {len(frames)} of 40" in message


def test_a_few_frames_less_than_an_estimate_is_no_fault(tmp_path):
    capture = ScriptedCapture([grey_level(9)] * 98, announced=100)
    with scripted_file(tmp_path, capture) as source:
        assert len(list(source)) == 98
    assert capture.released


@pytest.mark.parametrize("shape", [(48, 64), (48, 64, 1), (48, 64, 4)])
def test_video_with_grey_or_four_channels(tmp_path, shape):
    source = scripted_file(tmp_path, ScriptedCapture([grey_level(9, shape)]))
    with source, pytest.raises(FrameError, match="expected a BGR image"):
        list(source)


@pytest.mark.parametrize("stated", [0.0, -1.0, float("nan"), 90_000.0])
def test_fps_that_cannot_be_is_none(tmp_path, stated):
    assert scripted_file(tmp_path, ScriptedCapture([], fps=stated)).fps is None


def test_images_come_in_natural_order(tmp_path):
    for index in (10, 9, 1):
        cv2.imwrite(str(tmp_path / f"frame_{index}.png"), grey_level(index))
    with open_source(str(tmp_path / "*.png")) as source:
        assert [int(frame.image_bgr[0, 0, 0]) for frame in source] == [1, 9, 10]


def test_one_image(tmp_path):
    path = tmp_path / "a[1].png"  # the name is also a pattern, which does not match it
    cv2.imwrite(str(path), grey_level(7))
    with open_source(str(path)) as source:
        assert len(list(source)) == 1


@pytest.mark.parametrize("shape", [(48, 64), (48, 64, 4)])
def test_image_files_become_colour(tmp_path, shape):
    path = tmp_path / "a.png"
    cv2.imwrite(str(path), grey_level(200, shape))
    with open_source(str(path)) as source:
        assert next(iter(source)).image_bgr.shape == (48, 64, 3)


def cut_off_jpeg() -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    data = cv2.imencode(".jpg", noise)[1].tobytes()
    return data[: len(data) // 2]


def cut_off_png() -> bytes:
    return cv2.imencode(".png", grey_level(9))[1].tobytes()[:-12]


def huge_png() -> bytes:
    """Return a PNG that promises 60,000 x 60,000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(b"\0")), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


@pytest.mark.parametrize(
    "data",
    [b"no image", b"", cut_off_jpeg(), cut_off_png(), huge_png()],
    ids=["text", "empty", "cut off", "cut off png", "huge"],
)
def test_unreadable_image_after_good_ones(tmp_path, data, capfd):
    cv2.imwrite(str(tmp_path / "1.jpg"), grey_level(1))
    (tmp_path / "2.jpg").write_bytes(data)
    cv2.imwrite(str(tmp_path / "3.jpg"), grey_level(3))
    frames, message = collect(open_source(str(tmp_path / "*.jpg")))
    assert len(frames) == 1
    assert "2.jpg: expected an image" in message
    assert capfd.readouterr().err == ""


def test_image_that_vanished(tmp_path):
    _, message = collect(ImageFiles([tmp_path / "gone.png"]))
    assert "gone.png: expected an image file, cannot read it" in message


def test_no_images():
    with pytest.raises(SourceError, match="empty list"):
        ImageFiles([])


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("{}/*.png", "no file matches"),
        ("{}", "got a folder"),
        ("{}/clip.mov", "found no such file"),
        ("/dev/video4711", "found no such device"),
        ("ftp://host/clip", "got ftp"),
        ("", "got a folder"),
    ],
)
def test_source_that_is_not_there(tmp_path, spec, message):
    with pytest.raises(SourceError, match=message):
        open_source(spec.format(tmp_path))


class ClosedCapture(ScriptedCapture):
    def __init__(self, *_: object) -> None:
        super().__init__([])

    def isOpened(self) -> bool:
        return False


@pytest.mark.parametrize("spec", ["0", "/dev/null"])
def test_camera_that_does_not_open(monkeypatch, spec):
    monkeypatch.setattr(opening.cv2, "VideoCapture", ClosedCapture)
    with pytest.raises(SourceError, match=f"camera {spec}: .*does not open"):
        open_source(spec)


def test_stream_that_does_not_open_keeps_its_password(monkeypatch):
    monkeypatch.setattr(opening.cv2, "VideoCapture", ClosedCapture)
    with pytest.raises(SourceError) as caught:
        open_source("rtsp://admin:p@ss/word@10.0.0.7/live?key=s3cret")
    assert "rtsp://***@10.0.0.7/live?***: expected a stream" in str(caught.value)


def test_synthetic_drive_goes_on():
    with open_source("synthetic") as source:
        frames = [frame for frame, _ in zip(source, range(3), strict=False)]
    assert [frame.image_bgr.shape for frame in frames] == [(360, 480, 3)] * 3
    assert not np.array_equal(frames[0].image_bgr, frames[2].image_bgr)
    assert not source.live


def test_live_source_keeps_the_freshest_frame_and_counts_the_others(live_source):
    capture = ScriptedCapture([grey_level(level) for level in range(6)], allowed=1)
    source = live_source(capture)
    frames = iter(source)
    assert next(frames).frame_id == 0
    capture.allow(5)
    capture.wait_until_waiting(7)
    frame = next(frames)
    assert (frame.frame_id, int(frame.image_bgr[0, 0, 0])) == (5, 5)
    assert source.dropped == 4
    assert (source.live, source.fps) == (True, 30.0)


def test_live_source_waits_for_a_frame_and_gives_none_twice(live_source):
    capture = ScriptedCapture([grey_level(1), grey_level(2)], allowed=1)
    frames = iter(live_source(capture))
    assert next(frames).frame_id == 0
    threading.Timer(0.02, capture.allow, [1]).start()
    assert next(frames).frame_id == 1


def test_live_source_whose_read_fails(live_source):
    capture = ScriptedCapture([grey_level(1)], allowed=2)
    source = live_source(capture)
    frames = iter(source)
    capture_failed = threading.Event()
    capture.release = capture_failed.set  # the thread's last act
    assert next(frames).frame_id == 0
    assert capture_failed.wait(WAIT_S)
    with pytest.raises(SourceError, match=r"camera 0: .* failed after 1 frames"):
        next(frames)


def test_last_frame_comes_before_the_failure(live_source):
    capture = ScriptedCapture([grey_level(1), grey_level(2)], allowed=1)
    released = threading.Event()
    capture.release = released.set
    frames = iter(live_source(capture))
    next(frames)
    capture.allow(2)
    assert released.wait(WAIT_S)
    assert next(frames).frame_id == 1
    with pytest.raises(SourceError):
        next(frames)


@pytest.mark.parametrize(
    ("image", "error"), [(grey_level(1, (48, 64)), FrameError), (RuntimeError("driver"), RuntimeError)]
)
def test_errors_of_the_thread_reach_the_caller(live_source, image, error):
    with pytest.raises(error):
        next(iter(live_source(ScriptedCapture([image], allowed=1))))


def test_live_source_that_stalls(live_source):
    source = live_source(ScriptedCapture([grey_level(1)]), stall_s=0.01)
    with pytest.raises(SourceError, match=r"got none for 0\.01 s"):
        next(iter(source))


def test_close_ends_thread_and_releases(live_source):
    capture = ScriptedCapture([grey_level(1)] * 50, allowed=50)
    before = threading.active_count()
    with live_source(capture) as source:
        next(iter(source))
        capture.allow(50)
    assert threading.active_count() == before
    assert capture.released
    assert list(source) == []


def test_close_without_iterating_releases(live_source):
    capture = ScriptedCapture([])
    live_source(capture).close()
    assert capture.released


def test_close_wakes_a_caller_who_waits(live_source):
    capture = ScriptedCapture([])
    source = live_source(capture)
    seen: list[Frame] = []
    waiting = threading.Thread(target=lambda: seen.extend(source))
    waiting.start()
    capture.wait_until_waiting(1)
    threading.Timer(0.01, capture.allow, [1]).start()
    source.close()
    waiting.join(WAIT_S)
    assert not waiting.is_alive()
    assert seen == []


def test_close_does_not_wait_for_ever_for_a_read_that_hangs(live_source, monkeypatch, caplog):
    monkeypatch.setattr(live, "_CLOSE_WAIT_S", 0.01)
    capture = ScriptedCapture([grey_level(1)], allowed=1)
    source = live_source(capture)
    next(iter(source))
    capture.wait_until_waiting(2)
    source.close()
    assert not capture.released
    assert "still inside a read" in caplog.text
    capture.allow(1)
    monkeypatch.undo()
    source.close()
    assert capture.released
