"""Street furniture: lamp posts, traffic signs, traffic lights and bollards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from training.streets.camera import Points
from training.streets.canvas import Canvas, Shot
from training.streets.houses import cast
from training.streets.light import NEUTRAL, Light
from training.streets.textures import Color
from training.streets.thing import POLE, SIGN

KERB_M = 0.12
Face = Literal[
    "round", "triangle", "board", "blue", "stop", "back", "diamond", "give way", "tall", "arrow", "chevron"
]
FACES: tuple[Face, ...] = ("round", "triangle", "board", "blue", "stop")
MORE_FACES: tuple[Face, ...] = (*FACES, "diamond", "give way", "tall", "arrow", "chevron")


def _bar(canvas: Canvas, shot: Shot, ends: slice, width_m: float, color: Color) -> None:
    """Paint an upright bar of class pole along some of a shot's points."""
    lit = canvas.light.seen(color, canvas.light.on((-0.7, 0.0, 0.0)), shot.distance_m)
    canvas.limb(shot.points[ends], width_m * shot.px_per_m, lit, POLE)


def _bar_shadow(
    s: float, x: float, height_m: float, width_m: float, light: Light
) -> list[tuple[Points, float]]:
    """Return the shadow of an upright bar."""
    base = np.array([[s, x - width_m / 2, 0.0], [s, x + width_m / 2, 0.0]])
    return [(np.concatenate((base, cast(base, height_m, light)[::-1])), light.shadow)]


@dataclass(frozen=True)
class Lamp:
    """A lamp post whose arm reaches over the road.

    Attributes:
        s: metres along the street.
        x: metres right of the centre line.
        height_m: of the post.
        arm_m: reach of the arm; 0 for a lantern on top.
        paint_bgr: albedo.
    """

    s: float
    x: float
    height_m: float
    arm_m: float
    paint_bgr: Color

    def shadows(self, light: Light) -> list[tuple[Points, float]]:
        """Return its shadow, or at night the pool of light below it."""
        if light.night:
            inward = self.x - float(np.sign(self.x)) * (self.arm_m + 0.35)
            angles = np.arange(20) * (np.pi / 10)
            ring = np.stack((self.s + 0 * angles, inward + 0 * angles, 0 * angles), axis=1)
            round_it = np.stack((np.cos(angles), np.sin(angles), 0 * angles), axis=1)
            return [(ring + reach * round_it, 1.1 - reach / 16.0) for reach in (11.0, 9.0, 7.0, 5.0, 3.0)]
        return _bar_shadow(self.s, self.x, self.height_m, 0.16, light)

    def outline(self) -> Points:
        """Return foot, collar, top, and the two ends of the lamp."""
        inward, high = -float(np.sign(self.x)), self.height_m + (0.35 if self.arm_m > 0 else 0.0)
        tip = self.x + inward * self.arm_m
        return np.array(
            [
                [self.s, self.x, KERB_M], [self.s, self.x, 1.3], [self.s, self.x, self.height_m],
                [self.s, tip, high], [self.s, tip + inward * 0.7, high],
            ]
        )  # fmt: skip

    def paint(self, canvas: Canvas, shot: Shot) -> None:
        """Paint a thicker foot, the post, and the lamp."""
        if not shot.whole:
            return
        _bar(canvas, shot, slice(0, 2), 0.24, self.paint_bgr)
        _bar(canvas, shot, slice(1, 3), 0.15, self.paint_bgr)
        if self.arm_m > 0:
            _bar(canvas, shot, slice(2, 4), 0.1, self.paint_bgr)
            _bar(canvas, shot, slice(3, 5), 0.2, (170, 176, 180))
        else:
            lantern = canvas.light.seen((190, 196, 198), canvas.light.on((-0.7, 0.0, 0.3)), shot.distance_m)
            canvas.disc(shot.points[2], 0.24 * shot.px_per_m, lantern, POLE)
        if canvas.light.night:
            canvas.glow(shot.points[4 if self.arm_m > 0 else 2], 0.9 * shot.px_per_m, (150, 215, 255))


@dataclass(frozen=True)
class Sign:
    """A traffic sign on its pole.

    Attributes:
        s: metres along the street.
        x: metres right of the centre line.
        height_m: height of the plate's middle.
        size_m: of the plate.
        face: what it shows; "back" for one that faces the other way.
        ink: what is written on it, as a seed for its glyph.
    """

    s: float
    x: float
    height_m: float
    size_m: float
    face: Face
    ink: int

    def shadows(self, light: Light) -> list[tuple[Points, float]]:
        """Return its shadow."""
        return _bar_shadow(self.s, self.x, self.height_m, 0.1, light)

    def outline(self) -> Points:
        """Return the pole's ends, the plate's rim and inside, and the strokes of its glyph."""
        disc = _PLATES[self.face][0]
        flat = np.concatenate((disc, 0.8 * disc, *_STROKES)) * (self.size_m / 2)
        points = np.empty((2 + len(flat), 3))
        points[:, 0] = self.s
        points[:2, 1], points[0, 2], points[1, 2] = self.x, KERB_M, self.height_m
        points[2:, 1], points[2:, 2] = self.x + flat[:, 0], self.height_m + flat[:, 1]
        return points

    def paint(self, canvas: Canvas, shot: Shot) -> None:
        """Paint the pole, then the plate and its glyph."""
        if not shot.whole:
            return
        _bar(canvas, shot, slice(0, 2), 0.09, (118, 120, 122))
        disc, rim, inside = _PLATES[self.face]
        color: Color = _BOARDS[self.ink % 4] if self.face == "board" else inside
        light, count, plate = canvas.light, len(disc), shot.points[2:]
        gain = light.on((-1.0, 0.0, 0.0))
        canvas.fill(plate[:count], light.seen(rim, gain, shot.distance_m), SIGN)
        canvas.fill(plate[count : 2 * count], light.seen(color, gain, shot.distance_m), None)
        if self.face == "back" or shot.px_per_m < 12:
            return
        ink: Color = (30, 30, 32) if min(color) > 150 else (228, 230, 230)
        glyph = light.seen(ink, gain, shot.distance_m)
        for number in range(len(_STROKES)):
            if (self.ink >> number) & 1:
                canvas.fill(plate[2 * count + 4 * number : 2 * count + 4 * number + 4], glyph, None)


