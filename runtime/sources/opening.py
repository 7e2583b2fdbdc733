"""From the text after `--source` to an open source."""

from __future__ import annotations

import glob
import os
import re
import stat
import sys
from dataclasses import dataclass
from pathlib import Path

import cv2

from runtime.base.files import is_encodable
from runtime.base.flags import flag, nested
from runtime.base.images import IMAGE_SUFFIXES, is_clutter
from runtime.base.shown import shown, without_secrets
from runtime.errors import ConfigError, SourceError
from runtime.sources.credentials import (
    PASSWORD_VARIABLE,
    USER_VARIABLE,
    Credentials,
    with_credentials,
)
from runtime.sources.live import LiveSource
from runtime.sources.policy import LivePolicy
from runtime.sources.pts import StreamTimes
from runtime.sources.recorded import ImageFiles, PacedSource, RecordedSource
from runtime.sources.source import Capture, Source, opened
from runtime.sources.video import SyntheticDrive, VideoAddress, VideoFile
from runtime.sources.web import is_recording

_STREAM_SCHEMES = ("http", "https", "rtmp", "rtsp", "rtsps", "tcp", "udp")
_STREAM_TIMEOUT_MS = 10_000
_VIDEO_DEVICE = 81  # the major number of V4L2, in Linux's list of devices
_EXPECTED = (
    "a camera (0, /dev/video0), a stream (rtsp://…), a video file, images ('frames/*.png'), a bag of ROS or "
    "synthetic"
)


@dataclass(frozen=True)
class SourceOptions:
    """Where the frames come from: the flags that commands share."""

    source: str = flag(
        "camera number or device (0, /dev/video0), stream (rtsp://…), video (clip.mp4), images "
        "('frames/*.png'), bag of ROS (drive.mcap) or synthetic",
        default="0",
    )
    topic: str | None = flag(
        "topic of the bag that holds the pictures, such as /camera/image_raw",
        default=None,
        unset="the only one that fits",
    )
    realtime: bool = flag(
        "play a video at its own pace and drop the frames that the network is too slow for, as with a camera",
        default=False,
    )
    source_credentials: Path | None = flag(
        "file with one line USER:PASSWORD for a stream's address, so that no list of processes shows them; "
        f"or set {USER_VARIABLE} and {PASSWORD_VARIABLE}",
        default=None,
        metavar="FILE",
    )
    policy: LivePolicy = nested(
        LivePolicy, without=("open_s", "stall_s", "reopen_s", "bad_in_a_row", "most_hanging", "backoff")
    )

    @property
    def name(self) -> str:
        """What to call the source; free of passwords."""
        return shown(self.source)

    def open(self, *, max_age_ms: float | None = None) -> Source:
        """Open it, see `open_source`."""
        return open_source(
            self.source,
            realtime=self.realtime,
            policy=self.policy,
            topic=self.topic,
            max_age_ms=max_age_ms,
            credentials=None
            if self.source_credentials is None
            else Credentials.read(self.source_credentials),
        )


