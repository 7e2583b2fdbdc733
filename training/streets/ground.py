"""The ground under everything: road, kerbs, pavements, markings, and the light and relief on them."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from training.streets import textures
from training.streets.camera import Points
from training.streets.canvas import Canvas
from training.streets.classes import PAVEMENT, ROAD, TREE
from training.streets.furniture import KERB_M
from training.streets.layout import Layout
from training.streets.plan import Chunk
from training.streets.textures import Color

_UP = (0.0, 0.0, 1.0)
_FAR_M = 400.0
_TILE_M, _STAINS_M = 8.0, 48.0  # periods of the relief and of the stains
_MARKED_M = 70.0  # markings beyond this are thinner than a pixel
_PAINT: Color = (205, 206, 206)


def paint_ground(canvas: Canvas, layout: Layout, chunks: Iterable[Chunk]) -> None:
    """Paint everything flat, without shadows and relief."""
    camera, light = canvas.camera, canvas.light
    plain = np.array([[-1500.0, -camera.height_m, 0.7], [1500.0, -camera.height_m, 0.7],
                      [1500.0, -camera.height_m, 1500.0], [-1500.0, -camera.height_m, 1500.0]])  # fmt: skip
    canvas.fill(camera.toward(plain), light.seen((66, 84, 84), light.on(_UP), 120.0), TREE)
    near = camera.s - 3.0
    bands: list[Band] = []
    for side in (-1, 1):
        kerb, front = layout.kerb(side), layout.front(side)
        bands += _ribbon(near, side * (kerb - 0.2), side * (front + 4.0), layout.paving, PAVEMENT)
    bands += _ribbon(near, -layout.kerb(-1), layout.kerb(1), layout.asphalt, ROAD)
    for chunk in chunks:
        for patch in chunk.patches:
            raised = KERB_M if patch.class_id == TREE else 0.0
            s = np.linspace(patch.s, patch.s_end, 5 if patch.s_end - patch.s > 6 else 2)
            bands.append(Band(s, patch.left, patch.right, raised, raised, patch.albedo, patch.class_id))
    bands += _lines(layout, near)
    for side in (-1, 1):
        bands += _kerbs(layout, chunks, side, near)
    _paint_bands(canvas, bands)


@dataclass(frozen=True)
class Band:
    """A band along the street: where it is at each `s`, from `left` at height `low` to `right` at `high`."""

    s: Points
    left: float
    right: float
    low: float
    high: float
    albedo: Color
    class_id: int | None

    def outline(self) -> Points:
        """Return its corners (N, 3)."""
        count = len(self.s)
        world = np.empty((2 * count, 3))
        world[:count, 0], world[count:, 0] = self.s, self.s[::-1]
        world[:count, 1], world[count:, 1] = self.left, self.right
        world[:count, 2], world[count:, 2] = self.low, self.high
        return world


def _paint_bands(canvas: Canvas, bands: Sequence[Band]) -> None:
    """Paint bands in their order; one with a height is a kerb's face and darker."""
    light = canvas.light
    flat, upright = light.on(_UP), light.on((0.0, 0.0, 0.0), 0.8)
    for band, shot in zip(bands, canvas.shots([band.outline() for band in bands]), strict=True):
        if shot is not None:
            gain = flat if band.low == band.high else upright
            distance = float(band.s[0]) - canvas.camera.s
            canvas.fill(shot.points, light.seen(band.albedo, gain, distance), band.class_id)


def _ribbon(near: float, left: float, right: float, albedo: Color, class_id: int) -> list[Band]:
    """Return a band that runs along the whole street, in pieces so that each has its own haze."""
    ends = (0.0, 12.0, 30.0, 56.0, 100.0, 170.0, _FAR_M)
    return [
        Band(near + np.linspace(begin, end, 4), left, right, 0.0, 0.0, albedo, class_id)
        for begin, end in itertools.pairwise(ends)
    ]


