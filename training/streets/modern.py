"""Fronts of glass, metal and panels, and the hoardings of building sites before them.

A flat, glossy surface with a band of windows is not always a bus: networks that saw brick houses alone took
such fronts for vehicles.
"""

from __future__ import annotations

import cv2
import numpy as np

from training.streets.textures import PIXELS_PER_METRE, Color, Image, fractal, lettering, shade

GLASS: tuple[Color, ...] = (
    (118, 96, 70), (92, 84, 66), (62, 58, 52), (150, 138, 118), (96, 104, 78), (58, 66, 82), (196, 180, 158),
)  # fmt: skip
CLADDING: tuple[Color, ...] = (
    (214, 216, 216), (172, 172, 170), (120, 118, 114), (72, 70, 68), (128, 84, 48), (160, 126, 92),
    (52, 60, 150), (60, 118, 176), (96, 116, 92), (84, 110, 150), (186, 200, 210), (140, 138, 132),
)  # fmt: skip
PRINTS: tuple[Color, ...] = (
    (226, 228, 230), (120, 66, 36), (44, 44, 48), (60, 60, 180), (90, 150, 60), (70, 170, 220),
    (150, 90, 130), (178, 172, 160),
)  # fmt: skip


def modern_front(rng: np.random.Generator) -> Image:
    """Return uint8 (H, W, 3) albedo of an office, a block of flats or a department store."""
    scale = PIXELS_PER_METRE
    storeys, bays = int(rng.integers(2, 6)), int(rng.integers(3, 9))
    storey, bay = rng.uniform(3.0, 4.0), rng.uniform(1.1, 2.6)
    height, width = int(storeys * storey * scale), int(bays * bay * scale)
    wall = _cladding(rng, (height, width))
    kind = ("curtain", "ribbon", "ribbon", "scattered")[int(rng.integers(4))]
    mullion = shade(CLADDING[int(rng.integers(len(CLADDING)))], rng.uniform(0.5, 1.0))
    thick = int(rng.integers(1, 4))
    sill, head = rng.uniform(0.2, 0.4), rng.uniform(0.75, 0.92)
    if kind == "curtain":
        sill, head = 0.04, rng.uniform(0.72, 0.98)
    glass = _glass(rng, (height, width), bays, storeys)
    for level in range(storeys):
        base = height - int(level * storey * scale)
        top, low = base - int(head * storey * scale), base - int(sill * storey * scale)
        for number in range(bays):
            left, right = int(number * bay * scale), int((number + 1) * bay * scale)
            if kind == "scattered":
                if rng.random() < 0.35:
                    continue
                left += int(rng.uniform(0.05, 0.4) * bay * scale)
            wall[top:low, left:right] = glass[top:low, left:right]
            cv2.rectangle(wall, (left, top), (right, low), mullion, thick)
    ground = ("lobby", "hoarding", "hoarding", "shutters", "plinth")[int(rng.integers(5))]
    _ground_floor(rng, wall[height - int(rng.uniform(0.7, 0.95) * storey * scale) :], ground)
    return wall


def _cladding(rng: np.random.Generator, size_hw: tuple[int, int]) -> Image:
    """Smooth panels with joints, of one colour or of two."""
    height, width = size_hw
    color = np.asarray(CLADDING[int(rng.integers(len(CLADDING)))], np.float32)
    across, down = (
        int(rng.uniform(0.8, 3.0) * PIXELS_PER_METRE),
        int(rng.uniform(0.5, 2.0) * PIXELS_PER_METRE),
    )
    spread = rng.uniform(0.0, 0.12)
    gains = 1 + spread * rng.standard_normal((height // down + 1, width // across + 1))
    panels = np.kron(gains, np.ones((down, across)))[:height, :width, None]
    wall = color * panels * (1 + 0.03 * fractal(rng, size_hw, 3))[..., None]
    joint = rng.uniform(0.55, 0.9)
    wall[::down] *= joint
    wall[:, ::across] *= joint
    return np.asarray(np.clip(wall, 4, 250), np.uint8)


def _glass(rng: np.random.Generator, size_hw: tuple[int, int], bays: int, storeys: int) -> Image:
    """Panes that mirror sky and street, each a little differently."""
    height, width = size_hw
    tint = np.asarray(GLASS[int(rng.integers(len(GLASS)))], np.float32)
    sky = np.linspace(1.5, 0.55, height)[:, None] * (1 + rng.uniform(0.1, 0.35) * fractal(rng, size_hw, 2))
    panes = 1 + rng.uniform(0.05, 0.25) * rng.standard_normal((storeys, bays))
    each = cv2.resize(panes, (width, height), interpolation=cv2.INTER_NEAREST)
    return np.asarray(np.clip(tint * (sky * each)[..., None], 8, 250), np.uint8)


def _ground_floor(rng: np.random.Generator, strip: Image, kind: str) -> None:
    """Draw what stands at the pavement over `strip`, (H, W, 3), in place."""
    height, width = strip.shape[:2]
    if kind == "lobby":
        strip[:] = _glass(rng, (height, width), 6, 1)
        for x in range(0, width, max(12, width // int(rng.integers(3, 8)))):
            cv2.line(strip, (x, 0), (x, height), (64, 66, 68), int(rng.integers(1, 5)))
        return
    paint = PRINTS[int(rng.integers(len(PRINTS)))] if kind == "hoarding" else CLADDING[int(rng.integers(4))]
    strip[:] = np.clip(paint, 0, 255).astype(np.uint8)
    if kind == "plinth":
        return
    board = int(rng.uniform(0.9, 2.6) * PIXELS_PER_METRE)
    for x in range(0, width, board):
        if kind == "shutters":
            for y in range(0, height, 4):
                cv2.line(strip, (x + 6, y), (x + board - 6, y), shade(paint, 0.8), 1)
        elif rng.random() < 0.7:
            margin = int(rng.uniform(0.02, 0.2) * height)
            _poster(rng, strip[margin : height - margin, x + 2 : x + board - 2])
        cv2.line(strip, (x, 0), (x, height), shade(paint, 0.6), 1)


def _poster(rng: np.random.Generator, area: Image) -> None:
    """Print a picture, a plan or a line of text on `area`, (H, W, 3), in place."""
    height, width = area.shape[:2]
    if min(height, width) < 12:
        return
    first, second = (
        np.asarray(PRINTS[int(index)], np.float32) for index in rng.integers(len(PRINTS), size=2)
    )
    ramp = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    area[:] = np.clip(first * (1 - 0.5 * ramp) + second * (0.5 * ramp), 0, 255).astype(np.uint8)
    if rng.random() < 0.6:  # faces, people, buildings to come
        for _ in range(int(rng.integers(1, 5))):
            center = (int(rng.integers(width)), int(rng.uniform(0.3, 1.0) * height))
            axes = (int(rng.uniform(0.05, 0.3) * width) + 1, int(rng.uniform(0.1, 0.4) * height) + 1)
            shown = tuple(rng.uniform(20, 220, 3).tolist())
            cv2.ellipse(area, center, axes, 0, 0, 360, shown, -1)
    if rng.random() < 0.7:
        lettering(rng, area[: max(10, height // 3)], (240, 240, 240) if first.sum() < 330 else (50, 44, 40))
