"""Where a recording can be cut: key frames, from the index that its container has in one place.

MP4, MOV and AVI have one. MKV, MPEG-TS and MP4 in fragments would have to be read to their end first, so they
are not cut. PyAV (the extra `record`) reads the index; no picture is decoded.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any, NamedTuple

from runtime.base.files import name_for_libraries

_LONGEST = 4  # times as many frames as wanted


class KeyFrame(NamedTuple):
    """A frame that needs no other.

    Attributes:
        number: of the frame, in the order in which they are shown.
        time_ns: when it is shown, as `Frame.pts_ns`.
    """

    number: int
    time_ns: int


def key_frames(path: str | Path, apart: int) -> tuple[list[KeyFrame], int]:
    """Return key frames of a video that are at least so many frames apart, and how many frames it has.

    Returns:
        The first frame is one of the key frames. There are none where the container has no index, or one that
        cannot be trusted: it does not list as many frames as the head states, or key frames are far apart;
        or where PyAV is missing.

    Args:
        path: the file.
        apart: frames between two of them, at least.
    """
    try:
        av: Any = importlib.import_module("av")
    except ImportError:  # not in the base install
        return [], 0
    try:
        with name_for_libraries(path) as name, av.open(name) as file:
            stream = file.streams.video[0] if file.streams.video else None
            return ([], 0) if stream is None else (_of_stream(file, stream, apart), stream.frames)
    except (av.error.FFmpegError, OSError):  # whoever decodes it says what is wrong
        return [], 0


def _of_stream(file: Any, stream: Any, apart: int) -> list[KeyFrame]:
    index, count = stream.index_entries, stream.frames
    if count < 2 * apart or len(index) != count or stream.time_base is None:
        return []
    keys = [number for number, entry in enumerate(index) if entry.is_keyframe]
    found, before = [KeyFrame(0, 0)], 0
    for key, following in zip(keys, [*keys[1:], count], strict=True):
        if key - before < apart or count - key < apart:
            continue
        # The index says when a frame is decoded; only the packets say when it is shown.
        file.seek(index[(key + following) // 2].timestamp, stream=stream)
        shown = _shown(file, stream, index[key].timestamp)
        if shown is None or key - before > _LONGEST * apart:
            return []
        pts, leading = shown
        seconds = (pts - (stream.start_time or 0)) * stream.time_base
        found.append(KeyFrame(key + leading, round(seconds * 1_000_000_000)))
        before = key
    return [] if count - before > _LONGEST * apart else found


def _shown(file: Any, stream: Any, dts: int) -> tuple[int, int] | None:
    """Return when the frame is shown that is decoded at a time, and how many decoded after it come before."""
    pts: int | None = None
    leading = 0
    for packet in file.demux(stream):
        if packet.dts is None or packet.pts is None or (pts is None and packet.dts > dts):
            return None
        if packet.dts == dts:
            pts = packet.pts
        elif pts is not None:
            if packet.dts >= pts:
                break
            leading += packet.pts < pts
    return None if pts is None else (pts, leading)
