from __future__ import annotations

import sys

import cv2
import numpy as np
import pytest

from runtime import ros_node
from runtime.ground.options import GridOptions
from runtime.network.options import ModelOptions

pytest.importorskip("rosbags.rosbag2")
pytest.importorskip("mcap.reader")

from runtime.ros.library import typestore
from runtime.ros.node import make_node, run_node
from runtime.ros.work import NodeOptions
from tests.runtime.ros import bag_files
from tests.runtime.ros.fake_rclpy import Answer, Policy, World

IMAGES, INFO = "/camera/image_raw", "/camera/camera_info"
GRID = GridOptions(grid_ahead=(0.0, 6.0), grid_side=(-3.0, 3.0), cell_m=0.25)
STAMP_NS = bag_files.START_NS + 123_456_789


@pytest.fixture
def world(monkeypatch) -> World:
    world = World()
    world.install(monkeypatch)
    return world


@pytest.fixture
def options(tiny_onnx):
    def make(**settings) -> NodeOptions:
        return NodeOptions(model=ModelOptions(model=tiny_onnx), **settings)

    return make


def picture(encoding: str = "bgr8") -> bytes:
    """Blue above, red below."""
    pixels = np.zeros((48, 64, 3), np.uint8)
    pixels[:24, :, 0] = pixels[24:, :, 2] = 255
    message = bag_files.image(pixels, encoding, STAMP_NS, padding=4)
    return bytes(bag_files.STORE.serialize_cdr(message, bag_files.IMAGE))


def camera_info(**changes) -> bytes:
    message = bag_files.camera_info(64, 48, 50.0, **changes)
    return bytes(bag_files.STORE.serialize_cdr(message, bag_files.INFO))


def read(world: World, topic: str, kind: str) -> list:
    return [typestore().deserialize_cdr(data, kind) for data in world.published[topic]]


def active(options, world: World):
    node = make_node(options)
    assert node.trigger_configure() is Answer.SUCCESS
    assert node.trigger_activate() is Answer.SUCCESS
    return node


def test_a_picture_becomes_a_mask_with_its_stamp_and_frame(world, options):
    active(options(), world)
    world.send(IMAGES, picture())
    (mask,) = read(world, "/segmentation/mask", bag_files.IMAGE)
    assert mask.header.stamp.sec * 10**9 + mask.header.stamp.nanosec == STAMP_NS
    assert mask.header.frame_id == bag_files.OPTICAL
    classes = mask.data.reshape(48, 64)
    assert (classes[:20] == 0).all()  # blue
    assert (classes[28:] == 2).all()  # red
    (overlay,) = read(world, "/segmentation/overlay", bag_files.COMPRESSED)
    assert cv2.imdecode(overlay.data, cv2.IMREAD_COLOR).shape == (48, 64, 3)
    (labels,) = read(world, "/segmentation/label_info", "vision_msgs/msg/LabelInfo")
    assert [one.class_name for one in labels.class_map] == ["blue", "green", "red"]
    assert set(world.published) == {f"/segmentation/{name}" for name in ("mask", "overlay", "label_info")}


def test_confidence_is_published_where_it_is_asked_for(world, options):
    active(options(confidence=True), world)
    world.send(IMAGES, picture())
    (mask,) = read(world, "/segmentation/mask", bag_files.IMAGE)
    (confidence,) = read(world, "/segmentation/confidence", bag_files.IMAGE)
    assert (confidence.height, confidence.width, confidence.encoding) == (48, 64, "mono8")
    assert confidence.header == mask.header
    assert confidence.data.max() > 85  # of three classes


def test_unknown_pixels_are_255_and_labels_tell_the_threshold(world, options):
    active(options(unknown_below=1.0), world)
    world.send(IMAGES, picture())
    (mask,) = read(world, "/segmentation/mask", bag_files.IMAGE)
    assert 255 in mask.data
    (labels,) = read(world, "/segmentation/label_info", "vision_msgs/msg/LabelInfo")
    assert labels.threshold == 1.0


