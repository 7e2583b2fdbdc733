"""Night, rain and a low sun: what they change of the light, and what they do to a picture that is painted."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from training.streets.camera import ONE, Points
from training.streets.canvas import Canvas
from training.streets.light import Light, mix
from training.streets.thing import PAVEMENT, ROAD, SKY

_NIGHT_SHADE = 0.3  # share of light on ground that no lamp reaches


def vary_light(rng: np.random.Generator, light: Light) -> Light:
    """Return the light of one of: the same day, a low sun ahead, a night with lamps, rain."""
    kind = int(rng.choice(4, p=[0.4, 0.2, 0.2, 0.2]))
    return (light, *(change(rng, light) for change in (_low_sun, _night, _rain)))[kind]


def _low_sun(rng: np.random.Generator, light: Light) -> Light:
    azimuth, elevation = float(rng.normal(0, 0.3)), float(rng.uniform(0.05, 0.22))
    flat = float(np.cos(elevation))
    warm = float(rng.uniform(0.5, 1.0))
    horizon = mix((250, 245, 240), (140, 205, 255), warm)
    return dataclasses.replace(
        light,
        sun=(float(np.cos(azimuth)) * flat, float(np.sin(azimuth)) * flat, float(np.sin(elevation))),
        sun_bgr=(0.5, 0.75, 1.0),
        ambient_bgr=(0.5, 0.46, 0.42),
        shadow=float(rng.uniform(0.45, 0.7)),
        horizon_bgr=horizon,
        zenith_bgr=mix(horizon, (190, 150, 120), 0.6),
        haze_bgr=horizon,
        haze_m=float(rng.uniform(120, 400)),
        cloud_bgr=mix(horizon, (255, 255, 255), 0.5),
        glare=float(rng.uniform(0.4, 1.0)),
    )


def _night(rng: np.random.Generator, light: Light) -> Light:
    level, glow = float(rng.uniform(0.3, 0.55)), float(rng.uniform(0.3, 1.3))
    horizon = (30 * glow, 30 * glow, 38 * glow)
    return dataclasses.replace(
        light,
        sun=(0.0, 0.0, 1.0),
        sun_bgr=(0.0, 0.0, 0.0),
        ambient_bgr=(level * 0.8, level * 0.95, level),
        shadow=1.0,
        zenith_bgr=(16, 12, 10),
        horizon_bgr=horizon,
        haze_bgr=horizon,
        haze_m=float(rng.uniform(25, 90)),
        cloud_bgr=(32 * glow, 30 * glow, 34 * glow),
        gain_bgr=tuple(float(rng.uniform(1.3, 2.0)) * each for each in (0.95, 1.0, 1.05)),  # type: ignore[arg-type]
        noise=float(rng.uniform(4, 10)),
        night=True,
        wet=float(rng.choice([0.0, rng.uniform(0.15, 0.35)])),
    )


def _rain(rng: np.random.Generator, light: Light) -> Light:
    gray = float(rng.uniform(130, 215))
    ambient = float(rng.uniform(0.5, 0.75))
    return dataclasses.replace(
        light,
        sun_bgr=(0.03, 0.03, 0.03),
        ambient_bgr=(ambient * 1.05, ambient, ambient * 0.97),
        shadow=0.95,
        zenith_bgr=(gray, gray * 0.98, gray * 0.96),
        horizon_bgr=(gray + 10, gray + 8, gray + 6),
        haze_bgr=(gray + 5, gray + 3, gray),
        haze_m=float(rng.uniform(60, 200)),
        cloud_bgr=(gray * 0.9, gray * 0.89, gray * 0.88),
        wet=float(rng.uniform(0.2, 0.5)),
    )


def light_by_night(canvas: Canvas, pools: Sequence[tuple[Points, float]]) -> None:
    """Leave the ground dark but for pools of light and what the camera's own headlamps reach."""
    canvas.shade[:] = round(255 * _NIGHT_SHADE)
    camera, steps = canvas.camera, 12
    beams = []
    for step in range(steps):
        reach, half = 40.0 - 2.6 * step, 5.0 - 0.3 * step
        ahead = np.array([1.5, 1.5, 0.6 * reach, reach, reach, 0.6 * reach])
        aside = np.array([-0.5 * half, 0.5 * half, half, 0.6 * half, -0.6 * half, -half])
        beam = np.stack((camera.s + ahead, camera.x + aside, np.zeros(6)), axis=1)
        beams.append((beam, _NIGHT_SHADE + (1 - _NIGHT_SHADE) * (step + 1) / steps))
    canvas.darken(sorted((*beams, *pools), key=lambda each: each[1]))
    soft = np.asarray(cv2.GaussianBlur(canvas.shade, (0, 0), canvas.shade.shape[1] / 60), np.uint8)
    canvas.shade[:] = soft


