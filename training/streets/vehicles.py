"""Cars, vans and buses: a side profile pushed out to a width, with glass, wheels, lights and plates."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from training.streets.camera import Points
from training.streets.canvas import Canvas, Shot
from training.streets.light import NEUTRAL, Light, mix
from training.streets.textures import Color
from training.streets.thing import CAR, placed

PAINTS: tuple[Color, ...] = (
    (200, 200, 200), (170, 172, 174), (120, 122, 124), (44, 44, 46), (28, 28, 30), (60, 44, 34),
    (110, 64, 36), (40, 36, 140), (30, 26, 96), (70, 100, 60), (150, 130, 90), (190, 205, 214),
    (60, 90, 130), (215, 218, 220),
)  # fmt: skip
_GLASS: Color = (46, 42, 38)
_RUBBER: Color = (24, 24, 25)


@dataclass(frozen=True)
class Shape:
    """A vehicle's build.

    Attributes:
        profile: (length from the rear, height) in metres, from the rear's foot over the roof to the front's.
        glass: which edges of the profile are windows.
        belt: profile corner where the rear windows begin and the one where the windscreen ends.
        width_m: over the doors.
        inset_m: how much narrower the roof is, on each side.
        wheel_m: wheel radius.
    """

    profile: tuple[tuple[float, float], ...]
    glass: tuple[int, ...]
    belt: tuple[int, int]
    width_m: float
    inset_m: float
    wheel_m: float

    @property
    def length_m(self) -> float:
        """Length over the bumpers."""
        return max(u for u, _ in self.profile)


SHAPES: tuple[Shape, ...] = (
    Shape(  # hatchback
        (
            (0.05, 0.3), (0.0, 0.6), (0.1, 0.95), (0.5, 1.42), (2.3, 1.46), (3.05, 0.98), (3.8, 0.8),
            (3.95, 0.3),
        ),
        (2, 4), (2, 5), 1.7, 0.18, 0.3,
    ),
    Shape(  # saloon
        (
            (0.05, 0.3), (0.0, 0.65), (0.12, 0.98), (0.75, 1.02), (1.35, 1.4), (2.7, 1.42), (3.4, 0.98),
            (4.3, 0.8), (4.5, 0.3),
        ),
        (3, 5), (3, 6), 1.76, 0.2, 0.31,
    ),
    Shape(  # estate or off-roader
        (
            (0.05, 0.36), (0.0, 0.75), (0.06, 1.08), (0.35, 1.68), (2.8, 1.7), (3.5, 1.1), (4.4, 0.98),
            (4.55, 0.36),
        ),
        (2, 4), (2, 5), 1.85, 0.14, 0.36,
    ),
    Shape(  # van
        (
            (0.03, 0.34), (0.0, 0.9), (0.03, 1.25), (0.12, 2.1), (3.5, 2.15), (4.2, 1.3), (4.85, 1.05),
            (4.95, 0.34),
        ),
        (2, 4), (2, 5), 1.95, 0.1, 0.34,
    ),
    Shape(  # bus
        (
            (0.03, 0.32), (0.0, 1.0), (0.0, 1.35), (0.05, 2.95), (9.9, 2.98), (10.2, 1.3), (10.25, 0.9),
            (10.25, 0.32),
        ),
        (2, 4), (2, 5), 2.5, 0.04, 0.48,
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Vehicle:
    """One vehicle on the road.

    Attributes:
        s: its middle, metres along the street.
        x: its middle, metres right of the centre line.
        heading: radians from the street's direction, to the right; pi for oncoming traffic.
        shape: index into `SHAPES`.
        paint_bgr: albedo of its body.
        braking: whether its brake lights are on.
    """

    s: float
    x: float
    heading: float
    shape: int
    paint_bgr: Color
    braking: bool

    def world(self, local: Points) -> Points:
        """Return world points of (forward, right, up) points measured from its middle."""
        return placed(local, self.s, self.x, 0.0, self.heading)

    def shadows(self, light: Light) -> list[tuple[Points, float]]:
        """Return where it hides the sun, and the dark under it."""
        shape = SHAPES[self.shape]
        u, v = shape.length_m / 2, shape.width_m / 2
        box = self.world(np.array([[-u, -v, 0.0], [-u, v, 0.0], [u, v, 0.0], [u, -v, 0.0]]))
        along, right, up = light.sun
        reach = 0.8 * max(y for _, y in shape.profile) / max(up, 0.3)
        thrown = box - np.array([along * reach, right * reach, 0.0])
        sides = ((0, 1), (1, 2), (2, 3), (3, 0))
        cast = [(np.stack((box[a], box[b], thrown[b], thrown[a])), light.shadow) for a, b in sides]
        return [*cast, (box, 0.28 * light.shadow + 0.1)]

    def outline(self) -> Points:
        """Return its points in the order of `_corners`."""
        return self.world(_corners(self.shape))

    def paint(self, canvas: Canvas, shot: Shot) -> None:
        """Paint the faces that show: underside, shell with glass and lamps, then the flank."""
        shape = SHAPES[self.shape]
        count = len(shape.profile)
        if shot.px_per_m < 5 and shot.whole:
            self._paint_speck(canvas, shot)
            self._shine(canvas, shape, self._camera_from_here(canvas)[0], shot)
            return
        points = shot.points
        ahead, aside = self._camera_from_here(canvas)
        dark = canvas.light.seen(_RUBBER, canvas.light.on((0.0, 0.0, 0.3)), shot.distance_m)
        for board in range(2 * count + 4 * len(_RING), len(points), 4):
            canvas.fill(points[board : board + 4], dark, CAR)
        for edge in self._facing(shape, ahead + shape.length_m / 2, canvas.camera.height_m):
            strip = points[[edge, edge + 1, count + edge + 1, count + edge]]
            self._paint_strip(canvas, shape, strip, edge, shot)
        if abs(aside) > shape.width_m / 2:
            flank = points[:count] if aside < 0 else points[count : 2 * count]
            self._paint_flank(canvas, shape, flank, 1 if aside > 0 else -1, shot)
        self._shine(canvas, shape, ahead, shot)

    def _shine(self, canvas: Canvas, shape: Shape, ahead: float, shot: Shot) -> None:
        """At night, light the lamps of the end that the camera sees."""
        if not canvas.light.night or not shot.whole:
            return
        count = len(shape.profile)
        edge, color = (count - 2, (255.0, 250.0, 235.0)) if ahead > 0 else (1, (40.0, 30.0, 230.0))
        strip = shot.points[[edge, edge + 1, count + edge + 1, count + edge]]
        reach = (1.0 if ahead > 0 else 0.45) * shot.px_per_m
        for left in (0.05, 0.77):
            canvas.glow(_part(strip, left, left + 0.2, 0.1, 0.5).mean(axis=0), reach, color)

    def _paint_speck(self, canvas: Canvas, shot: Shot) -> None:
        """Paint a car too far away for its parts to show: a dark foot, a body and glass."""
        light = canvas.light
        shell = shot.points
        (left, top), (right, low) = shell.min(axis=0), shell.max(axis=0)
        box = np.array([[left, top], [left, low], [right, low], [right, top]])
        canvas.fill(box, light.seen(_RUBBER, NEUTRAL, shot.distance_m), CAR)
        body = light.seen(self.paint_bgr, light.on((-0.8, 0.0, 0.4)), shot.distance_m)
        canvas.fill(_part(box, 0.0, 1.0, 0.0, 0.8), body, CAR)
        canvas.fill(_part(box, 0.1, 0.9, 0.08, 0.4), light.seen(_GLASS, NEUTRAL, shot.distance_m), None)

    def _normal(self, forward: float, right: float, up: float) -> tuple[float, float, float]:
        """Turn a local direction into (along, right, up) of the street."""
        cos, sin = math.cos(self.heading), math.sin(self.heading)
        return (forward * cos - right * sin, forward * sin + right * cos, up)

    def _camera_from_here(self, canvas: Canvas) -> tuple[float, float]:
        """Return where the camera is: metres ahead of the vehicle's middle and to its right."""
        camera = canvas.camera
        ds = camera.s - self.s
        dx = camera.x - self.x - float(camera.swing(np.asarray(self.s)))
        cos, sin = math.cos(self.heading), math.sin(self.heading)
        return ds * cos + dx * sin, dx * cos - ds * sin

    def _facing(self, shape: Shape, camera_u: float, camera_y: float) -> list[int]:
        """Return the edges of the profile whose strips face the camera, the far ones first."""
        edges = [
            (-abs(u0 - camera_u), edge)
            for edge, ((u0, y0), (u1, y1)) in enumerate(itertools.pairwise(shape.profile))
            if (camera_u - u0) * (y0 - y1) + (camera_y - y0) * (u1 - u0) > 0
        ]
        return [edge for _, edge in sorted(edges)]

    def _paint_strip(self, canvas: Canvas, shape: Shape, strip: Points, edge: int, shot: Shot) -> None:
        """Paint the strip across the width above one edge of the profile."""
        light, distance, last = canvas.light, shot.distance_m, len(shape.profile) - 2
        (u0, y0), (u1, y1) = shape.profile[edge], shape.profile[edge + 1]
        run = math.hypot(u1 - u0, y1 - y0)
        normal = self._normal(-(y1 - y0) / run, 0.0, (u1 - u0) / run)
        gain = light.on(normal)
        canvas.fill(strip, light.seen(self.paint_bgr, gain, distance), CAR)
        if edge in shape.glass:
            # Tilted glass mirrors the sky.
            glass = mix(_GLASS, light.horizon_bgr, 0.12 + 0.5 * max(0.0, normal[2]) ** 2)
            canvas.fill(_part(strip, 0.07, 0.93, 0.1, 0.92), light.seen(glass, NEUTRAL, distance), None)
        if shot.px_per_m < 9:
            return
        if edge == 0:
            canvas.fill(_part(strip, 0.0, 1.0, 0.0, 0.4), light.seen((40, 40, 42), gain, distance), None)
        if edge == 1:
            red: Color = (30, 30, 250) if self.braking else (34, 28, 150)
            for left in (0.02, 0.8):
                canvas.fill(
                    _part(strip, left, left + 0.18, 0.25, 0.95), light.seen(red, NEUTRAL, distance), None
                )
            canvas.fill(_part(strip, 0.36, 0.64, 0.1, 0.45), light.seen((60, 190, 220), gain, distance), None)
        if edge == last:
            for left in (0.04, 0.76):
                lamp = light.seen((225, 225, 225), NEUTRAL, distance)
                canvas.fill(_part(strip, left, left + 0.2, 0.08, 0.36), lamp, None)
            canvas.fill(_part(strip, 0.3, 0.7, 0.1, 0.36), light.seen((30, 30, 32), NEUTRAL, distance), None)
            canvas.fill(_part(strip, 0.0, 1.0, 0.75, 1.0), light.seen((40, 40, 42), gain, distance), None)
            canvas.fill(_part(strip, 0.36, 0.64, 0.5, 0.7), light.seen((225, 225, 225), gain, distance), None)

    def _paint_flank(self, canvas: Canvas, shape: Shape, flank: Points, side: int, shot: Shot) -> None:
        """Paint one flank: doors, windows, and wheels in their arches."""
        light, distance, (begin, end) = canvas.light, shot.distance_m, shape.belt
        normal = self._normal(0.0, float(side), 0.0)
        canvas.fill(flank, light.seen(self.paint_bgr, light.on(normal), distance), CAR)
        shadowed = light.seen(self.paint_bgr, light.on(normal, 0.55), distance)
        sill = (flank[0], flank[0] * 0.7 + flank[1] * 0.3, flank[-2] * 0.25 + flank[-1] * 0.75, flank[-1])
        canvas.fill(np.stack(sill), shadowed, None)
        cabin = flank[begin : end + 1]
        middle = cabin.mean(axis=0)
        glass = light.seen(mix(_GLASS, light.horizon_bgr, 0.16), NEUTRAL, distance)
        canvas.fill(middle + (cabin - middle) * 0.84, glass, None)
        if shot.px_per_m > 9 and shot.whole:
            pillar = light.seen(self.paint_bgr, light.on(normal, 0.9), distance)
            for share in (0.4, 0.72):
                low = flank[begin] * (1 - share) + flank[end] * share
                high = cabin[1] * (1 - share) + cabin[-2] * share
                canvas.limb(np.stack((low, high)), 0.07 * shot.px_per_m, pillar, None)
        self._paint_wheels(canvas, shape, side, shot)

    def _paint_wheels(self, canvas: Canvas, shape: Shape, side: int, shot: Shot) -> None:
        """Paint the wheels of one flank: tyre, rim and hub."""
        light, distance, size = canvas.light, shot.distance_m, len(_RING)
        rubber = light.seen(_RUBBER, light.on((0.0, 0.0, 0.3)), distance)
        rim = light.seen((120, 122, 124), light.on(self._normal(0.0, float(side), 0.0)), distance)
        first = 2 * len(shape.profile) + (2 * size if side > 0 else 0)
        for ring in (shot.points[first : first + size], shot.points[first + size : first + 2 * size]):
            canvas.fill(ring, rubber, CAR)
            if shot.px_per_m > 9:
                hub = ring.mean(axis=0)
                canvas.fill(hub + (ring - hub) * 0.62, rim, None)
                canvas.fill(hub + (ring - hub) * 0.2, rubber, None)


