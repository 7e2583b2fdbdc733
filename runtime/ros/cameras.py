"""From sensor_msgs/CameraInfo to `runtime.ground.CameraModel`."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from runtime.errors import ConfigError
from runtime.ground import CameraModel

_MODELS = {"plumb_bob": "plumb_bob", "rational_polynomial": "plumb_bob", "equidistant": "fisheye", "": ""}


def camera_info_topic(image_topic: str) -> str:
    """Return where ROS's image_transport looks for an image topic's camera_info: beside it.

    >>> camera_info_topic("/camera/image_raw"), camera_info_topic("/camera/image_raw/compressed")
    ('/camera/camera_info', '/camera/camera_info')
    """
    raw = image_topic.removesuffix("/compressed")
    return f"{raw.rpartition('/')[0]}/camera_info"


def camera_model(
    info: Any, *, height_m: float, pitch_rad: float = 0.0, roll_rad: float = 0.0, is_rectified: bool = False
) -> CameraModel:
    """Return the camera of a CameraInfo message, of ROS 1 or 2.

    Region of interest and binning are applied, so that the model fits the pictures beside the message.

    Args:
        info: the message.
        height_m: of the camera above the ground, which no CameraInfo tells.
        pitch_rad: how far it looks down.
        roll_rad: how far it leans to the right.
        is_rectified: whether the pictures are rectified (image_rect): the projection P counts then, and no
            distortion.

    Raises:
        ConfigError: a camera that was never calibrated, or cannot be.
    """
    matrix = np.asarray(info.p if hasattr(info, "p") else info.P).reshape(3, 4)
    distortion: tuple[float, ...] = ()
    model = "plumb_bob"
    if not is_rectified:
        matrix = np.asarray(info.k if hasattr(info, "k") else info.K).reshape(3, 3)
        distortion = tuple(float(value) for value in (info.d if hasattr(info, "d") else info.D))
        found = str(info.distortion_model)
        if found not in _MODELS or (not found and any(distortion)):
            raise ConfigError(
                f"camera_info: expected a distortion_model among {', '.join(filter(None, _MODELS))}, got "
                f"{found!r}"
            )
        model = _MODELS[found] or "plumb_bob"
        if not any(distortion):
            distortion = ()
    if not matrix[0, 0]:
        raise ConfigError(
            "camera_info: expected a calibrated camera, got one without a focal length; calibrate it by "
            "ROS's camera_calibration"
        )
    camera = CameraModel(
        int(info.width),
        int(info.height),
        float(matrix[0, 0]),
        float(matrix[1, 1]),
        float(matrix[0, 2]),
        float(matrix[1, 2]),
        distortion,
        height_m=height_m,
        pitch_rad=pitch_rad,
        roll_rad=roll_rad,
        distortion_model=model,  # type: ignore[arg-type]
    )
    roi = info.roi
    if roi.width and roi.height:
        camera = dataclasses.replace(
            camera,
            width=int(roi.width),
            height=int(roi.height),
            cx=camera.cx - roi.x_offset,
            cy=camera.cy - roi.y_offset,
        )
    across, down = max(1, int(info.binning_x)), max(1, int(info.binning_y))
    if across > 1 or down > 1:
        camera = camera.scaled_to(camera.width // across, camera.height // down)
    return camera
