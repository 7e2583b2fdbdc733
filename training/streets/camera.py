"""A pinhole camera on a bending street.

World points are (s, x, y) in metres: s along the street, x to the right of its centre line, y up from the
road.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

Points = npt.NDArray[np.float64]
NEAR_M = 0.6
SHIFT = 3  # fractional bits of pixel positions
ONE = 1 << SHIFT
_AHEAD_M = np.arange(-40.0, 460.0)


@dataclass(frozen=True)
class Bend:
    """How far the street's centre line swings sideways: the sum of two slow waves, in metres."""

    reach_m: tuple[float, float]
    wave_per_m: tuple[float, float]
    phase: tuple[float, float]

    def at(self, s: Points) -> Points:
        """Return the sideways offset at s."""
        first, second = (
            reach * np.sin(wave * s + phase)
            for reach, wave, phase in zip(self.reach_m, self.wave_per_m, self.phase, strict=True)
        )
        return np.asarray(first + second)

    def slope(self, s: float) -> float:
        """Return the sideways metres per metre along the street at s."""
        return float(
            sum(
                reach * wave * np.cos(wave * s + phase)
                for reach, wave, phase in zip(self.reach_m, self.wave_per_m, self.phase, strict=True)
            )
        )


@dataclass(frozen=True)
class Camera:
    """Where the camera is, where it looks, and its pinhole.

    Attributes:
        s: metres along the street.
        x: metres right of the centre line.
        height_m: above the road.
        yaw: radians to the right of the street's direction.
        pitch: radians upwards.
        roll: radians clockwise.
        focal_px: focal length in pixels.
        size_hw: picture size.
        bend: the street's curve.
    """

    s: float
    x: float
    height_m: float
    yaw: float
    pitch: float
    roll: float
    focal_px: float
    size_hw: tuple[int, int]
    bend: Bend

    @cached_property
    def rotation(self) -> Points:
        """Rotation (3, 3) from the street's axes to the camera's."""
        cy, sy, cp, sp = np.cos(self.yaw), np.sin(self.yaw), np.cos(self.pitch), np.sin(self.pitch)
        cr, sr = np.cos(self.roll), np.sin(self.roll)
        turn = np.array([[cy, 0, -sy], [0, 1, 0], [sy, 0, cy]])
        tilt = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
        lean = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
        return np.asarray(lean @ tilt @ turn)

    @cached_property
    def tangent(self) -> tuple[float, float]:
        """Sideways offset and slope of the centre line at the camera."""
        return float(self.bend.at(np.asarray(self.s))), self.bend.slope(self.s)

    @cached_property
    def _swings(self) -> Points:
        """What `swing` looks up, since it is asked thousands of times a picture."""
        offset, slope = self.tangent
        return np.asarray(self.bend.at(self.s + _AHEAD_M) - offset - slope * _AHEAD_M)

    def swing(self, s: Points) -> Points:
        """Return how far the centre line at s lies to the right of the camera's tangent."""
        return np.interp(s - self.s, _AHEAD_M, self._swings)

    @cached_property
    def _beam(self) -> tuple[Points, Points]:
        """Matrix (3, 3) and offset (3,) from world points to homogeneous fixed-point pixels."""
        height, width = self.size_hw
        pinhole = np.array(
            [
                [self.focal_px * ONE, 0.0, (width / 2 - 0.5) * ONE],
                [0.0, -self.focal_px * ONE, (height / 2 - 0.5) * ONE],
                [0.0, 0.0, 1.0],
            ]
        )
        order = np.array([[0, 1, 0], [0, 0, 1], [1, 0, 0]])  # (s, x, y) to (x, y, s)
        matrix = pinhole @ self.rotation @ order
        return np.ascontiguousarray(matrix.T), -matrix @ (self.s, self.x, self.height_m)

    def view(self, world: Points) -> Points:
        """Return homogeneous points (N, 3) of world points (N, 3): fixed-point pixels times depth, and depth.

        They can be added and cut like points in space, and are pixels once divided by their depth. An integer
        position is a pixel's centre, as OpenCV counts.
        """
        matrix, offset = self._beam
        swing = self.swing(world[:, 0])
        return np.asarray(world @ matrix + (offset + swing[:, None] * matrix[1]))

    def toward(self, directions: Points) -> Points:
        """Return homogeneous points of directions (N, 3), given as (right, up, along the tangent)."""
        return np.asarray(directions[:, [2, 0, 1]] @ self._beam[0])


def clip_near(view: Points) -> Points:
    """Return the part of a polygon (N, 3) that lies beyond the near plane; may be empty."""
    # Plain lists, since polygons are small and hundreds of them cross the near plane.
    corners: list[list[float]] = view.tolist()
    kept: list[list[float]] = []
    for here, ahead in zip(corners, [*corners[1:], corners[0]], strict=True):
        if here[2] >= NEAR_M:
            kept.append(here)
        if (here[2] >= NEAR_M) != (ahead[2] >= NEAR_M):
            share = (NEAR_M - here[2]) / (ahead[2] - here[2])
            kept.append([a + (b - a) * share for a, b in zip(here, ahead, strict=True)])
    return np.array(kept).reshape(-1, 3)
