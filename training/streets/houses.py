"""What stands beside the pavement: buildings, fences, hedges and trees."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from training.streets import fronts, textures
from training.streets.camera import Points
from training.streets.canvas import Canvas, Shot
from training.streets.light import Light, times
from training.streets.textures import Box, Color
from training.streets.thing import BUILDING, FENCE, SIGN, TREE


def cast(base: Points, height_m: float, light: Light) -> Points:
    """Return where points (N, 3) raised by `height_m` throw their shadow on the ground."""
    along, right, up = light.sun
    reach = min(height_m / max(up, 0.12), 40.0)
    thrown = base.copy()
    thrown[:, 0] -= along * reach
    thrown[:, 1] -= right * reach
    thrown[:, 2] = 0.0
    return thrown


@dataclass(frozen=True)
class Building:
    """A house between s and s_end whose front stands `front_m` from the centre line.

    Attributes:
        s: near end, metres along the street.
        s_end: far end.
        side: -1 left of the street, +1 right.
        front_m: distance of the front from the centre line.
        height_m: up to the eaves.
        depth_m: from front to back.
        rise_m: of the roof above the eaves; 0 for a flat roof.
        facade: index of its front's texture.
        tint: B, G, R factors on its colours.
        roof: albedo.
        chimney: whether it has one.
        lettered: whether its shop sign counts as a sign.
        end_shows: whether its near end can be seen past its neighbour.
    """

    s: float
    s_end: float
    side: int
    front_m: float
    height_m: float
    depth_m: float
    rise_m: float
    facade: int
    tint: Color
    roof: Color
    chimney: bool
    lettered: bool
    end_shows: bool

    @property
    def x(self) -> float:
        """Lateral position of its front, metres right of the centre line."""
        return self.side * self.front_m

    def outline(self) -> Points:
        """Return its corners: the front, the near end, the roof, and the chimney's two faces."""
        x, top = self.x, self.height_m
        back, ridge = x + self.side * self.depth_m, top + self.rise_m
        middle = (x + back) / 2
        near, far = self.s, self.s_end
        stack, road, high = near + 1.0, middle - self.side * 0.5, ridge + 1.1
        return np.array(
            [
                [near, x, top], [far, x, top], [far, x, 0.0], [near, x, 0.0],
                [near, x, top], [near, back, top], [near, back, 0.0], [near, x, 0.0],
                [near, x, top], [far, x, top], [far, middle, ridge], [near, middle, ridge],
                [stack, road, ridge - 0.6], [stack + 1.4, road, ridge - 0.6], [stack + 1.4, road, high],
                [stack, road, high], [stack, middle, high], [stack, middle, ridge - 0.4],
            ]
        )  # fmt: skip

    def shadows(self, light: Light) -> list[tuple[Points, float]]:
        """Return the ground that the front's silhouette hides from the sun."""
        base = np.array([[self.s, self.x, 0.0], [self.s_end, self.x, 0.0]])
        thrown = cast(base, self.height_m + 0.5 * self.rise_m, light)
        return [(np.concatenate((base, thrown[::-1])), light.shadow)]

    def paint(self, canvas: Canvas, shot: Shot) -> None:
        """Paint roof, near end and front."""
        at, light, distance = shot.points, canvas.light, shot.distance_m
        end_gain = light.on((-1.0, 0.0, 0.0))
        side_gain = light.on((0.0, -float(self.side), 0.0))
        if self.rise_m > 0:
            roof = light.seen(self.roof, light.on((0.0, -0.6 * self.side, 0.8)), distance)
            canvas.fill(at[8:12], roof, BUILDING)
            if self.chimney:
                canvas.fill(at[12:16], light.seen(_BRICK, side_gain, distance), BUILDING)
                canvas.fill(at[[12, 15, 16, 17]], light.seen(_BRICK, end_gain, distance), BUILDING)
        if self.end_shows and self.s > canvas.camera.s:
            wall = fronts.plain_wall(self.facade % 8)
            gain = times(end_gain, self.tint)
            canvas.paste(wall, at[4:8], gain, distance, BUILDING)
            if self.rise_m > 0:
                canvas.fill(at[[4, 11, 5]], light.seen(wall.mean, gain, distance), BUILDING)
        texture = fronts.facade(self.facade)
        canvas.paste(texture, at[:4], times(side_gain, self.tint), distance, BUILDING)
        if self.lettered:
            for box in texture.signs:
                canvas.fill_label(_inside(at[:4], box), SIGN)


