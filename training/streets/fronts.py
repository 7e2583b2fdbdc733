"""Textures of what people build: house fronts, old and modern, plain walls and fences.

Modern fronts are of glass, metal and panels, with the hoardings of building sites before them. A flat,
glossy surface with a band of windows is not always a bus: networks that saw brick houses alone took such
fronts for vehicles.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

from training.streets.textures import (
    PIXELS_PER_METRE,
    ROOT,
    Box,
    Color,
    Image,
    Texture,
    fractal,
    lettering,
    shade,
)

MASONRY, FACADES, FENCES = 48, 72, 6
WALLS: tuple[Color, ...] = (
    (62, 78, 128), (70, 92, 140), (84, 104, 132), (96, 128, 160), (120, 150, 176), (58, 66, 96),
    (196, 206, 212), (176, 192, 204), (150, 160, 168), (128, 132, 134), (104, 112, 120), (168, 176, 160),
    (188, 178, 150), (150, 176, 200), (88, 92, 96), (72, 84, 112),
)  # fmt: skip
ACCENTS: tuple[Color, ...] = (
    (40, 36, 150), (120, 60, 30), (60, 90, 40), (30, 30, 32), (40, 130, 190), (110, 40, 90), (190, 190, 190),
    (150, 110, 30), (30, 110, 60),
)  # fmt: skip


def _wall(rng: np.random.Generator, size_hw: tuple[int, int], color: Color) -> Image:
    """Plaster, brick or stone: stains of a large scale and courses of a small one."""
    height, width = size_hw
    stain = fractal(rng, (256, 256), 3)[:height, :width] if max(size_hw) <= 256 else fractal(rng, size_hw, 3)
    grain = rng.standard_normal((height // 2 + 1, width // 5 + 1)).astype(np.float32)
    courses = cv2.resize(grain, (width, height), interpolation=cv2.INTER_NEAREST)
    gain = 1.0 + 0.05 * stain + rng.uniform(0.01, 0.07) * courses
    return np.clip(np.asarray(color, np.float32) * gain[..., None], 4, 250).astype(np.uint8)


def _window(rng: np.random.Generator, wall: Image, box: tuple[int, int, int, int], frame: Color) -> None:
    """Draw one window: lintel, frame, glass with a reflection, perhaps a curtain, and a sill."""
    left, top, right, bottom = box
    cv2.rectangle(wall, (left - 1, top - 1), (right + 1, bottom + 1), frame, -1)
    glass = rng.uniform(18, 70)
    tint = (glass * 1.15, glass * 1.05, glass)
    cv2.rectangle(wall, (left + 1, top + 1), (right - 1, bottom - 1), tint, -1)
    split = int(rng.integers(top + 1, bottom))
    cv2.rectangle(wall, (left + 1, top + 1), (right - 1, split), shade(tint, rng.uniform(1.1, 1.9)), -1)
    if rng.random() < 0.35:
        side = left + max(2, (right - left) // 4)
        cv2.rectangle(wall, (left + 1, top + 1), (side, bottom - 1), (170, 176, 180), -1)
        cv2.rectangle(wall, (right - side + left, top + 1), (right - 1, bottom - 1), (170, 176, 180), -1)
    middle = (left + right) // 2
    cv2.line(wall, (middle, top), (middle, bottom), frame, 1)
    cv2.line(wall, (left, (top + bottom) // 2), (right, (top + bottom) // 2), frame, 1)
    cv2.rectangle(wall, (left - 3, bottom + 1), (right + 3, bottom + 3), shade(frame, 0.9), -1)
    cv2.line(wall, (left - 3, bottom + 5), (right + 3, bottom + 5), (40, 42, 46), 1)


@lru_cache(maxsize=FACADES)
def facade(index: int) -> Texture:
    """Return one of `FACADES` house fronts: first `MASONRY` of brick, plaster or stone, then modern ones."""
    rng = np.random.default_rng((ROOT, 1, index))
    return _masonry(rng, index) if index < MASONRY else Texture(modern_front(rng))


def _masonry(rng: np.random.Generator, index: int) -> Texture:
    """Storeys of windows above a shop, a home's door or an office."""
    storeys, bays = int(rng.integers(2, 6)), int(rng.integers(2, 6))
    bay, storey = rng.uniform(2.1, 3.4), rng.uniform(2.7, 3.4)
    scale = PIXELS_PER_METRE
    height, width = int(storeys * storey * scale), int(bays * bay * scale)
    color = WALLS[int(rng.integers(len(WALLS)))]
    wall = _wall(rng, (height, width), color)
    frame = ((205, 208, 210), (60, 64, 70), (235, 238, 240), (70, 90, 110))[int(rng.integers(4))]
    trim = shade(color, rng.uniform(0.7, 1.35))
    ground = ("shop", "shop", "home", "office")[int(rng.integers(4))]
    strip = ground == "office" and rng.random() < 0.6
    win_w, win_h = rng.uniform(0.35, 0.62), rng.uniform(0.42, 0.66)
    for level in range(storeys):
        base = height - int(level * storey * scale)
        top = base - int(storey * scale)
        if level and rng.random() < 0.5:
            cv2.rectangle(wall, (0, base - 3), (width, base), trim, -1)
        if level == 0 and ground == "shop":
            continue
        for b in range(bays):
            left = int((b + 0.5 - win_w / 2) * bay * scale)
            right = int((b + 0.5 + win_w / 2) * bay * scale)
            if strip:
                left, right = int(b * bay * scale) + 2, int((b + 1) * bay * scale) - 3
            sill = base - int(0.28 * storey * scale)
            if level == 0 and ground == "home" and b == index % bays:
                door = ACCENTS[int(rng.integers(len(ACCENTS)))]
                cv2.rectangle(wall, (left - 2, base - int(2.4 * scale)), (left + 26, base), frame, -1)
                cv2.rectangle(wall, (left, base - int(2.05 * scale)), (left + 24, base), door, -1)
                continue
            _window(rng, wall, (left, sill - int(win_h * storey * scale), right, sill), frame)
        if level == storeys - 1:
            cv2.rectangle(wall, (0, top), (width, top + 5), trim, -1)
            cv2.rectangle(wall, (0, top + 6), (width, top + 8), shade(color, 0.5), -1)
    signs = _shop(rng, wall, int(storey * scale)) if ground == "shop" else ()
    grime = np.linspace(1.04, 0.86, height, dtype=np.float32)[:, None, None]
    return Texture(np.clip(wall * grime, 0, 255).astype(np.uint8), signs=signs)


