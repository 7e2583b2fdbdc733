"""From the text after `--source` to an open source."""

from __future__ import annotations

import glob
import re
import sys
from pathlib import Path

import cv2

from runtime.errors import SourceError
from runtime.sources.live import LiveSource
from runtime.sources.recorded import ImageFiles, SyntheticDrive, VideoFile
from runtime.sources.source import Capture, Source

_STREAM_SCHEMES = ("http", "https", "rtmp", "rtsp", "rtsps", "tcp", "udp")
_IMAGE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
_STREAM_TIMEOUT_MS = 10_000
_EXPECTED = (
    "a camera (0, /dev/video0), a stream (rtsp://…), a video file, images ('frames/*.png') or synthetic"
)


def open_source(spec: str) -> Source:
    """Open what a specification names.

    Args:
        spec: one of
            a camera: its number, or its device such as `/dev/video0` (live);
            a stream: an `rtsp://`, `http://`, … address (live);
            a video file (every frame);
            images: one file, or a pattern such as `frames/*.png`, in natural order (every frame);
            `synthetic`: an endless drive through the built-in streets, 360x480 (every frame).

    Raises:
        SourceError: a specification that is none of these, or a source that cannot be opened.
    """
    if spec == "synthetic":
        return SyntheticDrive()
    if spec.isascii() and spec.isdecimal():
        backend = cv2.CAP_V4L2 if sys.platform.startswith("linux") else cv2.CAP_ANY
        return _camera(cv2.VideoCapture(int(spec), backend), f"camera {spec}")
    if spec.startswith("/dev/"):
        if not Path(spec).exists():
            raise SourceError(f"{spec}: expected a camera, found no such device; list them: ls /dev/video*")
        return _camera(cv2.VideoCapture(spec, cv2.CAP_V4L2), f"camera {spec}")
    if "://" in spec:
        return _stream(spec)
    return _files(spec)


def without_secrets(address: str) -> str:
    """Return an address fit for messages: without user, password and query.

    >>> without_secrets("rtsp://admin:s3cret@10.0.0.7/live?token=abc")
    'rtsp://***@10.0.0.7/live?***'
    """
    return re.sub(r"\?.*", "?***", re.sub(r"(?<=://).*@", "***@", address))


def _camera(capture: Capture, name: str) -> Source:
    """Wrap an opened camera."""
    if not capture.isOpened():
        capture.release()
        raise SourceError(
            f"{name}: expected a camera, but it does not open; check that it is plugged in, that no other "
            "program uses it and that you may read it (group video), or try the source synthetic"
        )
    return LiveSource(capture, name)


def _stream(address: str) -> Source:
    """Open a network stream."""
    scheme, name = address.split("://", 1)[0].lower(), without_secrets(address)
    if scheme not in _STREAM_SCHEMES:
        raise SourceError(f"{name}: expected a stream of {', '.join(_STREAM_SCHEMES)}, got {scheme}")
    # Without these FFmpeg waits 30 s for a camera that is switched off.
    timeouts = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, cv2.CAP_PROP_READ_TIMEOUT_MSEC]
    params = [value for timeout in timeouts for value in (timeout, _STREAM_TIMEOUT_MS)]
    capture = cv2.VideoCapture(address, cv2.CAP_FFMPEG, params)
    if not capture.isOpened():
        capture.release()
        raise SourceError(
            f"{name}: expected a stream, but it does not open; check the address, the user and password, and "
            "that the camera can be reached"
        )
    return LiveSource(capture, name)


def _files(spec: str) -> Source:
    """Open a video file, an image file or a pattern of image files."""
    path = Path(spec)
    if path.is_file():  # first, since a file's name may hold the characters of a pattern
        return ImageFiles([path]) if path.suffix.lower() in _IMAGE_SUFFIXES else VideoFile(path)
    if path.is_dir():
        raise SourceError(f"{spec}: expected a file, got a folder; give its images as '{path / '*.png'}'")
    if not glob.has_magic(spec):
        raise SourceError(f"{spec}: expected {_EXPECTED}; found no such file")
    matches = glob.glob(spec, recursive=True)  # noqa: PTH207 - Path.glob takes no absolute patterns
    paths = sorted((match for match in matches if Path(match).is_file()), key=_natural)
    if not paths:
        raise SourceError(
            f"{spec}: expected image files, but no file matches; check the folder and the pattern"
        )
    return ImageFiles(paths)


def _natural(path: str) -> list[tuple[int, int, str]]:
    """Sort key by which frame_9 comes before frame_10."""
    return [(0, int(part), part) if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d+)", path)]
