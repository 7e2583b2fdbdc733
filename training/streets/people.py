"""Pedestrians and cyclists: jointed figures in three dimensions, so that every view of them follows."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from training.streets.camera import Points
from training.streets.canvas import Canvas, Shot
from training.streets.light import Light
from training.streets.textures import Color
from training.streets.thing import BICYCLIST, PEDESTRIAN, Dice, placed

CLOTHES: tuple[Color, ...] = (
    (28, 28, 30), (44, 40, 38), (70, 48, 34), (96, 60, 40), (40, 40, 120), (50, 70, 90), (60, 60, 62),
    (120, 120, 122), (180, 184, 186), (40, 80, 60), (30, 120, 190), (90, 40, 80), (60, 130, 140),
)  # fmt: skip
SKINS: tuple[Color, ...] = ((140, 165, 205), (105, 135, 180), (70, 95, 140), (45, 60, 90))
HAIRS: tuple[Color, ...] = ((22, 22, 26), (30, 42, 60), (60, 100, 140), (120, 124, 128))


@dataclass(frozen=True)
class Look:
    """What a person wears, and how tall it is in metres."""

    coat: Color
    trousers: Color
    skin: Color
    hair: Color
    height_m: float


def draw_look(dice: Dice) -> Look:
    """Draw a person's clothes and height."""
    return Look(
        dice.one_of(CLOTHES),
        dice.one_of(CLOTHES[:9]),
        dice.one_of(SKINS),
        dice.one_of(HAIRS),
        dice.between(1.5, 1.9) if dice.chance(0.9) else dice.between(1.0, 1.4),
    )


def _foot_shadows(
    s: float, x: float, heading: float, long_m: float, height_m: float, light: Light
) -> list[tuple[Points, float]]:
    """Return a person's shadow: a strip away from the sun and a patch at the feet."""
    along, right, up = light.sun
    reach = min(height_m / max(up, 0.15), 6.0)
    tip = np.array([s - along * reach, x - right * reach, 0.0])
    start = np.array([s, x, 0.0])
    flat = math.hypot(along, right) + 1e-9
    aside = np.array([-right / flat * 0.22, along / flat * 0.22, 0.0])
    ends = np.array([[long_m, 0.2, 0.0], [long_m, -0.2, 0.0], [-long_m, -0.2, 0.0], [-long_m, 0.2, 0.0]])
    return [
        (np.stack((start - aside, start + aside, tip + aside, tip - aside)), light.shadow),
        (placed(ends, s, x, 0.0, heading), 0.55 * light.shadow + 0.15),
    ]


@dataclass(frozen=True)
class Pedestrian:
    """A walking or standing person.

    Attributes:
        s: metres along the street.
        x: metres right of the centre line.
        base_m: height of the ground it stands on.
        heading: radians from the street's direction, to the right.
        stride: phase of the walk in radians.
        look: its clothes.
    """

    s: float
    x: float
    base_m: float
    heading: float
    stride: float
    look: Look

    def shadows(self, light: Light) -> list[tuple[Points, float]]:
        """Return its shadow."""
        return _foot_shadows(self.s, self.x, self.heading, 0.2, self.look.height_m, light)

    def outline(self) -> Points:
        """Return its joints: two legs, two arms, spine and head."""
        k = self.look.height_m / 1.75
        swing = float(np.sin(self.stride))
        step, lift = 0.34 * swing, 0.06 * abs(float(np.cos(self.stride)))
        joints = np.array(
            [
                [step, -0.09, 0.05 + lift], [0.55 * step + 0.03, -0.09, 0.48], [0.0, -0.09, 0.9],
                [-step, 0.09, 0.05], [-0.55 * step + 0.03, 0.09, 0.48], [0.0, 0.09, 0.9],
                [0.0, -0.19, 1.4], [-0.3 * swing, -0.25, 1.13], [-0.42 * swing + 0.1, -0.22, 0.9],
                [0.0, 0.19, 1.4], [0.3 * swing, 0.25, 1.13], [0.42 * swing + 0.1, 0.22, 0.9],
                [0.0, 0.0, 0.92], [0.02, 0.0, 1.36], [0.04, 0.0, 1.6], [0.02, 0.0, 1.66],
            ]
        )  # fmt: skip
        return placed(joints * k, self.s, self.x, self.base_m, self.heading)

    def paint(self, canvas: Canvas, shot: Shot) -> None:
        """Paint legs, arms, body and head."""
        if not shot.whole:
            return
        light, at, scale = canvas.light, shot.points, shot.px_per_m * self.look.height_m / 1.75
        gain = light.on((-0.7, 0.0, 0.2))
        coat = light.seen(self.look.coat, gain, shot.distance_m)
        trousers = light.seen(self.look.trousers, gain, shot.distance_m)
        skin = light.seen(self.look.skin, gain, shot.distance_m)
        for leg in (slice(0, 3), slice(3, 6)):
            canvas.limb(at[leg], 0.15 * scale, trousers, PEDESTRIAN)
        if scale > 8:
            sleeve = light.seen(self.look.coat, light.on((-0.7, 0.0, 0.2), 0.82), shot.distance_m)
            for arm in (slice(6, 9), slice(9, 12)):
                canvas.limb(at[arm], 0.1 * scale, sleeve, PEDESTRIAN)
        canvas.fill(at[[6, 9, 5, 2]], coat, PEDESTRIAN)
        canvas.limb(at[12:14], 0.3 * scale, coat, PEDESTRIAN)
        canvas.limb(at[13:15], 0.1 * scale, skin, PEDESTRIAN)
        canvas.disc(at[15], 0.12 * scale, light.seen(self.look.hair, gain, shot.distance_m), PEDESTRIAN)
        if math.cos(self.heading) < 0.2:  # it faces the camera, more or less
            canvas.disc(at[14], 0.1 * scale, skin, PEDESTRIAN)


