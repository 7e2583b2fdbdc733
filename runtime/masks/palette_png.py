"""Masks as PNG files that hold class indices and look like the class colours.

Format: PNG (ISO/IEC 15948), colour type 3, 8 bits a pixel. Pillow, GIMP and data-set tools read the
indices back. OpenCV turns them into colours, so `decode_palette_png` reads what was written here.
"""

from __future__ import annotations

import struct
import zlib

import numpy as np

from runtime.contract import ClassMap
from runtime.errors import FrameError
from runtime.frame import Image
from runtime.masks.areas import check_mask

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_HEADER = struct.Struct(">IIBBBBB")  # width, height, bit depth, colour type, compression, filter, interlace
_PALETTE_8_BIT = (8, 3, 0, 0, 0)


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
    palette = np.zeros((256, 3), np.uint8)
    palette[: len(classes)] = classes.palette_rgb
    rows = np.zeros((height, 1 + width), np.uint8)  # each row begins with its filter: 0, none
    rows[:, 1:] = mask
    # Masks are runs of equal bytes: matching only those is twice as fast, and half as large again.
    packer = zlib.compressobj(level=1, strategy=zlib.Z_RLE)
    data = packer.compress(rows.tobytes()) + packer.flush()
    return (
        _SIGNATURE
        + _chunk(b"IHDR", _HEADER.pack(width, height, *_PALETTE_8_BIT))
        + _chunk(b"PLTE", palette.tobytes())
        + _chunk(b"IDAT", data)
        + _chunk(b"IEND", b"")
    )


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
    width, height, *form = _HEADER.unpack(chunks[b"IHDR"])
    rows = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(height, 1 + width)
    if tuple(form) != _PALETTE_8_BIT or rows[:, 0].any() or b"IEND" not in chunks:
        raise ValueError
    return rows[:, 1:].copy()


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
