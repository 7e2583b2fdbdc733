"""What an image file says of itself before it is decoded: kind, size, which way is up, whether it is whole.

A decoder allocates what a header asks for, and OpenCV makes a picture with a blank lower part of a file that
was cut off. So the header is read first, here, without allocating anything.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

_ORIENTATION, _WIDTH, _HEIGHT, _TILE_WIDTH, _TILE_HEIGHT = 274, 256, 257, 322, 323  # TIFF tags
_JPEG_SIZE_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_BARE_MARKERS = frozenset((0x01, *range(0xD0, 0xD9)))
_JPEG_SCAN_END = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")  # neither a stuffed zero nor a restart
# EXIF orientation of AVIF's irot (turns of 90 degrees anticlockwise), then of it with imir's axis 0 or 1.
_TURNED = (1, 8, 3, 6)
_MIRRORED = ((4, 5, 2, 7), (2, 7, 4, 5))
_PNM_MAX_HEADER = 4096
_MOST_SCANS = (
    100  # of a progressive JPEG, usually ten; each passes over the whole picture, even one of 30 bytes
)


class UnknownImage(ValueError):
    """Bytes that are not an image of a kind that is known here, or whose header is damaged."""


@dataclass(frozen=True)
class ImageHeader:
    """The header of an image file.

    Attributes:
        kind: such as "JPEG".
        size_wh: the largest width and height that the file asks for, as stored, before any turn.
        orientation: how to turn it upright, in EXIF's numbers 1..8; 1 is upright already.
        is_whole: False where a JPEG or PNG lacks its end; trailing data, such as a phone's short video, is
            no harm.
        max_value: the largest value of a channel, where the file states one and its values are not spread
            over all bits; 0 otherwise.
        is_series: the file holds several pictures, of which the first is read.
    """

    kind: str
    size_wh: tuple[int, int]
    orientation: int = 1
    is_whole: bool = True
    max_value: int = 0
    is_series: bool = False


def read_header(content: bytes) -> ImageHeader:
    r"""Return what an image file says of itself.

    Raises:
        UnknownImage: no image of a known kind, or a damaged header.

    >>> read_header(b"P5 640 480 4095\n").size_wh
    (640, 480)
    """
    try:
        for start, read in _READERS:
            if start.match(content):
                header = read(content)
                break
        else:
            raise UnknownImage("an unknown kind of file")
    except (struct.error, ArithmeticError, LookupError, ValueError) as error:
        if isinstance(error, UnknownImage):
            raise
        raise UnknownImage("a file whose header is damaged") from None
    if min(header.size_wh) < 1:
        raise UnknownImage(f"{header.kind} that states no size")
    return header


def _jpeg(content: bytes) -> ImageHeader:
    """Walk the markers up to the end of the first picture; what follows it is not looked at."""
    place, size_wh, orientation, is_whole, scans = 2, (0, 0), 1, False, 0
    while (place := content.find(b"\xff", place)) >= 0 and place + 1 < len(content):
        marker = content[place + 1]
        if marker == 0xD9:
            is_whole = True
            break
        if marker in (0x00, 0xFF) or marker in _JPEG_BARE_MARKERS:
            place += 1 if marker == 0xFF else 2
            continue
        if place + 4 > len(content):
            break
        (length,) = struct.unpack_from(">H", content, place + 2)
        body = content[place + 4 : place + 2 + length]
        if marker in _JPEG_SIZE_MARKERS and len(body) >= 5:
            height, width = struct.unpack_from(">HH", body, 1)
            size_wh = max(size_wh, (width, height), key=_area)
        elif marker == 0xE1 and body.startswith(b"Exif\0\0"):
            orientation = _exif_orientation(body[6:])
        place += 2 + max(2, length)
        if marker == 0xDA:
            scans += 1
            if scans > _MOST_SCANS:
                raise UnknownImage(f"a JPEG file of more than {_MOST_SCANS} scans, which would take hours")
            end = _JPEG_SCAN_END.search(content, place)
            if end is None:
                break
            place = end.start()
    return ImageHeader("JPEG", size_wh, orientation, is_whole)


def _png(content: bytes) -> ImageHeader:
    width, height = struct.unpack_from(">II", content, 16)
    place, orientation, is_whole, is_series = 8, 1, False, False
    while place + 8 <= len(content):
        length, name = struct.unpack_from(">I4s", content, place)
        if name == b"IEND":
            is_whole = place + 12 <= len(content)
            break
        if name == b"eXIf":
            orientation = _exif_orientation(content[place + 8 : place + 8 + length])
        elif name == b"acTL":
            is_series = struct.unpack_from(">I", content, place + 8)[0] > 1
        place += 12 + length
    return ImageHeader("PNG", (width, height), orientation, is_whole, is_series=is_series)


def _webp(content: bytes) -> ImageHeader:
    place, size_wh, orientation, is_series = 12, (0, 0), 1, False
    while place + 8 <= len(content):
        name, length = struct.unpack_from("<4sI", content, place)
        body = content[place + 8 : place + 8 + length]
        found = (0, 0)
        if name == b"VP8X":
            found = (1 + int.from_bytes(body[4:7], "little"), 1 + int.from_bytes(body[7:10], "little"))
        elif name == b"VP8 " and body[3:6] == b"\x9d\x01\x2a":
            width, height = struct.unpack_from("<HH", body, 6)
            found = (width & 0x3FFF, height & 0x3FFF)
        elif name == b"VP8L":
            (bits,) = struct.unpack_from("<I", body, 1)
            found = (1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF))
        elif name == b"EXIF":
            orientation = _exif_orientation(body.removeprefix(b"Exif\0\0"))
        is_series |= name == b"ANIM"
        size_wh = max(size_wh, found, key=_area)
        place += 8 + length + length % 2
    return ImageHeader("WebP", size_wh, orientation, is_series=is_series)


def _bmp(content: bytes) -> ImageHeader:
    if struct.unpack_from("<I", content, 14)[0] == 12:  # OS/2
        width, height = struct.unpack_from("<HH", content, 18)
    else:
        width, height = struct.unpack_from("<ii", content, 18)
    return ImageHeader("BMP", (abs(width), abs(height)))


def _tiff(content: bytes) -> ImageHeader:
    tags, following = _tiff_tags(content)
    size_wh = (tags.get(_WIDTH, 0), tags.get(_HEIGHT, 0))
    tile_wh = (tags.get(_TILE_WIDTH, 0), tags.get(_TILE_HEIGHT, 0))
    return ImageHeader(
        "TIFF", max(size_wh, tile_wh, key=_area), _valid(tags.get(_ORIENTATION, 1)), is_series=following
    )


def _isobmff(content: bytes) -> ImageHeader:
    """AVIF and its relatives: boxes within boxes."""
    size = struct.unpack_from(">I", content)[0]
    brands = content[8:size]
    kind = "AVIF" if b"avif" in brands or b"avis" in brands else "HEIF"
    meta = next((body for name, body in _boxes(content) if name == b"meta"), b"")
    size_wh = (0, 0)
    for found in re.finditer(rb"ispe", meta):
        size_wh = max(size_wh, struct.unpack_from(">II", meta, found.end() + 4), key=_area)
    depths = [meta[found.end() + 5] for found in re.finditer(rb"pixi", meta)]
    turns = re.search(rb"\0\0\0\x09irot(.)", meta, re.DOTALL)
    axis = re.search(rb"\0\0\0\x09imir(.)", meta, re.DOTALL)
    turned = turns[1][0] & 3 if turns else 0
    orientation = _MIRRORED[axis[1][0] & 1][turned] if axis else _TURNED[turned]
    deep = depths and 8 < max(depths) <= 16
    return ImageHeader(
        kind,
        size_wh,
        orientation,
        max_value=2 ** max(depths) - 1 if deep else 0,
        is_series=b"avis" in brands[:4],
    )


def _jpeg_2000(content: bytes) -> ImageHeader:
    size_wh, max_value = (0, 0), 0
    for found in re.finditer(rb"\xff\x4f\xff\x51", content):
        right, bottom, left, top = struct.unpack_from(">IIII", content, found.end() + 4)
        size_wh = max(size_wh, (max(0, right - left), max(0, bottom - top)), key=_area)
        bits = 1 + (content[found.end() + 36] & 0x7F)
        max_value = 2**bits - 1 if 8 < bits < 16 else 0
    return ImageHeader("JPEG 2000", size_wh, max_value=max_value)


def _gif(content: bytes) -> ImageHeader:
    width, height = struct.unpack_from("<HH", content, 6)
    place, pictures = 13 + _gif_colors(content[10]), 0
    while pictures < 2 and place + 10 < len(content) and content[place] in b"!,":
        is_picture = content[place : place + 1] == b","
        pictures += is_picture
        place += 11 + _gif_colors(content[place + 9]) if is_picture else 2
        while place < len(content) and content[place]:
            place += 1 + content[place]
        place += 1
    return ImageHeader("GIF", (width, height), is_series=pictures > 1)


def _gif_colors(flags: int) -> int:
    """Return the bytes of a table of colours."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _pnm(content: bytes) -> ImageHeader:
    head = re.sub(rb"#[^\r\n]*", b"", content[:_PNM_MAX_HEADER])
    if head.startswith(b"P7"):
        named = dict(re.findall(rb"(WIDTH|HEIGHT|MAXVAL)[ \t]+(\d{1,10})", head.split(b"ENDHDR")[0]))
        width, height, largest = (int(named.get(name, 0)) for name in (b"WIDTH", b"HEIGHT", b"MAXVAL"))
    else:
        width, height, *rest = (int(word) for word in head[2:].split(maxsplit=3)[:3] if word.isdigit())
        largest = rest[0] if rest and head[1:2] in b"2356" else 0
    is_binary = head[1:2] in b"567"  # OpenCV scales the values of the others by itself
    stated = largest if is_binary and largest not in (1, 255, 65535) else 0
    return ImageHeader("PNM", (width, height), max_value=min(stated, 65535))


