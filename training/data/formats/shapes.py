"""Labels that are shapes: polygons, runs and stamps, drawn into a picture of class indices when asked for.

A pixel belongs to a polygon if its centre lies inside, (x + 0.5, y + 0.5) in the polygon's coordinates, by
the even-odd rule, so that a hole is one more ring. Runs are those of COCO (column after column) and of CVAT
(row after row, within a box). What is drawn is bounded before it is drawn: a file cannot ask for more memory
than a few pictures take, nor for more work than `MOST_WORK`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from runtime.errors import DatasetError
from runtime.frame import Image

Size = tuple[int, int]  # height and width in pixels
Ring = NDArray[np.float64]  # (corners, 2), x and y in pixels; the last joins the first
Drawing = tuple[Size, "Sequence[Shape]"]  # the size that shapes were drawn over, and they in painting order

MOST_WORK = 1_000_000_000  # pixels and crossings that the shapes of one label may visit, some seconds
_MOST_CROSSINGS = 20_000_000  # of one polygon, which take 50 bytes each
_MOST_BRUSH_BYTES = 1 << 22
_FARTHEST = 1e7  # pixels from the corner of a picture


class ShapeError(ValueError):
    """A shape that cannot be drawn; says what was expected and what was found, and not where."""


class Canvas:
    """A label that is being drawn.

    Attributes:
        label: uint8 (H, W).
    """

    def __init__(self, size_hw: Size, empty: int) -> None:
        """Begin with a picture of one value."""
        self.label: Image = np.full(size_hw, empty, np.uint8)
        self._work = 0

    def fill(self, rings: Sequence[Ring], value: int) -> None:
        """Give a value to the pixels whose centres lie inside of an odd number of rings."""
        height, width = self.label.shape
        for ring in rings:
            _check_ring(ring, width, height)
        starts = np.concatenate(rings)
        ends = np.concatenate([np.roll(ring, -1, axis=0) for ring in rings])
        # The rows whose centres an edge passes: y0 <= row + 0.5 < y1.
        low, high = np.minimum(starts[:, 1], ends[:, 1]), np.maximum(starts[:, 1], ends[:, 1])
        first = np.ceil(low - 0.5).astype(np.int64).clip(0, height)
        rows_of_edge = np.ceil(high - 0.5).astype(np.int64).clip(0, height) - first
        crossings = int(rows_of_edge.sum())
        if not crossings:
            return
        if crossings > _MOST_CROSSINGS:
            raise ShapeError(f"expected a polygon that can be drawn, got one that crosses {crossings} rows")
        edge = np.repeat(np.arange(len(starts)), rows_of_edge)
        row = (
            np.arange(crossings)
            - np.repeat(np.cumsum(rows_of_edge) - rows_of_edge, rows_of_edge)
            + first[edge]
        )
        slope = (ends[edge, 0] - starts[edge, 0]) / (ends[edge, 1] - starts[edge, 1])
        column = np.ceil(starts[edge, 0] + (row + 0.5 - starts[edge, 1]) * slope - 0.5)
        column = column.clip(0, width).astype(np.int64)
        top, left = int(row.min()), int(column.min())
        box_hw = int(row.max()) + 1 - top, int(column.max()) - left
        self._spend(crossings + box_hw[0] * box_hw[1])
        place = (row - top) * (box_hw[1] + 1) + column - left
        turns = np.bincount(place, minlength=box_hw[0] * (box_hw[1] + 1)).astype(np.uint8)
        inside = np.bitwise_xor.accumulate(turns.reshape(box_hw[0], box_hw[1] + 1) & 1, axis=1)[:, :-1]
        self._paint(inside.astype(bool), top, left, value)

    def fill_pixels(self, rings: Sequence[Ring], value: int) -> None:
        """Give a value to a polygon whose corners are pixels that belong to it; the later rings are holes."""
        height, width = self.label.shape
        for ring in rings:
            _check_ring(ring, width, height)
        corners = [np.rint(ring).astype(np.int32) for ring in rings]
        crossings = sum(int(np.abs(np.diff(ring[:, 1])).sum()) for ring in corners)
        if crossings > _MOST_CROSSINGS:
            raise ShapeError(f"expected a polygon that can be drawn, got one that crosses {crossings} rows")
        self._spend(crossings + height * width)
        mask = np.zeros(self.label.shape, np.uint8)
        cv2.fillPoly(mask, corners[:1], [1])
        if len(corners) > 1:
            cv2.fillPoly(mask, corners[1:], [0])
        self._paint(mask.view(bool), 0, 0, value)

    def stamp(self, mask: NDArray[np.bool_], top: int, left: int, value: int) -> None:
        """Give a value to the pixels of a mask that lies within the picture."""
        (height, width), (rows, columns) = self.label.shape, mask.shape
        if top < 0 or left < 0 or top + rows > height or left + columns > width:
            raise ShapeError(
                f"expected a mask within the picture of {width}x{height} pixels, got {columns}x{rows} at "
                f"({left}, {top})"
            )
        self._spend(mask.size)
        self._paint(mask, top, left, value)

    def _paint(self, mask: NDArray[np.bool_], top: int, left: int, value: int) -> None:
        self.label[top : top + mask.shape[0], left : left + mask.shape[1]][mask] = value

    def _spend(self, work: int) -> None:
        self._work += work
        if self._work > MOST_WORK:
            raise ShapeError(
                f"expected shapes that can be drawn in some seconds, got more than {MOST_WORK} pixels of them"
            )


class Shape(Protocol):
    """One thing that was drawn."""

    def paint(self, canvas: Canvas) -> None:
        """Draw it.

        Raises:
            ShapeError: it cannot be drawn there.
        """
        ...

    def area(self) -> float:
        """Return about how many pixels it covers, before it is drawn."""
        ...


@dataclass(frozen=True)
class Polygons:
    """One or more polygons.

    Attributes:
        value: class index or 255.
        parts: polygons that are drawn one after the other, each with its holes as further rings.
        corners_are_pixels: see `Canvas.fill_pixels`.
    """

    value: int
    parts: tuple[tuple[Ring, ...], ...]
    corners_are_pixels: bool = False

    def paint(self, canvas: Canvas) -> None:
        """Draw them; parts of fewer than 3 corners cover nothing."""
        for rings in self.parts:
            rings = tuple(ring for ring in rings if len(ring) >= 3)
            if rings:
                (canvas.fill_pixels if self.corners_are_pixels else canvas.fill)(rings, self.value)

    def area(self) -> float:
        """Return the outlines' areas without the holes'."""
        total = 0.0
        for outline, *holes in self.parts:
            total += _area(outline) - sum(map(_area, holes))
        return total


@dataclass(frozen=True)
class Runs:
    """Run lengths, in turn of pixels outside and inside, beginning with outside.

    Attributes:
        value: class index or 255.
        counts: the lengths.
        box: left, top, width and height in pixels; None for the whole picture.
        by_column: pixels are counted from top to bottom and then to the right, as COCO does.
    """

    value: int
    counts: Sequence[int]
    box: tuple[int, int, int, int] | None = None
    by_column: bool = True

    def paint(self, canvas: Canvas) -> None:
        """Draw them."""
        picture_hw = canvas.label.shape
        left, top, width, height = self.box or (0, 0, picture_hw[1], picture_hw[0])
        if width < 1 or height < 1 or width * height > canvas.label.size:
            raise ShapeError(
                f"expected runs in a box within the picture, got a box of {width}x{height} pixels"
            )
        lengths = _run_lengths(self.counts, width * height)
        inside = np.repeat(np.arange(lengths.size) % 2 == 1, lengths)
        mask = inside.reshape(width, height).T if self.by_column else inside.reshape(height, width)
        canvas.stamp(mask, top, left, self.value)

    def area(self) -> float:
        """Return the pixels inside."""
        return float(sum(self.counts[1::2]))


@dataclass(frozen=True)
class DrawnLabel:
    """A label made of shapes, see `training.data.pairs.DrawnLabel`.

    Attributes:
        name: says where it stands.
        read: returns the shapes for an upright picture of some size, and the size that they were made over.
        empty: class index, or 255, of pixels that no shape covers.
        small_on_top: draw large shapes first, where the format does not say which lies on top.
    """

    name: str
    read: Callable[[Size], Drawing]
    empty: int
    small_on_top: bool = False

    def draw(self, size_hw: Size) -> Image:
        """Return class indices, uint8 (h, w), see `training.data.pairs.DrawnLabel`."""
        own_hw, shapes = self.read(size_hw)
        if own_hw not in (size_hw, size_hw[::-1]):
            raise DatasetError(
                f"{self.name}: expected labels of a picture of {size_hw[1]}x{size_hw[0]} pixels, got some of "
                f"{own_hw[1]}x{own_hw[0]}; put the picture there that was labelled"
            )
        canvas = Canvas(own_hw, self.empty)
        try:
            for shape in sorted(shapes, key=lambda one: -one.area()) if self.small_on_top else shapes:
                shape.paint(canvas)
        except ShapeError as error:
            raise DatasetError(f"{self.name}: {error}; correct the shape or remove it") from None
        return canvas.label


def ring_of(numbers: Any) -> Ring:
    """Return the corners of [x, y, x, y, ...] or [[x, y], ...].

    Raises:
        ShapeError: anything else, or numbers that are not finite.
    """
    try:
        ring = np.asarray(numbers, np.float64)
    except (TypeError, ValueError, OverflowError):
        raise ShapeError("expected corners as numbers, got something else") from None
    if ring.ndim == 1 and ring.size % 2 == 0:
        ring = ring.reshape(-1, 2)
    if ring.size == 0:
        return np.zeros((0, 2))
    if ring.ndim != 2 or ring.shape[1] != 2 or not (np.abs(ring) < _FARTHEST).all():  # also not a number
        raise ShapeError(
            f"expected corners as pairs of numbers within {_FARTHEST:g} pixels, got an array of {ring.shape}"
        )
    return ring


def ellipse_ring(center: tuple[float, float], radii: tuple[float, float], degrees: float = 0.0) -> Ring:
    """Return an ellipse as a ring of 128 corners."""
    angle = np.linspace(0, 2 * math.pi, 128, endpoint=False)
    across, down = radii[0] * np.cos(angle), radii[1] * np.sin(angle)
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return np.stack(
        [center[0] + across * cosine - down * sine, center[1] + across * sine + down * cosine], axis=1
    )


def box_ring(
    left: float, top: float, right: float, bottom: float, degrees: float = 0.0, about_corner: bool = False
) -> Ring:
    """Return a box as a ring, turned clockwise as seen, about its middle or its upper left corner."""
    ring = np.array([(left, top), (right, top), (right, bottom), (left, bottom)], np.float64)
    pivot = ring[0] if about_corner else ring.mean(axis=0)
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    turned: Ring = (ring - pivot) @ np.array([(cosine, sine), (-sine, cosine)]) + pivot
    return turned


def decode_coco_counts(text: str, pixels: int) -> list[int]:
    """Return the runs that COCO's compressed form holds.

    Each number is written in groups of 5 bits, the lowest first, as characters from "0" (48); a sixth bit
    says that more follow, and the highest bit is the sign. From the fourth number on, a number is what was
    added to the one two places before it.

    Args:
        text: as in `counts`.
        pixels: of the picture.

    Raises:
        ShapeError: no such text, or more runs than there are pixels.

    >>> decode_coco_counts("5211", 11)
    [5, 2, 1, 3]
    """
    counts: list[int] = []
    value = shift = 0
    if len(text) > 4 * pixels + 64:
        raise ShapeError(f"expected runs of {pixels} pixels, got {len(text)} characters")
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or shift > 35:
            raise ShapeError("expected COCO's compressed runs, got other characters")
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        counts.append(value + counts[-2] if len(counts) > 2 else value)
        value = shift = 0
    if shift:
        raise ShapeError("expected COCO's compressed runs, got some that are cut off")
    return counts


def label_studio_alpha(packed: bytes, size_hw: Size) -> NDArray[np.bool_]:
    """Return where a brush of Label Studio painted, bool (h, w).

    A brush's picture (red, green, blue and alpha of each pixel, row after row) is packed as rle-pack of
    thi.ng/umbrella does: a bit stream of the number of values (32 bits), the bits of a value less 1 (5), the
    bits of four sizes of lengths less 1 (4 each), then runs: 1 bit whether one value is repeated, 2 bits
    which size the length has, the length less 1, and the value or the values.

    Raises:
        ShapeError: another number of values than the picture has, or a stream that is cut off.
    """
    total = 4 * size_hw[0] * size_hw[1]
    if len(packed) > _MOST_BRUSH_BYTES:
        raise ShapeError(f"expected a brush of at most {_MOST_BRUSH_BYTES} bytes, got {len(packed)}")
    bits = np.unpackbits(np.frombuffer(packed, np.uint8))
    stated, word = _number(bits, 0, 32), _number(bits, 32, 5) + 1
    if stated != total:
        raise ShapeError(
            f"expected a brush of {total} values for {size_hw[1]}x{size_hw[0]} pixels, got one of {stated}"
        )
    sizes = [_number(bits, 37 + 4 * index, 4) + 1 for index in range(4)]
    values = np.zeros(total, bool)
    place, at = 53, 0
    while at < total:
        repeated, size = _number(bits, place, 1), sizes[_number(bits, place + 1, 2)]
        length = min(_number(bits, place + 3, size) + 1, total - at)
        place += 3 + size
        words = 1 if repeated else length
        if place + words * word > bits.size:
            raise ShapeError("expected a whole brush, got one that is cut off")
        values[at : at + length] = bits[place : place + words * word].reshape(words, word).any(axis=1)
        place += words * word
        at += length
    return values.reshape(*size_hw, 4)[:, :, 3]


def _number(bits: NDArray[np.uint8], place: int, count: int) -> int:
    if place + count > bits.size:
        raise ShapeError("expected a whole brush, got one that is cut off")
    number = 0
    for bit in bits[place : place + count].tolist():
        number = number << 1 | bit
    return number


def _run_lengths(counts: Iterable[int], pixels: int) -> NDArray[np.int64]:
    wrong = f"expected runs that sum to {pixels} pixels"
    try:
        lengths = np.array(counts, np.int64)
    except (TypeError, ValueError, OverflowError):
        raise ShapeError(f"{wrong}, got something other than whole numbers") from None
    if lengths.ndim != 1 or lengths.size == 0 or lengths.min() < 0 or lengths.max() > pixels:
        raise ShapeError(f"{wrong}, got one that is negative or longer than that")
    if int(lengths.sum()) != pixels:
        raise ShapeError(f"{wrong}, got a sum of {int(lengths.sum())}")
    return lengths


def _check_ring(ring: Ring, width: int, height: int) -> None:
    """Refuse corners that are further outside than a picture is large: they are in another unit."""
    low, high = ring.min(axis=0), ring.max(axis=0)
    if (low < (-width, -height)).any() or (high > (2 * width, 2 * height)).any():
        raise ShapeError(
            f"expected corners within {width}x{height} pixels, got some from ({low[0]:g}, {low[1]:g}) to "
            f"({high[0]:g}, {high[1]:g})"
        )


def _area(ring: Ring) -> float:
    """Return the area that a ring encloses (Gauss)."""
    if len(ring) < 3:
        return 0.0
    x, y = ring[:, 0], ring[:, 1]
    return abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2
