"""Single scenes and drives: a world, a camera in it, who moves there, and the order in which it is painted.

Moving things come in streams: one speed and lane a stream, and places drawn from (seed, stream, number), so
any moment can be made without the moments before it.
"""

from __future__ import annotations

import dataclasses
import math
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from runtime.errors import ConfigError
from training.streets.backdrop import light_ground, paint_ground, paint_sky, paint_skyline
from training.streets.camera import Bend, Camera
from training.streets.canvas import Canvas
from training.streets.furniture import KERB_M, Lamp
from training.streets.light import draw_light, expose
from training.streets.people import CLOTHES, Cyclist, Pedestrian, draw_look
from training.streets.plan import CHUNK_M, Chunk, Layout, draw_layout, plan_chunk, vary_layout
from training.streets.textures import Image
from training.streets.thing import Dice, Thing
from training.streets.vehicles import PAINTS, Vehicle
from training.streets.weather import finish, light_by_night, vary_light

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


def vary_streams(rng: np.random.Generator, layout: Layout, streams: tuple[Stream, ...]) -> tuple[Stream, ...]:
    """Return the traffic of other places: crowds in town, few on foot in the country, none on a motorway."""
    if layout.place == "town":
        crowd = float(rng.choice([1.0, rng.uniform(0.2, 0.4)], p=[0.7, 0.3]))
        return tuple(
            dataclasses.replace(each, spacing_m=each.spacing_m * (crowd if each.kind == "walker" else 1.0))
            for each in streams
        )
    if layout.place == "country":
        return tuple(
            dataclasses.replace(each, spacing_m=each.spacing_m * (1.0 if each.kind == "car" else 4.0))
            for each in streams
        )
    ours, lane = layout.drives_on, layout.lane_m
    beyond = layout.front(-ours)
    return (
        Stream("car", -ours * lane * 0.5, float(rng.uniform(3, 9)), float(rng.uniform(25, 60))),
        Stream("car", ours * lane * 0.5, float(rng.uniform(3, 9)), float(rng.uniform(40, 90))),
        Stream("car", -ours * (beyond + 2.2), -float(rng.uniform(15, 25)), float(rng.uniform(20, 60))),
        Stream("car", -ours * (beyond + 5.8), -float(rng.uniform(15, 25)), float(rng.uniform(20, 60))),
    )


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


FRAMES_PER_SECOND = 15.0
MIN_SIZE_HW = (48, 64)
_VIEW_CHUNKS = 6
_KEPT_CHUNKS = 32
_SHADOWS_M = 45.0  # things further away throw shadows of a pixel
_SHADELESS = 0.95  # share of light in the shade from which shadows are too faint to show


@dataclass(frozen=True)
class Scene:
    """A street scene and its exact label.

    Attributes:
        image_bgr: uint8 (H, W, 3).
        label: uint8 (H, W), indices into `runtime.contract.CAMVID_CLASSES`.
    """

    image_bgr: Image
    label: Image


