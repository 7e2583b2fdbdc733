"""The street's plan: its cross section and materials, and what stands where, chunk by chunk.

A chunk is 24 m of street, drawn from (seed, chunk number) alone, so any place of an endless street can be
made without the places before it.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from training.streets.fronts import FACADES, FENCES
from training.streets.furniture import (
    FACES,
    KERB_M,
    MORE_FACES,
    Bollard,
    Face,
    Lamp,
    Sign,
    TrafficLight,
)
from training.streets.houses import Bridge, Building, Fence, Tree
from training.streets.people import Cyclist
from training.streets.textures import BARE_CROWNS, CROWNS, Color
from training.streets.thing import ROAD, TREE, Dice, Thing
from training.streets.vehicles import PAINTS, Vehicle

Place = Literal["town", "country", "motorway"]


@dataclass(frozen=True)
class Layout:
    """What stays the same along one street; lengths in metres.

    Attributes:
        lane_m: width of a driving lane.
        parking_m: width of the parking lane on each side (left, right); 0 for none.
        pavement_m: width of the pavement on each side.
        drives_on: -1 where traffic keeps left, +1 right.
        edge_lines: whether a line runs along each kerb, and how many.
        edge_bgr: their paint.
        dash_m: length of a centre dash and of the gap after it.
        asphalt: albedo of the road.
        paving: albedo of the pavement.
        avenue: trees along each kerb in every chunk.
        leafless: share of trees without leaves.
        foliage: B, G, R factors on all leaves.
        lamp_m: height of the lamp posts.
        lamp_arm_m: reach of their arms.
        place: what kind of street it is. A motorway is one carriageway of two lanes, with another beside it.
        grass: albedo of verges and meadows outside of towns.
        hills: how high the hills behind everything stand, as the tangent of their elevation; 0 for none.
        faces: what its signs may show.
    """

    lane_m: float
    parking_m: tuple[float, float]
    pavement_m: tuple[float, float]
    drives_on: int
    edge_lines: int
    edge_bgr: Color
    dash_m: tuple[float, float]
    asphalt: Color
    paving: Color
    avenue: tuple[int, int]
    leafless: float
    foliage: Color
    lamp_m: float
    lamp_arm_m: float
    place: Place = "town"
    grass: Color = (50.0, 100.0, 90.0)
    hills: float = 0.0
    faces: tuple[Face, ...] = FACES

    def kerb(self, side: int) -> float:
        """Return the distance of a side's kerb from the centre line."""
        return self.lane_m + self.parking_m[side > 0]

    def front(self, side: int) -> float:
        """Return the distance of a side's building line from the centre line."""
        return self.kerb(side) + self.pavement_m[side > 0]


def draw_layout(rng: np.random.Generator) -> Layout:
    """Draw a street's cross section and materials."""
    gray, stone = rng.uniform(78, 118), rng.uniform(88, 140)
    warm = rng.normal(0, 0.03)
    parking = [float(rng.choice([0.0, 2.1], p=[0.6, 0.4])), float(rng.choice([0.0, 2.1], p=[0.6, 0.4]))]
    season = float(rng.choice([0.0, 0.3, 1.0]))
    autumn = rng.random() < 0.15
    leaf = (0.6, 0.8, 1.5) if autumn else rng.uniform((0.75, 0.8, 0.7), (1.2, 1.25, 1.15)).tolist()
    return Layout(
        lane_m=float(rng.uniform(2.8, 3.9)),
        parking_m=(parking[0], parking[1]),
        pavement_m=(float(rng.uniform(2.0, 5.0)), float(rng.uniform(2.0, 5.0))),
        drives_on=int(rng.choice([-1, 1])),
        edge_lines=int(rng.integers(0, 3)),
        edge_bgr=((60.0, 170.0, 195.0), (200.0, 200.0, 200.0))[int(rng.integers(2))],
        dash_m=((2.0, 4.0), (4.0, 2.0), (3.0, 6.0))[int(rng.integers(3))],
        asphalt=(gray * (1 - warm), gray, gray * (1 + warm)),
        paving=(stone * (1 - 2 * warm), stone, stone * (1.02 + 2 * warm)),
        avenue=(int(rng.choice([0, 0, 0, 1, 2])), int(rng.choice([0, 0, 0, 1, 2]))),
        leafless=season,
        foliage=(leaf[0], leaf[1], leaf[2]),
        lamp_m=float(rng.uniform(5.5, 9.0)),
        lamp_arm_m=float(rng.choice([0.0, 1.2, 2.0])),
    )


