"""Metres for the eye: lines on the ground in the camera's picture, and the bird's eye beside it."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from runtime.contract import ClassMap
from runtime.frame import Image
from runtime.ground.birds_eye import FREE, OCCUPIED, BirdsEye
from runtime.ground.camera_model import CameraModel
from runtime.ground.options import GridOptions, GroundOptions
from runtime.masks.confidence import UNKNOWN

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_LINE_BGR = (255, 255, 255)
_SHADOW_BGR = (40, 40, 40)
_OCCUPIED_BGR = (60, 60, 230)
_RING_BGR = (190, 190, 190)
_DIM = 0.45  # brightness of cells of which nothing is known
_STRIP = 0.06  # of the grid's length, below it for the robot
_MOST_SIZES = 4  # of pictures whose tables are kept
_STEPS_M = (0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0)
_MOST_LINES = 6  # along each axis, so that numbers have room
_SUBPIXEL_BITS = 4
_FARTHEST_PX = 4.0  # of a line's end from the picture, in its widths: cv2 draws with 16-bit numbers


class GroundSight:
    """What a camera over the ground adds to its pictures, of any size.

    Attributes:
        draws_grid: whether overlays show the lines of metres.
        free_classes: classes that may be driven on.
    """

    def __init__(
        self,
        camera: CameraModel,
        free_classes: Collection[int],
        grid: GridOptions | None = None,
        *,
        draws_grid: bool = False,
    ) -> None:
        """Choose the camera.

        Args:
            camera: for any size of the same picture.
            free_classes: classes that may be driven on.
            grid: on the ground; None for the usual one.
            draws_grid: whether overlays show the lines of metres.

        Raises:
            ConfigError: a grid that cannot be.
        """
        self.free_classes = frozenset(free_classes)
        self._grid = grid or GridOptions()
        self._camera = camera
        self._sizes: dict[tuple[int, ...], _Size] = {
            (camera.height, camera.width): _Size(self._grid.view(camera))
        }
        self.draws_grid = draws_grid

    @classmethod
    def of(cls, options: GroundOptions, source: object, classes: ClassMap) -> GroundSight | None:
        """Return what flags ask for; None where they name no camera.

        Args:
            options: the flags.
            source: where the pictures come from; a bag may bring its camera.
            classes: of the network.

        Raises:
            ConfigError: no camera, one that cannot be, or no class that may be driven on.
            SourceError: a bag whose camera_info cannot be read.
        """
        if not options.is_wanted:
            return None
        camera, free = options.camera_over(source), options.free_indices(classes)
        return cls(camera, free, options.grid, draws_grid=options.draw_grid)

    def stamp(self, image_bgr: Image) -> None:
        """Draw lines every so many metres and their numbers onto a picture of the camera, in place."""
        self._for(image_bgr).stamp(image_bgr)

    def view(self, picture: Image) -> BirdsEye:
        """Return the grid as the camera sees it in pictures of this one's size."""
        return self._for(picture).view

    def occupancy(self, mask: Image) -> NDArray[np.int8]:
        """Return which cells of `view` are free, as `BirdsEye.occupancy`; unknown pixels say nothing."""
        known = np.where(mask == UNKNOWN, np.uint8(0), np.uint8(255))
        return self._for(mask).view.occupancy(mask, self.free_classes, known)

    def from_above(self, mask: Image, colors: Callable[[Image], Image], height: int | None = None) -> Image:
        """Return the ground as seen from above, forward up, in the colours of the classes.

        What is free has its full colour; red is where sight ends; what is seen beyond, or stands where the
        flat ground does not reach, is dark. Rings are metres from the robot, the arrow below.

        Args:
            mask: uint8 (H, W) class indices.
            colors: from classes to their colours, see `runtime.masks.overlay.Overlay.colors`.
            height: of the result in pixels; None for the mask's.

        Returns:
            uint8 (height, W', 3), in the proportions of the grid and a strip for the robot.
        """
        at = self._for(mask)
        view, cells = at.view, self.occupancy(mask)
        seen = np.asarray(view.upright(colors(view.warp(mask))), np.uint8)
        shown = np.asarray(cv2.convertScaleAbs(seen, alpha=_DIM), np.uint8)
        cells = np.asarray(view.upright(cells))
        cv2.copyTo(seen, (cells == FREE).view(np.uint8), shown)
        shown[cells == OCCUPIED] = _OCCUPIED_BGR
        return at.above(shown, height or mask.shape[0])

    def _for(self, picture: Image) -> _Size:
        """Return what belongs to pictures of one's size; from any thread."""
        size_hw = picture.shape[:2]
        at = self._sizes.get(size_hw)
        if at is None:
            if len(self._sizes) >= _MOST_SIZES:
                self._sizes = {}
            at = _Size(self._grid.view(self._camera.scaled_to(size_hw[1], size_hw[0])))
            self._sizes[size_hw] = at
        return at


@dataclass(frozen=True)
class _Label:
    text: str
    x: float
    y: float


