"""Builds the package of ROS 2: `colcon build --packages-select edgeseg_ros`."""

from pathlib import Path

from setuptools import setup

NAME = "edgeseg_ros"

setup(
    name=NAME,
    version="0.2.0",
    packages=[NAME],
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (f"share/{NAME}", ["package.xml"]),
        (f"share/{NAME}/launch", [str(path) for path in Path("launch").glob("*.py")]),
        (f"share/{NAME}/config", [str(path) for path in Path("config").glob("*.yaml")]),
    ],
    install_requires=["setuptools", "edgeseg[ros]"],
    zip_safe=True,
    license="Apache-2.0",
    description="Semantic segmentation of a camera for Nav2, by edgeseg",
    entry_points={"console_scripts": [f"segmentation = {NAME}.segmentation:main"]},
)
