"""Masks as others read them: run lengths, polygons, palette PNG.

- RLE is COCO's uncompressed run-length encoding (`pycocotools.mask`), one list of runs a class. Pixels are
  read column by column, top to bottom. `counts` gives the lengths of runs that alternate between "not this
  class" and "this class" and begins with the former, so it begins with 0 where the first pixel has the class.
- Polygons are outlines with their holes, in the nesting of GeoJSON's MultiPolygon.
- A palette PNG (ISO/IEC 15948, colour type 3; 4 bits a pixel, or 8 where an index is above 15) holds class
  indices and looks like the class colours. Pillow, GIMP and data-set tools read the indices back. OpenCV
  turns them into colours, so `decode_palette_png` reads what was written here.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping

import cv2
import numpy as np

from runtime.contract import ClassMap
from runtime.errors import ConfigError, FrameError
from runtime.frame import Image
from runtime.masks.areas import check_mask, label_areas

Ring = list[list[int]]  # corners [x, y] in pixels; the last joins the first
Polygon = list[Ring]  # its outline, then its holes

_SMALLEST_RING = 3
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_HEADER = struct.Struct(">IIBBBBB")  # width, height, bit depth, colour type, compression, filter, interlace
_PALETTE = (3, 0, 0, 0)  # what follows the bit depth
_NONE, _UP = 0, 2  # filters of rows: as they are, or less the row above
_MEMORY_LEVEL = 6  # zlib begins a new table every 4,096 matches, which fits masks better than every 16,384


def encode_rle(mask: Image) -> dict[int, list[int]]:
    """Return the runs of every class that is present.

    Args:
        mask: uint8 (H, W) class indices.

    Returns:
        Class index → counts, which sum to H * W; sorted by class.

    Raises:
        FrameError: a mask that is not uint8 (H, W).

    >>> encode_rle(np.array([[7, 7, 0], [7, 0, 0]], np.uint8))
    {0: [3, 3], 7: [0, 3, 3]}
    """
    check_mask(mask)
    pixels = np.ascontiguousarray(mask.T).reshape(-1)  # (W * H,), column after column
    starts = np.concatenate(([0], np.flatnonzero(pixels[1:] != pixels[:-1]) + 1))
    ends = np.append(starts[1:], pixels.size)
    labels = pixels[starts]
    runs: dict[int, list[int]] = {}
    for label in np.unique(labels).tolist():
        of_label = labels == label
        # Start and end of each of the class's runs in turn; their distances are the counts.
        borders = np.stack((starts[of_label], ends[of_label]), axis=1).reshape(-1)
        counts = np.diff(borders, prepend=0).tolist()
        rest = pixels.size - int(borders[-1])
        runs[label] = [*counts, rest] if rest else counts
    return runs


def decode_rle(runs: Mapping[int, list[int]], size_hw: tuple[int, int], fill: int = 255) -> Image:
    """Return the mask that `encode_rle` was given.

    Args:
        runs: class index → counts.
        size_hw: height and width of the mask in pixels.
        fill: value of pixels that no class claims.

    Returns:
        uint8 (H, W).

    Raises:
        FrameError: counts that are negative or do not sum to H * W, or a class outside 0 to 255.

    >>> decode_rle({0: [3, 3], 7: [0, 3, 3]}, (2, 3))
    array([[7, 7, 0],
           [7, 0, 0]], dtype=uint8)
    """
    height, width = size_hw
    pixels = np.full(height * width, fill, np.uint8)
    for label, counts in runs.items():
        lengths = np.asarray(counts, np.int64)
        if not 0 <= label <= 255 or (lengths < 0).any() or lengths.sum() != pixels.size:
            raise FrameError(
                f"RLE of class {label}: expected a class from 0 to 255 and counts that sum to {height} * "
                f"{width} = {pixels.size}, got counts that sum to {lengths.sum()}; check size_hw"
            )
        has_class = np.arange(lengths.size) % 2 == 1
        pixels[np.repeat(has_class, lengths)] = label
    return np.ascontiguousarray(pixels.reshape(width, height).T)


def mask_polygons(
    mask: Image, epsilon_px: float = 1.0, min_area_px: float = 16.0
) -> dict[int, list[Polygon]]:
    """Return the outlines of every class that is present, in the nesting of GeoJSON's MultiPolygon.

    Corners lie on the centres of border pixels, so a polygon drawn with `cv2.fillPoly` covers its pixels.
    Outlines are traced after Suzuki and Abe (1985, `cv2.findContours`) and thinned after Douglas and
    Peucker (1973, `cv2.approxPolyDP`).

    Args:
        mask: uint8 (H, W) class indices.
        epsilon_px: how far a thinned outline may lie from the true one, in pixels; 0 keeps every corner.
        min_area_px: outlines and holes that cover less are left out.

    Returns:
        Class index → polygons, each a list of rings: the outline, then its holes. A class of which every
        part is too small is not there.

    Raises:
        FrameError: a mask that is not uint8 (H, W).
        ConfigError: a negative epsilon or area.

    >>> mask = np.zeros((6, 8), np.uint8)
    >>> mask[1:5, 2:7] = 3
    >>> mask_polygons(mask, min_area_px=4)[3]
    [[[[2, 1], [2, 4], [6, 4], [6, 1]]]]
    """
    check_mask(mask)
    if not (epsilon_px >= 0 and min_area_px >= 0):
        raise ConfigError(
            f"polygons: expected an epsilon and an area of at least 0, got {epsilon_px} and {min_area_px}"
        )
    result = {}
    for label in np.flatnonzero(label_areas(mask)).tolist():
        polygons = _polygons((mask == label).view(np.uint8), epsilon_px, min_area_px)
        if polygons:
            result[label] = polygons
    return result


def _polygons(binary: Image, epsilon_px: float, min_area_px: float) -> list[Polygon]:
    """Trace one class, given as uint8 (H, W) of 0 and 1."""
    contours, hierarchy = cv2.findContours(binary, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    polygons: dict[int, Polygon] = {}
    # Two levels: outlines have no parent, holes have their outline, which may come after them.
    order = sorted(range(len(contours)), key=lambda index: int(hierarchy[0][index][3]) >= 0)
    for index in order:
        ring = _thinned(contours[index], epsilon_px, min_area_px)
        parent = int(hierarchy[0][index][3])
        if ring is None:
            continue
        if parent < 0:
            polygons[index] = [ring]
        elif parent in polygons:
            polygons[parent].append(ring)
    return list(polygons.values())


def _thinned(contour: cv2.typing.MatLike, epsilon_px: float, min_area_px: float) -> Ring | None:
    """Return the corners that matter; None where too little is left."""
    if cv2.contourArea(contour) < min_area_px:
        return None
    thin = cv2.approxPolyDP(contour, epsilon_px, closed=True)
    corners: Ring = np.asarray(thin, np.int32).reshape(-1, 2).tolist()
    return corners if len(corners) >= _SMALLEST_RING else None


def encode_palette_png(mask: Image, classes: ClassMap) -> bytes:
    """Return a PNG file's bytes; a pixel's value is its class index, its colour the class's.

    Indices past the classes, such as the ignore index, are black.

    Args:
        mask: uint8 (H, W) class indices.
        classes: the colours.

    Raises:
        FrameError: a mask that is not uint8 (H, W).

    >>> one = ClassMap(names=("road",), palette_rgb=((128, 64, 128),))
    >>> decode_palette_png(encode_palette_png(np.zeros((1, 3), np.uint8), one))
    array([[0, 0, 0]], dtype=uint8)
    """
    check_mask(mask)
    height, width = mask.shape
    bits = 4 if mask.max() < 1 << 4 else 8
    pixels = _packed(mask) if bits == 4 else mask  # (H, bytes a row)
    palette = np.zeros((1 << bits, 3), np.uint8)
    palette[: len(classes)] = classes.palette_rgb[: 1 << bits]
    rows = np.empty((height, 1 + pixels.shape[1]), np.uint8)
    rows[:, 0] = _UP  # each row begins with its filter
    rows[0, 1:] = pixels[0]
    np.subtract(pixels[1:], pixels[:-1], out=rows[1:, 1:])  # modulo 256
    # Most is runs of zeros then: to match only those takes half the time that other strategies take, and
    # less room.
    packer = zlib.compressobj(level=1, strategy=zlib.Z_RLE, memLevel=_MEMORY_LEVEL)
    data = packer.compress(rows.data) + packer.flush()
    return (
        _SIGNATURE
        + _chunk(b"IHDR", _HEADER.pack(width, height, bits, *_PALETTE))
        + _chunk(b"PLTE", palette.tobytes())
        + _chunk(b"IDAT", data)
        + _chunk(b"IEND", b"")
    )


def _packed(mask: Image) -> Image:
    """Return two pixels a byte, the left one in the upper half; the last of an odd row stands beside a 0."""
    even = np.pad(mask, ((0, 0), (0, 1))) if mask.shape[1] % 2 else np.ascontiguousarray(mask)
    pairs = even.view("<u2")
    return ((pairs << 4) | (pairs >> 8)).astype(np.uint8)


def decode_palette_png(png: bytes) -> Image:
    """Return the class indices, uint8 (H, W), of a PNG that `encode_palette_png` made.

    Raises:
        FrameError: another file, or a damaged one.
    """
    try:
        return _decode(png)
    except (struct.error, zlib.error, ValueError, KeyError):
        raise FrameError(
            "mask: expected a whole palette PNG written by edgeseg, got something else; read other PNGs "
            "with Pillow"
        ) from None


def _decode(png: bytes) -> Image:
    """Decode; any of several errors where the bytes are not what was expected."""
    if not png.startswith(_SIGNATURE):
        raise ValueError
    chunks: dict[bytes, bytes] = {}
    at = len(_SIGNATURE)
    while at < len(png):
        (length,) = struct.unpack_from(">I", png, at)
        kind, body = png[at + 4 : at + 8], png[at + 8 : at + 8 + length]
        (checksum,) = struct.unpack_from(">I", png, at + 8 + length)
        if checksum != zlib.crc32(kind + body):
            raise ValueError
        chunks[kind] = chunks.get(kind, b"") + body
        at += 12 + length
    width, height, bits, *form = _HEADER.unpack(chunks[b"IHDR"])
    if tuple(form) != _PALETTE or bits not in (4, 8) or b"IEND" not in chunks:
        raise ValueError
    rows = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8)
    rows = rows.reshape(height, 1 + -(-width * bits // 8))
    filters = set(rows[:, 0].tolist())
    if filters == {_UP}:
        pixels = np.add.accumulate(rows[:, 1:], axis=0, dtype=np.uint8)
    elif filters == {_NONE}:  # as they were written before
        pixels = rows[:, 1:].copy()
    else:
        raise ValueError
    if bits == 8:
        return pixels
    return np.stack((pixels >> 4, pixels & 15), axis=2).reshape(height, -1)[:, :width].copy()


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
