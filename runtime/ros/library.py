"""The extra `ros`: its two packages, imported when they are first needed, and the types that they lack."""

from __future__ import annotations

import importlib
from functools import cache
from typing import Any

from runtime.errors import ConfigError

# vision_msgs, branch ros2: VisionClass.msg and LabelInfo.msg; rosbags knows only what comes with ROS itself.
_VISION_TYPES = {
    "vision_msgs/msg/VisionClass": "uint16 class_id\nstring class_name\n",
    "vision_msgs/msg/LabelInfo": (
        "std_msgs/Header header\nvision_msgs/VisionClass[] class_map\nfloat32 threshold\n"
    ),
}


def load(module: str) -> Any:
    """Import a module of the extra.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise ConfigError(
            f"bags and messages of ROS need the package {package}, which cannot be imported ({error}); "
            "pip install 'edgeseg[ros]'"
        ) from None


@cache
def typestore(ros: int = 2) -> Any:
    """Return rosbags' message types of ROS 2 (Humble, with vision_msgs/LabelInfo) or ROS 1 (Noetic).

    The messages used here have not changed since Humble, so their bytes are the same in later releases.

    Raises:
        ConfigError: rosbags is not installed.
    """
    return new_typestore(ros)


def new_typestore(ros: int) -> Any:
    """Return such types that may be added to.

    Raises:
        ConfigError: rosbags is not installed.
    """
    typesys = load("rosbags.typesys")
    if ros == 1:
        return typesys.get_typestore(typesys.Stores.ROS1_NOETIC)
    store = typesys.get_typestore(typesys.Stores.ROS2_HUMBLE)
    types: dict[str, Any] = {}
    for name, text in _VISION_TYPES.items():
        types.update(typesys.get_types_from_msg(text, name))
    store.register(types)
    return store