class World:
    """One endless street with its weather, its traffic and the camera that drives along it."""

    def __init__(self, seed: int, size_hw: tuple[int, int], varied: bool = False) -> None:
        """Draw a world; equal seeds give equal worlds.

        Args:
            seed: decides everything.
            size_hw: height and width of pictures in pixels.
            varied: not the town by day alone, but country roads, motorways, hills, crowds, night, rain and a
                low sun too.
        """
        _check(seed, size_hw)
        self.seed, self.size_hw = seed, (int(size_hw[0]), int(size_hw[1]))
        rng = np.random.default_rng((seed, 0))
        self.layout = draw_layout(rng)
        self.light = draw_light(rng)
        self.cruise_mps = float(rng.uniform(6.5, 10.0))
        other = np.random.default_rng((seed, 8))
        if varied:
            self.layout, self.light = vary_layout(other, self.layout), vary_light(other, self.light)
        self.streams = draw_streams(rng, self.layout, self.cruise_mps)
        if varied:
            self.streams = vary_streams(other, self.layout, self.streams)
        reach = rng.uniform(0, 7, 2) * rng.choice([0.15, 1.0], 2)
        wave = rng.uniform((0.010, 0.022), (0.02, 0.034))
        self.bend = Bend(tuple(reach), tuple(wave), tuple(rng.uniform(0, 2 * np.pi, 2)))
        self.camera_x = self.layout.drives_on * self.layout.lane_m * float(rng.uniform(0.3, 0.6))
        self.camera_m = float(rng.uniform(1.15, 1.9))
        self.pitch, self.yaw, self.roll = rng.normal((0.03, 0, 0), (0.035, 0.02, 0.008)).tolist()
        self.focal = float(rng.uniform(0.85, 1.3))
        self.lead_gap_m = float(rng.uniform(15, 45))
        self.lead = (int(rng.choice(DRIVEN)), PAINTS[int(rng.integers(len(PAINTS)))])
        self._chunks: OrderedDict[int, Chunk] = OrderedDict()

    def camera(self, time_s: float, turn: float = 0.0) -> Camera:
        """Return the camera as it is `time_s` seconds into its drive, turned further to the right."""
        height, width = self.size_hw
        sway = 0.004 * float(np.sin(0.9 * time_s)) + 0.002 * float(np.sin(2.3 * time_s))
        return Camera(
            s=self.cruise_mps * time_s, x=self.camera_x + 0.15 * float(np.sin(0.31 * time_s)),
            height_m=self.camera_m, yaw=self.yaw + turn + sway, pitch=self.pitch + 0.5 * sway, roll=self.roll,
            focal_px=self.focal * max(width, height * 4 / 3), size_hw=self.size_hw, bend=self.bend,
        )  # fmt: skip

    def paint(self, time_s: float, noise_key: int, turn: float = 0.0, extra: Sequence[Thing] = ()) -> Scene:
        """Paint the world as the camera sees it `time_s` seconds into its drive."""
        return self.paint_from(self.camera(time_s, turn), time_s, noise_key, extra)

    def paint_from(self, camera: Camera, time_s: float, noise_key: int, extra: Sequence[Thing] = ()) -> Scene:
        """Paint the world at a time as a camera of this street sees it, wherever that stands."""
        s = camera.s
        canvas = Canvas(camera, self.light)
        first = int(np.floor((s - 2.0) / CHUNK_M))
        chunks = {number: self._chunk(number) for number in range(first, first + _VIEW_CHUNKS)}
        paint_sky(canvas, (self.seed % 97) / 97)
        paint_skyline(canvas, self.seed, self.layout)
        paint_ground(canvas, self.layout, list(chunks.values()))
        things = [thing for chunk in chunks.values() for thing in chunk.things]
        things += [*self._moving(s, time_s), *extra]
        self._darken(canvas, [wall for chunk in chunks.values() for wall in chunk.walls], things)
        light_ground(canvas)
        for number in sorted(chunks, reverse=True):
            here = [thing for thing in things if math.floor(thing.s / CHUNK_M) == number]
            ordered = self._painting_order(chunks[number].walls, here)
            for thing, shot in zip(
                ordered, canvas.shots([thing.outline() for thing in ordered]), strict=True
            ):
                if shot is not None:
                    thing.paint(canvas, shot)
        finish(canvas, np.random.default_rng((self.seed, 10)))
        noise = np.random.default_rng((self.seed, 5, noise_key))
        return Scene(expose(canvas.image, self.light, noise), canvas.label)

    def _darken(self, canvas: Canvas, walls: Sequence[Thing], things: Sequence[Thing]) -> None:
        """Throw the shadows of houses and trees, then those of the nearer small things."""
        if self.light.night:
            lamps = [thing for thing in things if isinstance(thing, Lamp)]
            light_by_night(canvas, [pool for lamp in lamps for pool in lamp.shadows(self.light)])
            return
        casting = list(walls) if self.light.shadow < _SHADELESS else []
        casting += [thing for thing in things if thing.s - canvas.camera.s < _SHADOWS_M]
        canvas.darken([shadow for thing in casting for shadow in thing.shadows(self.light)])

    def _painting_order(self, walls: Sequence[Thing], things: Sequence[Thing]) -> list[Thing]:
        """Order a chunk so that nothing is painted over by what it hides.

        Seen from the road, a thing beside it can only be hidden by things nearer to the road, so what stands
        off the road goes from the outside in, and what is on the road from far to near.
        """
        kerbs = self.layout.kerb(-1), self.layout.kerb(1)
        beside = [thing for thing in things if not -kerbs[0] < thing.x < kerbs[1]]
        on_road = [thing for thing in things if -kerbs[0] < thing.x < kerbs[1]]
        outside_in = sorted((*walls, *beside), key=lambda thing: (-abs(thing.x), -thing.s))
        return [*outside_in, *sorted(on_road, key=lambda thing: -thing.s)]

    def _chunk(self, number: int) -> Chunk:
        """Return a chunk, from the few that are kept."""
        if number not in self._chunks:
            self._chunks[number] = plan_chunk(self.seed, number, self.layout)
            while len(self._chunks) > _KEPT_CHUNKS:
                self._chunks.popitem(last=False)
        return self._chunks[number]

    def _moving(self, s: float, time_s: float) -> list[Thing]:
        """Return everything that moves, and the car ahead."""
        end = s + (_VIEW_CHUNKS - 1) * CHUNK_M
        things: list[Thing] = []
        for number, stream in enumerate(self.streams):
            things.extend(stream_things(self.seed, stream, number, s - 3.0, end, time_s))
        gap = self.lead_gap_m + 4.0 * float(np.sin(0.21 * time_s))
        shape, paint = self.lead
        x = self.layout.drives_on * self.layout.lane_m * 0.42
        things.append(Vehicle(s + gap, x, 0.0, shape, paint, float(np.cos(0.21 * time_s)) < -0.3))
        return things


