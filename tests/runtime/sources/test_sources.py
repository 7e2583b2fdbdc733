from __future__ import annotations

import json
import logging
import os
import re
import struct
import sys
import threading
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from runtime.base.codec import to_plain
from runtime.errors import FrameError, SourceError
from runtime.frame import Frame
from runtime.sources import (
    Backoff,
    Clock,
    Drop,
    FakeSource,
    ImageFiles,
    Late,
    LivePolicy,
    PacedSource,
    SourceState,
    SyntheticDrive,
    VideoFile,
    open_recorded,
    open_source,
    opening,
    without_secrets,
)
from runtime.sources.opening import users_of
from runtime.sources.video import CLIP

WAIT_S = 20.0
SECRET = "s3cr3t"


def grey_level(level: int, shape: tuple[int, ...] = (48, 64, 3)) -> np.ndarray:
    return np.full(shape, level, np.uint8)


class ScriptedCapture:
    """A file of so many pictures."""

    def __init__(
        self,
        images: Sequence[np.ndarray],
        *,
        announced: int | None = None,
        fps: float = 30.0,
        times_ms: Sequence[float] = (),
    ) -> None:
        self.images = list(images)
        self.times_ms = list(times_ms)
        self.properties = {
            cv2.CAP_PROP_FPS: fps,
            cv2.CAP_PROP_FRAME_COUNT: len(images) if announced is None else announced,
        }
        self.released = False
        self.retrieved = 0
        self.current: np.ndarray | None = None

    def isOpened(self) -> bool:
        return True

    def grab(self) -> bool:
        self.current = self.images.pop(0) if self.images else None
        self.properties[cv2.CAP_PROP_POS_MSEC] = self.times_ms.pop(0) if self.times_ms else 0.0
        return self.current is not None

    def retrieve(self) -> tuple[bool, np.ndarray | None]:
        self.retrieved += 1
        return self.current is not None, self.current

    def read(self) -> tuple[bool, np.ndarray | None]:
        self.grab()
        return self.retrieve()

    def get(self, prop: int) -> float:
        return float(self.properties.get(prop, 0.0))

    def release(self) -> None:
        self.released = True


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
    return VideoFile(path, lambda _: capture)


def failure(spec: str) -> str:
    """Return what a source fails with that never opens."""
    policy = LivePolicy(give_up_s=0.5, backoff=Backoff(first_s=0.01, cap_s=0.02))
    with pytest.raises(SourceError) as caught, open_source(spec, policy=policy) as source:
        list(source)
    return str(caught.value)


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
    assert f"file is truncated after frame {len(frames)} (its RIFF chunk lacks" in message


@pytest.mark.parametrize("announced", [3, 100, 10_000])
def test_frames_in_a_header_are_no_promise(tmp_path, announced):
    capture = ScriptedCapture([grey_level(9)] * 98, announced=announced)
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
        ("99999999999999999999", "found no such file"),  # more than a C int holds
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


@pytest.mark.parametrize("spec", ["4711", "/dev/video4711"])
def test_camera_that_does_not_open(monkeypatch, spec):
    monkeypatch.setattr(opening.cv2, "VideoCapture", ClosedCapture)
    assert re.match(rf"camera {spec}: gave up after 0\.5 s .*does not open", failure(spec))


@pytest.mark.parametrize("make", [Path.mkdir, Path.touch, lambda path: os.mkfifo(path)])
def test_device_that_is_no_camera_is_refused_at_once(monkeypatch, tmp_path, make):
    make(tmp_path / "video0")
    with pytest.raises(SourceError, match="another kind of file"):
        opening._camera(str(tmp_path / "video0"), "video0", None, None)
    with pytest.raises(SourceError, match="camera /dev/full: expected a camera, got another kind of file"):
        open_source("/dev/full")


def test_second_reader_of_a_camera_learns_who_has_it(monkeypatch):
    monkeypatch.setattr(opening.cv2, "VideoCapture", ClosedCapture)
    monkeypatch.setattr(opening, "users_of", lambda device: [f"robot (process 7) on {device}", "a", "b", "c"])
    assert "open in robot (process 7) on /dev/video4711, a, b and 1 more" in failure("4711")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells")
def test_users_of_a_device(tmp_path):
    path = tmp_path / "video0"
    path.touch()
    (tmp_path / "by-id").symlink_to(path)
    assert users_of(path) == []
    with path.open():
        assert users_of(tmp_path / "by-id") == ["this program"]