def test_compressed_pictures_are_taken_too(world, options):
    active(options(image_topic=f"{IMAGES}/compressed"), world)
    assert world.subscriptions[f"{IMAGES}/compressed"].kind.__name__ == "CompressedImage"
    data = cv2.imencode(".png", np.full((48, 64, 3), (0, 255, 0), np.uint8))[1].tobytes()
    message = bag_files.compressed(data, "png", STAMP_NS)
    world.send(f"{IMAGES}/compressed", bytes(bag_files.STORE.serialize_cdr(message, bag_files.COMPRESSED)))
    (mask,) = read(world, "/segmentation/mask", bag_files.IMAGE)
    assert (mask.data == 1).all()


def test_pictures_come_as_sensors_send_them_and_labels_stay(world, options):
    active(options(height_m=1.0, free=("red",), grid=GRID), world)
    for topic in (IMAGES, INFO):
        profile = world.subscriptions[topic].profile
        assert (profile.depth, profile.reliability) == (1, Policy.BEST_EFFORT)
    for topic, publisher in world.publishers.items():
        if topic != "/diagnostics":
            latched = topic in ("/segmentation/label_info", "/tf_static")
            expected = Policy.TRANSIENT_LOCAL if latched else Policy.VOLATILE
            assert publisher.profile.durability is expected, topic
            assert publisher.profile.reliability is Policy.RELIABLE
    assert world.publishers["/segmentation/mask"].kind.__name__ == "Image"
    assert world.publishers["/segmentation/points"].kind.__name__ == "PointCloud2"


def test_metres_begin_with_the_camera_info(world, options):
    active(options(height_m=1.0, pitch_rad=0.3, free=("red",), grid=GRID), world)
    world.send(IMAGES, picture())
    assert not world.published["/segmentation/occupancy"]
    for _ in range(3):
        world.send(INFO, camera_info())
    world.send(IMAGES, picture())
    (grid,) = read(world, "/segmentation/occupancy", "nav_msgs/msg/OccupancyGrid")
    assert (grid.info.width, grid.info.height) == (24, 24)
    assert 0 in grid.data
    assert grid.header.frame_id == f"{bag_files.OPTICAL}_ground"
    (cloud,) = read(world, "/segmentation/points", "sensor_msgs/msg/PointCloud2")
    assert (cloud.width, cloud.height, cloud.header.frame_id) == (64, 48, bag_files.OPTICAL)
    assert len(world.published["/segmentation/scan"]) == 1
    (transforms,) = read(world, "/tf_static", "tf2_msgs/msg/TFMessage")  # once, while the camera is the same
    assert transforms.transforms[0].header.frame_id == bag_files.OPTICAL


def test_a_camera_that_is_not_calibrated_is_told(world, options):
    active(options(height_m=1.0, free=("red",), grid=GRID), world)
    world.send(INFO, camera_info(k=np.zeros(9)))
    assert "without a focal length" in world.said[-1]
    world.send(IMAGES, picture())
    assert len(world.published["/segmentation/mask"]) == 1


def test_what_nobody_listens_to_is_not_made(world, options, monkeypatch):
    world.listeners["/segmentation/overlay"] = 0
    active(options(), world)
    world.send(IMAGES, picture())
    assert set(world.published) == {"/segmentation/mask", "/segmentation/label_info"}


def test_topics_that_are_left_out_are_not_there(world, options):
    active(options(leave_out=("overlay",)), world)
    assert "/segmentation/overlay" not in world.publishers
    world.send(IMAGES, picture())
    assert len(world.published["/segmentation/mask"]) == 1


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (picture()[:100], "expected a sensor_msgs/msg/Image, got 100 bytes that are none"),
        (picture("16UC1"), "it holds distances"),
        (b"", "got 0 bytes"),
    ],
)
def test_pictures_of_strangers_are_told_and_the_next_one_is_taken(world, options, data, said):
    active(options(), world)
    world.send(IMAGES, data)
    assert said in world.said[-1]
    world.send(IMAGES, picture())
    assert len(world.published["/segmentation/mask"]) == 1


def diagnostics(world: World):
    world.timers[0]()
    (status,) = read(world, "/diagnostics", "diagnostic_msgs/msg/DiagnosticArray")[-1].status
    return status, {one.key: one.value for one in status.values}


