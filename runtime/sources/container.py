"""What the container of a recording tells of it: how large its pictures are, and whether it is whole.

FFmpeg reads as far as it gets and does not say why it stopped, and the number of frames in a header is often
an estimate. But containers state how long their parts are, so a part that reaches past the end of the file is
evidence that the file was cut off, whatever was decoded. A cut between two parts leaves no evidence, but in
files of ours: they say in their head where they come from, and have an end.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from runtime.base.files import open_regular
from runtime.base.images import check_pixels
from runtime.errors import SourceError

RECORDED_HERE = "recorded by edgeseg"  # the comment in the head of our .mp4 and .mkv
_EBML, _SEGMENT, _CLUSTER = 0x1A45DFA3, 0x18538067, 0x1F43B675
_TRACKS, _TRACK, _VIDEO, _WIDTH, _HEIGHT = 0x1654AE6B, 0xAE, 0xE0, 0xB0, 0xBA
# What may stand directly in a segment, so that one of them ends a cluster of unknown length.
_IN_SEGMENT = frozenset(
    {_CLUSTER, _TRACKS, 0x114D9B74, 0x1549A966, 0x1C53BB6B, 0x1941A469, 0x1043A770, 0x1254C367, 0xEC, 0xBF}
)
_MP4_FIRST = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"styp", b"moof", b"pnot")
_TS_PACKETS = ((188, 0), (192, 4))  # MPEG-TS, and as Blu-ray and AVCHD store it
_UNKNOWN_AVI = (0, 0xFFFFFFFF)
_HEAD_BYTES, _INDEX_BYTES = 1 << 20, 64 << 20
_LIST = b"ffconcat version"
_MOST_TRACKS, _MOST_BOXES = 64, 100_000


def check_head(path: str | Path, name: str) -> tuple[int, int]:
    """Check what a video file's head says, before FFmpeg opens it.

    Args:
        path: the file; one that cannot be read passes, since FFmpeg says what is wrong.
        name: what messages call it, fit to be shown.

    Returns:
        The largest width and height in pixels that it states; 0, 0 for none.

    Raises:
        SourceError: pictures of more pixels than `EDGESEG_MAX_IMAGE_PIXELS` allows, or a list of other files.
        ConfigError: that variable is no number.
    """
    try:
        with open_regular(path) as file:
            is_list = file.read(len(_LIST)) == _LIST
        largest_wh = largest_picture_wh(path)
    except OSError:
        return 0, 0
    if is_list:
        raise SourceError(f"{name}: expected a video, got a list of other files; give one of them")
    check_pixels(name, "pictures", *largest_wh)
    return largest_wh


def largest_picture_wh(path: str | Path) -> tuple[int, int]:
    """Return the largest width and height in pixels that the head of a video file states; 0, 0 for none.

    Raises:
        OSError: the file cannot be read.
    """
    with open_regular(path) as file:
        head = file.read(_HEAD_BYTES)
        if head[4:8] in _MP4_FIRST:
            sizes = _mp4_sizes(_mp4_index(file))
        elif head[:4] == _EBML.to_bytes(4, "big"):
            sizes = _matroska_sizes(head)
        else:
            sizes = _avi_sizes(head)
        found = [(0, 0)]
        with suppress(struct.error):  # one that is cut off
            found.extend(sizes)
        return max(found, key=lambda size_wh: size_wh[0] * size_wh[1])


def _mp4_index(file: BinaryIO) -> bytes:
    """Return the moov box, as far as it is of a usual length."""
    place = 0
    for _ in range(_MOST_BOXES):
        file.seek(place)
        head = file.read(16)
        length = int.from_bytes(head[8:16] if head[:4] == b"\0\0\0\x01" else head[:4], "big")
        if len(head) < 8 or (length < 8 and head[4:8] != b"moov"):
            return b""
        if head[4:8] == b"moov":
            return head + file.read(_INDEX_BYTES)
        place += length
    return b""


def _mp4_sizes(index: bytes) -> Iterator[tuple[int, int]]:
    """Yield what tracks and their video samples state (ISO/IEC 14496-12, sections 8.3.2 and 12.1.3)."""
    for found in islice(re.finditer(rb"tkhd([\0\x01])", index), _MOST_TRACKS):
        yield struct.unpack_from(">H2xH", index, found.end() + (75 if found[1] == b"\0" else 87))
    for found in islice(re.finditer(rb"vmhd", index), _MOST_TRACKS):
        if (place := index.find(b"stsd", found.end(), found.end() + 4096)) >= 0:
            yield struct.unpack_from(">HH", index, place + 44)


def _matroska_sizes(head: bytes) -> Iterator[tuple[int, int]]:
    """Yield what the video tracks state (RFC 9559, section 5.1.4.1.28)."""
    place, stated = 0, {_WIDTH: 0, _HEIGHT: 0}
    while place < len(head):
        kind, kind_bytes = _ebml_number(head[place : place + 8], keeps_marker=True)
        length, length_bytes = _ebml_number(head[place + kind_bytes :][:8], keeps_marker=False)
        if not kind_bytes or not length_bytes or kind == _CLUSTER:
            return
        place += kind_bytes + length_bytes
        if kind in (_SEGMENT, _TRACKS, _TRACK, _VIDEO):
            continue  # step into it
        if kind in stated:
            stated[kind] = int.from_bytes(head[place : place + min(length, 8)], "big")
            yield stated[_WIDTH], stated[_HEIGHT]
        place += length


def _avi_sizes(head: bytes) -> Iterator[tuple[int, int]]:
    """Yield what the file and its first video stream state."""
    for name, further in ((rb"avih", 36), (rb"vids.{48,512}?strf", 8)):
        if found := re.search(name, head, re.DOTALL):
            width, height = struct.unpack_from("<ii", head, found.end() + further)
            yield abs(width), abs(height)


def what_is_missing(path: str | Path) -> str | None:
    """Return the evidence that a video file was cut off, such as "its mdat box lacks 512 bytes".

    None where the file is whole, or its format does not tell.

    Raises:
        OSError: the file cannot be read.

    >>> import tempfile
    >>> clip = Path(tempfile.mkdtemp(), "clip.mp4")
    >>> _ = clip.write_bytes(bytes([0, 0, 0, 12]) + b"ftypisom" + bytes([0, 0, 1, 0]) + b"mdat" + bytes(92))
    >>> what_is_missing(clip)
    'its mdat box lacks 156 bytes'
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        head = file.read(12)
        if head[4:8] in _MP4_FIRST:
            return _mp4(file, size)
        if head[:4] == _EBML.to_bytes(4, "big"):
            return _matroska(file, size)
        if head[:4] == b"RIFF" and head[8:12] in (b"AVI ", b"AVIX"):
            return _avi(file, size)
        return _transport_stream(file, size)