_RING = np.stack((np.cos(np.arange(14) * np.pi / 7), np.sin(np.arange(14) * np.pi / 7)), axis=1)


@lru_cache(maxsize=len(SHAPES))
def _corners(index: int) -> Points:
    """Return a vehicle's points (N, 3) as (forward, right, up) of its middle.

    In order: the left and the right profile, the wheels of the left and of the right flank as rings, and the
    boards that stand for the floor and the tyres when seen from an end.
    """
    shape = SHAPES[index]
    half, middle = shape.width_m / 2, shape.length_m / 2
    axles = (0.19 * shape.length_m - middle, 0.8 * shape.length_m - middle)
    inset = [
        shape.inset_m if shape.belt[0] < corner < shape.belt[1] else 0.0
        for corner in range(len(shape.profile))
    ]
    points = [
        (u - middle, side * (half - inside), y)
        for side in (-1, 1)
        for (u, y), inside in zip(shape.profile, inset, strict=True)
    ]
    points += [
        (axle + x * shape.wheel_m, side * (half + 0.01), (1 + y) * shape.wheel_m)
        for side in (-1, 1)
        for axle in axles
        for x, y in _RING.tolist()
    ]
    boards = [(axle, left, left + 0.22, 0.0) for axle in axles for left in (0.04 - half, half - 0.26)]
    boards.append((0.0, 0.05 - half, half - 0.05, 0.2))
    for at, left, right, low in boards:
        points += [(at, left, low), (at, right, low), (at, right, 0.5), (at, left, 0.5)]
    return np.array(points)


def _part(strip: Points, left: float, right: float, low: float, high: float) -> Points:
    """Return the part of a strip (left low, left high, right high, right low) between ratios of its sides."""
    return _weights(left, right, low, high) @ strip


@lru_cache(maxsize=64)
def _weights(left: float, right: float, low: float, high: float) -> Points:
    """Return (4, 4) bilinear weights of a strip's corners for `_part`."""
    return np.array(
        [
            [(1 - a) * (1 - b), (1 - a) * b, a * b, a * (1 - b)]
            for a, b in ((left, low), (left, high), (right, high), (right, low))
        ]
    )
