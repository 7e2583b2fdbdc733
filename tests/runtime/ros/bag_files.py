"""Bags for tests, written by rosbags alone: nothing of ours is in them."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rosbags.rosbag2")

from rosbags.rosbag1 import Writer as Ros1Writer
from rosbags.rosbag2 import StoragePlugin
from rosbags.rosbag2 import Writer as Ros2Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

STORE = get_typestore(Stores.ROS2_HUMBLE)
ROS1_STORE = get_typestore(Stores.ROS1_NOETIC)
SECOND_NS = 1_000_000_000
START_NS = 1_700_000_000 * SECOND_NS
IMAGE, COMPRESSED = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
INFO, TEXT = "sensor_msgs/msg/CameraInfo", "std_msgs/msg/String"
OPTICAL = "camera_color_optical_frame"

Entry = tuple[str, int, Any]  # topic, time of the recording, message


def header(stamp_ns: int, frame_id: str = OPTICAL, store: Any = STORE) -> Any:
    time = store.types["builtin_interfaces/msg/Time"](sec=stamp_ns // SECOND_NS, nanosec=stamp_ns % SECOND_NS)
    more = {"seq": 0} if store is ROS1_STORE else {}
    return store.types["std_msgs/msg/Header"](stamp=time, frame_id=frame_id, **more)


def image(
    pixels: np.ndarray, encoding: str, stamp_ns: int = START_NS, *, padding: int = 0, store: Any = STORE
) -> Any:
    """An Image of pixels as they lie in memory, each row followed by some bytes of padding."""
    height, width = pixels.shape[:2]
    rows = np.ascontiguousarray(pixels).reshape(height, -1).view(np.uint8)
    rows = np.pad(rows, ((0, 0), (0, padding)), constant_values=77)
    return store.types[IMAGE](
        header=header(stamp_ns, store=store),
        height=height,
        width=width,
        encoding=encoding,
        is_bigendian=int(pixels.dtype.byteorder == ">"),
        step=rows.shape[1],
        data=rows.reshape(-1),
    )


def compressed(data: bytes, kind: str = "jpeg", stamp_ns: int = START_NS) -> Any:
    return STORE.types[COMPRESSED](
        header=header(stamp_ns), format=kind, data=np.frombuffer(data, np.uint8).copy()
    )


def text(value: str, store: Any = STORE) -> Any:
    return store.types[TEXT](data=value)


def camera_info(width: int, height: int, focal: float, **changes: Any) -> Any:
    cx, cy = (width - 1) / 2, (height - 1) / 2
    roi = STORE.types["sensor_msgs/msg/RegionOfInterest"](
        x_offset=0, y_offset=0, height=0, width=0, do_rectify=False
    )
    fields = {
        "header": header(START_NS),
        "height": height,
        "width": width,
        "distortion_model": "plumb_bob",
        "d": np.zeros(5),
        "k": np.array([focal, 0, cx, 0, focal, cy, 0, 0, 1.0]),
        "r": np.eye(3).reshape(-1),
        "p": np.array([focal, 0, cx, 0, 0, focal, cy, 0, 0, 0, 1.0, 0]),
        "binning_x": 0,
        "binning_y": 0,
        "roi": roi,
    }
    return STORE.types[INFO](**{**fields, **changes})


def write_ros2(path: Path, entries: Iterable[Entry], storage: str = "mcap") -> Path:
    """Write a folder; return the storage file in it."""
    plugin = StoragePlugin.MCAP if storage == "mcap" else StoragePlugin.SQLITE3
    with Ros2Writer(path, version=8, storage_plugin=plugin) as writer:
        connections: dict[str, Any] = {}
        for topic, logged_ns, message in entries:
            kind = message.__msgtype__
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, kind, typestore=STORE)
            writer.write(connections[topic], logged_ns, STORE.serialize_cdr(message, kind))
    return next(file for file in path.iterdir() if file.suffix in (".mcap", ".db3"))


def write_ros1(path: Path, entries: Iterable[Entry]) -> Path:
    """Write a ROS 1 bag."""
    with Ros1Writer(path) as writer:
        connections: dict[str, Any] = {}
        for topic, logged_ns, message in entries:
            kind = message.__msgtype__
            if topic not in connections:
                latching = 1 if topic == "/tf_static" else None
                connections[topic] = writer.add_connection(
                    topic, kind, typestore=ROS1_STORE, latching=latching
                )
            writer.write(connections[topic], logged_ns, ROS1_STORE.serialize_ros1(message, kind))
    return path


def ros1_specialities() -> list[Entry]:
    """What ROS 2 has otherwise: transforms, latched ones, and a type of the robot's own."""
    for name, text in (
        ("robot/msg/Wheel", "Header header\nuint32 ticks\nstring side\n"),
        ("tf2_msgs/msg/TFMessage", "geometry_msgs/TransformStamped[] transforms\n"),
    ):
        if name not in ROS1_STORE.fielddefs:
            ROS1_STORE.register(get_types_from_msg(text, name))
    store = ROS1_STORE.types
    transform = store["geometry_msgs/msg/Transform"](
        translation=store["geometry_msgs/msg/Vector3"](x=1.0, y=2.0, z=3.0),
        rotation=store["geometry_msgs/msg/Quaternion"](x=0.0, y=0.0, z=0.0, w=1.0),
    )
    stamped = store["geometry_msgs/msg/TransformStamped"](
        header=header(START_NS, "map", ROS1_STORE), child_frame_id="base", transform=transform
    )
    transforms = store["tf2_msgs/msg/TFMessage"](transforms=[stamped])
    wheel = store["robot/msg/Wheel"](header=header(START_NS, "base", ROS1_STORE), ticks=7, side="left")
    return [
        (topic, START_NS + 1_000_000, message)
        for topic, message in (("/tf", transforms), ("/tf_static", transforms), ("/wheel", wheel))
    ]


def cut_index(path: Path) -> None:
    """Leave of a ROS 1 bag what is there while it is recorded: no index, and a head that knows of none."""
    data = bytearray(path.read_bytes())
    field = data.index(b"index_pos=") + len(b"index_pos=")
    (end,) = struct.unpack_from("<Q", data, field)
    data[field : field + 8] = bytes(8)
    path.write_bytes(data[:end])


def drive(
    count: int = 10, *, topic: str = "/camera/image_raw", store: Any = STORE, size: int = 32
) -> list[Entry]:
    """Pictures at 10 a second whose grey level is their number, each recorded 5 ms after its stamp."""
    entries: list[Entry] = []
    for index in range(count):
        stamp_ns = START_NS + index * SECOND_NS // 10
        picture = np.full((size, size * 2, 3), index % 256, np.uint8)
        entries.append((topic, stamp_ns + 5_000_000, image(picture, "bgr8", stamp_ns, store=store)))
        entries.append(("/chatter", stamp_ns + 6_000_000, text(str(index), store)))
    return entries
