"""What the container of a recording tells of its own end: whole, cut off, or silent about it.

FFmpeg reads as far as it gets and does not say why it stopped, and the number of frames in a header is often
an estimate. But containers state how long their parts are, so a part that reaches past the end of the file is
evidence that the file was cut off, whatever was decoded.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

from runtime.base.files import open_regular

_EBML, _SEGMENT, _CLUSTER = 0x1A45DFA3, 0x18538067, 0x1F43B675
# What may stand directly in a segment, so that one of them ends a cluster of unknown length.
_IN_SEGMENT = frozenset(
    {_CLUSTER, 0x114D9B74, 0x1549A966, 0x1654AE6B, 0x1C53BB6B, 0x1941A469, 0x1043A770, 0x1254C367, 0xEC, 0xBF}
)
_MP4_FIRST = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"styp", b"moof", b"pnot")
_TS_PACKETS = ((188, 0), (192, 4))  # MPEG-TS, and as Blu-ray and AVCHD store it
_UNKNOWN_AVI = (0, 0xFFFFFFFF)


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
    place, kinds = 0, set()
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
        kinds.add(kind)
        place += length
    return None if b"moov" in kinds else "its index (moov box) is missing"


def _matroska(file: BinaryIO, size: int) -> str | None:
    """Walk the segment and its clusters (RFC 8794, RFC 9559)."""
    place = 0
    inside_cluster = False
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
        if kind in _IN_SEGMENT:
            inside_cluster = kind == _CLUSTER
        if kind in (_SEGMENT, _CLUSTER) and is_unknown:
            continue  # step into it
        if is_unknown:
            return None
        part = {_SEGMENT: "segment", _CLUSTER: "cluster"}.get(
            kind, "last cluster" if inside_cluster else "head"
        )
        if missing := _lacks(part, place + length, size):
            return missing
        place += length
    return None


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