def test_diagnostics_tell_how_it_goes(world, options):
    node = make_node(options())
    world.timers[0]()  # not configured: nothing to tell
    assert not world.published["/diagnostics"]
    node.trigger_configure()
    node.trigger_activate()
    status, values = diagnostics(world)
    assert (status.level, status.message) == (1, f"no picture on {IMAGES} yet")
    for _ in range(3):
        world.send(IMAGES, picture())
    status, values = diagnostics(world)
    assert (status.level, status.message, status.name) == (0, "running", "edgeseg")
    assert (values["frames"], values["damaged pictures"], values["model"]) == ("3", "0", "tiny")
    assert float(values["latency, median ms"]) > 0
    world.send(IMAGES, picture("16UC1"))
    status, _ = diagnostics(world)
    assert status.level == 2
    assert "it holds distances" in status.message


def test_parameters_from_outside_count(world, options, tiny_onnx):
    world.parameters = {
        "image_topic": "/front/image",
        "height_m": 0.5,
        "free": ["red"],
        "grid_ahead": [0.0, 4.0],
        "threads": 2,
        "unknown_below": 0.5,
    }
    node = active(options(free=("blue",)), world)
    assert "/front/image" in world.subscriptions
    assert "/front/camera_info" in world.subscriptions
    found = node.work._options
    assert (found.free, found.height_m, found.grid.grid_ahead) == (("red",), 0.5, (0.0, 4.0))
    assert found.model.model == tiny_onnx
    assert (found.model.threads, found.unknown_below) == (2, 0.5)


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"model": "nothing.onnx"}, "nothing.onnx"),
        ({"height_m": -1.0}, "height_m: expected a number"),
        ({"height_m": 1.0}, "free: expected the classes that may be driven on, but the model does not say"),
        ({"height_m": 1.0, "free": ["lawn"]}, "free: expected classes among blue, green, red, got lawn"),
        ({"leave_out": ["everything"]}, "leave_out: expected one of"),
    ],
)
def test_a_node_that_cannot_be_configured_stays_so(world, options, parameters, said):
    world.parameters = parameters
    node = make_node(options())
    assert node.trigger_configure() is Answer.FAILURE
    assert node.state == "unconfigured"
    assert said in world.said[-1]
    world.parameters = {}
    node._parameters.update({"model": "", "height_m": 0.0, "free": [""], "leave_out": [""]})
    assert node.trigger_configure() is Answer.SUCCESS  # once that is right


def test_a_node_goes_through_its_lifecycle_twice(world, options):
    node = make_node(options())
    for _ in range(2):
        node.trigger_configure()
        assert not world.subscriptions
        node.trigger_activate()
        world.send(IMAGES, picture())
        node.trigger_deactivate()
        assert not world.subscriptions
        node.trigger_cleanup()
        assert set(world.publishers) == {"/diagnostics"}
        assert node.work is None
    assert len(world.published["/segmentation/mask"]) == 2
    node.trigger_shutdown()


def test_the_command_starts_and_ends_the_node(world, tiny_onnx):
    world.during_spin = lambda: world.send("/a/image", picture())
    given = ["--model", str(tiny_onnx), "--image-topic", "/a/image", "--ros-args", "-r", "__ns:=/front"]
    assert ros_node.main(given) == 0
    assert world.arguments == ["--ros-args", "-r", "__ns:=/front"]
    assert len(world.published["/segmentation/mask"]) == 1
    assert world.nodes[0].state == "destroyed"
    assert world.ended == ["shutdown"]
    assert not world.subscriptions


def test_a_managed_node_waits(world, options):
    world.during_spin = lambda: world.ended.append(world.nodes[0].state)
    run_node(options(managed=True))
    assert world.ended == ["unconfigured", "shutdown"]


def test_a_node_that_cannot_start_ends_the_command(world, tmp_path, capsys):
    assert ros_node.main(["--model", str(tmp_path / "nothing.onnx")]) == 1
    assert "the node cannot start: " in capsys.readouterr().err
    assert world.ended == ["shutdown"]


def test_without_ros_the_command_says_so_in_one_line(capsys):
    assert "rclpy" not in sys.modules
    assert ros_node.main([]) == 1
    assert "the node needs ROS 2, but rclpy cannot be imported" in capsys.readouterr().err