def open_source(
    spec: str,
    *,
    realtime: bool = False,
    policy: LivePolicy | None = None,
    topic: str | None = None,
    max_age_ms: float | None = None,
    credentials: Credentials | None = None,
) -> Source:
    """Open what a specification names.

    Args:
        spec: one of
            a camera: its number, or its device such as `/dev/video0` (live);
            a stream: an `rtsp://`, `http://`, … address (live);
            a video file, or a recording on a web server (every frame);
            images: one file, or a pattern such as `frames/*.png`, in natural order (every frame);
            a bag of ROS: a .mcap, .db3 or .bag file, or a folder of the first two (every frame);
            `synthetic`: the bundled drive through rendered streets, 360x480, without an end (every frame).
        realtime: play a video or the drive at its own pace and leave out what the caller is too slow for.
        policy: when a camera or stream worries, tries again and gives up. Neither needs to be there yet.
        topic: of a bag; None for the only one that fits.
        max_age_ms: a camera's or stream's pictures that were captured longer ago are dropped; None for no
            limit.
        credentials: of a stream whose address names no user; None for what EDGESEG_SOURCE_USER and
            EDGESEG_SOURCE_PASSWORD hold.

    Raises:
        SourceError: a specification that is none of these, or a recording that cannot be opened.
        ConfigError: a bag without the extra `ros`, a topic of what is no bag, or credentials for what takes
            none.
    """
    address = with_credentials(spec, credentials)
    if ("://" in spec or spec.startswith("/dev/")) and not is_encodable(spec):
        raise SourceError(
            f"{shown(spec)}: expected an address in UTF-8, got other bytes; write them as %E9 in an address, "
            "or link the device under another name"
        )
    if topic is not None and not _is_bag(spec):
        raise ConfigError(f"topic: expected a bag as --source, got {shown(spec)}; leave it out")
    if spec.isascii() and spec.isdecimal() and len(spec) < 6:
        return _camera(f"/dev/video{int(spec)}", int(spec), policy, max_age_ms)
    if spec.startswith("/dev/"):
        return _camera(spec, spec, policy, max_age_ms)
    if "://" in spec:
        return _address(address, realtime, policy or LivePolicy(), max_age_ms)
    recording: RecordedSource
    if spec == "synthetic":
        recording = SyntheticDrive()
    elif _is_bag(spec):
        from runtime.sources.bag import BagSource  # of the extra `ros`, which few need

        recording = BagSource(spec, topic)
    else:
        recording = _files(spec)
    return PacedSource(recording) if realtime else recording


def open_recorded(spec: str, what: str = "source") -> Source:
    """Open images or a recording, for what wants the same frames again or an end.

    Args:
        spec: see `open_source`.
        what: the flag it was given by, for the message.

    Raises:
        SourceError: a camera or a stream, also one that is not there; or as `open_source`.
    """
    source = open_source(spec)
    if source.live:
        source.close()
        raise SourceError(
            f"{what}: expected images or a recording, got a camera or stream, "
            f"{shown(without_secrets(spec))}; record it with runtime.camera --save"
        )
    return source


def _is_bag(spec: str) -> bool:
    """Whether a specification names a bag that is there."""
    from runtime.ros.bags import is_bag  # what few need must not slow down every import

    return Path(spec).exists() and is_bag(Path(spec))


def _camera(device: str, index: int | str, policy: LivePolicy | None, max_age_ms: float | None) -> Source:
    """Open a camera, which may be plugged in later."""
    name = f"camera {shown(index)}"
    if _is_no_camera(device):
        raise SourceError(f"{name}: expected a camera, got another kind of file; list them: ls /dev/video*")
    backend = cv2.CAP_V4L2 if sys.platform.startswith("linux") else cv2.CAP_ANY

    def open_capture() -> Capture:
        capture = cv2.VideoCapture(index, backend)
        if opened(capture, name):
            return capture
        if users := users_of(device):
            others = f" and {len(users) - 3} more" if len(users) > 3 else ""
            raise SourceError(
                f"{name}: expected a camera that is free, but it is open in {', '.join(users[:3])}{others}; "
                "close that, or read the camera once and share the frames"
            )
        raise SourceError(
            f"{name}: expected a camera, but it does not open; check that it is plugged in, that no other "
            "program uses it and that you may read it (group video), or try the source synthetic"
        )

    return LiveSource(open_capture, name, policy, max_age_ms=max_age_ms)


def _is_no_camera(device: str) -> bool:
    """Whether a path is something else than a camera; what is not there may become one."""
    try:
        state = Path(device).stat()
    except OSError:
        return False
    is_linux = sys.platform.startswith("linux")
    return not stat.S_ISCHR(state.st_mode) or (is_linux and os.major(state.st_rdev) != _VIDEO_DEVICE)