def vary_layout(rng: np.random.Generator, layout: Layout) -> Layout:
    """Return a street with other surroundings: hills, more signs, and often a country road or a motorway."""
    place: Place = ("town", "country", "motorway")[int(rng.choice(3, p=[0.4, 0.35, 0.25]))]
    dry = rng.uniform(0, 1)
    varied = dataclasses.replace(
        layout,
        place=place,
        grass=(float(rng.uniform(36, 56)), float(88 + 20 * dry), float(60 + 48 * dry)),
        hills=float(rng.choice([0.0, rng.uniform(0.04, 0.17)], p=[0.3, 0.7])),
        faces=MORE_FACES,
    )
    if place == "town":
        return varied
    if place == "country":
        verges = float(rng.uniform(0.8, 3.5)), float(rng.uniform(0.8, 3.5))
        return dataclasses.replace(
            varied, lane_m=float(rng.uniform(2.5, 3.5)), parking_m=(0.0, 0.0), pavement_m=verges,
            edge_lines=int(rng.integers(2)), edge_bgr=(200.0, 200.0, 200.0), avenue=(0, 0),
        )  # fmt: skip
    shoulder, outer = float(rng.uniform(1.2, 3.0)), int(layout.drives_on > 0)
    verge, median = float(rng.uniform(2.0, 6.0)), float(rng.uniform(2.0, 4.5))
    return dataclasses.replace(
        varied,
        lane_m=float(rng.uniform(3.5, 3.9)),
        parking_m=(0.4, shoulder) if outer else (shoulder, 0.4),
        pavement_m=(median, verge) if outer else (verge, median),
        edge_lines=1,
        edge_bgr=(200.0, 200.0, 200.0),
        dash_m=(3.0, 9.0),
        avenue=(0, 0),
        lamp_m=float(rng.uniform(9.0, 12.0)),
        lamp_arm_m=2.0,
    )


CHUNK_M = 24.0
_PARKED = (0, 0, 0, 0, 1, 1, 1, 2, 2, 3)  # vehicle shapes, the common ones more often
District = Literal["shops", "terrace", "suburb", "park"]
DISTRICTS: tuple[District, ...] = (
    "shops",
    "shops",
    "shops",
    "terrace",
    "terrace",
    "suburb",
    "suburb",
    "park",
)


Land = Literal["field", "wood", "walled", "farm"]
_LANDS: tuple[Land, ...] = ("field", "field", "field", "wood", "wood", "walled", "farm")


@dataclass(frozen=True)
class Patch:
    """A flat piece of ground beside or on the road, painted in order.

    Attributes:
        s: near end, metres along the street.
        s_end: far end.
        left: metres right of the centre line where it begins.
        right: and where it ends.
        albedo: its colour.
        class_id: its class; None for paint on the road.
    """

    s: float
    s_end: float
    left: float
    right: float
    albedo: Color
    class_id: int | None


@dataclass(frozen=True)
class Chunk:
    """24 m of street: ground patches, what stands behind the pavement, and what stands on it."""

    patches: tuple[Patch, ...]
    walls: tuple[Building | Fence | Tree, ...]
    things: tuple[Thing, ...]


def plan_chunk(seed: int, number: int, layout: Layout) -> Chunk:
    """Draw one chunk of the street."""
    return _Planner(seed, number, layout).chunk()