ADDRESSES = [
    "rtsp://admin:{}@10.0.0.7/live",
    "rtsp://admin:p@ss/{}@10.0.0.7/live?key=1",
    "RTSP://admin:{}@10.0.0.7",
    "rtsp://{}@10.0.0.7/live",
    "rtsp://10.0.0.7/live?user=admin&password={}",
    "rtsp://10.0.0.7/live#{}",
    "rtsp://10.0.0.7:554/user=admin&password={}&channel=1.sdp?real",
    "rtsp://10.0.0.7:554/user=admin_password={}_channel=1.sdp",
    "http://10.0.0.7/cgi-bin/token={}/video",
    "admin:{}@10.0.0.7/live",
    "ftp://admin:{}@10.0.0.7/live",
    "admin:{}@10.0.0.7/*.jpg",
]


@pytest.mark.parametrize("address", ADDRESSES)
def test_password_of_an_address_is_in_no_error_and_no_log(monkeypatch, caplog, capfd, address):
    caplog.set_level(logging.DEBUG)
    monkeypatch.setattr(opening.cv2, "VideoCapture", ClosedCapture)
    message = failure(address.format(SECRET))
    out, err = capfd.readouterr()
    assert SECRET not in message + caplog.text + out + err + repr(threading.enumerate())
    assert "10.0.0.7" in message


class BrokenStream(ScriptedCapture):
    """Gives one picture, and refuses every attempt after that."""

    opened = 0

    def __init__(self, *_: object) -> None:
        super().__init__([grey_level(1)], announced=0)
        type(self).opened += 1

    def isOpened(self) -> bool:
        return type(self).opened == 1


def test_password_stays_hidden_through_an_outage(monkeypatch, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    monkeypatch.setattr(BrokenStream, "opened", 0)
    monkeypatch.setattr(opening.cv2, "VideoCapture", BrokenStream)
    policy = LivePolicy(give_up_s=0.2, backoff=Backoff(first_s=0.01, cap_s=0.02))
    with open_source(ADDRESSES[0].format(SECRET), policy=policy) as source:
        names = repr(threading.enumerate())
        with pytest.raises(SourceError) as caught:
            list(source)
        told = json.dumps(to_plain(source.status))
    assert "does not open" in told + caplog.text
    assert source.status.reconnects > 0
    out, err = capfd.readouterr()
    assert SECRET not in str(caught.value) + told + caplog.text + names + out + err


def test_jitter_shortens_each_wait_by_its_own_share_and_none_passes_the_cap():
    waits_s = [wait_s for wait_s, _ in zip(Backoff(seed=7).waits_s(), range(200), strict=False)]
    full_s = [min(0.5 * 2**attempt, 30.0) for attempt in range(200)]
    shares = np.array(waits_s) / full_s
    assert 0.75 <= shares.min() < 0.77
    assert 0.98 < shares.max() <= 1
    assert len(set(shares)) == 200


def test_two_robots_do_not_knock_at_the_same_moments():
    one, other = Backoff().waits_s(), Backoff().waits_s()
    assert [next(one) for _ in range(5)] != [next(other) for _ in range(5)]


@pytest.mark.parametrize("name", ["clips/drive.mp4", "a:b.mp4", "frames/user=1/*.png", "12:30.mp4"])
def test_names_of_files_are_left_alone(name):
    assert without_secrets(name) == name


def test_synthetic_drive_goes_on():
    with open_source("synthetic") as source:
        frames = [frame for frame, _ in zip(source, range(3), strict=False)]
    assert [frame.image_bgr.shape for frame in frames] == [(360, 480, 3)] * 3
    assert not np.array_equal(frames[0].image_bgr, frames[2].image_bgr)
    assert not source.live


def test_synthetic_drive_starts_over_at_its_end():
    with SyntheticDrive() as read, SyntheticDrive() as skipped:
        length = int(cv2.VideoCapture(str(CLIP)).get(cv2.CAP_PROP_FRAME_COUNT))
        frames = [read.read() for _ in range(length + 2)]
        assert all(skipped.skip() for _ in range(length + 1))
        second = skipped.read()
        assert read.fps == 15.0
    assert [frame.frame_id for frame in frames] == list(range(length + 2))
    assert np.array_equal(frames[length].image_bgr, frames[0].image_bgr)
    assert np.array_equal(frames[length + 1].image_bgr, second.image_bgr)
    assert second.frame_id == length + 1


class SkippingClock(Clock):
    """Time that passes where somebody waits, and where the test says so."""

    time_ns = 0

    def now_ns(self) -> int:
        return self.time_ns

    def wait(self, news: threading.Condition, timeout_s: float | None) -> None:
        assert timeout_s is not None
        self.time_ns += round(timeout_s * 1e9)


def paced(tmp_path: Path, frames: int, clock: Clock) -> tuple[PacedSource, ScriptedCapture]:
    capture = ScriptedCapture([grey_level(level) for level in range(frames)], fps=10.0)
    return PacedSource(scripted_file(tmp_path, capture), clock), capture


def test_realtime_plays_at_the_videos_pace(tmp_path):
    clock = SkippingClock()
    source, _ = paced(tmp_path, 5, clock)
    frames = list(source)
    assert [frame.captured_ns / 1e9 for frame in frames] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])
    assert (clock.time_ns / 1e9, source.dropped) == (pytest.approx(0.5), 0)
    assert source.status.state is SourceState.ENDED
    assert source.live