@dataclass(frozen=True)
class Cyclist:
    """A person on a bicycle, or a parked bicycle.

    Attributes:
        s: metres along the street.
        x: metres right of the centre line.
        base_m: height of the ground it stands on.
        heading: radians from the street's direction, to the right.
        crank: phase of the pedals in radians.
        look: the rider's clothes; None for a parked bicycle.
        paint_bgr: albedo of the frame.
    """

    s: float
    x: float
    base_m: float
    heading: float
    crank: float
    look: Look | None
    paint_bgr: Color

    def shadows(self, light: Light) -> list[tuple[Points, float]]:
        """Return its shadow."""
        return _foot_shadows(self.s, self.x, self.heading, 0.8, 1.6 if self.look else 0.9, light)

    def outline(self) -> Points:
        """Return the joints of bicycle and rider, then the two rims."""
        turn, rise = 0.17 * float(np.cos(self.crank)), 0.17 * float(np.sin(self.crank))
        joints = np.array(
            [
                [-0.52, 0, 0.34], [0.52, 0, 0.34], [-0.2, 0, 0.88], [0.38, 0, 0.86], [-0.02, 0, 0.3],
                [0.4, -0.26, 1.04], [0.4, 0.26, 1.04], [0.36, 0, 1.02],
                [-0.18, -0.1, 0.95], [-0.18, 0.1, 0.95], [0.18, -0.19, 1.42], [0.18, 0.19, 1.42],
                [0.14 + turn, -0.1, 0.62 + 0.6 * rise], [0.14 - turn, 0.1, 0.62 - 0.6 * rise],
                [turn, -0.1, 0.3 + rise], [-turn, 0.1, 0.3 - rise], [0.28, 0, 1.62], [0.24, 0, 1.68],
                [-0.18, 0, 0.98], [0.16, 0, 1.4],
            ]
        )  # fmt: skip
        rings = [hub + _RIM for hub in joints[:2]]
        return placed(np.concatenate((joints, *rings)), self.s, self.x, self.base_m, self.heading)

    def paint(self, canvas: Canvas, shot: Shot) -> None:
        """Paint wheels, frame and rider."""
        if not shot.whole:
            return
        light, at, scale, spokes = canvas.light, shot.points, shot.px_per_m, len(_RIM)
        gain = light.on((-0.7, 0.0, 0.2))
        frame = light.seen(self.paint_bgr, gain, shot.distance_m)
        dark = light.seen((26, 26, 27), gain, shot.distance_m)
        # People label a bicycle as one patch with all that shows through it.
        canvas.fill_label(at[[0, 2, 3, 1]], BICYCLIST)
        for rim in (at[-2 * spokes : -spokes], at[-spokes:]):
            canvas.fill_label(rim, BICYCLIST)
            canvas.limb(rim, 0.05 * scale, dark, BICYCLIST)
        canvas.limb(at[[4, 0, 2, 4, 3, 2]], 0.05 * scale, frame, BICYCLIST)
        canvas.limb(at[[1, 3, 7]], 0.05 * scale, frame, BICYCLIST)
        canvas.limb(at[5:7], 0.04 * scale, dark, BICYCLIST)
        if self.look is not None:
            self._paint_rider(canvas, shot, self.look)

    def _paint_rider(self, canvas: Canvas, shot: Shot, look: Look) -> None:
        """Paint legs, body, arms and head."""
        light, at, scale = canvas.light, shot.points, shot.px_per_m
        gain = light.on((-0.7, 0.0, 0.2))
        coat = light.seen(look.coat, gain, shot.distance_m)
        trousers = light.seen(look.trousers, gain, shot.distance_m)
        sleeve = light.seen(look.coat, light.on((-0.7, 0.0, 0.2), 0.82), shot.distance_m)
        for leg in ([8, 12, 14], [9, 13, 15]):
            canvas.limb(at[leg], 0.15 * scale, trousers, BICYCLIST)
        for arm in ([10, 5], [11, 6]):
            canvas.limb(at[arm], 0.1 * scale, sleeve, BICYCLIST)
        canvas.fill(at[[10, 11, 9, 8]], coat, BICYCLIST)
        canvas.limb(at[[18, 19]], 0.3 * scale, coat, BICYCLIST)
        canvas.disc(at[16], 0.11 * scale, light.seen(look.skin, gain, shot.distance_m), BICYCLIST)
        canvas.disc(at[17], 0.12 * scale, light.seen(look.hair, gain, shot.distance_m), BICYCLIST)


_TURN = np.arange(15) * (np.pi / 7)
_RIM = 0.33 * np.stack((np.cos(_TURN), np.zeros(15), np.sin(_TURN)), axis=1)
