"""From pictures of a checkerboard to a camera's intrinsics (Zhang 2000), by OpenCV."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from runtime.base.images import read_image
from runtime.errors import ConfigError
from runtime.frame import Image
from runtime.ground.camera_model import CameraModel, DistortionModel

Floats = NDArray[np.float64]

LEAST_PICTURES = 4
_INK, _FAINT = (60, 60, 60), (225, 225, 225)
_ARROW_SCALE = 100  # pixels of the picture for one of a residual


@dataclass(frozen=True)
class Sighting:
    """A board in a picture.

    Attributes:
        name: of the picture.
        corners: (rows x columns, 2) pixels of its inner corners, row after row.
    """

    name: str
    corners: Floats


@dataclass(frozen=True)
class Intrinsics:
    """What a camera's own model is, and how well it explains the pictures.

    Attributes:
        camera: with a height of 1 m and no pitch or roll, which no checkerboard tells.
        sightings: of the board.
        residuals: (corners, 2) for each sighting, seen minus explained, in pixels.
    """

    camera: CameraModel
    sightings: tuple[Sighting, ...]
    residuals: tuple[Floats, ...]

    @property
    def rms_px(self) -> float:
        """Root of the mean squared distance between seen and explained corners, in pixels."""
        return rms_px(np.concatenate(self.residuals))


def rms_px(residuals: Floats) -> float:
    """Return the root of the mean squared length of residuals (N, 2)."""
    return float(np.sqrt((residuals**2).sum(axis=1).mean()))


def find_board(image_bgr: Image, board: tuple[int, int]) -> Floats | None:
    """Return a board's inner corners in a picture to a fraction of a pixel, (N, 2); None where it is not.

    Args:
        image_bgr: uint8 (H, W, 3).
        board: inner corners along a row, and rows.
    """
    gray = cv2.cvtColor(image_bgr, cv2.COLOR_BGR2GRAY)
    flags = cv2.CALIB_CB_NORMALIZE_IMAGE | cv2.CALIB_CB_ACCURACY | cv2.CALIB_CB_EXHAUSTIVE
    found, corners = cv2.findChessboardCornersSB(gray, board, flags=flags)
    return np.asarray(corners, np.float64).reshape(-1, 2) if found else None


def find_boards(
    paths: Sequence[Path], board: tuple[int, int]
) -> tuple[tuple[int, int], tuple[Sighting, ...], tuple[str, ...]]:
    """Return the pictures' width and height, the boards found, and the pictures without one.

    Raises:
        ConfigError: pictures of different sizes.
        SourceError: a picture that cannot be read.
    """
    size: tuple[int, int] | None = None
    sightings, without = [], []
    for path in paths:
        image_bgr = read_image(path)
        here = image_bgr.shape[1], image_bgr.shape[0]
        size = size or here
        if here != size:
            raise ConfigError(
                f"images: expected pictures of one camera and one size, got {size[0]}x{size[1]} and, in "
                f"{path.name}, {here[0]}x{here[1]}"
            )
        corners = find_board(image_bgr, board)
        if corners is None:
            without.append(path.name)
        else:
            sightings.append(Sighting(path.name, corners))
    return size or (0, 0), tuple(sightings), tuple(without)


def calibrate(
    size_wh: tuple[int, int],
    sightings: Sequence[Sighting],
    board: tuple[int, int],
    lens: DistortionModel,
) -> Intrinsics:
    """Return the intrinsics that explain a board's sightings best.

    Args:
        size_wh: width and height of the pictures.
        sightings: at least four, with the board at different angles.
        board: inner corners along a row, and rows.
        lens: "plumb_bob" (k1, k2, p1, p2, k3), or "fisheye" (k1 to k4) for more than about 100 degrees.

    Raises:
        ConfigError: too few sightings, or sightings that no such camera explains.
    """
    if len(sightings) < LEAST_PICTURES:
        raise ConfigError(
            f"images: expected a board of {board[0]} x {board[1]} inner corners in at least {LEAST_PICTURES} "
            f"pictures, found it in {len(sightings)}; take more, with the whole board in sight, or correct "
            "--board"
        )
    columns, rows = board
    grid = np.zeros((rows * columns, 3))
    grid[:, :2] = np.stack(np.meshgrid(np.arange(columns), np.arange(rows)), axis=-1).reshape(-1, 2)
    try:
        solve = _solve_fisheye if lens == "fisheye" else _solve_plumb_bob
        matrix, distortion, explained = solve(size_wh, [each.corners for each in sightings], grid)
        camera = CameraModel(
            *size_wh,
            fx=float(matrix[0, 0]),
            fy=float(matrix[1, 1]),
            cx=float(matrix[0, 2]),
            cy=float(matrix[1, 2]),
            distortion=tuple(float(value) for value in distortion),
            height_m=1.0,
            pitch_rad=math.pi / 4,  # so that it surely sees ground
            distortion_model=lens,
        )
    except (cv2.error, ConfigError) as error:
        reason = error.err if isinstance(error, cv2.error) else error
        raise ConfigError(
            f"images: expected pictures that a {lens} camera explains, got others ({reason}); tilt the board "
            "more, fill the corners of the picture, or try the other --lens"
        ) from None
    residuals = [seen.corners - there for seen, there in zip(sightings, explained, strict=True)]
    return Intrinsics(camera, tuple(sightings), tuple(residuals))


_Solved = tuple[Floats, Floats, list[Floats]]


def _solve_plumb_bob(size_wh: tuple[int, int], corners: Sequence[Floats], grid: Floats) -> _Solved:
    boards = [grid.astype(np.float32)] * len(corners)
    seen = [each.astype(np.float32)[:, None] for each in corners]
    nothing: Any = None
    _, matrix, distortion, turns, shifts = cv2.calibrateCamera(boards, seen, size_wh, nothing, nothing)
    explained = [
        np.asarray(cv2.projectPoints(grid, turn, shift, matrix, distortion)[0], np.float64)[:, 0]
        for turn, shift in zip(turns, shifts, strict=True)
    ]
    return np.asarray(matrix, np.float64), np.ravel(distortion)[:5].astype(np.float64), explained


def _solve_fisheye(size_wh: tuple[int, int], corners: Sequence[Floats], grid: Floats) -> _Solved:
    boards = [grid[None]] * len(corners)
    seen = [each[None] for each in corners]
    home: Any = cv2.fisheye if hasattr(cv2.fisheye, "CALIB_FIX_SKEW") else cv2  # OpenCV 5 moved them
    flags = home.CALIB_RECOMPUTE_EXTRINSIC | home.CALIB_FIX_SKEW
    steps = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 200, 1e-9)
    matrix, distortion = np.zeros((3, 3)), np.zeros((4, 1))
    solved: Any = cv2.fisheye.calibrate(boards, seen, size_wh, matrix, distortion, None, None, flags, steps)
    _, matrix, distortion, turns, shifts = solved
    explained = [
        np.asarray(
            cv2.fisheye.projectPoints(
                grid[None], turn.reshape(3, 1), shift.reshape(3, 1), matrix, distortion
            )[0],
            np.float64,
        ).reshape(-1, 2)
        for turn, shift in zip(turns, shifts, strict=True)
    ]
    return np.asarray(matrix, np.float64), np.ravel(distortion).astype(np.float64), explained


def draw_residuals(intrinsics: Intrinsics) -> Image:
    """Return a picture of all corners where they were seen, each with its residual, 100 times as long.

    Arrows that all point one way in a part of the picture tell of a lens that the model does not explain;
    an empty part is one of which nothing is known.
    """
    camera = intrinsics.camera
    scale = 960 / max(camera.width, camera.height)
    width, height = round(camera.width * scale), round(camera.height * scale)
    canvas = np.full((height + 40, width, 3), 255, np.uint8)
    for share in (0.25, 0.5, 0.75):
        cv2.line(canvas, (round(width * share), 0), (round(width * share), height), _FAINT, 1)
        cv2.line(canvas, (0, round(height * share)), (width, round(height * share)), _FAINT, 1)
    cv2.rectangle(canvas, (0, 0), (width - 1, height - 1), _INK, 1)
    hues = np.linspace(0, 170, len(intrinsics.sightings)).astype(np.uint8)
    hsv = np.stack([hues, np.full_like(hues, 220), np.full_like(hues, 190)], axis=-1)[None]
    colors = cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)[0].tolist()
    for seen, residuals, color in zip(intrinsics.sightings, intrinsics.residuals, colors, strict=True):
        for corner, residual in zip(seen.corners, residuals, strict=True):
            begin = np.rint(corner * scale).astype(int)
            end = np.rint((corner + _ARROW_SCALE * residual) * scale).astype(int)
            cv2.circle(canvas, begin.tolist(), 2, color, cv2.FILLED, cv2.LINE_AA)
            cv2.line(canvas, begin.tolist(), end.tolist(), color, 1, cv2.LINE_AA)
    text = (
        f"{len(intrinsics.sightings)} pictures, RMS {intrinsics.rms_px:.3f} px; residuals {_ARROW_SCALE}x as "
        f"long; 0.1 px:"
    )
    cv2.putText(canvas, text, (8, height + 26), cv2.FONT_HERSHEY_SIMPLEX, 0.55, _INK, 1, cv2.LINE_AA)
    start = 8 + int(cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.55, 1)[0][0]) + 8
    end = start + round(0.1 * _ARROW_SCALE * scale)
    cv2.line(canvas, (start, height + 22), (end, height + 22), _INK, 2)
    return canvas