def _exif_orientation(exif: bytes) -> int:
    """Return the orientation that an EXIF block states; 1 where it is damaged or states none."""
    try:
        return _valid(_tiff_tags(exif)[0].get(_ORIENTATION, 1))
    except (struct.error, ArithmeticError, ValueError):
        return 1


def _tiff_tags(content: bytes) -> tuple[dict[int, int], bool]:
    """Return the numbers of a TIFF's first directory by tag, and whether there is a second one."""
    order = {b"II": "<", b"MM": ">"}.get(content[:2])
    if order is None:
        raise ValueError("no TIFF")
    is_big = struct.unpack_from(f"{order}H", content, 2)[0] == 43
    count_code, entry, room, offset_code = ("Q", 20, 8, "Q") if is_big else ("H", 12, 4, "I")
    (start,) = struct.unpack_from(order + offset_code, content, 8 if is_big else 4)
    (count,) = struct.unpack_from(order + count_code, content, start)
    first = start + struct.calcsize(f"={count_code}")
    tags: dict[int, int] = {}
    for place in range(first, first + min(count, 4096) * entry, entry):
        tag, kind = struct.unpack_from(f"{order}HH", content, place)
        code = {1: "B", 3: "H", 4: "I", 16: "Q"}.get(kind)
        if code is not None and struct.calcsize(f"={code}") <= room:
            (value,) = struct.unpack_from(order + code, content, place + entry - room)
            tags[tag] = max(value, tags.get(tag, 0))  # of a tag that is there twice
    rest = content[first + count * entry :][:room]
    return tags, len(rest) == room and any(rest)


def _boxes(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    place = 0
    while place + 8 <= len(content):
        length, name = struct.unpack_from(">I4s", content, place)
        head = 8
        if length == 1:
            (length,) = struct.unpack_from(">Q", content, place + 8)
            head = 16
        end = len(content) if length == 0 else place + length
        yield name, content[place + head : end]
        place += max(length, 8) if length else len(content)


def _area(size_wh: tuple[int, int]) -> int:
    return size_wh[0] * size_wh[1]


def _valid(orientation: int) -> int:
    return orientation if 1 <= orientation <= 8 else 1


_READERS = tuple(
    (re.compile(start, re.DOTALL), read)
    for start, read in (
        (rb"\xff\xd8\xff", _jpeg),
        (rb"\x89PNG\r\n\x1a\n", _png),
        (rb"RIFF....WEBP", _webp),
        (rb"BM", _bmp),
        (rb"II[*+]\0|MM\0[*+]", _tiff),
        (rb"....ftyp(?=.{0,256}?(?:avi[fs]|hei[cxms]|hev[cx]|mif1|msf1))", _isobmff),
        (rb"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51", _jpeg_2000),
        (rb"GIF8[79]a", _gif),
        (rb"P[1-7][\s#]", _pnm),
    )
)