class _Planner:
    """Draws one chunk, side by side."""

    def __init__(self, seed: int, number: int, layout: Layout) -> None:
        self.dice = Dice(seed, 1, number)
        self.layout = layout
        self.begin = number * CHUNK_M
        self.number = number
        district = Dice(seed, 2, number // 3)
        self.districts = [district.one_of(DISTRICTS) for _ in range(2)]
        land = Dice(seed, 11, number // 4)
        self.lands = [land.one_of(_LANDS) for _ in range(2)]
        self.patches: list[Patch] = []
        self.walls: list[Building | Fence | Tree] = []
        self.things: list[Thing] = []

    def chunk(self) -> Chunk:
        """Fill both sides and the kerbs between them."""
        if self.layout.place != "town":
            for side in (-1, 1):
                self._land(side)
                if self.layout.place == "motorway":
                    self._motorway(side)
                else:
                    self._roadside(side)
            self._mark_road()
            return Chunk(tuple(self.patches), tuple(self.walls), tuple(self.things))
        for side in (-1, 1):
            district = self.districts[side > 0]
            {"shops": self._row, "terrace": self._row, "suburb": self._villas, "park": self._park}[district](
                side
            )
            self._furnish(side, district)
            self._park_cars(side)
        self._mark_road()
        return Chunk(tuple(self.patches), tuple(self.walls), tuple(self.things))

    def _building(
        self, side: int, s: float, s_end: float, front: float, height: float, lettered: bool,
        end_shows: bool = True,
    ) -> Building:  # fmt: skip
        tint = self.dice.between(0.75, 1.25)
        b, r = self.dice.between(0.9, 1.1), self.dice.between(0.9, 1.1)
        roofs: tuple[Color, ...] = ((70, 66, 62), (52, 60, 84), (58, 80, 120), (86, 84, 82))
        return Building(
            s=s,
            s_end=s_end,
            side=side,
            front_m=front,
            height_m=height,
            depth_m=self.dice.between(7, 12),
            rise_m=0.0 if self.dice.chance(0.3) else self.dice.between(1.8, 4.0),
            facade=self.dice.pick(FACADES),
            tint=(tint * b, tint, tint * r),
            roof=self.dice.one_of(roofs),
            chimney=self.dice.chance(0.5),
            lettered=lettered,
            end_shows=end_shows,
        )

    def _row(self, side: int) -> None:
        """A closed row of fronts at the pavement, with an alley or a side street now and then."""
        front, s, end = self.layout.front(side), self.begin, self.begin + CHUNK_M
        if self.dice.chance(0.22):
            gap = self.dice.between(5.0, 8.0)
            reach = (self.layout.kerb(side), front + 40)
            self._patch(s, s + gap, side, *reach, self.layout.asphalt, ROAD)
            self.walls.append(
                self._building(side, s - 3, s + gap + 8, front + 40, self.dice.between(6, 10), False)
            )
            s += gap
        base = self.dice.between(8.0, 16.0)
        before = 0.0
        while s < end - 0.1:
            width = min(self.dice.between(6.0, 13.0), end - s)
            if end - s - width < 5.0:
                width = end - s
            height = max(5.5, base + self.dice.around(0, 1.2))
            shows = height > before
            self.walls.append(self._building(side, s, s + width, front, height, self.dice.chance(0.5), shows))
            s, before = s + width, height

    def _villas(self, side: int) -> None:
        """Houses behind front gardens, each with a fence or a hedge."""
        front, s = self.layout.front(side), self.begin
        garden = self.dice.between(3.0, 6.5)
        self._patch(s, s + CHUNK_M, side, front, front + 40, self._grass(), TREE)
        for plot in range(2):
            near = s + plot * 12.0
            self.walls.append(
                self._building(side, near + self.dice.between(0.3, 2.5), near + 11.5, front + garden,
                               self.dice.between(5.0, 8.0), False)
            )  # fmt: skip
            style = -1 if self.dice.chance(0.15) else self.dice.pick(FENCES)
            x = side * (front + 0.05)
            height = self.dice.between(0.8, 1.7)
            self.walls.append(Fence(near + 1.2, near + 12.0, x, KERB_M, height, style))
            if self.dice.chance(0.8):
                self.walls.append(
                    self._tree(near + self.dice.between(2, 9), side * (front + 1.8), self.dice.between(4, 10))
                )

    def _park(self, side: int) -> None:
        """Grass and trees behind a railing."""
        front, s = self.layout.front(side), self.begin
        self._patch(s, s + CHUNK_M, side, front, front + 60, self._grass(), TREE)
        self.walls.append(self._building(side, s - 5, s + 28, front + 45, self.dice.between(7, 11), False))
        for _ in range(self.dice.pick(3) + 4):
            x = side * (front + self.dice.between(3, 26))
            self.walls.append(self._tree(s + self.dice.between(0, CHUNK_M), x, self.dice.between(7, 15)))
        style = -1 if self.dice.chance(0.1) else self.dice.pick(FENCES)
        self.walls.append(
            Fence(s, s + CHUNK_M, side * (front + 0.05), KERB_M, self.dice.between(0.9, 1.8), style)
        )

    def _land(self, side: int) -> None:
        """Fields, woods, walls and farms behind the verge of a country road or a motorway."""
        is_motorway = self.layout.place == "motorway"
        if is_motorway and side != self.layout.drives_on:
            return
        land = self.lands[side > 0]
        front, s = self.layout.front(side), self.begin
        b, g, r = self.layout.grass
        tone = self.dice.between(0.85, 1.15)
        crop: Color = (
            (60.0, 120.0, 140.0)
            if land == "field" and self.number // 4 % 3 == 0
            else (b * tone, g * tone, r * tone)
        )
        self._patch(s, s + CHUNK_M, side, front + 0.4, front + 90, crop, TREE)
        if land == "wood":
            for _ in range(7):
                x = side * (front + self.dice.between(1.0, 16.0))
                self.walls.append(self._tree(s + self.dice.between(0, CHUNK_M), x, self.dice.between(7, 16)))
            for _ in range(4):
                self._bush(s + self.dice.between(0, CHUNK_M), side * (front + self.dice.between(0.5, 3.0)))
            return
        if land == "walled":
            style = -2 - self.dice.pick(8)
            self.walls.append(
                Fence(s, s + CHUNK_M, side * (front + 0.3), 0.0, self.dice.between(0.9, 2.4), style)
            )
        elif self.dice.chance(0.85):
            style = (-1, -1, 1, 3, 4, 5)[self.dice.pick(6)]
            height = self.dice.between(1.2, 2.6) if style < 0 else self.dice.between(0.9, 1.4)
            self.walls.append(Fence(s, s + CHUNK_M, side * (front + 0.3), 0.0, height, style))
        for _ in range(self.dice.pick(3)):
            x = side * (front + self.dice.between(1.5, 40.0))
            self.walls.append(self._tree(s + self.dice.between(0, CHUNK_M), x, self.dice.between(5, 13)))
        if land == "farm":
            near, back = s + self.dice.between(0, 6), front + self.dice.between(6, 25)
            height = self.dice.between(4, 7.5)
            self.walls.append(
                self._building(side, near, near + self.dice.between(9, 16), back, height, False)
            )

    def _bush(self, s: float, x: float) -> None:
        tree = self._tree(s, x, self.dice.between(1.2, 2.6))
        self.walls.append(dataclasses.replace(tree, clear_m=0.0, width_m=1.5 * tree.width_m))

    def _roadside(self, side: int) -> None:
        """Put signs, poles of wires, marker posts and a guard rail on the verge of a country road."""
        kerb, s = self.layout.kerb(side), self.begin
        if self.dice.chance(0.45):
            facing = side == self.layout.drives_on
            face = self.dice.one_of(self.layout.faces) if facing or self.dice.chance(0.3) else "back"
            at, x = s + self.dice.between(2, 22), side * (kerb + self.dice.between(0.5, 1.2))
            size = self.dice.between(0.5, 1.0)
            self.things.append(Sign(at, x, self.dice.between(1.4, 2.6), size, face, self.dice.pick(16)))
        if self.dice.chance(0.25):
            self.things.append(
                Bollard(s + 5.0, side * (self.layout.front(side) + 0.1), self.dice.between(6, 9))
            )
        if self.dice.chance(0.3):
            self.things.append(Fence(s, s + CHUNK_M, side * (kerb + 0.4), 0.0, 0.75, 3))
        elif self.dice.chance(0.4):
            for step in (3.0, 15.0):
                self.things.append(Bollard(s + step, side * (kerb + 0.4), 1.0))
        if self.dice.chance(0.2):
            self._bush(s + self.dice.between(2, 22), side * (kerb + 1.2))

    def _motorway(self, side: int) -> None:
        """Put guard rails, large boards, lamps, bridges and the other carriageway along a motorway."""
        kerb, front, s = self.layout.kerb(side), self.layout.front(side), self.begin
        outer = side == self.layout.drives_on
        if not outer:
            self._patch(s, s + CHUNK_M, side, front, front + 8.5, self.layout.asphalt, ROAD)
            self.walls.append(Fence(s, s + CHUNK_M, side * (front + 9.0), 0.0, 0.8, 3))
            for _ in range(2 + self.dice.pick(4)):
                x = side * (front + self.dice.between(11, 40))
                self.walls.append(self._tree(s + self.dice.between(0, CHUNK_M), x, self.dice.between(5, 14)))
            if self.number % 2 == 0 and self.layout.edge_lines:
                gray = self.dice.between(90, 150)
                x = side * (kerb + 1.0)
                self.things.append(
                    Lamp(s + 4.0, x, self.layout.lamp_m, self.layout.lamp_arm_m, (gray, gray, gray))
                )
        if not outer or self.dice.chance(0.6):
            self.things.append(Fence(s, s + CHUNK_M, side * (kerb + 0.6), 0.0, 0.8, 3))
        if outer and self.dice.chance(0.3):
            at, size = s + self.dice.between(4, 20), self.dice.between(1.2, 3.0)
            x = side * (kerb + 1.6 + 0.6 * size)
            face: Face = "board" if self.dice.chance(0.7) else "tall"
            self.things.append(Sign(at, x, 1.6 + 0.7 * size, size, face, self.dice.pick(16)))
        if outer and self.dice.chance(0.08):
            gray = self.dice.between(110, 160)
            pier = max(self.layout.front(-1), self.layout.front(1))
            self.things.append(
                Bridge(s + 6.0, pier + 30.0, pier - 0.4, self.dice.between(5.2, 6.5), (gray, gray, gray))
            )

    def _grass(self) -> Color:
        return (self.dice.between(42, 60), self.dice.between(88, 112), self.dice.between(78, 104))

    def _patch(
        self, s: float, s_end: float, side: int, near: float, far: float, albedo: Color, class_id: int | None
    ) -> None:
        """Add a patch between two distances from the centre line."""
        left, right = sorted((side * near, side * far))
        self.patches.append(Patch(s, s_end, left, right, albedo, class_id))

    def _tree(self, s: float, x: float, height: float) -> Tree:
        bare = self.dice.chance(self.layout.leafless)
        gain = self.dice.between(0.75, 1.2)
        b, g, r = (1.0, 1.0, 1.0) if bare else self.layout.foliage
        width = height * self.dice.between(0.55, 0.9)
        clear = height * self.dice.between(0.12, 0.32)
        crown = self.dice.pick(BARE_CROWNS if bare else CROWNS)
        return Tree(s, x, height, width, clear, crown, bare, (gain * b, gain * g, gain * r))

    def _furnish(self, side: int, district: District) -> None:
        """Put lamps, signs, lights, bollards, trees, railings and leaning bicycles along the kerb."""
        kerb = self.layout.kerb(side)
        post_x, s = side * (kerb + 0.45), self.begin
        if (self.number + (side > 0)) % 2 == 0:
            gray = self.dice.between(50, 150)
            self.things.append(
                Lamp(s + 4.0, post_x, self.layout.lamp_m, self.layout.lamp_arm_m, (gray, gray * 1.03, gray))
            )
        for _ in range(1 + self.dice.pick(2)):
            facing = side == self.layout.drives_on
            face = self.dice.one_of(self.layout.faces) if facing or self.dice.chance(0.3) else "back"
            at, x = s + self.dice.between(6, 23), side * (kerb + self.dice.between(0.3, 0.7))
            height, size = self.dice.between(2.1, 3.0), self.dice.between(0.45, 0.75)
            self.things.append(Sign(at, x, height, size, face, self.dice.pick(16)))
        if self.dice.chance(0.15):
            self.things.append(TrafficLight(s + 1.0, post_x, self.dice.pick(3)))
        trees = self.layout.avenue[side > 0] + (district in ("suburb", "park") and self.dice.chance(0.4))
        for number in range(trees):
            at = s + 8.0 + 11.0 * number + self.dice.between(-1.5, 1.5)
            self.things.append(self._tree(at, side * (kerb + 0.8), self.dice.between(6, 12)))
        if self.dice.chance(0.2):
            for step in range(4):
                self.things.append(Bollard(s + 12 + 1.8 * step, side * (kerb + 0.35), 1.0))
        elif district in ("shops", "terrace") and self.dice.chance(0.65):
            length = self.dice.between(8, 15.5)
            self.things.append(
                Fence(s + 8, s + 8 + length, side * (kerb + 0.25), KERB_M, 1.1, (0, 1, 4)[self.dice.pick(3)])
            )
        if self.dice.chance(0.3):
            for step in range(1 + self.dice.pick(3)):
                paint = self.dice.one_of(PAINTS)
                x = side * (kerb + self.dice.between(0.5, 0.9))
                self.things.append(
                    Cyclist(s + 9 + 2.1 * step, x, KERB_M, self.dice.between(-0.3, 0.3), 0.0, None, paint)
                )

    def _park_cars(self, side: int) -> None:
        """Fill some of the parking lane."""
        if not self.layout.parking_m[side > 0]:
            return
        x = side * (self.layout.kerb(side) - 1.1)
        heading = 0.0 if side == self.layout.drives_on or self.dice.chance(0.3) else math.pi
        for slot in range(4):
            if self.dice.chance(0.55):
                s = self.begin + 3.0 + slot * 6.0 + self.dice.between(-0.3, 0.3)
                shape = self.dice.one_of(_PARKED)
                paint = self.dice.one_of(PAINTS)
                self.things.append(Vehicle(s, x, heading, shape, paint, False))

    def _mark_road(self) -> None:
        """Add repairs, covers, crossings and arrows to the road."""
        lane, s = self.layout.lane_m, self.begin
        for _ in range(self.dice.pick(4)):
            at, x = s + self.dice.between(0, 20), self.dice.between(-lane, lane - 1)
            tone = self.dice.between(0.72, 1.1)
            b, g, r = self.layout.asphalt
            self.patches.append(
                Patch(
                    at,
                    at + self.dice.between(0.8, 5),
                    x,
                    x + self.dice.between(0.4, 1.8),
                    (b * tone, g * tone, r * tone),
                    None,
                )
            )
        if self.dice.chance(0.5):
            at, x = s + self.dice.between(0, 22), self.dice.between(-lane, lane - 1)
            self.patches.append(Patch(at, at + 0.6, x, x + 0.6, (48, 50, 52), None))
        if self.dice.chance(0.12) and self.layout.place == "town":  # a zebra crossing
            stripe, x = 0.55, -self.layout.kerb(-1) + 0.3
            while x < self.layout.kerb(1) - stripe:
                self.patches.append(Patch(s + 16, s + 19, x, x + stripe, (205, 205, 205), None))
                x += 2 * stripe