def _lacks(part: str, end: int, size: int) -> str | None:
    return f"its {part} lacks {end - size} bytes" if end > size else None


def _mp4(file: BinaryIO, size: int) -> str | None:
    """Walk the boxes of an ISO base media file (ISO/IEC 14496-12, section 4.2)."""
    place, kinds, has_end = 0, set(), True
    while place < size:
        file.seek(place)
        head = file.read(16)
        if len(head) < 8:
            return "its last box is cut"
        length, kind = int.from_bytes(head[:4], "big"), head[4:8]
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        if length == 0:  # up to the end of the file; zeros behind the last box are padding
            length = size - place
        if length < 8 or not all(32 <= byte < 127 or byte == 0 for byte in kind):
            break  # no box any more
        if missing := _lacks(f"{kind.decode('ascii')} box", place + length, size):
            return missing
        if kind == b"moov":
            has_end = RECORDED_HERE.encode() not in file.read(min(length, _HEAD_BYTES))
        if kind == b"sidx" and (
            missing := _lacks("data after its sidx box", _listed(file, place, length), size)
        ):
            return missing
        kinds.add(kind)
        place += length
    if b"moov" not in kinds:
        return "its index (moov box) is missing"
    # What FFmpeg writes behind the last fragment; of others' files it may be left out.
    return (
        "its end (mfra box) is missing" if not has_end and kinds & {b"moof", b"mfra"} == {b"moof"} else None
    )


