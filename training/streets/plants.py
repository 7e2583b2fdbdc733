"""Textures of what grows: crowns with and without leaves, and hedges."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

from training.streets.textures import ROOT, Image, Texture, fractal, shrink

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