_BRICK: Color = (70, 84, 120)


def _inside(quad: Points, box: Box) -> Points:
    """Return the corners of a box, given in ratios of an upright rectangle's sides."""
    left, top, right, bottom = box
    across_top, across_low = quad[1] - quad[0], quad[2] - quad[3]
    columns = [(quad[0] + across_top * x, quad[3] + across_low * x) for x in (left, right)]
    (a, d), (b, c) = columns
    return np.stack((a + (d - a) * top, b + (c - b) * top, b + (c - b) * bottom, a + (d - a) * bottom))


@dataclass(frozen=True)
class Fence:
    """A fence or hedge along the street from s to s_end at lateral position x.

    Attributes:
        s: near end, metres along the street.
        s_end: far end.
        x: metres right of the centre line.
        base_m: height of its foot above the road.
        height_m: of the fence.
        style: texture index; -1 for a hedge, -2 and below for a wall of stone or brick.
    """

    s: float
    s_end: float
    x: float
    base_m: float
    height_m: float
    style: int

    def outline(self) -> Points:
        """Return the corners of its panels, four each, the far ones first."""
        top, low = self.base_m + self.height_m, self.base_m
        panels: list[list[float]] = []
        for begin, end in self._panels():
            panels += [[begin, self.x, top], [end, self.x, top], [end, self.x, low], [begin, self.x, low]]
        return np.array(panels)

    def _panels(self) -> list[tuple[float, float]]:
        """Return where its panels begin and end, the far ones first."""
        count = math.ceil((self.s_end - self.s) / _PANEL_M - 1e-6)
        return [
            (self.s + i * _PANEL_M, min(self.s_end, self.s + (i + 1) * _PANEL_M))
            for i in reversed(range(count))
        ]

    def shadows(self, light: Light) -> list[tuple[Points, float]]:
        """Return a strip of shade where the fence is solid."""
        if self.style not in (2, 5) and self.style >= 0:
            return []
        base = np.array([[self.s, self.x, 0.0], [self.s_end, self.x, 0.0]])
        return [(np.concatenate((base, cast(base, self.height_m, light)[::-1])), light.shadow)]

    def paint(self, canvas: Canvas, shot: Shot) -> None:
        """Lay the texture on each panel."""
        gain = canvas.light.on((0.0, -float(np.sign(self.x)), 0.0))
        for number, (begin, end) in enumerate(self._panels()):
            panel, share = shot.points[4 * number : 4 * number + 4], (end - begin) / _PANEL_M
            if self.style < -1:
                wall = fronts.plain_wall(-2 - self.style)
                canvas.paste(wall, panel, gain, shot.distance_m, BUILDING, repeat=share)
            elif self.style < 0:
                canvas.paste(textures.hedge(0), panel, gain, shot.distance_m, TREE, repeat=share)
            else:
                texture = fronts.fence(self.style)
                canvas.paste(texture, panel, gain, shot.distance_m, FENCE, whole=True, repeat=share)


_PANEL_M = 12.0


