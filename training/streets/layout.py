"""What stays the same along one street: its cross section, markings and materials."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from training.streets.textures import Color


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
