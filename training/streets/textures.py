"""Procedural textures: what one is, the noise they are made of, ground, clouds, plants and sensor noise.

Every texture is a pure function of its index, made on first use and kept for the process.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property, lru_cache

import cv2
import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]
Plane = npt.NDArray[np.float32]
Color = tuple[float, float, float]  # B, G, R albedo, 0..255
Box = tuple[float, float, float, float]  # left, top, right, bottom as ratios of the texture

CLOUDS = 6
PIXELS_PER_METRE = 24  # of fronts
NOISE_DEVIATION = 32.0
ROOT = 0x5EED


@dataclass
class Texture:
    """A picture in metres, its coverage, and smaller copies of it.

    Attributes:
        color: uint8 (H, W, 3) BGR albedo.
        alpha: uint8 (H, W) coverage, or None where it is opaque.
        solid_from: coverage from which a pixel belongs to the labelled object.
        signs: boxes with lettering.
    """

    color: Image
    alpha: Image | None = None
    solid_from: int = 128
    signs: tuple[Box, ...] = ()
    _levels: dict[tuple[int, int], tuple[Image, Image | None]] = field(default_factory=dict)

    @cached_property
    def mean(self) -> Color:
        """Mean albedo of what is covered."""
        b, g, r, _ = cv2.mean(self.color, self.alpha)
        return (b, g, r)

    def at(self, width_px: float, height_px: float) -> tuple[Image, Image | None]:
        """Return colour and alpha shrunk by powers of two a side, to about the size they will be seen at."""
        height, width = self.color.shape[:2]
        key = (_halvings(width, width_px), _halvings(height, height_px))
        if key not in self._levels:
            size = (max(1, width >> key[0]), max(1, height >> key[1]))
            self._levels[key] = (
                cv2.resize(self.color, size, interpolation=cv2.INTER_AREA).astype(np.uint8),
                None if self.alpha is None else shrink(self.alpha, size),
            )
        return self._levels[key]


def shrink(plane: Image, size: tuple[int, int]) -> Image:
    """Return a plane averaged down to (width, height)."""
    return cv2.resize(plane, size, interpolation=cv2.INTER_AREA).astype(np.uint8)


def _halvings(have: int, want: float) -> int:
    return max(0, int(np.log2(max(1.0, have / max(1.0, want)))))


def fractal(rng: np.random.Generator, size_hw: tuple[int, int], cells: int, octaves: int = 4) -> Plane:
    """Return float32 (H, W) smooth noise that tiles, mean 0 and deviation 1; `cells` bumps across."""
    height, width = size_hw
    total = np.zeros(size_hw, np.float32)
    for octave in range(octaves):
        count = cells << octave
        if count > min(size_hw):
            break
        grid = rng.standard_normal((count, count)).astype(np.float32)
        grid = np.pad(grid, 2, mode="wrap")
        pad_y, pad_x = 2 * height // count, 2 * width // count
        smooth = cv2.resize(grid, (width + 2 * pad_x, height + 2 * pad_y), interpolation=cv2.INTER_CUBIC)
        total += smooth[pad_y : pad_y + height, pad_x : pad_x + width] * 0.55**octave
    return np.asarray((total - total.mean()) / (total.std() + 1e-6), np.float32)


def shade(color: Color, gain: float) -> Color:
    """Return a colour `gain` times as bright, as far as there is white."""
    return (min(255.0, color[0] * gain), min(255.0, color[1] * gain), min(255.0, color[2] * gain))


def lettering(rng: np.random.Generator, board: Image, ink: Color) -> None:
    """Write a word of blocks and strokes that reads as lettering from afar; changes `board` in place."""
    height, width = board.shape[:2]
    step = max(3, int(height * 0.55))
    start = int(rng.uniform(0.06, 0.2) * width)
    for x in range(start, int(rng.uniform(0.6, 0.92) * width), step):
        top, low, right = int(height * 0.25), int(height * 0.78), x + max(2, step - 3)
        cv2.line(board, (x, top), (x, low), ink, 2)
        if rng.random() < 0.75:
            row = (top, low, (top + low) // 2)[int(rng.integers(3))]
            cv2.line(board, (x, row), (right, row), ink, 2)
        if rng.random() < 0.6:
            cv2.line(board, (right, top), (right if rng.random() < 0.6 else x, low), ink, 2)


@lru_cache(maxsize=1)
def ground() -> Image:
    """Return uint8 (512, 512, 2) relief of asphalt and of paving slabs that tiles over 8 m, 128 = flat."""
    rng = np.random.default_rng((ROOT, 7))
    side = 512
    asphalt = 9 * rng.standard_normal((side, side)) + 7 * fractal(rng, (side, side), 6, 5)
    slab = side // 16
    slabs = 0.6 * asphalt + np.kron(9 * rng.standard_normal((16, 16)), np.ones((slab, slab)))
    slabs[::slab] -= 42
    slabs[:, ::slab] -= 42
    cracks = np.zeros((side, side), np.uint8)
    for _ in range(14):
        walk = np.cumsum(rng.normal(0, 9, (9, 2)) + rng.normal(0, 7, 2), axis=0) + rng.uniform(0, side, 2)
        cv2.polylines(cracks, [walk.astype(np.int32)], False, 30, 1, cv2.LINE_AA)
    return np.asarray(np.clip(128 + np.stack((asphalt - cracks, slabs), axis=-1), 0, 255), np.uint8)


@lru_cache(maxsize=1)
def blotches() -> Image:
    """Return uint8 (256, 256) stains of a road that tile over 48 m, 128 = none."""
    rng = np.random.default_rng((ROOT, 8))
    return np.asarray(np.clip(128 + 26 * fractal(rng, (256, 256), 4, 6), 0, 255), np.uint8)


@lru_cache(maxsize=CLOUDS)
def clouds(index: int) -> Plane:
    """Return float32 (256, 1024) cloud cover from 0 to 1, which tiles."""
    rng = np.random.default_rng((ROOT, 9, index))
    field_ = fractal(rng, (512, 1024), 4, 7)[:256] + 0.5 * fractal(rng, (256, 1024), 2, 2)
    edge = rng.uniform(-0.7, 0.9)
    return np.asarray(np.clip((field_ - edge) * rng.uniform(0.6, 1.6), 0, 1), np.float32)


@lru_cache(maxsize=1)
def sensor_noise() -> Image:
    """Return uint8 (512, 1024, 3) noise around 128 of `NOISE_DEVIATION`, mostly shared by the channels."""
    rng = np.random.default_rng((ROOT, 10))
    noise = 0.8 * rng.standard_normal((512, 1024, 1)) + 0.6 * rng.standard_normal((512, 1024, 3))
    return np.clip(128 + NOISE_DEVIATION * noise, 0, 255).round().astype(np.uint8)


CROWNS, BARE_CROWNS = 12, 8


@lru_cache(maxsize=CROWNS)
def crown(index: int) -> Texture:
    """Return a leafy crown as seen from the side, lit from above; grey-green albedo."""
    rng = np.random.default_rng((ROOT, 4, index))
    side = 224
    mass = np.zeros((side, side), np.float32)
    slim = rng.uniform(0.6, 1.0)
    cv2.ellipse(mass, (side // 2, side // 2), (int(0.3 * slim * side), int(0.32 * side)), 0, 0, 360, 1.0, -1)
    for _ in range(int(rng.integers(22, 40))):
        angle, reach = rng.uniform(0, 2 * np.pi), rng.uniform(0.15, 0.36) * side
        x = side / 2 + np.cos(angle) * reach * slim
        y = side / 2 + np.sin(angle) * reach
        cv2.circle(mass, (int(x), int(y)), int(rng.uniform(0.07, 0.13) * side), 1.0, -1)
    mass = cv2.GaussianBlur(mass, (0, 0), 5).astype(np.float32)
    leaves = fractal(rng, (side, side), 14, 4)
    alpha = np.clip((mass + 0.2 * leaves * (0.3 + mass) - 0.42) * 5, 0, 1)
    clumps = fractal(rng, (side, side), 7, 5)
    height = np.linspace(1.25, 0.62, side, dtype=np.float32)[:, None]
    gain = np.clip(height + 0.22 * clumps + 0.14 * leaves, 0.2, 2.0)
    green = np.asarray((46, 92, 70), np.float32) * rng.uniform(0.85, 1.15, 3).astype(np.float32)
    return Texture(
        np.clip(green * gain[..., None], 4, 250).astype(np.uint8),
        (alpha * 255).astype(np.uint8),
        solid_from=110,
    )


_BRANCHES = 480  # side of the square that bare branches grow in


@lru_cache(maxsize=BARE_CROWNS)
def bare_crown(index: int) -> Texture:
    """Return a crown without leaves: forked branches and the haze of twigs that a camera cannot resolve."""
    rng = np.random.default_rng((ROOT, 5, index))
    side = 256
    alpha: Image = np.zeros((_BRANCHES, _BRANCHES), np.uint8)
    tips = [(_BRANCHES / 2, _BRANCHES - 1.0, -np.pi / 2, _BRANCHES * rng.uniform(0.12, 0.15), 11.0)]
    for _ in range(7):
        grown = []
        for x, y, angle, length, thick in tips:
            for turn in rng.normal((-0.38, 0.38), 0.16):
                to_angle = angle + turn
                to_x, to_y = x + np.cos(to_angle) * length, y + np.sin(to_angle) * length
                cv2.line(
                    alpha, (int(x), int(y)), (int(to_x), int(to_y)), 255, max(1, int(thick)), cv2.LINE_AA
                )
                grown.append((to_x, to_y, to_angle, length * rng.uniform(0.72, 0.86), thick * 0.62))
        tips = grown
    # Fill the texture from edge to edge, trunk in the middle.
    columns, rows = np.flatnonzero(alpha.max(axis=0)), np.flatnonzero(alpha.max(axis=1))
    reach = int(np.abs(columns - _BRANCHES // 2).max()) + 8
    grown_tree = alpha[max(0, rows[0] - 8) :, max(0, _BRANCHES // 2 - reach) : _BRANCHES // 2 + reach]
    alpha = shrink(np.ascontiguousarray(grown_tree), (side, side))
    twigs = cv2.GaussianBlur(alpha, (0, 0), 6).astype(np.float32)
    twigs *= 1.1 + 0.25 * fractal(rng, (side, side), 20, 3)
    covered = np.maximum(alpha, np.clip(twigs, 0, 150)).astype(np.uint8)
    bark = np.asarray((58, 68, 78), np.float32) * rng.uniform(0.7, 1.2)
    gain = 1 + 0.12 * fractal(rng, (side, side), 16, 3)
    return Texture(np.clip(bark * gain[..., None], 0, 255).astype(np.uint8), covered, solid_from=52)


@lru_cache(maxsize=2)
def hedge(index: int) -> Texture:
    """Return a clipped hedge, 4 m long."""
    rng = np.random.default_rng((ROOT, 6, index))
    gain = np.clip(1 + 0.25 * fractal(rng, (64, 256), 8, 3) + 0.2 * rng.standard_normal((64, 256)), 0.3, 1.9)
    gain *= np.linspace(1.3, 0.6, 64)[:, None]
    return Texture(np.clip(np.asarray((40, 74, 62)) * gain[..., None], 0, 255).astype(np.uint8))
