"""Who moves along the street.

Moving things come in streams: one speed and lane a stream, and places drawn from (seed, stream, number), so
any moment can be made without the moments before it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from training.streets.dice import Dice
from training.streets.furniture import KERB_M
from training.streets.layout import Layout
from training.streets.people import CLOTHES, Cyclist, Pedestrian, draw_look
from training.streets.thing import Thing
from training.streets.vehicles import PAINTS, Vehicle

DRIVEN = (0, 0, 0, 0, 1, 1, 1, 2, 2, 3, 3, 4)


@dataclass(frozen=True)
class Stream:
    """Things that share a lane and a speed.

    Attributes:
        kind: what they are.
        x: metres right of the centre line.
        speed_mps: along the street; negative towards the camera.
        spacing_m: average distance between two of them.
    """

    kind: Literal["car", "walker", "cyclist"]
    x: float
    speed_mps: float
    spacing_m: float

    def numbers(self, begin: float, end: float, time_s: float) -> range:
        """Return the numbers of those that can be between `begin` and `end` at a time."""
        moved = self.speed_mps * time_s
        return range(
            int(np.floor((begin - moved) / self.spacing_m)), int(np.ceil((end - moved) / self.spacing_m)) + 1
        )


def draw_streams(rng: np.random.Generator, layout: Layout, cruise_mps: float) -> tuple[Stream, ...]:
    """Draw the traffic of a street on which the camera drives at `cruise_mps`."""
    ours = layout.drives_on
    lane = layout.lane_m
    streams = [
        Stream("car", -ours * lane * 0.52, -float(rng.uniform(6, 11)), float(rng.uniform(22, 60))),
        Stream("cyclist", ours * (lane - 0.4), float(rng.uniform(3.8, 5.5)), float(rng.uniform(20, 50))),
        Stream("cyclist", -ours * (lane - 0.4), -float(rng.uniform(3.8, 5.5)), float(rng.uniform(25, 60))),
    ]
    for side in (-1, 1):
        width = layout.pavement_m[side > 0]
        for share, direction in ((0.45, 1), (0.8, -1)):
            x = side * (layout.kerb(side) + width * share)
            streams.append(
                Stream("walker", x, direction * float(rng.uniform(0.9, 1.6)), float(rng.uniform(12, 40)))
            )
    return tuple(streams)


def stream_things(
    seed: int, stream: Stream, stream_number: int, begin: float, end: float, time_s: float
) -> Iterator[Thing]:
    """Yield the members of a stream between two places at a time."""
    for number in stream.numbers(begin, end, time_s):
        dice = Dice(seed, 3, stream_number, number)
        s = (number + dice.between(-0.3, 0.3)) * stream.spacing_m + stream.speed_mps * time_s
        if not begin <= s <= end:
            continue
        heading = 0.0 if stream.speed_mps > 0 else math.pi
        if stream.kind == "car":
            yield Vehicle(s, stream.x, heading, dice.one_of(DRIVEN), dice.one_of(PAINTS), False)
        elif stream.kind == "cyclist":
            x, crank = stream.x + dice.between(-0.2, 0.2), 6.0 * time_s + number
            yield Cyclist(s, x, 0.0, heading, crank, draw_look(dice), dice.one_of(CLOTHES))
        else:
            x = stream.x + dice.between(-0.3, 0.3)
            turn = dice.around(0, 0.2)
            stride = 4.2 * abs(stream.speed_mps) * time_s + number
            yield Pedestrian(s, x, KERB_M, heading + turn, stride, draw_look(dice))
            if dice.chance(0.35):  # two together
                yield Pedestrian(s + 0.2, x + 0.55, KERB_M, heading + turn, stride + 1.0, draw_look(dice))
