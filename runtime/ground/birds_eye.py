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
        pixels, self._seen = _pixel_table(camera, centres, self.shape)
        self._between = cv2.convertMaps(pixels[..., 0], pixels[..., 1], cv2.CV_16SC2)
        self._whole = _rounded(pixels)

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
        if picture.ndim == 2:
            return self._nearest(picture, VOID)
        self._check(picture)
        border = (0.0, 0.0, 0.0)
        warped = cv2.remap(
            picture, *self._between, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=border
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
        lines = self._lines
        blocked, sure = self._sampled(lines, mask, free_classes, confidence, min_confidence)
        # Where sight ends: the first sample of a line that is not free, or not sure.
        reach_m = lines.first_m(blocked)
        trusted_m = (
            np.minimum(reach_m, lines.first_m(~sure & lines.seen)) if confidence is not None else reach_m
        )
        cell = self.cell_m
        # A cell is as wide as several lines; it is free only if all of them pass it.
        nearest_m = lines.around_cells(reach_m)
        shortest_m = nearest_m if confidence is None else lines.around_cells(trusted_m)
        grid = np.full(self.shape, UNKNOWN, np.int8)
        free = cv2.LUT(self._nearest(mask, VOID), _not_free(free_classes)) == 0
        grid[self._seen & free & (lines.cell_far_m <= shortest_m)] = FREE
        hit = self._seen & (np.abs(lines.cell_m - nearest_m) <= np.float32(0.75 * cell))
        if confidence is not None:
            hit &= self._nearest(confidence, 0) >= min_confidence
        grid[hit] = OCCUPIED
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
        blocked, _ = self._sampled(lines, mask, free_classes, None, 0)
        return lines.first_m(blocked)

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

    def _sampled(
        self,
        lines: _Lines,
        mask: Image,
        free_classes: Collection[int],
        confidence: Image | None,
        min_confidence: int,
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Return which samples of the lines are seen and not free, and which are sure."""
        classes = _nearest(mask, lines.pixels, VOID)
        if confidence is None:
            sure = lines.seen
        else:
            self._check_like(confidence)
            sure = lines.seen & (_nearest(confidence, lines.pixels, 0) >= min_confidence)
        return sure & (cv2.LUT(classes, _not_free(free_classes)) > 0), sure

    def _nearest(self, mask: Image, border: int) -> Image:
        self._check(mask)
        return _nearest(mask, self._whole, border)

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
    """Samples along lines of sight from the point under the camera, and the cells that each line passes."""

    def __init__(self, view: BirdsEye, angles_rad: NDArray[np.float64]) -> None:
        step = view.cell_m * _STEP
        count = math.ceil(view.farthest_m / step) + 1
        if count * len(angles_rad) > _MOST_SAMPLES:
            raise ConfigError(
                f"grid: expected at most {_MOST_SAMPLES} samples along lines of sight, got {count} "
                f"x {len(angles_rad)}; take fewer angles or larger cells"
            )
        self._angles = angles_rad
        self.ranges_m = (np.arange(count) + 0.5) * step
        points = (
            self.ranges_m[None, :, None]
            * np.stack([np.cos(angles_rad), np.sin(angles_rad)], axis=-1)[:, None]
        )
        pixels, self.seen = _pixel_table(view.camera, points.reshape(-1, 2), (len(angles_rad), count))
        self.pixels = _rounded(pixels)
        self._view = view

    def first_m(self, blocked: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Return the distance of each line's first blocked sample; inf where none is."""
        first = blocked.argmax(axis=1)
        return np.where(blocked[np.arange(len(first)), first], self.ranges_m[first], np.inf)

    def around_cells(self, reach_m: NDArray[np.float64]) -> NDArray[np.float32]:
        """Return the shortest reach of the lines that pass each cell, (rows, columns)."""
        levels = [reach_m.astype(np.float32)]
        for level in range(1, self._levels):
            kernel = np.ones((1, 2**level + 1), np.uint8)
            levels.append(np.asarray(cv2.erode(levels[0][None], kernel), np.float32)[0])
        return np.concatenate(levels).take(self._cell_entry)

    @cached_property
    def cell_m(self) -> NDArray[np.float32]:
        """Distance of each cell's centre, (rows, columns)."""
        return np.hypot(*self._view.centres_m).astype(np.float32)

    @cached_property
    def cell_far_m(self) -> NDArray[np.float32]:
        """Distance of each cell's far side, (rows, columns)."""
        return self.cell_m + np.float32(self._view.cell_m / 2)

    @cached_property
    def _cell_level(self) -> NDArray[np.intp]:
        """How many lines pass a cell, (rows, columns): 2^level + 1 of them, 1 at level 0."""
        half_lines = np.arctan2(self._view.cell_m / 2, self.cell_m) / self._spacing
        level: NDArray[np.intp] = np.ceil(np.log2(np.maximum(2 * np.ceil(half_lines), 1.0))).astype(np.intp)
        return level

    @cached_property
    def _levels(self) -> int:
        return int(self._cell_level.max()) + 1

    @cached_property
    def _cell_entry(self) -> NDArray[np.intp]:
        """Where `around_cells` finds each cell's reach, in all levels' lines one after the other."""
        x, y = self._view.centres_m
        line = np.rint((np.arctan2(y, x) - self._angles[0]) / self._spacing)
        line = np.clip(line, 0, len(self._angles) - 1)
        entry: NDArray[np.intp] = (self._cell_level * len(self._angles) + line).astype(np.intp)
        return entry

    @property
    def _spacing(self) -> float:
        return float(self._angles[1] - self._angles[0])


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


def _rounded(pixels: NDArray[np.float32]) -> NDArray[np.int16]:
    """Return whole positions, in the form that cv2.remap takes without fractions."""
    return np.rint(pixels).astype(np.int16)


def _nearest(picture: Image, table: NDArray[np.int16], border: int) -> Image:
    """Return the pixel of each entry of a table of whole positions (…, 2)."""
    taken = cv2.remap(
        np.ascontiguousarray(picture),
        table,
        _NO_FRACTIONS,
        cv2.INTER_NEAREST,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=(float(border),),
    )
    return np.asarray(taken, np.uint8)


def _not_free(free_classes: Collection[int]) -> Image:
    """Return cv2.LUT's table (256,): 0 for the classes that are free, 255 for all else."""
    table = np.full(256, 255, np.uint8)
    table[list(free_classes)] = 0
    return table
