"""Recordings and live streams behind http addresses, on a local web server."""

from __future__ import annotations

import contextlib
import http.server
import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import pytest

from runtime.errors import SourceError
from runtime.sources import LivePolicy, LiveSource, PacedSource, SourceState, VideoAddress, open_source, video
from runtime.sources.web import is_recording
from tests.runtime.sources.media import number_of, picture, write_av, write_cv2

FRAMES = 60
WAIT_S = 30.0


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves files with ranges, streams Motion JPEG, and fails where it is told to."""

    folder: Path
    break_after: int | None = None  # bytes of the answers to come, until it was broken once
    asked: list[str]
    user = ""

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self.asked.append(self.headers.get("Range", ""))
        if self.user and self.headers.get("Authorization") != self.user:
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="camera"')
            self.end_headers()
            return
        if self.path.startswith("/camera"):
            self.stream()
            return
        path = self.folder / self.path[1:].split("?")[0]
        if not path.is_file():
            self.send_error(404)
            return
        data = path.read_bytes()
        found = re.match(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(found[1]) if found else 0
        self.send_response(206 if found else 200)
        self.send_header("Content-Type", "application/octet-stream")
        if "nolength" not in self.path:
            self.send_header("Content-Length", str(len(data) - start))
        self.send_header("Accept-Ranges", "bytes")
        if found:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.end_headers()
        end = len(data)
        breaks = type(self).break_after
        if found and breaks is not None and start < breaks < end:
            end, type(self).break_after = breaks, None
        with contextlib.suppress(OSError):
            self.wfile.write(data[start:end])

    def stream(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        for number in range(600):
            jpeg = cv2.imencode(".jpg", picture(number % 60))[1].tobytes()
            head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
            try:
                self.wfile.write(head.encode() + jpeg + b"\r\n")
            except OSError:
                return
            time.sleep(0.02)


@pytest.fixture
def handler(tmp_path: Path) -> type[Handler]:
    return type("OneHandler", (Handler,), {"folder": tmp_path, "asked": []})


@pytest.fixture
def address(handler: type[Handler]) -> Iterator[Callable[[str], str]]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield lambda name: f"http://127.0.0.1:{server.server_port}/{name}"
    server.shutdown()
    server.server_close()


def write_straight(path: Path) -> Path:
    """Write a video that FFmpeg reads from its start to its end, without a jump."""
    times_ms = [40 * number for number in range(FRAMES)]
    return write_av(path, times_ms, codec="libvpx", kind="webm", options={"live": "1"})


def never() -> cv2.VideoCapture:
    raise AssertionError("what the server says is enough")


def numbers(source: object) -> list[int]:
    return [number_of(frame.image_bgr) for frame in source]  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["clip.mp4", "clip.avi", "clip.mkv"])
def test_a_recording_gives_every_frame_once_and_ends(tmp_path, address, name):
    write_cv2(tmp_path / name, FRAMES)
    with open_source(address(name)) as source:
        assert isinstance(source, VideoAddress)
        assert not source.live
        assert numbers(source) == pytest.approx(range(FRAMES), abs=2)
        assert source.status.state is SourceState.ENDED
        assert list(source) == []


@pytest.mark.parametrize("name", ["clip.mp4", "clip.avi", "clip.mkv"])
def test_a_recording_of_no_stated_length_that_says_how_long_it_plays_is_one(tmp_path, address, name):
    """As a server sends it that makes the file on its way, and knows of no ranges."""
    if name == "clip.avi":
        write_cv2(tmp_path / name, FRAMES)
    else:
        times_ms = [40 * number for number in range(FRAMES)]
        write_av(tmp_path / name, times_ms, options={"movflags": "faststart"} if name == "clip.mp4" else None)
    with open_source(address(name + "?nolength")) as source:
        assert isinstance(source, VideoAddress)
        assert numbers(source) == pytest.approx(range(FRAMES), abs=2)


def test_a_video_of_no_stated_length_and_no_duration_is_live(tmp_path, address):
    write_straight(tmp_path / "live.webm")
    with open_source(address("live.webm?nolength")) as source:
        assert isinstance(source, LiveSource)


@pytest.mark.parametrize("name", ["long.mkv", "live.webm", "long.ts"])
def test_a_recording_whose_header_promises_more_ends_too(tmp_path, address, name):
    times_ms = [40 * number for number in range(FRAMES)]
    if name == "live.webm":
        write_av(tmp_path / name, times_ms, codec="libvpx", kind="webm", options={"live": "1"})
    else:
        write_av(tmp_path / name, times_ms, audio_s=8)
    with open_source(address(name)) as source:
        assert numbers(source) == pytest.approx(range(FRAMES), abs=2)


def test_a_recording_of_hls_is_a_recording(tmp_path, address):
    write_av(tmp_path / "0.ts", [40 * number for number in range(30)])
    write_av(tmp_path / "1.ts", [1200 + 40 * number for number in range(30)])
    head = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:2\n#EXT-X-MEDIA-SEQUENCE:0\n"
    parts = "#EXTINF:1.2,\n0.ts\n#EXTINF:1.2,\n1.ts\n"
    (tmp_path / "vod.m3u8").write_text(head + parts + "#EXT-X-ENDLIST\n")
    (tmp_path / "live.m3u8").write_text(head + parts)
    (tmp_path / "all.m3u8").write_text("#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nvod.m3u8\n")
    assert not is_recording(address("live.m3u8"), never)
    assert is_recording(address("all.m3u8"), never)
    with open_source(address("vod.m3u8")) as source:
        assert len(numbers(source)) == 60


def test_a_recording_plays_in_real_time_where_asked(tmp_path, address):
    write_cv2(tmp_path / "clip.avi", 10)
    with open_source(address("clip.avi"), realtime=True) as source:
        assert isinstance(source, PacedSource)
        times_ms = [frame.captured_ns / 1e6 for frame in source]
    assert times_ms[-1] - times_ms[0] == pytest.approx(360, abs=41)


def test_a_stream_without_an_end_is_live(address):
    with open_source(address("camera")) as source:
        assert isinstance(source, LiveSource)
        frames = iter(source)
        first, second = next(frames), next(frames)
    assert first.pts_ns is None  # Motion JPEG over HTTP has no times, whatever FFmpeg says
    assert second.captured_ns > first.captured_ns


def test_a_connection_that_is_lost_is_taken_up_where_it_was(tmp_path, address, handler, caplog):
    path = write_straight(tmp_path / "clip.webm")
    handler.break_after = path.stat().st_size // 2
    with open_source(address("clip.webm")) as source:
        frames = list(source)
    assert re.search(r"connection lost after frame \d+, going on there", caplog.text)
    assert numbers(frames) == pytest.approx(range(FRAMES), abs=2)
    assert [round(frame.pts_ns / 1e6) for frame in frames] == [40 * number for number in range(FRAMES)]
    assert [frame.frame_id for frame in frames] == list(range(FRAMES))


def test_a_server_that_stays_away_is_an_error_and_no_end(tmp_path, address, handler, monkeypatch):
    monkeypatch.setattr(video.time, "sleep", lambda _: None)
    path = write_straight(tmp_path / "clip.webm")
    handler.break_after = path.stat().st_size // 2
    frames = []
    with open_source(address("clip.webm")) as source:
        frames.append(next(iter(source)))
        path.unlink()
        with pytest.raises(SourceError, match=r"connection lost after frame (\d+), and it does not open any"):
            frames.extend(source)
        assert source.status.state is SourceState.FAILED
    assert 1 < len(frames) < FRAMES


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("camera", False),
        ("camera.mp4", False),
        ("clip.avi", True),
        ("clip.avi?token=1", True),
        ("empty.mp4", False),
        ("none.mp4", True),  # what is called so and is not there is a wrong address and no camera
        ("none", False),
    ],
)
def test_what_is_a_recording(tmp_path, address, name, expected):
    write_cv2(tmp_path / "clip.avi", 2)
    (tmp_path / "empty.mp4").touch()
    assert is_recording(address(name), never) is expected


def test_a_recording_that_is_not_there_is_an_error_at_once(address):
    with pytest.raises(SourceError, match=r"none\.mp4: expected a stream, but it does not open"):
        open_source(address("none.mp4"))


def test_user_and_password_of_the_address_are_sent_and_not_shown(tmp_path, address, handler, caplog):
    write_cv2(tmp_path / "clip.avi", 3)
    handler.user = "Basic cm9ib3Q6czNjcjN0"  # robot:s3cr3t
    with open_source(address("clip.avi").replace("127", "robot:s3cr3t@127")) as source:
        assert len(numbers(source)) == 3
    wrong = address("none").replace("127", "robot:wr0ng@127")
    caplog.set_level("INFO")
    policy = LivePolicy(give_up_s=0.3)
    with open_source(wrong, policy=policy) as live, pytest.raises(SourceError) as caught:
        list(live)
    assert "wr0ng" not in str(caught.value) + caplog.text