def render_scene(seed: int, size_hw: tuple[int, int] = (360, 480), varied: bool = False) -> Scene:
    """Paint one street scene.

    Args:
        seed: at least 0; equal seeds and sizes give equal scenes.
        size_hw: height and width in pixels, at least 48 and 64.
        varied: other places, weathers and times of day too, see `World`.

    Returns:
        The scene, in CamVid's 11 classes.

    Raises:
        ConfigError: a negative seed or a size that is too small.

    >>> scene = render_scene(0, (90, 120))
    >>> scene.image_bgr.shape, scene.label.shape
    ((90, 120, 3), (90, 120))
    """
    world = World(seed, size_hw, varied)
    dice = Dice(seed, 6)
    time_s = dice.between(0, 600)
    turn = dice.around(0, 0.07)
    crossing: list[Thing] = []
    s = world.cruise_mps * time_s
    if dice.chance(0.45) and world.layout.place != "motorway":
        for _ in range(1 + dice.pick(3)):
            x = dice.between(-world.layout.kerb(-1), world.layout.kerb(1))
            heading = dice.one_of((-1, 1)) * math.pi / 2
            at, phase = s + dice.between(7, 26), dice.between(0, 6)
            if dice.chance(0.35):
                crossing.append(Cyclist(at, x, 0.0, heading, phase, draw_look(dice), dice.one_of(PAINTS)))
            else:
                crossing.append(Pedestrian(at, x, 0.0, heading, phase, draw_look(dice)))
    return world.paint(time_s, 0, turn, crossing)


class Drive:
    """A camera driving along an endless street at 15 frames a second, with a label for every frame.

    >>> drive = Drive(seed=1, size_hw=(90, 120))
    >>> bool((drive.frame(7).label == Drive(1, (90, 120)).frame(7).label).all())
    True
    """

    def __init__(self, seed: int = 0, size_hw: tuple[int, int] = (360, 480)) -> None:
        """Draw the street, its traffic and its weather.

        Args:
            seed: at least 0; equal seeds and sizes give equal drives.
            size_hw: height and width in pixels, at least 48 and 64.

        Raises:
            ConfigError: a negative seed or a size that is too small.
        """
        self._world = World(seed, size_hw)

    def frame(self, index: int) -> Scene:
        """Return frame `index`, any number from 0 on, in any order.

        Raises:
            ConfigError: a negative index.
        """
        if index < 0:
            raise ConfigError(f"frame index: expected at least 0, got {index}; count frames from the first")
        return self._world.paint(index / FRAMES_PER_SECOND, index)


def _check(seed: int, size_hw: tuple[int, int]) -> None:
    """Refuse what cannot be painted."""
    if seed < 0:
        raise ConfigError(f"seed: expected at least 0, got {seed}; choose another number")
    if size_hw[0] < MIN_SIZE_HW[0] or size_hw[1] < MIN_SIZE_HW[1]:
        raise ConfigError(
            f"size_hw: expected at least {MIN_SIZE_HW} (height, width), got {tuple(size_hw)}; "
            "ask for a larger scene"
        )