@dataclass(frozen=True)
class Bridge:
    """A bridge over the road, on two piers.

    Attributes:
        s: near edge, metres along the street.
        half_m: how far it reaches to each side of the centre line.
        pier_m: distance of its piers from the centre line.
        clear_m: height of its underside.
        albedo: its colour.
    """

    s: float
    half_m: float
    pier_m: float
    clear_m: float
    albedo: Color

    @property
    def x(self) -> float:
        """Lateral position: it stands over the road."""
        return 0.0

    def shadows(self, light: Light) -> list[tuple[Points, float]]:
        """Return the ground under it."""
        half = self.half_m
        near, far = self.s, self.s + 9.0
        ground = np.array([[near, -half, 0], [near, half, 0], [far, half, 0], [far, -half, 0]])
        return [(ground, light.shadow)]

    def outline(self) -> Points:
        """Return underside, near face and the faces of the piers, four corners each."""
        near, far, half, low = self.s, self.s + 9.0, self.half_m, self.clear_m
        high = low + 1.3
        corners = [[near, -half, low], [near, half, low], [far, half, low], [far, -half, low]]
        corners += [[near, -half, high], [near, half, high], [near, half, low], [near, -half, low]]
        for left in (-self.pier_m - 1.2, self.pier_m):
            corners += [[near, left, low], [near, left + 1.2, low], [near, left + 1.2, 0], [near, left, 0]]
        return np.array(corners)

    def paint(self, canvas: Canvas, shot: Shot) -> None:
        """Paint underside, piers and near face."""
        light, at = canvas.light, shot.points
        shaded = light.seen(self.albedo, light.on((0.0, 0.0, -1.0), 0.35), shot.distance_m)
        face = light.seen(self.albedo, light.on((-1.0, 0.0, 0.0)), shot.distance_m)
        for corners, color in ((at[:4], shaded), (at[8:12], face), (at[12:16], face), (at[4:8], face)):
            canvas.fill(corners, color, BUILDING)


@dataclass(frozen=True)
class Tree:
    """A tree whose crown always faces the camera.

    Attributes:
        s: metres along the street.
        x: metres right of the centre line.
        height_m: to the top of the crown.
        width_m: of the crown.
        clear_m: from the ground to the crown; 0 for a bush.
        crown: index of the crown's texture.
        bare: whether it has lost its leaves.
        tint: B, G, R factors on its colours.
    """

    s: float
    x: float
    height_m: float
    width_m: float
    clear_m: float
    crown: int
    bare: bool
    tint: Color

    def outline(self) -> Points:
        """Return foot, fork and top."""
        fork = self.clear_m * (1.0 if self.bare else 0.92)
        return np.array([[self.s, self.x, 0.0], [self.s, self.x, fork], [self.s, self.x, self.height_m]])

    def shadows(self, light: Light) -> list[tuple[Points, float]]:
        """Return a ragged blotch of shade, thinner under bare branches."""
        middle = cast(np.array([[self.s, self.x, 0.0]]), (self.height_m + self.clear_m) / 2, light)[0]
        angles = np.arange(12) * (np.pi / 6)
        ragged = (0.42 + 0.12 * np.sin(angles * 5 + self.crown)) * self.width_m
        ring = np.stack(
            (middle[0] + np.cos(angles) * ragged, middle[1] + np.sin(angles) * ragged, 0 * angles), axis=1
        )
        return [(ring, light.shadow + (1 - light.shadow) * 0.5 if self.bare else light.shadow)]

    def paint(self, canvas: Canvas, shot: Shot) -> None:
        """Paint trunk and crown."""
        if not shot.whole:
            return
        light, (foot, fork, top) = canvas.light, shot.points
        if self.clear_m > 0:
            bark = light.seen((52, 60, 70), times(light.on((-0.7, 0.0, 0.0)), self.tint), shot.distance_m)
            inside = fork + (top - fork) * (0.03 if self.bare else 0.3)
            canvas.limb(np.stack((foot, inside)), 0.05 * self.height_m**0.9 * shot.px_per_m, bark, TREE)
        aside = shot.aside(self.width_m / 2)
        card = np.stack((top - aside, top + aside, fork + aside, fork - aside))
        texture = textures.bare_crown(self.crown) if self.bare else textures.crown(self.crown)
        gain = times(light.on((-0.5, 0.0, 0.5), 0.92), self.tint)
        if shot.px_per_m * self.height_m < 14:
            angles = np.arange(8) * (np.pi / 4)
            center, up = (top + fork) / 2, (top - fork) / 2
            ring = center + np.cos(angles)[:, None] * aside * 0.9 + np.sin(angles)[:, None] * up * 0.9
            canvas.fill(ring, light.seen(texture.mean, gain, shot.distance_m), TREE)
        else:
            canvas.paste(texture, card, gain, shot.distance_m, TREE)