def _shop(rng: np.random.Generator, wall: Image, storey_px: int) -> tuple[Box, ...]:
    """Draw a shop front along the bottom of `wall` and return the box of its lettering."""
    height, width = wall.shape[:2]
    accent = ACCENTS[int(rng.integers(len(ACCENTS)))]
    top = height - storey_px
    board_low = top + int(0.26 * storey_px)
    cv2.rectangle(wall, (0, top), (width, height), shade(accent, 0.75), -1)
    glass_low = height - int(0.14 * storey_px)
    panes = int(rng.integers(2, 5))
    for pane in range(panes):
        left, right = 4 + pane * width // panes, (pane + 1) * width // panes - 4
        low = height - 2 if pane == panes // 2 else glass_low
        dark = rng.uniform(18, 60)
        cv2.rectangle(wall, (left, board_low + 5), (right, low), (dark * 1.1, dark, dark * 0.95), -1)
        for _ in range(int(rng.integers(2, 7))):  # what is on show behind the glass
            x, y = int(rng.integers(left, right)), int(rng.integers(board_low + 8, low))
            shown = tuple(rng.uniform(30, 190, 3).tolist())
            cv2.rectangle(wall, (x, y), (min(right, x + 9), min(low, y + 12)), shown, -1)
        shine = int(rng.integers(left, right))
        cv2.line(wall, (shine, board_low + 6), (max(left, shine - 18), low), (150, 150, 146), 2)
    board = np.full((board_low - top, width, 3), accent, np.uint8)
    lettering(rng, board, (235, 238, 240) if sum(accent) < 330 else (40, 40, 48))
    wall[top:board_low] = board
    if rng.random() < 0.35:  # an awning
        low = board_low + int(0.12 * storey_px)
        for x in range(0, width, 16):
            cv2.rectangle(wall, (x, board_low), (x + 7, low), shade(accent, 1.2), -1)
            cv2.rectangle(wall, (x + 8, board_low), (x + 15, low), (210, 214, 216), -1)
    return ((0.04, top / height, 0.96, board_low / height),)


@lru_cache(maxsize=8)
def plain_wall(index: int) -> Texture:
    """Return a windowless wall; index picks its colour."""
    rng = np.random.default_rng((ROOT, 2, index))
    return Texture(_wall(rng, (192, 192), WALLS[(3 * index) % len(WALLS)]))


@lru_cache(maxsize=FENCES)
def fence(index: int) -> Texture:
    """Return a length of fence, 3 m wide: railings, boards, mesh or a guard rail."""
    rng = np.random.default_rng((ROOT, 3, index))
    height, width = 60, 96
    paint = ((34, 38, 36), (70, 74, 76), (66, 92, 122), (150, 156, 160), (40, 62, 44), (92, 118, 150))[index]
    color = np.full((height, width, 3), paint, np.uint8)
    alpha = np.zeros((height, width), np.uint8)
    if index in (2, 5):  # boards
        alpha[4:] = 255
        for x in range(0, width, 8):
            color[:, x : x + 7] = np.clip(np.asarray(paint) * rng.uniform(0.8, 1.2), 0, 255)
            color[:, x + 7] = (26, 30, 36)
            alpha[: int(rng.integers(2, 6)), x : x + 7] = 0
    elif index == 3:  # guard rail
        alpha[8:30] = 255
        color[14:18] = (96, 100, 104)
        alpha[:, 44:52] = 255
    else:
        step = 5 if index != 4 else 8
        for x in range(0, width, step):
            alpha[3:, x : x + 2] = 255
        alpha[5:9] = 255
        alpha[48:52] = 255
        if index == 4:
            for y in range(8, height, 8):
                alpha[y : y + 2] = 255
    return Texture(np.tile(color, (1, 4, 1)), np.tile(alpha, (1, 4)))


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
