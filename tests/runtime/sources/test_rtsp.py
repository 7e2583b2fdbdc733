"""A real RTSP server on loopback, GStreamer's: stopped, killed and started again with another picture."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runtime.base.codec import to_plain
from runtime.errors import SourceError
from runtime.sources import Backoff, LivePolicy, LiveSource, SourceState, open_source
from tests.fuzz.answering import answering
from tests.fuzz.seeds import seeds

ROOT = Path(__file__).parents[3]
WAIT_S = 60.0
SECRET = "s3cr3t"
SERVER = """
import sys
import gi
gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer

Gst.init(None)
JPEG = ("jpegenc", "rtpjpegpay name=pay0 pt=26")
H264 = ("openh264enc gop-size=15", "h264parse", "rtph264pay name=pay0 pt=96 config-interval=1")
elements = [element.split()[0] for element in JPEG + H264]
if not all(map(Gst.ElementFactory.find, ("videotestsrc", "rtpbin", *elements))):
    sys.exit("a plugin is missing")
if len(sys.argv) == 1:
    sys.exit()
port, width, height, codec = sys.argv[1:]
server = GstRtspServer.RTSPServer()
server.set_address("127.0.0.1")
server.set_service(port)
factory = GstRtspServer.RTSPMediaFactory()
factory.set_launch(
    "( videotestsrc is-live=true ! video/x-raw,format=I420,framerate=15/1,"
    f"width={width},height={height} ! " + " ! ".join({"jpeg": JPEG, "h264": H264}[codec]) + " )"
)
factory.set_shared(True)
role = "user, media.factory.access=(boolean)true, media.factory.construct=(boolean)true"
factory.add_role_from_structure(Gst.Structure.from_string(role)[0])
auth = GstRtspServer.RTSPAuth()
token = GstRtspServer.RTSPToken()
token.set_string("media.factory.role", "user")
auth.add_basic(GstRtspServer.RTSPAuth.make_basic("robot", "s3cr3t"), token)
server.set_auth(auth)
server.get_mount_points().add_factory("/live", factory)
server.attach(None)
print("ready", flush=True)
GLib.MainLoop().run()
"""


def python_with_gstreamer() -> str | None:
    """The interpreter that has GStreamer's bindings, which Debian installs for its own."""
    for python in (sys.executable, shutil.which("python3", path="/usr/bin")):
        if (
            python
            and subprocess.run([python, "-c", SERVER], capture_output=True, check=False).returncode == 0
        ):
            return python
    return None


@pytest.fixture(scope="module")
def gstreamer() -> str:
    if os.name != "posix" or (python := python_with_gstreamer()) is None:
        pytest.skip("needs GStreamer's RTSP server: python3-gi, gir1.2-gst-rtsp-server-1.0, plugins-good")
    return python


@pytest.fixture
def serve(gstreamer: str) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started: list[subprocess.Popen[str]] = []

    def start(width: int, height: int, codec: str = "jpeg") -> subprocess.Popen[str]:
        command = [gstreamer, "-c", SERVER, str(port), str(width), str(height), codec]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process

    start.address = f"rtsp://robot:{SECRET}@127.0.0.1:{port}/live"  # type: ignore[attr-defined]
    yield start
    for process in started:
        process.kill()
        process.communicate()


def watch(address: str, **policy: float) -> LiveSource:
    rules = LivePolicy(give_up_s=WAIT_S, backoff=Backoff(first_s=0.1, cap_s=0.5), **policy)
    source = open_source(address, policy=rules)
    assert isinstance(source, LiveSource)
    return source


GOODBYE = b"$\1\0\x08\x81\xcb\0\1\0\0\0\1"  # of RTCP (RFC 3550, section 6.6)


@pytest.mark.parametrize("last", [GOODBYE, b""], ids=["goodbye", "closed"])
def test_a_recording_ends_and_is_not_played_again(last):
    """Its server states how long it plays; a camera's does not, and is connected to again."""
    script = seeds("rtsp")[2]
    head, _, sdp = script.partition(b"t=0 0\r\n")
    more = b"a=range:npt=0-0.4\r\n"
    length = int(re.search(rb"Content-Length: (\d+)", head)[1])
    head = head.replace(b"Content-Length: %d" % length, b"Content-Length: %d" % (length + len(more)))
    with answering(head + b"t=0 0\r\n" + more + sdp + last) as port:
        policy = LivePolicy(give_up_s=WAIT_S)
        with open_source(f"rtsp://127.0.0.1:{port}/drive.mp4", policy=policy) as source:
            list(source)
    status = source.status
    assert (status.state, status.captured, status.reconnects) == (SourceState.ENDED, 6, 0)


