"""What a cheap camera does to light: blur, exposure, tone curve, noise and vignette."""

from __future__ import annotations

import cv2
import numpy as np

from training.streets import textures
from training.streets.light import Light
from training.streets.textures import NOISE_DEVIATION, Image


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