def _lines(layout: Layout, near: float) -> list[Band]:
    """Return the centre dashes and the lines along the kerbs."""
    dash, gap = layout.dash_m
    period = dash + gap
    lines: list[Band] = []

    def line(s: Points, x: float, half: float, paint: Color) -> None:
        lines.append(Band(s, x - half, x + half, 0.0, 0.0, paint, None))

    for number in range(int(near // period), int((near + _MARKED_M) // period) + 1):
        line(np.array([number * period, number * period + dash]), 0.0, 0.06, _PAINT)
    for side in (-1, 1):
        for row in range(layout.edge_lines):
            s = near + np.array([0.0, 5.0, 10.0, 16.0, 24.0, 34.0, 48.0, _MARKED_M])
            line(s, side * (layout.kerb(side) - 0.28 - 0.2 * row), 0.05, layout.edge_bgr)
        if layout.parking_m[side > 0]:
            for number in range(int(near // 2), int((near + 36) // 2)):
                line(np.array([2.0 * number, 2.0 * number + 1.0]), side * layout.lane_m, 0.05, _PAINT)
    return lines


def _kerbs(layout: Layout, chunks: Iterable[Chunk], side: int, near: float) -> list[Band]:
    """Return one side's pavement top, kerb stone and kerb face, broken where side streets leave."""
    kerb, front = layout.kerb(side), layout.front(side)
    gaps = sorted(
        (patch.s, patch.s_end)
        for chunk in chunks
        for patch in chunk.patches
        if patch.class_id == ROAD and (patch.right > 0) == (side > 0)
    )
    bands: list[Band] = []
    begin, last = near, near + _FAR_M
    for gap_begin, gap_end in [*gaps, (last, last)]:
        while min(gap_begin, last) - begin > 0.1:
            end = min(gap_begin, last, begin + 8.0 + max(0.0, begin - near))
            s, x = np.linspace(begin, end, 4), side * kerb
            bands.append(Band(s, x, side * (front + 0.1), KERB_M, KERB_M, layout.paving, PAVEMENT))
            bands.append(Band(s, x, side * (kerb + 0.16), KERB_M, KERB_M, (150, 152, 152), None))
            bands.append(Band(s, x, x, 0.0, KERB_M, (120, 122, 122), PAVEMENT))
            begin = end
        begin = max(begin, gap_end)
    return bands


def light_ground(canvas: Canvas) -> None:
    """Multiply relief, stains and shadows into the ground below the horizon."""
    camera = canvas.camera
    height, width = camera.size_hw
    top = max(0, int(height / 2 + camera.focal_px * np.tan(camera.pitch) - abs(camera.roll) * width / 2))
    if top >= height - 1:
        return
    s, x, depth = _ground_points(canvas, top)
    tile, stains_tile = textures.ground(), textures.blotches()
    per_m = tile.shape[0] / _TILE_M
    relief = cv2.remap(tile, x * per_m, s * per_m, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
    asphalt, slabs = cv2.split(relief)
    laid = cv2.copyTo(slabs, (canvas.label[top:] == PAVEMENT).view(np.uint8), asphalt)
    # Stains are wider than two pixels wherever they can be told from the relief.
    per_m = stains_tile.shape[0] / _STAINS_M
    x, s = np.ascontiguousarray(x[::2, ::2] * per_m), np.ascontiguousarray(s[::2, ::2] * per_m)
    stains = cv2.remap(stains_tile, x, s, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
    stains = cv2.resize(stains, (width, height - top), interpolation=cv2.INTER_LINEAR)
    fade = np.minimum(np.float32(1.0), np.float32(7.0) / depth)  # far pixels average over more ground
    gain = np.subtract(laid, 128, dtype=np.float32) * fade + np.float32(128)
    gain += np.subtract(stains, 128, dtype=np.float32) * (np.sqrt(fade) * np.float32(0.5))
    soft = cv2.GaussianBlur(canvas.shade[top:], (0, 0), max(0.6, width / 480))
    plane = cv2.multiply(gain, soft, scale=1 / 255, dtype=cv2.CV_8U)
    part = canvas.image[top:]
    cv2.multiply(part, cv2.merge([plane, plane, plane]), part, scale=1 / 128)


def _ground_points(canvas: Canvas, top: int) -> tuple[npt.NDArray[np.float32], ...]:
    """Return s and x modulo the textures' periods, and the depth, of every ground pixel from row `top` on."""
    camera = canvas.camera
    height, width = camera.size_hw
    u = ((np.arange(width, dtype=np.float32) + 0.5 - width / 2) / camera.focal_px)[None]
    v = ((height / 2 - np.arange(top, height, dtype=np.float32) - 0.5) / camera.focal_px)[:, None]
    r = camera.rotation.astype(np.float32)
    down = -(r[0, 1] * u + r[1, 1] * v + r[2, 1])
    reach = camera.height_m / np.maximum(down, camera.height_m / _FAR_M).astype(np.float32)
    ahead = reach * (r[0, 2] * u + r[1, 2] * v + r[2, 2])
    aside = reach * (r[0, 0] * u + r[1, 0] * v + r[2, 0])
    steps = np.arange(0.0, _FAR_M + 2.0)
    swing = camera.swing(camera.s + steps).astype(np.float32)
    aside -= swing[np.clip(ahead, 0, _FAR_M).astype(np.int32)]
    return ahead + np.float32(camera.s % _STAINS_M), aside + np.float32(camera.x), ahead
