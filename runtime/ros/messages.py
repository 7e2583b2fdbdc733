"""Builds ROS 2 messages and their bytes (CDR), by rosbags and without ROS.

Axes follow REP 103: x forward, y left, z up, and in a camera's optical frame x right, y down, z forward.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from runtime.contract import ClassMap
from runtime.errors import ConfigError
from runtime.frame import Image
from runtime.ground import BirdsEye, CameraModel
from runtime.ros.library import typestore

_NS = 1_000_000_000
# From a camera's body axes (x forward, y left, z up) to its optical ones (x right, y down, z forward).
_BODY_TO_OPTICAL = np.array([[0.0, -1.0, 0.0], [0.0, 0.0, -1.0], [1.0, 0.0, 0.0]])
_FLOAT32 = 7  # sensor_msgs/PointField.FLOAT32


def serialized(message: Any) -> bytes:
    """Return a message's bytes, as ROS 2 sends and stores them."""
    return bytes(typestore().serialize_cdr(message, message.__msgtype__))


def time(stamp_ns: int) -> Any:
    """Return a builtin_interfaces/Time.

    Args:
        stamp_ns: nanoseconds since 1970 or since the start of a simulation.

    Raises:
        ConfigError: a time that the message's 32 bits of seconds do not hold.
    """
    seconds, nanoseconds = divmod(stamp_ns, _NS)
    if not -(2**31) <= seconds < 2**31:
        raise ConfigError(f"stamp: expected seconds of 32 bits, got {seconds}; check the source's clock")
    return _make("builtin_interfaces/msg/Time", sec=seconds, nanosec=nanoseconds)


def header(stamp_ns: int, frame_id: str) -> Any:
    """Return a std_msgs/Header."""
    return _make("std_msgs/msg/Header", stamp=time(stamp_ns), frame_id=frame_id)


def image(header: Any, picture: Image) -> Any:
    """Return a sensor_msgs/Image: mono8 of uint8 (H, W), bgr8 of uint8 (H, W, 3)."""
    picture = np.ascontiguousarray(picture)
    return _make(
        "sensor_msgs/msg/Image",
        header=header,
        height=picture.shape[0],
        width=picture.shape[1],
        encoding="mono8" if picture.ndim == 2 else "bgr8",
        is_bigendian=0,
        step=picture.strides[0],
        data=picture.reshape(-1),
    )


