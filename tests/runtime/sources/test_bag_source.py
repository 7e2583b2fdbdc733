from __future__ import annotations

import logging

import cv2
import numpy as np
import pytest

from runtime.errors import ConfigError, SourceError
from runtime.sources import PacedSource, SourceState, open_source

pytest.importorskip("rosbags.rosbag2")
pytest.importorskip("mcap.reader")

from runtime.sources.bag import BagSource
from tests.runtime.ros import bag_files

START_NS, SECOND_NS = bag_files.START_NS, bag_files.SECOND_NS
IMAGES = "/camera/image_raw"


def picture(level: int, size_hw: tuple[int, int] = (24, 32)) -> np.ndarray:
    return np.full((*size_hw, 3), level, np.uint8)


def jpeg(level: int) -> bytes:
    return cv2.imencode(".jpg", picture(level))[1].tobytes()


def frames_of(source) -> tuple[list, str]:
    """All frames, and the error that ends them."""
    found = []
    try:
        found.extend(source)
    except SourceError as error:
        return found, str(error)
    return found, ""


@pytest.mark.parametrize("kind", ["mcap", "sqlite3", "ros1"])
def test_frames_carry_stamp_and_coordinate_frame(tmp_path, kind):
    if kind == "ros1":
        path = bag_files.write_ros1(tmp_path / "a.bag", bag_files.drive(store=bag_files.ROS1_STORE))
    else:
        path = bag_files.write_ros2(tmp_path / "a", bag_files.drive(), kind)
    with open_source(str(path)) as source:
        assert isinstance(source, BagSource)
        assert source.topic == IMAGES
        assert source.fps == pytest.approx(10, rel=0.01)
        assert not source.live
        frames = list(source)
        assert source.status.state is SourceState.ENDED
    assert [frame.frame_id for frame in frames] == list(range(10))
    assert [int(frame.image_bgr[0, 0, 0]) for frame in frames] == list(range(10))
    assert [frame.stamp_ns for frame in frames] == [START_NS + i * SECOND_NS // 10 for i in range(10)]
    assert {frame.coordinate_frame for frame in frames} == {bag_files.OPTICAL}
    assert all(frame.image_bgr.shape == (32, 64, 3) for frame in frames)


def test_other_sources_have_no_stamp():
    with open_source("synthetic") as source:
        frame = next(iter(source))
    assert frame.stamp_ns is None
    assert frame.coordinate_frame == ""


def test_a_bag_plays_at_its_own_pace_with_its_stamps(tmp_path):
    path = bag_files.write_ros2(tmp_path / "a", bag_files.drive(3))
    with open_source(str(path), realtime=True) as source:
        assert isinstance(source, PacedSource)
        frames = list(source)
    assert all(frame.stamp_ns == START_NS + frame.frame_id * SECOND_NS // 10 for frame in frames)
    assert all(frame.coordinate_frame == bag_files.OPTICAL for frame in frames)


def image_at(topic: str, index: int = 0):
    stamp_ns = START_NS + index * SECOND_NS
    return topic, stamp_ns, bag_files.image(picture(index % 256), "bgr8", stamp_ns)


def compressed_at(topic: str, index: int = 0):
    stamp_ns = START_NS + index * SECOND_NS
    return topic, stamp_ns, bag_files.compressed(jpeg(index), "jpeg", stamp_ns)


@pytest.mark.parametrize(
    ("topics", "expected"),
    [
        ([IMAGES], IMAGES),
        ([IMAGES, f"{IMAGES}/compressed"], IMAGES),
        ([f"{IMAGES}/compressed"], f"{IMAGES}/compressed"),
        ([IMAGES, "/camera/depth/image_rect_raw", "/camera/aligned_depth_to_color/image_raw"], IMAGES),
        ([f"{IMAGES}/compressed", f"{IMAGES}/compressedDepth"], f"{IMAGES}/compressed"),
        ([IMAGES, "/segmentation/mask", "/segmentation/overlay"], IMAGES),
    ],
)
def test_the_only_topic_that_fits_is_taken(tmp_path, topics, expected):
    entries = [(compressed_at if "ompressed" in topic else image_at)(topic) for topic in topics]
    with open_source(str(bag_files.write_ros2(tmp_path / "a", entries))) as source:
        assert source.topic == expected


def test_several_topics_are_listed(tmp_path):
    entries = [image_at("/left/image_raw"), image_at("/right/image_raw"), image_at("/depth/image_raw")]
    path = str(bag_files.write_ros2(tmp_path / "a", entries))
    with pytest.raises(SourceError, match=r"choose by --topic one of /left/image_raw, /right/image_raw$"):
        open_source(path)
    with open_source(path, topic="/right/image_raw") as source:
        assert len(list(source)) == 1
    with open_source(path, topic="/depth/image_raw") as source:  # asked for by name
        assert len(list(source)) == 1


def test_a_bag_without_pictures_lists_what_it_has(tmp_path):
    path = str(bag_files.write_ros2(tmp_path / "a", [("/chatter", START_NS, bag_files.text("hello"))]))
    with pytest.raises(SourceError, match=r"got /chatter \(std_msgs/msg/String\)$"):
        open_source(path)
    path = str(bag_files.write_ros2(tmp_path / "b", [image_at("/depth/image_raw")]))
    with pytest.raises(SourceError, match=r"got /depth/image_raw .*; choose one of them by --topic$"):
        open_source(path)


@pytest.mark.parametrize(
    ("topic", "got"), [("/nothing", "no such topic"), ("/chatter", "std_msgs/msg/String")]
)
def test_a_wrong_topic_is_told_beside_the_right_ones(tmp_path, topic, got):
    path = str(bag_files.write_ros2(tmp_path / "a", bag_files.drive(1)))
    with pytest.raises(SourceError, match=rf"got {got}; --topic takes one of {IMAGES} \(sensor_msgs"):
        open_source(path, topic=topic)


@pytest.mark.parametrize("spec", ["synthetic", "0", "clip.mp4", "rtsp://10.0.0.7/live"])
def test_a_topic_needs_a_bag(spec):
    with pytest.raises(ConfigError, match="topic: expected a bag as --source"):
        open_source(spec, topic=IMAGES)


def test_a_bag_that_is_cut_gives_what_it_holds(tmp_path):
    path = bag_files.write_ros2(tmp_path / "a", bag_files.drive(400))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with open_source(str(path)) as source:
        frames, problem = frames_of(source)
        assert source.status.state is SourceState.FAILED
    assert 100 < len(frames) < 250
    assert [frame.frame_id for frame in frames] == list(range(len(frames)))
    assert "cut" in problem
    assert "all messages before were read" in problem


def test_damaged_pictures_are_dropped_and_counted(tmp_path, caplog):
    entries = [compressed_at("/camera/image", index) for index in range(6)]
    for index in (1, 2, 4):
        entries[index][2].data = entries[index][2].data[:50]
    with (
        open_source(str(bag_files.write_ros2(tmp_path / "a", entries))) as source,
        caplog.at_level(logging.WARNING),
    ):
        frames, problem = frames_of(source)
        assert (source.status.captured, source.status.skipped) == (6, 3)
    assert not problem
    assert [frame.frame_id for frame in frames] == [0, 3, 5]  # a gap tells of those that were dropped
    assert len([one for one in caplog.records if "damaged picture dropped" in one.message]) == 1


def test_nothing_but_damaged_pictures_is_an_error(tmp_path):
    entries = [compressed_at("/camera/image", index) for index in range(150)]
    for _, _, message in entries:
        message.data = message.data[:50]
    few, many = (bag_files.write_ros2(tmp_path / str(n), entries[:n]) for n in (5, 150))
    with open_source(str(few)) as source:
        assert "got none that can be decoded" in frames_of(source)[1]
    with open_source(str(many)) as source:
        assert "100 pictures in a row are damaged" in frames_of(source)[1]


def test_a_wrong_encoding_is_an_error(tmp_path):
    entries = [image_at("/camera/image")]
    entries[0][2].encoding = "jpeg2000"
    with open_source(str(bag_files.write_ros2(tmp_path / "a", entries))) as source:
        frames, problem = frames_of(source)
    assert frames == []
    assert problem.startswith(str(tmp_path))
    assert "encoding: expected one of bgr8" in problem


def test_stamps_that_go_back_are_given_and_told_once(tmp_path, caplog):
    stamps = [0, 1, 5, 2, 3, 1]
    entries = []
    for index, second in enumerate(stamps):
        message = bag_files.image(picture(index), "bgr8", START_NS + second * SECOND_NS)
        entries.append(("/camera/image", START_NS + index * SECOND_NS, message))
    with (
        open_source(str(bag_files.write_ros2(tmp_path / "a", entries))) as source,
        caplog.at_level(logging.WARNING),
    ):
        frames, problem = frames_of(source)
    assert not problem
    assert [(frame.stamp_ns - START_NS) // SECOND_NS for frame in frames] == stamps
    told = [one.getMessage() for one in caplog.records if "stamps go back" in one.message]
    assert len(told) == 1
    assert "by 3.000 s at picture 3" in told[0]


def test_a_header_without_a_stamp_gets_the_time_of_the_recording(tmp_path):
    entries = [("/camera/image", START_NS + 7, bag_files.image(picture(1), "bgr8", 0))]
    with open_source(str(bag_files.write_ros2(tmp_path / "a", entries))) as source:
        assert [frame.stamp_ns for frame in source] == [START_NS + 7]


def test_gaps_are_no_fault(tmp_path):
    entries = [image_at("/camera/image", index) for index in (0, 1, 500, 501)]
    with open_source(str(bag_files.write_ros2(tmp_path / "a", entries))) as source:
        assert source.fps == 1.0
        assert [(frame.stamp_ns - START_NS) // SECOND_NS for frame in source] == [0, 1, 500, 501]


@pytest.mark.parametrize("topic", ["/camera/image_raw", "/camera/image_raw/compressed"])
def test_the_camera_beside_the_pictures_is_found(tmp_path, topic):
    info = (
        "/camera/camera_info",
        START_NS,
        bag_files.camera_info(64, 48, 60.0, d=np.array([0.1, 0, 0, 0, 0])),
    )
    entry = (compressed_at if "compressed" in topic else image_at)(topic)
    with BagSource(bag_files.write_ros2(tmp_path / "a", [entry, info])) as source:
        camera = source.camera(height_m=1.5, pitch_rad=0.1)
    assert camera is not None
    assert (camera.width, camera.height, camera.fx, camera.cx, camera.cy) == (64, 48, 60.0, 31.5, 23.5)
    assert camera.distortion[0] == 0.1
    assert (camera.height_m, camera.pitch_rad) == (1.5, 0.1)


def test_a_bag_without_camera_info_has_no_camera(tmp_path):
    with BagSource(bag_files.write_ros2(tmp_path / "a", bag_files.drive(1))) as source:
        assert source.camera(height_m=1.0) is None


def camera_from(tmp_path, topic: str = IMAGES, **changes):
    info = ("/camera/camera_info", START_NS, bag_files.camera_info(64, 48, 60.0, **changes))
    with BagSource(bag_files.write_ros2(tmp_path / "a", [image_at(topic), info])) as source:
        return source.camera(height_m=1.0)


def test_rectified_pictures_have_the_projection_and_no_distortion(tmp_path):
    matrix = np.array([50.0, 0, 30, 0, 0, 51, 20, 0, 0, 0, 1, 0])
    camera = camera_from(tmp_path, "/camera/image_rect_color", d=np.full(5, 0.1), p=matrix)
    assert (camera.fx, camera.fy, camera.cx, camera.cy, camera.distortion) == (50.0, 51.0, 30.0, 20.0, ())


def test_binning_and_region_of_interest_are_applied(tmp_path):
    roi = bag_files.STORE.types["sensor_msgs/msg/RegionOfInterest"](
        x_offset=8, y_offset=4, height=32, width=40, do_rectify=False
    )
    camera = camera_from(tmp_path, roi=roi, binning_x=2, binning_y=2)
    assert (camera.width, camera.height, camera.fx) == (20, 16, 30.0)
    assert (camera.cx, camera.cy) == ((31.5 - 8 + 0.5) / 2 - 0.5, (23.5 - 4 + 0.5) / 2 - 0.5)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"k": np.zeros(9)}, "got one without a focal length"),
        ({"distortion_model": "kannala"}, "got 'kannala'"),
        ({"d": np.zeros(3) + 0.1}, "camera distortion: expected"),
    ],
)
def test_a_camera_that_cannot_be_is_refused(tmp_path, changes, said):
    with pytest.raises(ConfigError, match=said):
        camera_from(tmp_path, **changes)
