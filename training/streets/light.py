"""Weather and time of day: the sun, the sky's colours, haze, and what a cheap camera makes of them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from training.streets import textures
from training.streets.textures import CLOUDS, NOISE_DEVIATION, Color, Image

NEUTRAL: Color = (1.0, 1.0, 1.0)


@dataclass(frozen=True)
class Light:
    """One moment's light and one camera's way of seeing it; colours are B, G, R.

    Attributes:
        sun: unit vector towards the sun as (along the street, to the right, up).
        sun_bgr: what the sun adds to a surface that faces it.
        ambient_bgr: what the sky gives to every surface.
        shadow: share of light left where the sun is hidden, on the ground.
        zenith_bgr: sky colour overhead, 0..255.
        horizon_bgr: sky colour at the horizon, 0..255.
        haze_bgr: colour that far things fade to, 0..255.
        haze_m: distance in metres at which about 63 % of a colour is lost.
        cloud_tile: which cloud texture.
        cloud_bgr: colour of clouds, 0..255.
        gain_bgr: exposure and white balance.
        gamma: tone curve; below 1 lifts the shadows.
        noise: deviation of the sensor noise, 0..255 scale.
        blur_px: deviation of the lens blur in pixels at 480 columns.
        vignette: darkening of the corners, 0..1.
        night: whether lamps are what lights the street.
        wet: share of light that the road mirrors, 0..1.
        glare: how much a low sun ahead blinds the lens, 0..1.
    """

    sun: tuple[float, float, float]
    sun_bgr: Color
    ambient_bgr: Color
    shadow: float
    zenith_bgr: Color
    horizon_bgr: Color
    haze_bgr: Color
    haze_m: float
    cloud_tile: int
    cloud_bgr: Color
    gain_bgr: Color
    gamma: float
    noise: float
    blur_px: float
    vignette: float
    night: bool = False
    wet: float = 0.0
    glare: float = 0.0

    def on(self, normal: tuple[float, float, float], gain: float = 1.0) -> Color:
        """Return the light on a surface with this unit normal (along, right, up) as B, G, R gains."""
        facing = max(0.0, normal[0] * self.sun[0] + normal[1] * self.sun[1] + normal[2] * self.sun[2]) * gain
        up = (0.82 + 0.18 * normal[2]) * gain
        (b, g, r), (sun_b, sun_g, sun_r) = self.ambient_bgr, self.sun_bgr
        return (up * b + facing * sun_b, up * g + facing * sun_g, up * r + facing * sun_r)

    def seen(self, color: Color, gain: Color, distance_m: float) -> Color:
        """Return the colour of a lit surface through `distance_m` of air, 0..255."""
        clear = math.exp(-max(0.0, distance_m) / self.haze_m)
        veil = 1.0 - clear
        haze_b, haze_g, haze_r = self.haze_bgr
        return (
            min(255.0, color[0] * gain[0] * clear + haze_b * veil),
            min(255.0, color[1] * gain[1] * clear + haze_g * veil),
            min(255.0, color[2] * gain[2] * clear + haze_r * veil),
        )

    def table(self, gain: Color, distance_m: float) -> npt.NDArray[np.uint8]:
        """Return a look-up table uint8 (1, 256, 3) from albedo to the colour that `seen` would give."""
        clear = math.exp(-max(0.0, distance_m) / self.haze_m)
        lit = _RAMP * (np.asarray(gain) * clear) + np.asarray(self.haze_bgr) * (1.0 - clear)
        return np.clip(lit, 0, 255).astype(np.uint8)[None]


_RAMP = np.arange(256, dtype=np.float64)[:, None]


def times(a: Color, b: Color) -> Color:
    """Return the product of two colours, channel by channel."""
    return (a[0] * b[0], a[1] * b[1], a[2] * b[2])


def mix(a: Color, b: Color, share: float) -> Color:
    """Return a colour between two, `share` of the way to the second."""
    return (a[0] + (b[0] - a[0]) * share, a[1] + (b[1] - a[1]) * share, a[2] + (b[2] - a[2]) * share)


def draw_light(rng: np.random.Generator) -> Light:
    """Draw a time of day and a weather: sunny, veiled or overcast, from early to late."""
    cover = float(rng.choice([rng.uniform(0, 0.25), rng.uniform(0.25, 0.7), rng.uniform(0.8, 1.0)]))
    elevation = float(rng.uniform(0.16, 1.05))
    azimuth = float(rng.uniform(0, 2 * np.pi))
    level, flat = float(np.cos(elevation)), float(np.sin(elevation))
    late = max(0.0, 1.0 - elevation / 0.5)
    sun_power = (1.0 - cover) * (0.95 - 0.25 * late)
    ambient = float(rng.uniform(0.62, 0.85)) - 0.30 * (1.0 - cover) - 0.12 * late
    clear_zenith: Color = (225, 180, 140)
    clear_horizon: Color = (250, 238, 222)
    gray = float(rng.uniform(190, 250))
    zenith = mix(mix(clear_zenith, (150, 120, 120), 0.5 * late), (gray, gray * 0.985, gray * 0.97), cover)
    horizon = mix(mix(clear_horizon, (160, 200, 240), 0.7 * late), (gray + 12, gray + 10, gray + 6), cover)
    warm = float(rng.normal(0, 0.05))
    # Metering on the street, as dash cameras do, burns out most skies.
    exposure = float(rng.uniform(0.75, 1.45))
    return Light(
        sun=(float(np.cos(azimuth)) * level, float(np.sin(azimuth)) * level, flat),
        sun_bgr=(sun_power * (0.86 - 0.35 * late), sun_power * (0.97 - 0.12 * late), sun_power * 1.08),
        ambient_bgr=(ambient * 1.06, ambient, ambient * 0.96),
        shadow=float(np.clip(ambient / (ambient + sun_power * flat + 1e-6), 0.25, 1.0)),
        zenith_bgr=zenith,
        horizon_bgr=horizon,
        haze_bgr=mix(horizon, zenith, 0.25),
        haze_m=float(rng.choice([rng.uniform(90, 180), rng.uniform(180, 500), rng.uniform(500, 1200)])),
        cloud_tile=int(rng.integers(CLOUDS)),
        cloud_bgr=mix((254, 253, 252), (205, 200, 197), cover * float(rng.uniform(0, 1))),
        gain_bgr=(exposure * (1 - warm), exposure, exposure * (1 + warm)),
        gamma=float(rng.uniform(0.75, 1.15)),
        noise=float(rng.uniform(1.0, 6.0)),
        blur_px=float(rng.uniform(0.3, 0.75)),
        vignette=float(rng.uniform(0.0, 0.2)),
    )


def expose(image: Image, light: Light, rng: np.random.Generator) -> Image:
    """Return what the sensor delivers, uint8 (H, W, 3); `rng` places the noise."""
    height, width = image.shape[:2]
    sigma = light.blur_px * max(width / 480, 0.6)
    blurred = cv2.GaussianBlur(image, (3, 3) if sigma < 1 else (5, 5), sigma)
    ramp = np.arange(256) / 255.0
    curve = np.stack([255.0 * np.clip(ramp * gain, 0, 1) ** light.gamma for gain in light.gain_bgr], axis=-1)
    toned = cv2.LUT(blurred, curve.round().astype(np.uint8)[None])
    share = light.noise / NOISE_DEVIATION
    noisy = cv2.addWeighted(toned, 1.0, _noise(rng, (height, width)), share, -128.0 * share)
    return np.asarray(cv2.multiply(noisy, _falloff(light.vignette, (height, width)), scale=1 / 255), np.uint8)


def _noise(rng: np.random.Generator, size_hw: tuple[int, int]) -> Image:
    """Cut a piece out of the noise bank, repeating the bank for pictures larger than it."""
    bank = textures.sensor_noise()
    repeats = [side // have + 1 for side, have in zip(size_hw, bank.shape[:2], strict=True)]
    if max(repeats) > 1:
        bank = np.tile(bank, (repeats[0], repeats[1], 1))
    top, left = (
        int(rng.integers(have - side + 1)) for side, have in zip(size_hw, bank.shape[:2], strict=True)
    )
    return bank[top : top + size_hw[0], left : left + size_hw[1]]


def _falloff(vignette: float, size_hw: tuple[int, int]) -> Image:
    """Return uint8 (H, W, 3), 255 in the middle and darker towards the corners."""
    y, x = np.mgrid[-0.5:0.5:24j, -0.5:0.5:32j]
    coarse = (255.0 * (1.0 - vignette * 2.0 * (x * x + y * y))).astype(np.uint8)
    plane = cv2.resize(coarse, size_hw[::-1], interpolation=cv2.INTER_LINEAR)
    return np.asarray(cv2.merge([plane, plane, plane]), np.uint8)