def _listed(file: BinaryIO, place: int, length: int) -> int:
    """Return where the segments end that a sidx box lists (ISO/IEC 14496-12, section 8.16.3)."""
    file.seek(place)
    box = file.read(min(length, _HEAD_BYTES))
    first = 28 if box[8:9] == b"\0" else 36
    entries = box[first + 4 :]
    sizes = struct.iter_unpack(">I8x", entries[: len(entries) // 12 * 12])
    offset = int.from_bytes(box[first - 4 : first], "big")
    return place + length + offset + sum(int(size) & 0x7FFFFFFF for (size,) in sizes)


def _matroska(file: BinaryIO, size: int) -> str | None:
    """Walk the segment and its clusters (RFC 8794, RFC 9559)."""
    file.seek(0)
    is_ours = RECORDED_HERE.encode() in file.read(_HEAD_BYTES)
    place = 0
    inside_cluster = is_unfinished = False
    while place < size:
        file.seek(place)
        head = file.read(12)
        kind, kind_bytes = _ebml_number(head, keeps_marker=True)
        length, length_bytes = _ebml_number(head[kind_bytes:], keeps_marker=False)
        if not kind_bytes or not length_bytes:
            # Fewer bytes than a head needs are a cut one; a byte that starts none is another damage.
            return "its last element is cut" if size - place < 12 else None
        place += kind_bytes + length_bytes
        is_unknown = length == (1 << 7 * length_bytes) - 1
        is_unfinished |= kind == _SEGMENT and is_unknown
        if kind in _IN_SEGMENT:
            inside_cluster = kind == _CLUSTER
        if kind in (_SEGMENT, _CLUSTER) and is_unknown:
            continue  # step into it
        if is_unknown:
            break
        part = {_SEGMENT: "segment", _CLUSTER: "cluster"}.get(
            kind, "last cluster" if inside_cluster else "head"
        )
        if missing := _lacks(part, place + length, size):
            return missing
        place += length
    return "its end is missing" if is_ours and is_unfinished else None


def _ebml_number(data: bytes, *, keeps_marker: bool) -> tuple[int, int]:
    """Return a number of variable length and its bytes; 0 bytes where it is cut or none."""
    if not data or not data[0]:
        return 0, 0
    count = 9 - data[0].bit_length()
    if count > len(data):
        return 0, 0
    number = int.from_bytes(data[:count], "big")
    return (number if keeps_marker else number & ((1 << 7 * count) - 1)), count


def _avi(file: BinaryIO, size: int) -> str | None:
    """Walk the chunks of an AVI file; a recorder that was killed leaves lists of no stated length."""
    place = 0
    while place < size:
        file.seek(place)
        head = file.read(12)
        if len(head) < 8:
            return "its last chunk is cut"
        kind, length = head[:4], int.from_bytes(head[4:8], "little")
        if kind in (b"RIFF", b"LIST") and length in _UNKNOWN_AVI:
            place += 12  # step into it
            continue
        if not all(32 <= byte < 127 for byte in kind):
            return None
        # A list whose end is beyond the file says more by the chunk in it, but this is evidence enough.
        if missing := _lacks(f"{kind.decode('ascii').strip()} chunk", place + 8 + length, size):
            return missing
        place += 8 + length + length % 2
    return None


def _transport_stream(file: BinaryIO, size: int) -> str | None:
    """Count the packets of an MPEG transport stream, each of which starts with 0x47."""
    for packet, sync in _TS_PACKETS:
        starts = []
        for number in range(4):
            file.seek(number * packet + sync)
            starts.append(file.read(1))
        if starts == [b"\x47"] * 4:
            return f"its last packet lacks {packet - size % packet} bytes" if size % packet else None
    return None
