"""What `ros2 run edgeseg_ros segmentation` runs."""

import sys

from runtime.ros_node import main as run


def main() -> None:
    """Run the node; everything else is in `runtime.ros.node`."""
    sys.exit(run())
