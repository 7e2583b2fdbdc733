"""Label files: what their values mean, and how they become class indices.

A label file holds ids (8-bit grey, or a PNG with a palette, whose indices are the ids) or colours. Which
of the two, and which value is which class, is a `LabelCode`.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from runtime.base.images import ImageFile, load_image
from runtime.errors import DatasetError, SourceError
from runtime.frame import Image
from training.data.dataset import IGNORE

_PNG_START = b"\x89PNG\r\n\x1a\n"
_PNG_GREY, _PNG_PALETTE = 0, 3
_SHOWN_VALUES = 8  # wrong values that an error lists


@dataclass(frozen=True)
class LabelCode:
    """What the values of a data set's label files mean.

    Attributes:
        class_of: class index, or 255 for void, of each value: an id from 0 to 255, or a colour as
            0xRRGGBB.
        expected: the values in words, for errors.
        kind: whether the files hold "ids" or "colors".
        unlisted: whether a value that `class_of` lacks is an error or void.
        is_plain: nobody said what the values mean, so they are the class indices.
    """

    class_of: Mapping[int, int]
    expected: str
    kind: Literal["ids", "colors"] = "ids"
    unlisted: Literal["error", "void"] = "error"
    is_plain: bool = False

    def mask_fault(self, names: Sequence[str], pixel_counts: NDArray[np.int64]) -> str | None:
        """Return what is wrong where labels of one or two classes are masks of 0 and 255; None elsewhere.

        255 is void then, so that the class of the object has no pixel and a network never learns it.

        Args:
            names: the classes'.
            pixel_counts: (256,), how often each class index, and 255, occurs in all labels.
        """
        found = np.flatnonzero(pixel_counts).tolist()
        if not self.is_plain or len(names) > 2 or found != [0, IGNORE]:
            return None
        ground, thing = names if len(names) == 2 else ("background", names[0])
        lines = {"names": [ground, thing], "class_of": {"0": ground, "255": thing}}
        entries = json.dumps(lines, ensure_ascii=False)
        return (
            f"labels hold 0 and 255 alone, as masks do; 255 counts as void, so {thing!r} is never learnt: "
            f"write {entries[1:-1]} into classes.json, without ignore_index"
        )

    def read(self, path: Path) -> Image:
        """Return a label file as class indices, uint8 (H, W), 255 for void.

        Raises:
            DatasetError: a file that does not decode, is not of this kind, or holds a value without meaning.
        """
        return self.decode(load_file(path))

    def decode(self, file: ImageFile) -> Image:
        """Return what a label file holds, see `read`, turned as the file itself says."""
        path = file.name
        if self.kind == "colors":
            return self._from_colors(path, read_picture(file))
        content = _without_palette(file.content)
        with _as_dataset_errors():
            label = file.upright(file.decode(cv2.IMREAD_UNCHANGED, content))
        if label.ndim != 2 or label.dtype != np.uint8:
            raise DatasetError(
                f"{path}: expected a label of one 8-bit channel that holds class ids, "
                f"got {label.dtype} {label.shape}; save the ids as a grey PNG, without colours"
            )
        step = _grey_step(content)
        return self._from_ids(path, label if step == 1 else label // step)

    def _from_ids(self, path: str, ids: Image) -> Image:
        found = np.flatnonzero(np.bincount(ids.ravel(), minlength=256))
        self._check(path, [str(value) for value in found if int(value) not in self.class_of])
        table = np.full(256, IGNORE, np.uint8)
        table[list(self.class_of)] = list(self.class_of.values())
        return cv2.LUT(ids, table)  # type: ignore[return-value]

    def _from_colors(self, path: str, picture_bgr: Image) -> Image:
        blue, green, red = (picture_bgr[:, :, channel].astype(np.int32) for channel in range(3))
        values = red << 16 | green << 8 | blue  # (H, W)
        known = np.array(sorted(self.class_of), np.int32)
        classes = np.array([self.class_of[value] for value in known.tolist()], np.uint8)
        place = np.searchsorted(known, values).clip(max=len(known) - 1)
        listed: NDArray[np.bool_] = known[place] == values
        self._check(path, [f"#{value:06x}" for value in np.unique(values[~listed])])
        return np.where(listed, classes[place], np.uint8(IGNORE))

    def _check(self, path: str, wrong: list[str]) -> None:
        if wrong and self.unlisted == "error":
            more = f" and {len(wrong) - _SHOWN_VALUES} more" if len(wrong) > _SHOWN_VALUES else ""
            raise DatasetError(
                f"{path}: expected {self.expected}, got {', '.join(wrong[:_SHOWN_VALUES])}{more}; "
                "correct the label or the list of classes"
            )


def plain_ids(classes: int, void: int) -> LabelCode:
    """Return the code of files that hold class indices, `void` for void, and 255 for void too.

    >>> plain_ids(3, void=9).class_of
    {0: 0, 1: 1, 2: 2, 9: 255, 255: 255}
    """
    class_of = {index: index for index in range(classes)} | {void: IGNORE, IGNORE: IGNORE}
    return LabelCode(class_of, f"class ids from 0 to {classes - 1} or {void} for void", is_plain=True)


def load_file(path: Path) -> ImageFile:
    """Return an image or label file that may be decoded.

    Raises:
        DatasetError: see `runtime.base.images.load_image`.
    """
    with _as_dataset_errors():
        return load_image(path)


def read_picture(file: ImageFile, bits: int | None = None) -> Image:
    """Return an image upright in colour, uint8 (H, W, 3) BGR, see `ImageFile.picture`.

    Raises:
        DatasetError: a file that does not decode.
    """
    with _as_dataset_errors():
        return file.picture(bits)


@contextmanager
def _as_dataset_errors() -> Iterator[None]:
    try:
        yield
    except SourceError as error:
        raise DatasetError(str(error)) from None


def _without_palette(content: bytes) -> bytes:
    """Return a palette PNG as a grey one whose values are the indices; other files as they are.

    OpenCV can only replace indices by their colours, and two ids may have the same colour. The pixel
    data of both kinds is the same, so it is enough to change the header and leave the palette out.
    """
    if not _is_png(content) or content[25] != _PNG_PALETTE:
        return content
    parts, start = [_PNG_START], len(_PNG_START)
    while start + 8 <= len(content):
        length, kind = struct.unpack(">I4s", content[start : start + 8])
        data = content[start + 8 : start + 8 + length]
        if kind == b"IHDR":
            data = data[:9] + bytes([_PNG_GREY]) + data[10:]
            parts.append(_png_chunk(kind, data))
        elif kind in (b"IDAT", b"IEND"):
            parts.append(content[start : start + 12 + length])
        start += 12 + length
    return b"".join(parts)


def _png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _grey_step(content: bytes) -> int:
    """Return how far apart neighbouring ids are after decoding: PNG stretches 1, 2 and 4 bits to 0..255."""
    bits = content[24] if _is_png(content) else 8
    return 255 // (2**bits - 1) if bits < 8 else 1


def _is_png(content: bytes) -> bool:
    return content.startswith(_PNG_START) and len(content) > 25