class _Size:
    """The lines of metres for pictures of one size."""

    def __init__(self, view: BirdsEye) -> None:
        self.view = view
        (near, far), (right, left) = view.x_range_m, view.y_range_m
        self._lines: list[NDArray[np.int32]] = []
        self._labels: list[_Label] = []
        self._ahead_m, self._across_m = marks_m(near, far), marks_m(right, left)
        for x in self._ahead_m:
            self._add([(x, y) for y in np.linspace(right, left, 129)])
            self._name(f"{x:g} m", np.array([(x, y) for y in (0.0, *np.linspace(right, left, 33))]))
        for y in self._across_m:
            self._add([(x, y) for x in np.linspace(near, far, 513)])

    def stamp(self, image_bgr: Image) -> None:
        for color, wider in ((_SHADOW_BGR, 2), (_LINE_BGR, 0)):
            thick = max(1, image_bgr.shape[0] // 500) + wider
            cv2.polylines(image_bgr, self._lines, False, color, thick, cv2.LINE_AA, _SUBPIXEL_BITS)
        scale = max(0.35, image_bgr.shape[0] / 1200)
        for label in self._labels:
            _write(image_bgr, label.text, (round(label.x) + 4, round(label.y) - 4), scale)

    def above(self, cells_bgr: Image, height: int) -> Image:
        """Return a picture of the cells, forward up, enlarged, with rings of metres and the robot."""
        (near, far), (right, left) = self.view.x_range_m, self.view.y_range_m
        # The robot stands at x = 0, which is worth a strip below the grid where it is not far from it.
        below_m = max(0.0, near) if near <= _STRIP * (far - near) else 0.0
        below_m += _STRIP * (far - near)
        scale = height / (far - near + below_m)  # pixels a metre
        size_wh = (max(1, round((left - right) * scale)), max(1, round((far - near) * scale)))
        large = cv2.resize(cells_bgr, size_wh, interpolation=cv2.INTER_NEAREST)
        above_bgr = np.asarray(
            cv2.copyMakeBorder(large, 0, height - size_wh[1], 0, 0, cv2.BORDER_CONSTANT, value=(0, 0, 0)),
            np.uint8,
        )
        robot_xy = round(left * scale), round(far * scale)
        text = max(0.4, height / 800)
        rings_m = [reach_m for reach_m in self._ahead_m if reach_m > 0]
        for reach_m in rings_m:
            cv2.circle(above_bgr, robot_xy, round(reach_m * scale), _RING_BGR, 1, cv2.LINE_AA)
        for reach_m in rings_m:
            row = robot_xy[1] - round(reach_m * scale)
            _write(above_bgr, f"{reach_m:g} m", (robot_xy[0] + 4, row + round(24 * text)), text)
        side = max(4.0, _STRIP * height * 0.8)
        arrow = np.array([(0.0, 0.0), (-0.5, 1.0), (0.0, 0.75), (0.5, 1.0)]) * side + robot_xy
        cv2.fillPoly(above_bgr, [np.rint(arrow).astype(np.int32)], _LINE_BGR, cv2.LINE_AA)
        return above_bgr

    def _add(self, points_m: list[tuple[float, float]]) -> None:
        """Add a line's parts that are near the picture."""
        pixels = self.view.camera.ground_to_pixels(np.array(points_m))
        camera = self.view.camera
        reach = _FARTHEST_PX * max(camera.width, camera.height)
        near = (np.abs(pixels) < reach).all(axis=1)  # False for NaN
        edges = np.flatnonzero(np.diff(np.concatenate([[False], near, [False]])))
        for begin, end in edges.reshape(-1, 2):
            if end - begin > 1:
                fixed = np.rint(pixels[begin:end] * 2**_SUBPIXEL_BITS).astype(np.int32)
                self._lines.append(fixed[:, None])

    def _name(self, text: str, points_m: NDArray[np.float64]) -> None:
        """Write a line's metres at the first of some points that is well inside of the picture."""
        camera = self.view.camera
        margin = 0.04 * np.array([camera.width, camera.height])
        pixels = camera.ground_to_pixels(points_m)
        inside = ((pixels > margin) & (pixels < np.array([camera.width, camera.height]) - margin)).all(axis=1)
        if inside.any():
            x, y = pixels[inside.argmax()]
            if all(abs(y - label.y) > 0.03 * camera.height for label in self._labels):
                self._labels.append(_Label(text, float(x), float(y)))


def marks_m(low: float, high: float) -> list[float]:
    """Return round metres from low to high, at most six.

    >>> marks_m(0, 20), marks_m(-3, 3)
    ([5.0, 10.0, 15.0, 20.0], [-2.0, -1.0, 0.0, 1.0, 2.0, 3.0])
    """
    for step in _STEPS_M:
        marks = [step * number for number in range(math.floor(low / step) + 1, math.floor(high / step) + 1)]
        if len(marks) <= _MOST_LINES:
            return marks
    return []


def _write(image_bgr: Image, text: str, place: tuple[int, int], scale: float) -> None:
    thick = max(1, round(scale * 1.5))
    cv2.putText(image_bgr, text, place, _FONT, scale, _SHADOW_BGR, thick + 2, cv2.LINE_AA)
    cv2.putText(image_bgr, text, place, _FONT, scale, _LINE_BGR, thick, cv2.LINE_AA)
