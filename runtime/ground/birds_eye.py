"""The ground from above: bird's eye view, occupancy grid, range scan and point cloud of a mask.

A mask says what stands at a pixel, and flat ground says where that pixel lies. Both hold together only up to
the first thing that is not ground: what is seen above its foot is projected far behind it. So everything here
follows lines of sight from the point under the camera outward, and believes a mask as far as its first pixel
that is not free.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from runtime.errors import ConfigError, FrameError
from runtime.frame import Image
from runtime.ground.camera_model import CameraModel
from runtime.masks.areas import check_mask

FREE, OCCUPIED, UNKNOWN = 0, 100, -1  # nav_msgs/OccupancyGrid
VOID = 255  # class of cells that the camera does not see
_MOST_CELLS = 4_000_000
_MOST_SAMPLES = 16_000_000
_MOST_LINES = 4096
_SAMPLES_AT_ONCE = 1_000_000
_NO_FRACTIONS = np.empty(0, np.uint16)
_STEP = 0.5  # of a cell: distance of the samples along a line of sight


class BirdsEye:
    """A grid of cells on the ground, and where the camera sees each.

    Rows run along y from its minimum (right) to its maximum (left), columns along x from its minimum (near)
    to its maximum (far), as in nav_msgs/OccupancyGrid. Cell (row, column) is centred at (x_range_m[0] +
    (column + 0.5) cell_m, y_range_m[0] + (row + 0.5) cell_m). All tables are made once.

    Attributes:
        camera: whose masks and pictures it takes, at that camera's size.
        x_range_m: metres forward, from and to.
        y_range_m: metres to the left, from and to.
        cell_m: side of a cell in metres.
        shape: rows and columns.

    >>> camera = CameraModel(64, 48, 40.0, 40.0, 31.5, 23.5, height_m=1.0, pitch_rad=0.3)
    >>> view = BirdsEye(camera, x_range_m=(2, 4), y_range_m=(-1, 1), cell_m=0.5)
    >>> road = np.zeros((48, 64), np.uint8)
    >>> view.occupancy(road, free_classes={0}).tolist()
    [[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    >>> view.range_scan(road, [0.0], free_classes={0}).tolist()
    [inf]
    """

    def __init__(
        self,
        camera: CameraModel,
        x_range_m: tuple[float, float] = (0.0, 20.0),
        y_range_m: tuple[float, float] = (-10.0, 10.0),
        cell_m: float = 0.1,
    ) -> None:
        """Make the grid.

        Raises:
            ConfigError: ranges that are empty, cells that are not positive, or too many of them.
        """
        for name, (low, high) in (("x_range_m", x_range_m), ("y_range_m", y_range_m)):
            if not (math.isfinite(low) and math.isfinite(high) and low < high):
                raise ConfigError(f"grid {name}: expected metres from low to high, got {low} to {high}")
        if not (math.isfinite(cell_m) and cell_m > 0):
            raise ConfigError(f"grid cell_m: expected a number above 0 metres, got {cell_m}")
        columns, rows = (round((high - low) / cell_m) for low, high in (x_range_m, y_range_m))
        if not (rows >= 1 and columns >= 1 and rows * columns <= _MOST_CELLS):
            raise ConfigError(
                f"grid: expected 1 to {_MOST_CELLS} cells, got {rows} x {columns}; choose another cell_m"
            )
        self.camera = camera
        self.x_range_m, self.y_range_m, self.cell_m = x_range_m, y_range_m, float(cell_m)
        self.shape = (rows, columns)
        self._x_m = x_range_m[0] + (np.arange(columns) + 0.5) * cell_m
        self._y_m = y_range_m[0] + (np.arange(rows) + 0.5) * cell_m
        self._scans: dict[bytes, _Lines] = {}
        centres = np.stack(np.meshgrid(self._x_m, self._y_m), axis=-1).reshape(-1, 2)
        self._pixels, self._seen = _pixel_table(camera, centres, self.shape)
        self._between = cv2.convertMaps(self._pixels[..., 0], self._pixels[..., 1], cv2.CV_16SC2)
        self._whole = np.rint(self._pixels).astype(
            np.int16
        )  # the form that cv2.remap takes without fractions

    def warp(self, picture: Image) -> Image:
        """Return a mask or a picture as seen from above, rows and columns as of the grid.

        Args:
            picture: uint8 (H, W) classes, or (H, W, 3) BGR, of the camera's size.

        Returns:
            uint8 (rows, columns), the nearest pixel's class and 255 where the camera sees nothing; or
            (rows, columns, 3), interpolated and black there.

        Raises:
            FrameError: another size or type.
        """
        self._check(picture)
        is_mask = picture.ndim == 2
        columns_rows, fractions = (self._whole, _NO_FRACTIONS) if is_mask else self._between
        warped = cv2.remap(
            np.ascontiguousarray(picture),
            columns_rows,
            fractions,
            cv2.INTER_NEAREST if is_mask else cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_CONSTANT,
            borderValue=(VOID if is_mask else 0,) * 3,
        )
        return np.asarray(warped, np.uint8)

    def upright(self, grid: NDArray[np.generic]) -> NDArray[np.generic]:
        """Return anything of the grid's shape as people draw it: forward is up, left is left."""
        return np.ascontiguousarray(np.rot90(grid[:, :], 2).swapaxes(0, 1))

    def occupancy(
        self,
        mask: Image,
        free_classes: Collection[int],
        confidence: Image | None = None,
        min_confidence: int = 128,
    ) -> NDArray[np.int8]:
        """Return which cells are free, as in nav_msgs/OccupancyGrid.

        Args:
            mask: uint8 (H, W) class indices, of the camera's size.
            free_classes: classes that may be driven on.
            confidence: uint8 (H, W), 255 for certain; None where there is none.
            min_confidence: pixels below it say nothing.

        Returns:
            int8 (rows, columns): 0 free, 100 occupied (the first cells along a line of sight that are not
            free), -1 unknown: outside of the view, behind an obstacle, or below the confidence.

        Raises:
            FrameError: a mask or confidence of another size or type.
        """
        self._check(mask)
        lines, cells = self._lines, self._cells
        not_free = _not_free(free_classes)
        flat = _flat(mask)
        blocked = lines.of(_looked_up(not_free, flat.take(lines.places, mode="clip")))
        free = ~_looked_up(not_free, flat.take(cells.places, mode="clip"))
        if confidence is None:
            reach_m = lines.first_m(blocked)
            nearest_m = shortest_m = cells.shortest(reach_m[None])[0]
            is_sure = None
        else:
            self._check_like(confidence)
            certain = _flat(confidence)
            unsure = certain.take(lines.places, mode="clip") < min_confidence
            reach_m = lines.first_m(blocked > unsure)
            # Where sight ends: the first sample of a line that is not free, or not sure.
            sight_m = np.minimum(reach_m, lines.first_m(lines.of(unsure)))
            nearest_m, shortest_m = cells.shortest(np.stack([reach_m, sight_m]))
            is_sure = certain.take(cells.places, mode="clip") >= min_confidence
        values = np.full(len(free), UNKNOWN, np.int8)
        # A cell is as wide as several lines; it is free only if all of them pass it.
        np.copyto(values, FREE, where=free & (cells.far_m <= shortest_m))
        is_hit = np.abs(cells.middle_m - nearest_m) <= np.float32(0.75 * self.cell_m)
        np.copyto(values, OCCUPIED, where=is_hit if is_sure is None else is_hit & is_sure)
        grid = np.full(self.shape, UNKNOWN, np.int8)
        grid.reshape(-1)[cells.numbers] = values
        grid.reshape(-1)[cells.at_ends(reach_m)] = OCCUPIED
        return grid

    def range_scan(
        self, mask: Image, angles_rad: ArrayLike, free_classes: Collection[int]
    ) -> NDArray[np.float64]:
        """Return how far the ground is free in each direction, as a planar laser scanner would.

        Args:
            mask: uint8 (H, W) class indices, of the camera's size.
            angles_rad: (N,) from straight ahead, positive to the left.
            free_classes: classes that may be driven on.

        Returns:
            float64 (N,): metres from the point under the camera to the first thing that is not free; inf
            where none is seen within the grid's farthest corner.

        Raises:
            FrameError: a mask of another size or type.
            ConfigError: angles that are no finite numbers.
        """
        self._check(mask)
        angles = np.atleast_1d(np.asarray(angles_rad, np.float64))
        if angles.ndim != 1 or not np.isfinite(angles).all():
            raise ConfigError(f"range scan: expected finite angles of shape (N,), got shape {angles.shape}")
        key = angles.tobytes()
        if key not in self._scans:
            if len(self._scans) >= 8:
                self._scans.clear()
            self._scans[key] = _Lines(self, angles)
        lines = self._scans[key]
        blocked = _looked_up(_not_free(free_classes), _flat(mask).take(lines.places, mode="clip"))
        return lines.first_m(lines.of(blocked)).astype(np.float64)

    def points(
        self, mask: Image, confidence: Image | None = None, min_confidence: int = 128
    ) -> NDArray[np.float32]:
        """Return where each pixel lies on the ground: an organised cloud, aligned with the mask's pixels.

        Args:
            mask: uint8 (H, W) class indices, of the camera's size.
            confidence: uint8 (H, W); None where there is none.
            min_confidence: pixels below it have no point.

        Returns:
            float32 (H, W, 3): x, y, z in metres in the world's axes, z = 0; NaN at and above the horizon,
            beyond the grid's farthest corner, and below the confidence.

        Raises:
            FrameError: a mask or confidence of another size or type.
        """
        self._check(mask)
        if confidence is None:
            return self._cloud.copy()
        self._check_like(confidence)
        return np.where((confidence >= min_confidence)[..., None], self._cloud, np.float32(np.nan))

    @property
    def farthest_m(self) -> float:
        """Distance of the grid's farthest corner from the point under the camera."""
        return max(math.hypot(x, y) for x in self.x_range_m for y in self.y_range_m)

    @cached_property
    def _cloud(self) -> NDArray[np.float32]:
        height, width = self.camera.height, self.camera.width
        columns, rows = np.meshgrid(np.arange(width), np.arange(height))
        ground = self.camera.pixels_to_ground(np.stack([columns, rows], axis=-1).reshape(-1, 2))
        ground[np.hypot(*ground.T) > self.farthest_m] = np.nan
        up = np.where(np.isnan(ground[:, :1]), np.nan, 0.0)
        return np.concatenate([ground, up], axis=1).reshape(height, width, 3).astype(np.float32)

    @cached_property
    def centres_m(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Position x and y of every cell's centre, (rows, columns) each."""
        x, y = np.meshgrid(self._x_m, self._y_m)
        return x, y

    @cached_property
    def _lines(self) -> _Lines:
        """Lines of sight through all cells that are seen, so close that none misses a pixel or a cell."""
        x, y = self.centres_m
        bearings = np.arctan2(y, x)[self._seen] if self._seen.any() else np.zeros(1)
        spacing = min(self.cell_m / self.farthest_m, 1 / self.camera.fx)
        low, high = float(bearings.min()) - spacing, float(bearings.max()) + spacing
        count = int(min(_MOST_LINES, math.ceil((high - low) / spacing) + 1))
        return _Lines(self, np.linspace(low, high, count))

    @cached_property
    def _cells(self) -> _Cells:
        return _Cells(self, self._lines)

    def _check(self, picture: NDArray[np.generic]) -> None:
        """Refuse what is not of the camera."""
        if picture.ndim == 2:
            check_mask(picture)
        elif picture.dtype != np.uint8 or picture.ndim != 3:
            raise FrameError(
                f"picture: expected uint8 (H, W) or (H, W, 3), got {picture.dtype} {picture.shape}"
            )
        expected = (self.camera.height, self.camera.width)
        if picture.shape[:2] != expected:
            height, width = picture.shape[:2]
            raise FrameError(
                f"picture: expected the camera's {expected[1]}x{expected[0]} pixels, got {width}x{height}; "
                f"use camera.scaled_to({width}, {height})"
            )

    def _check_like(self, confidence: NDArray[np.generic]) -> None:
        if confidence.dtype != np.uint8 or confidence.shape != (self.camera.height, self.camera.width):
            raise FrameError(
                f"confidence: expected uint8 {(self.camera.height, self.camera.width)}, got "
                f"{confidence.dtype} {confidence.shape}"
            )


class _Lines:
    """Samples along lines of sight from the point under the camera, and the cells that each line passes.

    A line is sampled every half cell, and of the samples in one pixel it keeps the first: far away, where
    many share one, few are left, and no answer changes.

    Attributes:
        angles_rad: (lines,) from straight ahead, positive to the left.
        places: (lines, samples) pixels along each line, in the picture's rows one after the other.
    """

    def __init__(self, view: BirdsEye, angles_rad: NDArray[np.float64]) -> None:
        step = view.cell_m * _STEP
        count = math.ceil(view.farthest_m / step) + 1
        if count * len(angles_rad) > _MOST_SAMPLES:
            raise ConfigError(
                f"grid: expected at most {_MOST_SAMPLES} samples along lines of sight, got {count} "
                f"x {len(angles_rad)}; take fewer angles or larger cells"
            )
        self.angles_rad = angles_rad
        ranges_m = np.asarray((np.arange(count) + 0.5) * step, np.float64)
        at_once = max(1, _SAMPLES_AT_ONCE // count)  # a whole grid's would take much memory
        parts = [
            self._packed(view.camera, angles_rad[start : start + at_once], ranges_m)
            for start in range(0, len(angles_rad), at_once)
        ]
        length = max(part.shape[1] for part, _ in parts) if parts else 1
        shape = (len(angles_rad), length)
        self.places, self._ranges_m = np.zeros(shape, np.intp), np.full(shape, np.inf, np.float32)
        start = 0
        for places, reached_m in parts:
            lines, kept = places.shape
            self.places[start : start + lines, :kept] = places
            self._ranges_m[start : start + lines, :kept] = reached_m
            start += lines
        self._seen = np.isfinite(self._ranges_m)
        self._line_numbers = np.arange(len(angles_rad))

    @staticmethod
    def _packed(
        camera: CameraModel, angles_rad: NDArray[np.float64], ranges_m: NDArray[np.float64]
    ) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
        """Return the pixels along some lines, as far as they are seen, and the distances where each begins.

        Both are (lines, samples); the distance is inf where a line has no more samples.
        """
        directions = np.stack([np.cos(angles_rad), np.sin(angles_rad)], axis=-1)
        points = ranges_m[None, :, None] * directions[:, None]  # (lines, samples, 2)
        pixels, is_new = _pixel_table(camera, points.reshape(-1, 2), (len(angles_rad), len(ranges_m)))
        places = _places(pixels, camera.width)
        is_new[:, 1:] &= places[:, 1:] != places[:, :-1]
        lines, samples = np.nonzero(is_new)
        order = (is_new.cumsum(axis=1) - 1)[lines, samples]
        shape = (len(angles_rad), int(is_new.sum(axis=1).max()) + 1)
        packed, reached_m = np.zeros(shape, np.intp), np.full(shape, np.inf, np.float32)
        packed[lines, order] = places[lines, samples]
        reached_m[lines, order] = ranges_m[samples]
        return packed, reached_m

    def of(self, samples: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return samples (lines, samples) with False where a line has none; in place."""
        return np.logical_and(samples, self._seen, out=samples)

    def first_m(self, samples: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Return the distance of each line's first sample that is true; inf where none is."""
        first = samples.argmax(axis=1)
        found = samples[self._line_numbers, first]
        reached_m = self._ranges_m[self._line_numbers, first]
        return np.asarray(np.where(found, reached_m, np.float32(np.inf)))


class _Cells:
    """The cells that are seen: where, in which pixel, and which lines of sight pass each.

    Attributes:
        numbers: (N,) of the cells, row after row.
        places: (N,) of their pixels, row after row.
        middle_m: (N,) distance of their centres.
        far_m: (N,) distance of their far sides.
    """

    def __init__(self, view: BirdsEye, lines: _Lines) -> None:
        self.numbers = np.flatnonzero(view._seen)
        self._seen, self._shape = view._seen.reshape(-1), view.shape
        self._directions = np.stack([np.sin(lines.angles_rad), np.cos(lines.angles_rad)]) / view.cell_m
        self._first = np.array([[view.y_range_m[0]], [view.x_range_m[0]]]) / view.cell_m
        self.places = _places(view._pixels[view._seen], view.camera.width)
        x, y = (axis[view._seen] for axis in view.centres_m)
        self.middle_m = np.hypot(x, y).astype(np.float32)
        self.far_m = self.middle_m + np.float32(view.cell_m / 2)
        angles = lines.angles_rad
        spacing = float(angles[1] - angles[0])
        half_lines = np.arctan2(view.cell_m / 2, self.middle_m) / spacing
        # 2^level + 1 lines pass a cell, 1 at level 0.
        level = np.ceil(np.log2(np.maximum(2 * np.ceil(half_lines), 1.0))).astype(np.intp)
        line = np.clip(np.rint((np.arctan2(y, x) - angles[0]) / spacing), 0, len(angles) - 1)
        self._levels = int(level.max(initial=0)) + 1
        self._entries = (level * len(angles) + line).astype(np.intp)

    def at_ends(self, reach_m: NDArray[np.float32]) -> NDArray[np.intp]:
        """Return the numbers of the seen cells in which lines of sight end, from the lines' reach."""
        ends = np.isfinite(reach_m)
        rows, columns = np.floor(reach_m[ends] * self._directions[:, ends] - self._first).astype(np.intp)
        inside = (rows >= 0) & (rows < self._shape[0]) & (columns >= 0) & (columns < self._shape[1])
        numbers = rows[inside] * self._shape[1] + columns[inside]
        return np.asarray(numbers[self._seen[numbers]])

    def shortest(self, reach_m: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the shortest reach of the lines that pass each cell, (K, N), from that of lines, (K, L)."""
        rows, lines = reach_m.shape
        levels = [reach_m]
        for level in range(1, self._levels):
            # The lines around one are those around its neighbours on both sides, half as far.
            side = 2 ** max(0, level - 2)
            before = np.full((rows, lines + 2 * side), np.inf, np.float32)
            before[:, side:-side] = levels[-1]
            here = np.minimum(before[:, : -2 * side], before[:, 2 * side :])
            levels.append(np.minimum(here, levels[-1]) if level == 1 else here)
        return np.asarray(np.concatenate(levels, axis=1).take(self._entries, axis=1, mode="clip"))


def _pixel_table(
    camera: CameraModel, points_m: NDArray[np.float64], shape: tuple[int, int]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return the pixel of points on the ground, float32 (…, 2), and which of them the camera sees."""
    pixels = camera.ground_to_pixels(points_m).reshape(*shape, 2)
    seen = (
        (pixels[..., 0] >= -0.5)
        & (pixels[..., 0] <= camera.width - 0.5)
        & (pixels[..., 1] >= -0.5)
        & (pixels[..., 1] <= camera.height - 0.5)
    )
    inside = np.clip(
        pixels, 0, (camera.width - 1, camera.height - 1)
    )  # half a pixel at the edge has no neighbour
    return np.where(seen[..., None], inside, -10.0).astype(np.float32), seen


def _places(pixels: NDArray[np.float32], width: int) -> NDArray[np.intp]:
    """Return the nearest pixels' places in a picture's rows, one after the other."""
    nearest = np.rint(pixels).astype(np.intp)
    return np.asarray(nearest[..., 1] * width + nearest[..., 0])


def _flat(picture: Image) -> Image:
    """Return a picture's rows one after the other."""
    return np.ascontiguousarray(picture).reshape(-1)


def _looked_up(table: NDArray[np.bool_], classes: Image) -> NDArray[np.bool_]:
    """Return table[classes], in a third of the time."""
    if not classes.size:
        return np.zeros(classes.shape, np.bool_)
    found = cv2.LUT(np.atleast_2d(classes), table.view(np.uint8))
    return np.asarray(found, np.uint8).view(np.bool_).reshape(classes.shape)


def _not_free(free_classes: Collection[int]) -> NDArray[np.bool_]:
    """Return whether each class may not be driven on, (256,)."""
    table = np.ones(256, np.bool_)
    for index in free_classes:
        if not (isinstance(index, int | np.integer) and 0 <= index <= 255):
            raise ConfigError(f"free_classes: expected class indices from 0 to 255, got {index!r}")
        table[index] = False
    return table
