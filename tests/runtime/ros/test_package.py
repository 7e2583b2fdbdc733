"""The package of ROS 2 under packaging/ros2, as far as it can be checked without ROS."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from runtime.base.flags import described_values, with_values
from runtime.contract import CAMVID_CLASSES
from runtime.ros.topics import OURS
from runtime.ros.work import CAMERA_INFO, NAME, NodeOptions

yaml = pytest.importorskip("yaml")

ROOT = Path(__file__).parents[3]
PACKAGE = ROOT / "packaging" / "ros2" / "edgeseg_ros"


def test_its_version_is_ours():
    ours = re.search(r'^version = "(.*)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)[1]
    assert ElementTree.parse(PACKAGE / "package.xml").findtext("version") == ours
    assert f'version="{ours}"' in (PACKAGE / "setup.py").read_text()


def test_it_depends_on_every_package_of_messages():
    needed = {kind.partition("/")[0] for kind in (CAMERA_INFO, *(topic.type for topic in OURS.values()))}
    stated = {one.text for one in ElementTree.parse(PACKAGE / "package.xml").iter("exec_depend")}
    assert {*needed, "rclpy", "diagnostic_msgs"} <= stated


def test_its_programs_are_python_and_lead_to_the_node():
    for path in PACKAGE.rglob("*.py"):
        ast.parse(path.read_text())
    assert "edgeseg_ros" in (PACKAGE / "setup.py").read_text()
    assert "from runtime.ros_node import main" in (PACKAGE / "edgeseg_ros" / "segmentation.py").read_text()
    assert f'name="{NAME}"' in (PACKAGE / "launch" / "segmentation.launch.py").read_text()
    assert (PACKAGE / "resource" / "edgeseg_ros").is_file()


def test_its_parameters_are_the_nodes():
    found = yaml.safe_load((PACKAGE / "config" / "edgeseg.yaml").read_text())[NAME]["ros__parameters"]
    known = {name: value for name, value, _ in described_values(NodeOptions())}
    assert set(found) <= set(known)
    values = {name: tuple(one) if isinstance(one, list) else one for name, one in found.items() if one != ""}
    options = with_values(NodeOptions(), values)
    assert set(options.free) <= set(CAMVID_CLASSES.names)


def test_nav2_reads_our_topics_and_knows_every_class():
    text = (PACKAGE / "config" / "nav2_costmap.yaml").read_text()
    layers = yaml.safe_load(text)["local_costmap"]["local_costmap"]["ros__parameters"]
    assert set(layers["plugins"]) <= set(layers)
    camera = layers["semantic_layer"]["camera"]
    assert camera["segmentation_topic"] == OURS["mask"].name
    assert camera["labels_topic"] == OURS["label_info"].name
    assert camera["pointcloud_topic"] == OURS["points"].name
    assert layers["obstacle_layer"]["scan"]["topic"] == OURS["scan"].name
    classes = [name for kind in camera["class_types"] for name in camera[kind]["classes"]]
    assert sorted(classes) == sorted(CAMVID_CLASSES.names)
    assert all(topic in {one.name for one in OURS.values()} for topic in re.findall(r'"(/seg.*?)"', text))
