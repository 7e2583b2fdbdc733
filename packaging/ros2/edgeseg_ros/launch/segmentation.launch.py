"""Starts the node: `ros2 launch edgeseg_ros segmentation.launch.py params_file:=my.yaml`."""

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode


def generate_launch_description() -> LaunchDescription:
    """Start the node, which configures and activates itself unless its parameter `managed` is true."""
    config = Path(get_package_share_directory("edgeseg_ros")) / "config" / "edgeseg.yaml"
    return LaunchDescription(
        [
            DeclareLaunchArgument(
                "params_file", default_value=str(config), description="the node's parameters"
            ),
            DeclareLaunchArgument("namespace", default_value="", description="the node's namespace"),
            LifecycleNode(
                package="edgeseg_ros",
                executable="segmentation",
                name="edgeseg",
                namespace=LaunchConfiguration("namespace"),
                parameters=[LaunchConfiguration("params_file")],
                output="screen",
            ),
        ]
    )