def test_server_that_is_killed_and_comes_back_with_another_size(serve, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    first = serve(160, 120)
    with watch(serve.address) as source:
        frames = iter(source)
        seen = [next(frames) for _ in range(3)]
        first.kill()
        first.wait()
        threading.Timer(0.5, serve, (320, 240)).start()
        while seen[-1].image_bgr.shape == (120, 160, 3):
            seen.append(next(frames))
        names, status = repr(threading.enumerate()), source.status
    assert seen[-1].image_bgr.shape == (240, 320, 3)
    assert [frame.frame_id for frame in seen] == sorted({frame.frame_id for frame in seen})
    assert status.state is SourceState.RUNNING
    assert status.reconnects > 0
    assert "rtsp://***@127.0.0.1" in caplog.text
    out, err = capfd.readouterr()
    assert SECRET not in caplog.text + names + json.dumps(to_plain(status)) + out + err


def test_server_that_falls_silent_and_wakes_again(serve):
    server = serve(160, 120)
    with watch(serve.address, stall_s=0.5, reopen_s=3.0, most_hanging=20) as source:
        frames = iter(source)
        next(frames)
        server.send_signal(signal.SIGSTOP)
        states: set[SourceState] = set()

        def wake() -> None:
            deadline = time.monotonic() + WAIT_S
            while not source.status.hanging and time.monotonic() < deadline:
                states.add(source.status.state)
                time.sleep(0.01)
            server.send_signal(signal.SIGCONT)

        waking = threading.Thread(target=wake)
        waking.start()
        while not source.status.reconnects or source.status.state is not SourceState.RUNNING:
            next(frames)
        waking.join()
    assert SourceState.STALLED in states


@pytest.mark.parametrize("codec", ["jpeg", "h264"])
def test_pictures_of_an_outage_are_known_to_be_old_and_the_first_ones_are_fresh(serve, codec):
    """The server stands still for 2 s, and with it everything on the way; then all comes at once."""
    outage_s = 2.0
    server = serve(160, 120, codec)
    with watch(serve.address, stall_s=20.0, reopen_s=20.0) as source:
        seen: list[tuple[float, int, float]] = []  # age, time stamp and arrival of every picture, in seconds
        decoded = source.decoded

        def note(reader: object, image: object) -> None:
            captured_ns, pts_ns = source._stamps_ns
            now_s = time.monotonic()
            seen.append((now_s - captured_ns / 1e9, pts_ns, now_s))
            decoded(reader, image)

        source.decoded = note
        frames = iter(source)
        for _ in range(30):
            next(frames)
        before = len(seen)
        server.send_signal(signal.SIGSTOP)
        threading.Timer(outage_s, server.send_signal, (signal.SIGCONT,)).start()
        while seen[-1][2] < seen[before - 1][2] + outage_s + 1.0:
            next(frames)
    ages_s = [age for age, _, _ in seen]
    assert None not in [pts_ns for _, pts_ns, _ in seen]
    assert ages_s[0] < 0.5  # what was buffered before is left out, 1.3 s of Motion JPEG
    late = [age for age, _, _ in seen[before:] if age > 0.5]
    assert len(late) >= 5
    assert max(late) > outage_s * 0.7


def test_a_backlog_is_not_handed_out(serve):
    server = serve(160, 120, "h264")
    rules = LivePolicy(give_up_s=WAIT_S, stall_s=20.0, reopen_s=20.0)
    with open_source(serve.address, policy=rules, max_age_ms=300.0) as source:
        frames = iter(source)
        for _ in range(15):
            next(frames)
        dropped = source.dropped
        server.send_signal(signal.SIGSTOP)
        threading.Timer(2.0, server.send_signal, (signal.SIGCONT,)).start()
        until = time.monotonic() + 4.0
        ages_ms = []
        while time.monotonic() < until:
            frame = next(frames)
            ages_ms.append((source._frame_ns - frame.captured_ns) / 1e6)  # when it was put up for the taking
    assert max(ages_ms) < 300.0
    assert source.dropped - dropped >= 10


def test_wrong_password_is_refused_and_not_shown(serve):
    serve(160, 120)
    address = serve.address.replace(SECRET, "wr0ng")
    source = open_source(address, policy=LivePolicy(give_up_s=1.0))
    with source, pytest.raises(SourceError, match=r"rtsp://\*\*\*@127.*: expected a stream, ") as caught:
        list(source)
    assert "wr0ng" not in str(caught.value)


def test_password_is_in_nothing_that_the_command_shows_or_writes(serve, tiny_onnx, tmp_path):
    server = serve(160, 120)
    command = [sys.executable, "-m", "runtime.camera", "--model", str(tiny_onnx), "--source", serve.address]
    command += [
        "--serve",
        "127.0.0.1:0",
        "--save",
        str(tmp_path / "o.mkv"),
        "--jsonl",
        str(tmp_path / "l.jsonl"),
    ]
    robot = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert robot.stderr is not None
        url = next(line for line in robot.stderr if line.startswith("page: ")).removeprefix("page: ").strip()
        shown: list[str] = []

        def show(path: str) -> str:
            with urllib.request.urlopen(url + path, timeout=WAIT_S) as reply:
                shown.append(f"{reply.headers}{reply.read().decode()}")
            return shown[-1]

        def wait_for(what: str) -> None:
            deadline = time.monotonic() + WAIT_S
            while what not in show("stats.json"):
                assert time.monotonic() < deadline
                time.sleep(0.05)

        wait_for('"state": "running"')
        server.kill()
        wait_for("does not open")  # the latest problem
        for path in ("", "metrics", "stats.json"):
            show(path)
        robot.send_signal(signal.SIGTERM)
        out, err = robot.communicate(timeout=WAIT_S)
    finally:
        robot.kill()
    assert robot.returncode == 143
    assert "rtsp://***@127.0.0.1" in shown[-1]
    assert "rtsp://***@127.0.0.1" in err
    assert SECRET not in out + err + "".join(shown)
    written = sorted(path for path in tmp_path.iterdir() if path != tiny_onnx)
    assert [path.name[:9] + path.suffix for path in written] == ["l-000001-.jsonl", "o-000001-.mkv"]
    assert all(SECRET.encode() not in path.read_bytes() for path in written)