def _address(address: str, realtime: bool, policy: LivePolicy, max_age_ms: float | None) -> Source:
    """Open a network stream, which may be switched on later, or a recording on a web server."""
    scheme, name = address.split("://", 1)[0].lower(), shown(address)
    if scheme not in _STREAM_SCHEMES:
        raise SourceError(f"{name}: expected a stream of {', '.join(_STREAM_SCHEMES)}, got {shown(scheme)}")
    # Without these FFmpeg waits 30 s for a camera that is switched off.
    settings = {
        cv2.CAP_PROP_OPEN_TIMEOUT_MSEC: _STREAM_TIMEOUT_MS,
        cv2.CAP_PROP_READ_TIMEOUT_MSEC: _STREAM_TIMEOUT_MS,
        # Threads decode frame by frame, so that each but the first holds a picture back.
        cv2.CAP_PROP_N_THREADS: policy.decoder_threads,
    }
    params = [value for setting in settings.items() for value in setting]

    def open_capture() -> Capture:
        capture = cv2.VideoCapture(address, cv2.CAP_FFMPEG, params)
        if opened(capture, name):
            return capture
        raise SourceError(
            f"{name}: expected a stream, but it does not open; check the address, the user and password, and "
            "that the camera can be reached"
        )

    if scheme in ("http", "https") and is_recording(address, open_capture):
        recording = VideoAddress(open_capture, name)
        return PacedSource(recording) if realtime else recording
    times = StreamTimes(is_network=True, may_lack_times=not scheme.startswith("rt"))
    return LiveSource(open_capture, name, policy, times=times, max_age_ms=max_age_ms)


def _files(spec: str) -> RecordedSource:
    """Open a video file, an image file or a pattern of image files."""
    path = Path(spec)
    if path.is_file():  # first, since a file's name may hold the characters of a pattern
        return ImageFiles([path]) if path.suffix.lower() in IMAGE_SUFFIXES else VideoFile(path)
    if path.is_dir():
        pattern = Path(glob.escape(spec)) / "*.png"
        raise SourceError(f"{shown(spec)}: expected a file, got a folder; give its images as '{pattern}'")
    if path.exists():
        raise SourceError(
            f"{spec}: expected a file, got a pipe or a socket; give a file, or a stream's address"
        )
    if not glob.has_magic(spec):
        raise SourceError(f"{shown(spec)}: expected {_EXPECTED}; found no such file")
    matches = glob.glob(spec, recursive=True)  # noqa: PTH207 - Path.glob takes no absolute patterns
    named = next(place for place, part in enumerate(path.parts) if glob.has_magic(part))
    files = (Path(match) for match in matches if Path(match).is_file())
    paths = sorted(
        (str(file) for file in files if not is_clutter(Path(*file.parts[named:]))), key=natural_order
    )
    if not paths:
        raise SourceError(
            f"{shown(spec)}: expected image files, but no file matches; {_pattern_advice(path)}"
        )
    return ImageFiles(paths)


def _pattern_advice(path: Path) -> str:
    """Say what to do about a pattern that matches nothing: perhaps it was meant as it is written."""
    for count in range(len(path.parts) - 1, 0, -1):
        literal = Path(*path.parts[:count])
        if glob.has_magic(str(literal)) and literal.exists():
            meant = Path(glob.escape(str(literal)), *path.parts[count:])
            return (
                f"{shown(literal)} exists, but [, ] and the like stand for other characters in a pattern; "
                f"give '{shown(meant)}'"
            )
    return "check the folder and the pattern"


def natural_order(path: str) -> list[tuple[int, int, str]]:
    """Sort key by which frame_9 comes before frame_10."""
    return [(0, int(part), part) if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d+)", path)]


def users_of(device: str | Path) -> list[str]:
    """Return the programs that have a device open, as `name (process 123)`; `this program` for our own.

    Only Linux tells, and only of processes that we may look into; elsewhere the list is empty.
    """
    wanted = os.path.realpath(device)
    users = []
    for process in sorted(Path("/proc").glob("[0-9]*"), key=lambda path: int(path.name)):
        try:
            is_open = any(os.path.realpath(link) == wanted for link in (process / "fd").iterdir())
            name = (process / "comm").read_text(errors="replace").strip()
        except OSError:  # another user's, or gone meanwhile
            continue
        if is_open:
            own = process.name == str(os.getpid())
            users.append("this program" if own else f"{name} (process {process.name})")
    return users