def _ring(count: int, turn: float) -> Points:
    angles = np.arange(count) * (2 * np.pi / count) + turn
    return np.stack((np.cos(angles), np.sin(angles)), axis=1)


_ROUND, _OCTAGON, _TRIANGLE = _ring(16, 0.0), _ring(8, np.pi / 8), _ring(3, np.pi / 2)
_BOARD = np.array([[-1.2, -0.75], [1.2, -0.75], [1.2, 0.75], [-1.2, 0.75]])
_TALL = np.array([[-0.6, -1.3], [0.6, -1.3], [0.6, 1.0], [-0.6, 1.0]])
_ARROW = np.array([[-1.3, -0.5], [1.0, -0.5], [1.5, 0.0], [1.0, 0.5], [-1.3, 0.5]])
_BOARDS: tuple[Color, ...] = ((60, 110, 30), (160, 80, 30), (225, 228, 228), (40, 190, 225))
# Outline, rim and inside of each plate, in half sizes.
_PLATES: dict[Face, tuple[Points, Color, Color]] = {
    "round": (_ROUND, (36, 30, 190), (228, 230, 230)),
    "triangle": (1.1 * _TRIANGLE, (36, 30, 190), (228, 230, 230)),
    "board": (_BOARD, (210, 212, 212), (210, 212, 212)),
    "blue": (_ROUND, (170, 80, 24), (170, 80, 24)),
    "stop": (_OCTAGON, (40, 32, 180), (40, 32, 180)),
    "diamond": (1.1 * _ring(4, 0.0), (225, 228, 228), (40, 190, 225)),
    "give way": (1.1 * _ring(3, -np.pi / 2), (36, 30, 190), (228, 230, 230)),
    "tall": (_TALL, (210, 212, 212), (170, 80, 24)),
    "arrow": (_ARROW, (225, 228, 228), (60, 110, 30)),
    "chevron": (_BOARD, (36, 30, 190), (225, 228, 228)),
    "back": (_ROUND, (112, 114, 116), (104, 106, 108)),
}
_STROKES = tuple(
    np.array([[left, low], [right, low], [right, high], [left, high]])
    for left, low, right, high in (
        (-0.3, 0.1, 0.0, 0.36), (0.1, 0.1, 0.28, 0.3), (-0.3, -0.24, 0.3, -0.1), (-0.1, -0.3, 0.1, 0.34)
    )
)  # fmt: skip


@dataclass(frozen=True)
class TrafficLight:
    """A signal head on its pole; the head counts as a sign, as in CamVid.

    Attributes:
        s: metres along the street.
        x: metres right of the centre line.
        lit: 0 red, 1 amber, 2 green.
    """

    s: float
    x: float
    lit: int

    def shadows(self, light: Light) -> list[tuple[Points, float]]:
        """Return its shadow."""
        return _bar_shadow(self.s, self.x, 3.4, 0.2, light)

    def outline(self) -> Points:
        """Return the pole's ends, the head's corners, and the lamps."""
        upright = [[0.0, KERB_M], [0.0, 3.4], [-0.19, 2.4], [0.19, 2.4], [0.19, 3.4], [-0.19, 3.4]]
        flat = np.array([*upright, *([0.0, 3.22 - 0.31 * lamp] for lamp in range(3))])
        return np.stack((np.full(len(flat), self.s), self.x + flat[:, 0], flat[:, 1]), axis=1)

    def paint(self, canvas: Canvas, shot: Shot) -> None:
        """Paint pole, head and lamps."""
        if not shot.whole:
            return
        _bar(canvas, shot, slice(0, 2), 0.12, (70, 72, 74))
        light = canvas.light
        canvas.fill(
            shot.points[2:6], light.seen((26, 27, 28), light.on((-1.0, 0.0, 0.0)), shot.distance_m), SIGN
        )
        for lamp, color in enumerate(((60, 60, 255), (40, 190, 255), (150, 240, 60))):
            shown = light.seen(color, NEUTRAL if lamp == self.lit else (0.2, 0.2, 0.2), shot.distance_m)
            canvas.disc(shot.points[6 + lamp], 0.11 * shot.px_per_m, shown, None)


@dataclass(frozen=True)
class Bollard:
    """A short post at the pavement's edge.

    Attributes:
        s: metres along the street.
        x: metres right of the centre line.
        height_m: above the pavement.
    """

    s: float
    x: float
    height_m: float

    def shadows(self, light: Light) -> list[tuple[Points, float]]:
        """Return its shadow."""
        return _bar_shadow(self.s, self.x, self.height_m, 0.14, light)

    def outline(self) -> Points:
        """Return foot, band and top."""
        heights = (KERB_M, self.height_m - 0.2, self.height_m - 0.12, self.height_m)
        return np.array([[self.s, self.x, height] for height in heights])

    def paint(self, canvas: Canvas, shot: Shot) -> None:
        """Paint post and reflective band."""
        if shot.whole:
            _bar(canvas, shot, slice(0, 4), 0.16, (44, 44, 46))
            _bar(canvas, shot, slice(1, 3), 0.16, (190, 192, 194))