def compressed_image(header: Any, picture_bgr: Image, quality: int = 85) -> Any:
    """Return a sensor_msgs/CompressedImage: a JPEG of uint8 (H, W, 3) BGR.

    Args:
        header: of the message.
        picture_bgr: what it shows.
        quality: of the JPEG, 0 to 100.
    """
    _, data = cv2.imencode(".jpg", picture_bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return _make(
        "sensor_msgs/msg/CompressedImage",
        header=header,
        format="bgr8; jpeg compressed bgr8",  # as image_transport writes it
        data=np.asarray(data, np.uint8).reshape(-1),
    )


def label_info(header: Any, classes: ClassMap, threshold: float = 0.0) -> Any:
    """Return a vision_msgs/LabelInfo: the names of a mask's values.

    The message keeps the highest id, 255 for a mask of uint8, for pixels without a class, as this mask does;
    it is not listed.

    Args:
        header: of the message.
        classes: of the network.
        threshold: probability from 0 to 1 under which a pixel has no class.
    """
    class_map = [
        _make("vision_msgs/msg/VisionClass", class_id=index, class_name=name)
        for index, name in enumerate(classes.names)
    ]
    return _make("vision_msgs/msg/LabelInfo", header=header, class_map=class_map, threshold=threshold)


def occupancy_grid(header: Any, view: BirdsEye, cells: NDArray[np.int8]) -> Any:
    """Return a nav_msgs/OccupancyGrid in the ground's frame.

    Args:
        header: of the message; its frame is the one under the camera, x forward.
        view: whose grid it is.
        cells: int8 (rows along y, columns along x), what `BirdsEye.occupancy` returns.
    """
    rows, columns = cells.shape
    origin = _make(
        "geometry_msgs/msg/Pose",
        position=_make("geometry_msgs/msg/Point", x=view.x_range_m[0], y=view.y_range_m[0], z=0.0),
        orientation=_make("geometry_msgs/msg/Quaternion", x=0.0, y=0.0, z=0.0, w=1.0),
    )
    info = _make(
        "nav_msgs/msg/MapMetaData",
        map_load_time=header.stamp,
        resolution=view.cell_m,
        width=columns,
        height=rows,
        origin=origin,
    )
    data = np.ascontiguousarray(cells, np.int8).reshape(-1)
    return _make("nav_msgs/msg/OccupancyGrid", header=header, info=info, data=data)


def laser_scan(
    header: Any, angles_rad: NDArray[np.float64], ranges_m: NDArray[np.float64], range_max_m: float
) -> Any:
    """Return a sensor_msgs/LaserScan.

    After REP 117 a range of inf says that nothing is there up to range_max; so angles must stay within what
    the camera sees.

    Args:
        header: of the message; the scan lies in the x-y plane of its frame.
        angles_rad: (N,) evenly spaced, rising, positive to the left.
        ranges_m: (N,) metres, inf where nothing is.
        range_max_m: how far ranges can be.
    """
    return _make(
        "sensor_msgs/msg/LaserScan",
        header=header,
        angle_min=float(angles_rad[0]),
        angle_max=float(angles_rad[-1]),
        angle_increment=float(angles_rad[-1] - angles_rad[0]) / max(1, len(angles_rad) - 1),
        time_increment=0.0,
        scan_time=0.0,
        range_min=0.0,
        range_max=range_max_m,
        ranges=ranges_m.astype(np.float32),
        intensities=np.empty(0, np.float32),
    )


def point_cloud(header: Any, points: NDArray[np.float32]) -> Any:
    """Return a sensor_msgs/PointCloud2 that is organised: a point a pixel, row by row.

    Args:
        header: of the message.
        points: float32 (H, W, 3) x, y, z in metres; NaN where a pixel has no point.
    """
    points = np.ascontiguousarray(points, np.float32)
    height, width, _ = points.shape
    fields = [
        _make("sensor_msgs/msg/PointField", name=name, offset=4 * place, datatype=_FLOAT32, count=1)
        for place, name in enumerate("xyz")
    ]
    return _make(
        "sensor_msgs/msg/PointCloud2",
        header=header,
        height=height,
        width=width,
        fields=fields,
        is_bigendian=False,
        point_step=12,
        row_step=12 * width,
        data=points.reshape(-1).view(np.uint8),
        is_dense=bool(np.isfinite(points).all()),
    )


def ground_transform(header: Any, ground_frame: str, camera: CameraModel) -> Any:
    """Return a tf2_msgs/TFMessage for /tf_static: the ground under a camera, as the camera sees it.

    The camera's frame is the parent, since in a robot's tree it has one already, and a frame may have only
    one.

    Args:
        header: its frame is the camera's optical frame.
        ground_frame: name of the frame on the ground under the camera, x forward, z up.
        camera: whose pose it is.
    """
    rotation = ground_to_optical(camera)
    x, y, z = -rotation @ (0.0, 0.0, camera.height_m)
    turn = cv2.Rodrigues(rotation)[0].ravel()  # axis times angle
    angle = float(np.linalg.norm(turn))
    qx, qy, qz = turn * (math.sin(angle / 2) / angle if angle else 0.5)
    transform = _make(
        "geometry_msgs/msg/Transform",
        translation=_make("geometry_msgs/msg/Vector3", x=float(x), y=float(y), z=float(z)),
        rotation=_make(
            "geometry_msgs/msg/Quaternion", x=float(qx), y=float(qy), z=float(qz), w=math.cos(angle / 2)
        ),
    )
    stamped = _make(
        "geometry_msgs/msg/TransformStamped",
        header=header,
        child_frame_id=ground_frame,
        transform=transform,
    )
    return _make("tf2_msgs/msg/TFMessage", transforms=[stamped])


def diagnostics(stamp_ns: int, name: str, level: int, said: str, values: Mapping[str, object]) -> Any:
    """Return a diagnostic_msgs/DiagnosticArray of one status.

    Args:
        stamp_ns: when.
        name: of what it tells of.
        level: 0 for OK, 1 for a warning, 2 for an error.
        said: in words.
        values: numbers and names behind it.
    """
    pairs = [
        _make("diagnostic_msgs/msg/KeyValue", key=key, value=str(value)) for key, value in values.items()
    ]
    status = _make(
        "diagnostic_msgs/msg/DiagnosticStatus",
        level=level,
        name=name,
        message=said,
        hardware_id="",
        values=pairs,
    )
    return _make("diagnostic_msgs/msg/DiagnosticArray", header=header(stamp_ns, ""), status=[status])


def ground_to_optical(camera: CameraModel) -> NDArray[np.float64]:
    """Return the rotation (3, 3) from the ground's axes to a camera's optical ones."""
    return np.asarray(_BODY_TO_OPTICAL @ camera.rotation.T)


def _make(kind: str, /, **fields: Any) -> Any:
    return typestore().types[kind](**fields)
