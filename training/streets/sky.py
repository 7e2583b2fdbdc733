"""What lies beyond the street: the sky with its clouds, and the silhouettes on the horizon."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from training.streets import textures
from training.streets.camera import Points
from training.streets.canvas import Canvas
from training.streets.classes import BUILDING, SKY, TREE
from training.streets.textures import Color

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


def paint_skyline(canvas: Canvas, seed: int) -> None:
    """Paint the far silhouettes: hills or woods, then roofs, then nearer trees."""
    layers: tuple[tuple[int, int, float, float, Color, float], ...] = (
        (0, TREE, 0.05, 0.02, (60, 74, 66), 220.0),
        (1, BUILDING, 0.06, 0.03, (96, 104, 120), 150.0),
        (2, TREE, 0.06, 0.04, (46, 70, 62), 110.0),
    )
    for number, class_id, mean, spread, albedo, distance in layers:
        profile = _profile(seed, number, class_id == BUILDING) * spread + mean
        color = canvas.light.seen(albedo, canvas.light.on((-0.8, 0.0, 0.3)), distance)
        _paint_profile(canvas, profile, color, class_id)


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


def _paint_profile(canvas: Canvas, heights: npt.NDArray[np.float32], color: Color, class_id: int) -> None:
    """Fill between the horizon and the skyline, given as tangents of its elevation."""
    azimuth = _azimuths(canvas)[:: 2 if canvas.camera.size_hw[1] > 128 else 1].astype(np.float64)
    place = np.mod(azimuth / (2 * np.pi) * _SPAN * 2, _SPAN)
    before = place.astype(int) % _SPAN
    share = place - np.floor(place)
    level = heights[before] * (1 - share) + heights[(before + 1) % _SPAN] * share
    toward = azimuth - canvas.camera.tangent[1]
    direction: Points = np.stack((np.sin(toward), np.maximum(level, 0.004), np.cos(toward)), axis=1)
    low = direction.copy()
    low[:, 1] = -0.01
    ring = np.concatenate((direction, low[::-1])) * 1000.0
    canvas.fill(canvas.camera.toward(ring), color, class_id)