def test_realtime_leaves_out_what_the_caller_is_too_slow_for_and_does_not_decode_it(tmp_path):
    clock = SkippingClock()
    source, capture = paced(tmp_path, 31, clock)
    ids, ages_ms = [], []
    for frame in source:
        clock.time_ns += 300_000_000  # a network of 300 ms, three frames
        ids.append(frame.frame_id)
        ages_ms.append((clock.time_ns - frame.captured_ns) / 1e6)
    assert ids == list(range(0, 31, 3))
    assert source.dropped == 20
    assert max(ages_ms) < 2 * 300
    assert capture.retrieved == len(ids)


def test_realtime_needs_frames_a_second(tmp_path):
    path = tmp_path / "a.png"
    cv2.imwrite(str(path), grey_level(7))
    with pytest.raises(SourceError, match="real time: expected a source that states its frame rate"):
        open_source(str(path), realtime=True)


def test_realtime_close_wakes_who_waits():
    with open_source("synthetic", realtime=True) as source:
        frames = iter(source)
        next(frames)
        threading.Timer(0.01, source.close).start()
        assert len(list(frames)) < 3


@pytest.mark.parametrize("reads", [0, 3, 6])
def test_recording_tells_its_state(write_video, reads):
    with open_source(str(write_video(5))) as source:
        for _ in range(reads):
            source.read()
        state = {0: SourceState.OPENING, 3: SourceState.RUNNING, 6: SourceState.ENDED}[reads]
        assert source.status.state is state
    assert source.status.state is SourceState.ENDED


def test_recording_that_broke_has_failed(write_video):
    path = write_video(40)
    path.write_bytes(path.read_bytes()[:-2000])
    source = VideoFile(path)
    collect(source)
    assert source.status.state is SourceState.FAILED


def test_fake_source_follows_its_script():
    script = [grey_level(1), Drop(3), Late(250), grey_level(2), SourceError("unplugged")]
    source = FakeSource(script, fps=30.0, clock_ns=lambda: 10**9)
    frames = iter(source)
    assert [next(frames).captured_ns, next(frames).captured_ns] == [10**9, 750_000_000]
    assert (source.dropped, source.fps, source.live) == (3, 30.0, True)
    with pytest.raises(SourceError, match="unplugged"):
        next(frames)


def test_closed_fake_source_gives_nothing_more():
    source = FakeSource([grey_level(1)] * 9)
    frames = iter(source)
    next(frames)
    source.close()
    assert list(frames) == []
    assert source.status.state is SourceState.ENDED


@pytest.mark.parametrize("spec", ["1", "9999", "/dev/video77", "rtsp://user:s3cr3t@127.0.0.1:9/stream"])
def test_what_wants_an_end_refuses_what_has_none_at_once(spec: str) -> None:
    """`--frames 1` reads like a count; it is a camera, for which a proof would wait for ever."""
    with pytest.raises(SourceError, match=r"^frames: expected images or a recording, got a camera") as raised:
        open_recorded(spec, "frames")
    assert SECRET not in str(raised.value)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("edgeseg")]


def test_what_wants_an_end_takes_recordings(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "0.png"), grey_level(7))
    with open_recorded(str(tmp_path / "*.png")) as source:
        assert [frame.image_bgr[0, 0, 0] for frame in source] == [7]
