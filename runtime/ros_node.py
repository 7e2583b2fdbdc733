"""Runs the segmenter as a managed node of ROS 2.

    python -m runtime.ros_node --model seg.onnx --image-topic /camera/image_raw --ros-args -r __ns:=/front

Every flag is a parameter of the node too, which counts where both are given. Written against rclpy's
interface and tested with a fake of it: it never ran inside ROS.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from runtime.base.flags import run_command
from runtime.base.memory import share_one_heap
from runtime.ros.node import run_node
from runtime.ros.work import NodeOptions


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; see `--help`."""
    given = list(sys.argv[1:] if argv is None else argv)
    start = given.index("--ros-args") if "--ros-args" in given else len(given)
    ours, of_ros = given[:start], given[start:]
    description = "Segment the pictures of a ROS 2 topic; a managed node, never yet run inside ROS."

    def command(options: NodeOptions) -> None:
        share_one_heap()
        run_node(options, of_ros)

    return run_command("runtime.ros_node", description, NodeOptions, command, ours)


if __name__ == "__main__":
    sys.exit(main())
