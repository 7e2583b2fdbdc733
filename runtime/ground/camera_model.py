"""A calibrated camera over flat ground: pixels to metres and back.

Axes follow ROS's REP 103. The world's origin is on the ground under the camera; x is forward, y left, z up.
The camera's own body axes are x forward, y left, z up as well, turned by R = Ry(pitch) Rx(roll), so that a
positive pitch looks down and a positive roll leans to the right. Its optical axes are x right, y down, z
forward, as in OpenCV. Pixel centres have whole numbers: the middle of the top left pixel is (0, 0), the
picture's corner (-0.5, -0.5).
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from runtime.errors import ConfigError

Floats = NDArray[np.float64]
DistortionModel = Literal["plumb_bob", "fisheye"]

LARGEST_SIDE_PX = 32_766  # of cv2.remap
_COEFFICIENTS = {"plumb_bob": (0, 4, 5, 8), "fisheye": (0, 4)}
_PIXEL_ERROR = 0.01  # by how much a pixel may miss itself, to the ray and back
_BEHIND_M = 1e-9


@dataclass(frozen=True)
class CameraModel:
    """Intrinsics and pose of a camera over flat ground, in pixels, metres and radians.

    Attributes:
        width: of the picture in pixels.
        height: of the picture in pixels.
        fx: focal length along the picture's width, in pixels.
        fy: focal length along its height, in pixels.
        cx: column of the principal point, in pixels.
        cy: row of the principal point, in pixels.
        distortion: coefficients in OpenCV's order; () for none. Of "plumb_bob" k1, k2, p1, p2, and with more
            k3, then k4, k5, k6 (Brown 1966, and OpenCV's rational form); of "fisheye" k1 to k4 (Kannala and
            Brandt 2006).
        height_m: of the camera above the ground, in metres.
        pitch_rad: how far it looks down.
        roll_rad: how far it leans to the right.
        distortion_model: "plumb_bob" or "fisheye", ROS's names ("rational_polynomial" is plumb_bob with eight
            coefficients, "equidistant" is fisheye).

    Raises:
        ConfigError: a camera that cannot be, or that sees no ground at all.

    >>> camera = CameraModel(640, 480, 500.0, 500.0, 319.5, 239.5, height_m=1.0, pitch_rad=0.1)
    >>> camera.pixels_to_ground([(319.5, 239.5), (319.5, 0.0)]).round(3).tolist()
    [[9.967, 0.0], [nan, nan]]
    """

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float
    distortion: tuple[float, ...] = ()
    height_m: float = math.nan
    pitch_rad: float = 0.0
    roll_rad: float = 0.0
    distortion_model: DistortionModel = "plumb_bob"

    def __post_init__(self) -> None:
        """Refuse a camera that cannot be."""
        object.__setattr__(self, "distortion", tuple(float(value) for value in self.distortion))
        for name in ("width", "height"):
            side = getattr(self, name)
            if not (isinstance(side, int | np.integer) and 1 <= side <= LARGEST_SIDE_PX):
                raise ConfigError(f"camera {name}: expected 1 to {LARGEST_SIDE_PX} pixels, got {side!r}")
        for name in ("fx", "fy", "height_m"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) > 0):
                unit = "metres above the ground" if name == "height_m" else "pixels"
                raise ConfigError(
                    f"camera {name}: expected a number above 0 {unit}, got {getattr(self, name)}"
                )
        for name in ("cx", "cy", "pitch_rad", "roll_rad"):
            if not math.isfinite(getattr(self, name)):
                raise ConfigError(f"camera {name}: expected a finite number, got {getattr(self, name)}")
        for name in ("pitch_rad", "roll_rad"):
            if abs(getattr(self, name)) > math.pi:
                raise ConfigError(
                    f"camera {name}: expected radians from -π to π, got {getattr(self, name):g}; degrees "
                    "times 0.01745 are radians"
                )
        if self.distortion_model not in _COEFFICIENTS:
            raise ConfigError(
                f"camera distortion_model: expected one of {', '.join(_COEFFICIENTS)}, got "
                f"{self.distortion_model!r}"
            )
        allowed = _COEFFICIENTS[self.distortion_model]
        if len(self.distortion) not in allowed or not np.isfinite(self.distortion).all():
            raise ConfigError(
                f"camera distortion: expected {' or '.join(map(str, allowed))} finite coefficients of "
                f"{self.distortion_model}, got {list(self.distortion)}"
            )
        if not self._sees_ground():
            raise ConfigError(
                f"camera pitch_rad: expected a camera that sees the ground, got {self.pitch_rad:g} with "
                f"roll_rad {self.roll_rad:g} and a picture all above the horizon; a positive pitch looks down"
            )

    def _sees_ground(self) -> bool:
        """Whether any of some pixels, the corners among them, sees the ground."""
        columns, rows = (np.linspace(-0.5, side - 0.5, 9) for side in (self.width, self.height))
        pixels = np.stack(np.meshgrid(columns, rows), axis=-1).reshape(-1, 2)
        return bool(np.isfinite(self.pixels_to_ground(pixels)).any())

    @classmethod
    def from_yaml(
        cls, path: str | Path, pose_path: str | Path | None = None, *, needs_pose: bool = True
    ) -> CameraModel:
        """Read a ROS `camera_info` YAML file, as `camera_calibration` writes it, and a pose over the ground.

        The pose is three numbers, `height_m`, `pitch_rad` and `roll_rad` (0 where they are left out), in a
        file of their own or in the camera's under `pose:`.

        Args:
            path: with image_width, image_height, camera_matrix, distortion_model and
                distortion_coefficients.
            pose_path: the pose's file; None looks under `pose:` in the camera's, then for `pose.yaml` beside
                it.
            needs_pose: False takes a file without one, for a camera that looks down from 1 m at 45 degrees.

        Raises:
            ConfigError: a file that is missing or no such YAML, a number that is missing, a camera that
                cannot be.
        """
        pose_path = None if pose_path is None else Path(pose_path)
        from runtime.ground.camera_files import read_camera_file  # which writes cameras, too

        return cls(**read_camera_file(Path(path), pose_path, needs_pose=needs_pose))

    def scaled_to(self, width: int, height: int) -> CameraModel:
        """Return the same camera for pictures that were resized to another size.

        Edges stay edges: (-0.5, -0.5) and (width - 0.5, height - 0.5) are the picture's corners in both.
        """
        across, down = width / self.width, height / self.height
        return dataclasses.replace(
            self,
            width=width,
            height=height,
            fx=self.fx * across,
            fy=self.fy * down,
            cx=(self.cx + 0.5) * across - 0.5,
            cy=(self.cy + 0.5) * down - 0.5,
        )

    @cached_property
    def rotation(self) -> Floats:
        """Rotation (3, 3) from the camera's body axes to the world's: Ry(pitch) Rx(roll)."""
        cp, sp = math.cos(self.pitch_rad), math.sin(self.pitch_rad)
        cr, sr = math.cos(self.roll_rad), math.sin(self.roll_rad)
        about_y = np.array([[cp, 0, sp], [0, 1, 0], [-sp, 0, cp]])
        about_x = np.array([[1, 0, 0], [0, cr, -sr], [0, sr, cr]])
        return np.asarray(about_y @ about_x)

    def pixels_to_ground(self, points_xy: ArrayLike) -> Floats:
        """Return where pixels lie on the ground.

        Args:
            points_xy: (N, 2) column and row in pixels, also outside of the picture.

        Returns:
            float64 (N, 2): x forward and y left in metres; NaN at and above the horizon, and where the lens
            model has no ray for a pixel.
        """
        rays = self.rays(points_xy) @ self.rotation.T  # (N, 3) in world axes
        with np.errstate(divide="ignore", invalid="ignore"):
            distance = np.where(rays[:, 2] < -_BEHIND_M, -self.height_m / rays[:, 2], np.nan)
        return np.asarray(rays[:, :2] * distance[:, None])

    def ground_to_pixels(self, points_m: ArrayLike) -> Floats:
        """Return where points on the ground are seen.

        Args:
            points_m: (N, 2) x forward and y left in metres, or (N, 3) with z up.

        Returns:
            float64 (N, 2): column and row in pixels, also outside of the picture; NaN for what is behind the
            camera or beyond what its lens model covers.
        """
        points = np.atleast_2d(np.asarray(points_m, np.float64))
        if points.shape[-1] == 2:
            points = np.concatenate([points, np.zeros((len(points), 1))], axis=1)
        points = _points(points, 3) - (0.0, 0.0, self.height_m)
        forward, left, up = (points @ self.rotation).T  # in body axes
        with np.errstate(divide="ignore", invalid="ignore"):
            normal = np.stack([-left / forward, -up / forward], axis=1)
        normal[~(forward > _BEHIND_M)] = np.nan
        return self._distorted(normal) * (self.fx, self.fy) + (self.cx, self.cy)

    @property
    def horizon_rows(self) -> tuple[float, float]:
        """Rows where the horizon crosses the middle of the first and the last column, without distortion."""
        # World-up components of the optical axes: the horizon is where a ray has none.
        right, down, forward = -self.rotation[2, 1], -self.rotation[2, 2], self.rotation[2, 0]
        if abs(down) < _BEHIND_M:
            return math.nan, math.nan
        rows = [
            self.cy - self.fy * (forward + right * (column - self.cx) / self.fx) / down
            for column in (0, self.width - 1)
        ]
        return rows[0], rows[1]

    def rays(self, points_xy: ArrayLike) -> Floats:
        """Return the directions in which pixels look.

        Args:
            points_xy: (N, 2) column and row in pixels.

        Returns:
            float64 (N, 3) in body axes, one metre forward; NaN where the lens model has none.
        """
        normal = (_points(points_xy, 2) - (self.cx, self.cy)) / (self.fx, self.fy)
        if any(self.distortion):
            straight = self._undistorted(normal)
            missed = np.abs(self._distorted(straight) - normal) * (self.fx, self.fy)
            normal = np.where((missed < _PIXEL_ERROR).all(axis=1, keepdims=True), straight, np.nan)
        return np.stack([np.ones(len(normal)), -normal[:, 0], -normal[:, 1]], axis=1)

    def _undistorted(self, moved: Floats) -> Floats:
        """Return what the lens moved to positions (N, 2): along the radius first, then by Newton's method."""
        radii, image_radii = self._radial_table
        radius = np.hypot(*moved.T)
        grown = np.interp(radius, image_radii, radii) / np.maximum(radius, _TINY)
        straight = np.where(radius[:, None] > 0, moved * grown[:, None], moved)
        if self.distortion_model == "fisheye":
            angle = np.arctan(np.hypot(*straight.T))
            for _ in range(_ROUNDS):
                step = 1e-7
                slope = (
                    _fisheye(angle + step, self.distortion) - _fisheye(angle - step, self.distortion)
                ) / (2 * step)
                angle = angle - (_fisheye(angle, self.distortion) - radius) / np.where(slope == 0, 1.0, slope)
            angle = np.clip(angle, 0.0, math.pi / 2 - 1e-6)
            straight = moved * (np.tan(angle) / np.maximum(radius, _TINY))[:, None]
            return np.asarray(np.where(radius[:, None] > 0, straight, moved))
        for _ in range(_ROUNDS):
            step = 1e-7
            here = self._bent(straight)
            along_x = (self._bent(straight + np.array([step, 0.0])) - here) / step
            along_y = (self._bent(straight + np.array([0.0, step])) - here) / step
            off_x, off_y = (here - moved).T
            determinant = along_x[:, 0] * along_y[:, 1] - along_x[:, 1] * along_y[:, 0]
            determinant = np.where(np.abs(determinant) < _TINY, np.nan, determinant)
            straight = straight - np.stack(
                [
                    (along_y[:, 1] * off_x - along_y[:, 0] * off_y) / determinant,
                    (along_x[:, 0] * off_y - along_x[:, 1] * off_x) / determinant,
                ],
                axis=1,
            )
        return straight

    def _distorted(self, normal: Floats) -> Floats:
        """Return where the lens moves positions (N, 2) at unit distance; NaN beyond its reach."""
        if not any(self.distortion):
            return normal
        covered = np.hypot(*normal.T) <= self._radial_table[0][-1]
        return np.asarray(np.where(covered[:, None], self._bent(normal), np.nan))

    def _bent(self, normal: Floats) -> Floats:
        """Return the lens model's positions (N, 2), also where it is not to be trusted."""
        x, y = normal.T
        squared = x * x + y * y
        if self.distortion_model == "fisheye":
            radius = np.sqrt(squared)
            bent = _fisheye(np.arctan(radius), self.distortion)
            return normal * np.where(radius > 0, bent / np.maximum(radius, _TINY), 1.0)[:, None]
        k1, k2, p1, p2, k3, k4, k5, k6 = (*self.distortion, *(0.0,) * (8 - len(self.distortion)))
        factor = _radial(squared, k1, k2, k3, k4, k5, k6)
        moved_x = x * factor + 2 * p1 * x * y + p2 * (squared + 2 * x * x)
        moved_y = y * factor + p1 * (squared + 2 * y * y) + 2 * p2 * x * y
        return np.stack([moved_x, moved_y], axis=1)

    @cached_property
    def _radial_table(self) -> tuple[Floats, Floats]:
        """Radii before and after the lens, as far as the model does not run backwards.

        Beyond its turning point two rays would share a pixel: a calibration says nothing there.
        """
        angles = np.linspace(0.0, math.pi / 2 - 1e-6, 8193)
        if self.distortion_model == "fisheye":
            radii, bent = np.tan(angles), _fisheye(angles, self.distortion)
        else:
            radii = np.tan(angles[: int(len(angles) * _WIDEST_PINHOLE / (math.pi / 2))])
            k1, k2, _, _, k3, k4, k5, k6 = (*self.distortion, *(0.0,) * (8 - len(self.distortion)))
            bent = radii * _radial(radii**2, k1, k2, k3, k4, k5, k6)
        falls = np.flatnonzero(~(np.diff(bent) > 0))
        end = int(falls[0]) + 1 if len(falls) else len(radii)
        return radii[:end], bent[:end]


_WIDEST_PINHOLE = math.radians(89.0)  # from the optical axis
_ROUNDS = 20
_TINY = 1e-300


def _radial(squared: Any, k1: float, k2: float, k3: float, k4: float, k5: float, k6: float) -> Any:
    """Return by how much a radius grows, from its square."""
    above = 1 + squared * (k1 + squared * (k2 + squared * k3))
    return above / (1 + squared * (k4 + squared * (k5 + squared * k6)))


def _fisheye(angle: Any, coefficients: tuple[float, ...]) -> Any:
    """Return the distance from the principal point, in focal lengths, at an angle from the optical axis."""
    k1, k2, k3, k4 = coefficients
    squared = angle * angle
    return angle * (1 + squared * (k1 + squared * (k2 + squared * (k3 + squared * k4))))


def _points(points: ArrayLike, columns: int) -> Floats:
    """Return points as float64 (N, columns)."""
    array = np.asarray(points, np.float64)
    if array.size == 0:
        return np.zeros((0, columns))
    if array.ndim != 2 or array.shape[1] != columns:
        raise ConfigError(f"points: expected an array of shape (N, {columns}), got {array.shape}")
    return array
