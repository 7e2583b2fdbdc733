"""A camera's pose over flat ground: from its horizon, or from points on the ground whose metres are known."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from runtime.errors import ConfigError
from runtime.ground.camera_model import CameraModel

Floats = NDArray[np.float64]
LEAST_POINTS = 4


def pose_from_horizon(camera: CameraModel, points_xy: ArrayLike, height_m: float) -> CameraModel:
    """Return the camera with the pitch and the roll that its horizon tells.

    Args:
        camera: whose pose does not count.
        points_xy: (2, 2) two points of the horizon in pixels, far apart.
        height_m: of the camera above the ground, which no horizon tells.

    Raises:
        ConfigError: points that are the same or see nothing, or a camera that sees no ground then.
    """
    rays = camera.rays(points_xy)
    up = np.cross(rays[0], rays[1])
    length = float(np.linalg.norm(up))
    if rays.shape != (2, 3) or not math.isfinite(length) or length < 1e-3:
        raise ConfigError(
            "horizon: expected two points that are far apart, such as one at each edge of the picture, got "
            f"{np.asarray(points_xy, float).tolist()}"
        )
    return _with_pose(camera, up / length * (1.0 if up[2] > 0 else -1.0), height_m)


def pose_from_ground(
    camera: CameraModel, pixels_xy: ArrayLike, ground_m: ArrayLike
) -> tuple[CameraModel, float]:
    """Return the camera with the pose that points on the ground tell, and by how much they miss it.

    Args:
        camera: whose pose does not count.
        pixels_xy: (N, 2) where at least four points are seen.
        ground_m: (N, 2) where they are, x forward and y left in metres, from any place and in any direction
            on the ground: only distances between them count.

    Returns:
        The camera, and the RMS of the points' distance from where it sees them, in pixels.

    Raises:
        ConfigError: too few points, points on a line, or points that no camera over the ground sees so.
    """
    pixels, ground = np.asarray(pixels_xy, np.float64), np.asarray(ground_m, np.float64)
    if pixels.shape != ground.shape or pixels.ndim != 2 or len(pixels) < LEAST_POINTS:
        raise ConfigError(
            f"ground_point: expected at least {LEAST_POINTS} points, each with column, row, x and y, got "
            f"{len(pixels)}"
        )
    spread = np.linalg.svd(ground - ground.mean(axis=0), compute_uv=False)
    rays = camera.rays(pixels)
    if spread[1] <= 1e-3 * spread[0] or not np.isfinite(rays).all():
        raise ConfigError(
            "ground_point: expected points in the picture that are not on one line, got "
            f"{ground.tolist()} at {pixels.tolist()}"
        )
    seen = np.stack([-rays[:, 1], -rays[:, 2]], axis=1) / rays[:, :1]  # in optical axes, at unit distance
    world = np.concatenate([ground, np.zeros((len(ground), 1))], axis=1)
    found, turn, shift = cv2.solvePnP(world, seen, np.eye(3), np.zeros(4), flags=cv2.SOLVEPNP_IPPE)
    if found:
        turn, shift = cv2.solvePnPRefineLM(world, seen, np.eye(3), np.zeros(4), turn, shift)
    rotation = np.asarray(cv2.Rodrigues(np.asarray(turn))[0], np.float64)
    place = -rotation.T @ np.ravel(shift)
    if not found or not place[2] > 0:
        raise ConfigError(
            "ground_point: expected points as a camera above the ground sees them, got others; is y positive "
            "to the left, and does each pixel stand beside its own metres?"
        )
    optical_up = rotation[:, 2]
    posed = _with_pose(camera, np.array([optical_up[2], -optical_up[0], -optical_up[1]]), float(place[2]))
    missed = (_projected(camera, world @ rotation.T + np.ravel(shift)) - pixels) ** 2
    return posed, float(np.sqrt(missed.sum(axis=1).mean()))


def pitch_error_m(distance_m: float, height_m: float, off_rad: float) -> tuple[float, float]:
    """Return where flat ground at a distance seems to be if the pitch is off, to either side.

    Args:
        distance_m: straight ahead.
        height_m: of the camera.
        off_rad: by how much.

    Returns:
        The nearer and the farther place, the latter inf where the ray no longer meets the ground.

    >>> near, far = pitch_error_m(10.0, 1.0, math.radians(0.5))
    >>> round(near, 2), round(far, 2)
    (9.19, 10.97)
    """
    angle = math.atan2(height_m, distance_m)
    nearer = height_m / math.tan(angle + off_rad)
    return nearer, height_m / math.tan(angle - off_rad) if angle > off_rad else math.inf


def pitch_error_rows(heights_m: Sequence[float], off_deg: float = 0.5) -> tuple[list[str], list[list[str]]]:
    """Return a table's header and rows: what 5, 10 and 20 m seem to be if the pitch is off."""
    distances_m = (5.0, 10.0, 20.0)
    header = [f"pitch off by {off_deg:g}°, camera at", *(f"{distance:g} m seem" for distance in distances_m)]
    rows = []
    for height in heights_m:
        seem = [pitch_error_m(distance, height, math.radians(off_deg)) for distance in distances_m]
        texts = [
            f"{near:.1f} to {far:.1f} m" if math.isfinite(far) else f"{near:.1f} m or more"
            for near, far in seem
        ]
        rows.append([f"{height:g} m", *texts])
    return header, rows


def _with_pose(camera: CameraModel, up: Floats, height_m: float) -> CameraModel:
    """Return the camera with the pose whose up direction, in body axes, is given."""
    pitch = -math.asin(float(np.clip(up[0], -1, 1)))
    roll = math.atan2(up[1], up[2])
    return dataclasses.replace(camera, height_m=height_m, pitch_rad=pitch, roll_rad=roll)


def _projected(camera: CameraModel, optical: Floats) -> Floats:
    """Return the pixels of points (N, 3) in the camera's optical axes."""
    level = dataclasses.replace(camera, height_m=1.0, pitch_rad=0.0, roll_rad=0.0)
    body = np.stack([optical[:, 2], -optical[:, 0], -optical[:, 1]], axis=1)
    return level.ground_to_pixels(body + np.array([0.0, 0.0, 1.0]))