def finish(canvas: Canvas, rng: np.random.Generator) -> None:
    """Mirror the scene in a wet road, put drops on the lens, and let a low sun blind it."""
    if canvas.light.wet:
        _mirror(canvas)
        _drops(canvas, rng)
    if canvas.light.glare:
        _blind(canvas)


def _mirror(canvas: Canvas) -> None:
    camera, image = canvas.camera, canvas.image
    height = image.shape[0]
    top = int(np.clip(height / 2 + camera.focal_px * np.tan(camera.pitch), 1, height - 2))
    rows = np.arange(top, height)
    mirrored = cv2.blur(image[np.clip(2 * top - rows, 0, height - 1)], (3, max(3, height // 14)))
    weight = canvas.light.wet * (1.0 - 0.5 * (rows - top) / (height - top))
    is_wet = np.isin(canvas.label[top:], (ROAD, PAVEMENT))
    share: npt.NDArray[np.float32] = (is_wet * weight[:, None]).astype(np.float32)
    part = image[top:]
    dark = cv2.convertScaleAbs(part, alpha=0.8)  # a wet surface is darker
    cv2.copyTo(dark, is_wet.view(np.uint8), part)
    cv2.blendLinear(np.ascontiguousarray(mirrored), part, share, 1 - share, part)


def _drops(canvas: Canvas, rng: np.random.Generator) -> None:
    height, width = canvas.label.shape
    blurred = cv2.GaussianBlur(canvas.image, (0, 0), max(1.0, width / 90))
    cover = np.zeros((height, width), np.float32)
    for _ in range(int(rng.integers(0, 26))):
        center = int(rng.integers(width)), int(rng.integers(height))
        radius = max(1, int(width * rng.uniform(0.005, 0.025)))
        cv2.ellipse(cover, center, (radius, int(1.3 * radius)), 0, 0, 360, float(rng.uniform(0.5, 0.95)), -1)
    cover = np.asarray(cv2.GaussianBlur(cover, (0, 0), max(0.6, width / 400)), np.float32)
    cv2.blendLinear(blurred, canvas.image, cover, 1 - cover, canvas.image)


def _blind(canvas: Canvas) -> None:
    along, right, up = canvas.light.sun
    x, y, depth = canvas.camera.toward(np.array([[right, up, along]]))[0]
    if depth <= 0:
        return
    height, width = canvas.label.shape
    column, row = x / depth / ONE, y / depth / ONE
    at = int(np.clip(row, 0, height - 1)), int(np.clip(column, 0, width - 1))
    power = canvas.light.glare * (1.0 if canvas.label[at] == SKY else 0.4)
    rows = (np.arange(height, dtype=np.float32) - row)[:, None] / width
    columns = (np.arange(width, dtype=np.float32) - column)[None] / width
    far = rows * rows + columns * columns
    light = 40 + 150 * np.exp(-far / 0.02) + 400 * np.exp(-far / 0.0012)
    added = (power * light[..., None] * np.asarray((0.8, 0.93, 1.0))).clip(0, 255).astype(np.uint8)
    cv2.add(canvas.image, added, canvas.image)
