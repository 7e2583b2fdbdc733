"""What lies behind and under everything: sky, skyline, road, pavements, markings, and the light on them."""

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
from training.streets.furniture import KERB_M
from training.streets.plan import Chunk, Layout
from training.streets.textures import Color
from training.streets.thing import BUILDING, PAVEMENT, ROAD, SKY, TREE

_SPAN = 1024  # samples of the skyline around the full circle


def paint_sky(canvas: Canvas, drift: float) -> None:
    """Fill the picture with sky; clouds are `drift` (0..1) around the circle."""
    camera, light = canvas.camera, canvas.light
    height, width = camera.size_hw
    rows = np.arange(1, height, 2, dtype=np.float32)[:, None]
    elevation = (height / 2 - rows) / camera.focal_px + camera.pitch
    elevation = elevation[elevation[:, 0] > -0.06]
    if len(elevation) == 0:
        return
    share = np.clip(elevation / 0.6, 0, 1) ** 0.7
    sky = np.asarray(light.horizon_bgr) * (1 - share) + np.asarray(light.zenith_bgr) * share  # (rows, 3)
    azimuth = _azimuths(canvas)[::2]
    # Cloud layers are flat: nearer the horizon they crowd together.
    crowded = 40.0 / np.maximum(elevation + 0.12, 0.1)
    map_x = np.broadcast_to(azimuth[None] * (1024 / 2.2) + drift * 1024, (len(crowded), len(azimuth)))
    map_y = np.broadcast_to(crowded, map_x.shape)
    tile, maps = textures.clouds(light.cloud_tile), (map_x.astype(np.float32), map_y.astype(np.float32))
    cover = cv2.remap(tile, *maps, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
    cover *= np.clip(elevation * 6 + 0.2, 0, 0.9)
    base = sky[:, None].astype(np.float32)
    colors = base + cover[..., None] * (np.asarray(light.cloud_bgr, np.float32) - base)
    small = colors.clip(0, 255).astype(np.uint8)
    bottom = min(height, 2 * len(small))
    canvas.image[:bottom] = cv2.resize(small, (width, bottom), interpolation=cv2.INTER_LINEAR)
    canvas.label[:] = SKY


def paint_skyline(canvas: Canvas, seed: int, layout: Layout) -> None:
    """Paint the far silhouettes: hills or woods, then roofs, then nearer trees."""
    for ridge in range(3 if layout.hills else 0):
        _paint_hills(canvas, seed, ridge, layout)
    layers: tuple[tuple[int, int, float, float, Color, float], ...] = (
        (0, TREE, 0.05, 0.02, (60, 74, 66), 220.0),
        (1, BUILDING, 0.06, 0.03, (96, 104, 120), 150.0),
        (2, TREE, 0.06, 0.04, (46, 70, 62), 110.0),
    )
    if layout.place != "town":
        layers = ((0, TREE, 0.03, 0.012, (60, 74, 66), 220.0), (2, TREE, 0.03, 0.02, (46, 70, 62), 110.0))
    for number, class_id, mean, spread, albedo, distance in layers:
        profile = _profile(seed, number, class_id == BUILDING) * spread + mean
        color = canvas.light.seen(albedo, canvas.light.on((-0.8, 0.0, 0.3)), distance)
        _paint_profile(canvas, profile, color, class_id)


def _paint_hills(canvas: Canvas, seed: int, ridge: int, layout: Layout) -> None:
    """Paint a range of hills, the far ones first: woods above, and fields on their slopes."""
    rng = np.random.default_rng((seed, 9, ridge))
    place = np.arange(_SPAN) / _SPAN
    shape = np.zeros(_SPAN)
    for waves in (3, 7, 13):
        shape += rng.uniform(0.3, 1.0) / waves * np.sin(2 * np.pi * (waves * place + rng.uniform()))
    share = (1.0, 0.75, 0.5)[ridge]
    heights = np.maximum(layout.hills * share * (0.75 + 1.2 * shape), 0.004)
    distance = (420.0, 300.0, 200.0)[ridge]
    gain = canvas.light.on((-0.4, 0.0, 0.8))
    b, g, r = layout.grass
    wood = (0.75 * b, 0.72 * g, 0.7 * r)
    _paint_profile(canvas, heights.astype(np.float32), canvas.light.seen(wood, gain, distance), TREE)
    for _ in range(60):
        begin, wide = int(rng.integers(_SPAN)), int(rng.integers(8, 40))
        tone, dry = rng.uniform(0.8, 1.25), rng.uniform(0, 1)
        field_bgr = (b * tone, g * tone * (1 + 0.15 * dry), r * tone * (1 + 0.5 * dry))
        low, high = np.sort(rng.uniform(0, 0.85, 2))
        here = np.zeros(_SPAN, np.float32)
        places = (begin + np.arange(wide)) % _SPAN
        tilt = np.linspace(-0.04, 0.04, wide) * rng.choice((-1, 1))
        here[places] = heights[places] * np.clip(high + tilt, 0, 0.95)
        _paint_profile(canvas, here, canvas.light.seen(field_bgr, gain, distance), TREE, heights * low)


def _profile(seed: int, number: int, blocky: bool) -> npt.NDArray[np.float32]:
    """Return a closed skyline of `_SPAN` heights, deviation 1; roofs stand in steps."""
    rng = np.random.default_rng((seed, 4, number))
    if blocky:
        widths = rng.integers(4, 14, size=_SPAN // 4)
        heights = rng.normal(0, 1, size=len(widths))
        return np.asarray(np.repeat(heights, widths)[:_SPAN], np.float32)
    rough = 0.12 * rng.standard_normal(_SPAN)
    for waves in (24, 96, 256):
        rough += np.interp(
            np.arange(_SPAN) * (waves / _SPAN), np.arange(waves + 1), rng.normal(0, 0.6, waves + 1)
        )
    return np.asarray(rough, np.float32)


def _azimuths(canvas: Canvas) -> npt.NDArray[np.float32]:
    """Return each column's direction in radians, fixed to the world."""
    camera = canvas.camera
    width = camera.size_hw[1]
    across = (np.arange(width, dtype=np.float32) + 0.5 - width / 2) / camera.focal_px
    return np.asarray(np.arctan(across) + np.float32(camera.yaw + camera.tangent[1]), np.float32)


def _paint_profile(
    canvas: Canvas,
    heights: npt.NDArray[np.float32],
    color: Color,
    class_id: int,
    foot: npt.NDArray[np.float64] | None = None,
) -> None:
    """Fill between the horizon, or what stands before it, and the skyline, as tangents of their elevation."""
    azimuth = _azimuths(canvas)[:: 2 if canvas.camera.size_hw[1] > 128 else 1].astype(np.float64)
    place = np.mod(azimuth / (2 * np.pi) * _SPAN * 2, _SPAN)
    before = place.astype(int) % _SPAN
    share = place - np.floor(place)
    level = heights[before] * (1 - share) + heights[(before + 1) % _SPAN] * share
    toward = azimuth - canvas.camera.tangent[1]
    direction: Points = np.stack((np.sin(toward), np.maximum(level, 0.004), np.cos(toward)), axis=1)
    low = direction.copy()
    low[:, 1] = -0.01 if foot is None else np.minimum(foot[before], direction[:, 1])
    ring = np.concatenate((direction, low[::-1])) * 1000.0
    canvas.fill(canvas.camera.toward(ring), color, class_id)


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
    is_town = layout.place == "town"
    beyond: Color = (66, 84, 84) if is_town else layout.grass
    canvas.fill(camera.toward(plain), light.seen(beyond, light.on(_UP), 120.0), TREE)
    near = camera.s - 3.0
    bands: list[Band] = []
    for side in (-1, 1):
        kerb, front = layout.kerb(side), layout.front(side)
        surface = (layout.paving, PAVEMENT) if is_town else (layout.grass, TREE)
        bands += _ribbon(near, side * (kerb - 0.2), side * (front + 4.0), *surface)
    bands += _ribbon(near, -layout.kerb(-1), layout.kerb(1), layout.asphalt, ROAD)
    for chunk in chunks:
        for patch in chunk.patches:
            raised = KERB_M if patch.class_id == TREE and is_town else 0.0
            s = np.linspace(patch.s, patch.s_end, 5 if patch.s_end - patch.s > 6 else 2)
            bands.append(Band(s, patch.left, patch.right, raised, raised, patch.albedo, patch.class_id))
    bands += _lines(layout, near)
    for side in (-1, 1) if is_town else ():
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
