from __future__ import annotations

import dataclasses
import math

import cv2
import numpy as np
import pytest

from runtime.contract import ClassMap
from runtime.errors import ConfigError
from runtime.ground import BirdsEye, CameraModel
from runtime.ground.options import GridOptions
from runtime.ros import messages
from runtime.ros.topics import (
    CONFIDENCE,
    LABEL_INFO,
    MASK,
    OCCUPANCY,
    ON_GROUND,
    ON_IMAGE,
    OVERLAY,
    POINTS,
    SCAN,
    TF_STATIC,
    Ground,
    SegmentationTopics,
)

typesys = pytest.importorskip("rosbags.typesys")

STAMP_NS = 1_700_000_123_456_789_012
CLASSES = ClassMap(names=("road", "sky", "car"), palette_rgb=((128, 64, 128), (0, 0, 255), (0, 255, 0)))
CAMERA = CameraModel(96, 64, 70.0, 70.0, 47.5, 31.5, height_m=1.2, pitch_rad=0.2, roll_rad=0.05)
GRID = GridOptions(grid_ahead=(0.0, 8.0), grid_side=(-4.0, 4.0), cell_m=0.25)
LABEL_TEXT = "std_msgs/Header header\nvision_msgs/VisionClass[] class_map\nfloat32 threshold"


@pytest.fixture(scope="module")
def store():
    """Types that know nothing of ours."""
    store = typesys.get_typestore(typesys.Stores.ROS2_JAZZY)
    types = {}
    types.update(
        typesys.get_types_from_msg("uint16 class_id\nstring class_name", "vision_msgs/msg/VisionClass")
    )
    types.update(typesys.get_types_from_msg(LABEL_TEXT, "vision_msgs/msg/LabelInfo"))
    store.register(types)
    return store


@pytest.fixture
def read(store):
    """Serialise, and read by other types."""
    return lambda message: store.deserialize_cdr(messages.serialized(message), message.__msgtype__)


def road_and_car() -> np.ndarray:
    mask = np.zeros((64, 96), np.uint8)
    mask[:16] = 1
    mask[30:44, 60:80] = 2
    return mask


@pytest.fixture
def header():
    return messages.header(STAMP_NS, "optical")


def test_a_header_holds_stamp_and_frame(read, header):
    found = read(messages.image(header, np.zeros((2, 3), np.uint8))).header
    assert (found.stamp.sec, found.stamp.nanosec) == divmod(STAMP_NS, 10**9)
    assert found.frame_id == "optical"


@pytest.mark.parametrize("stamp_ns", [2**31 * 10**9, -(2**31) * 10**9 - 1])
def test_a_stamp_beyond_32_bits_of_seconds_is_refused(stamp_ns):
    with pytest.raises(ConfigError, match="expected seconds of 32 bits"):
        messages.time(stamp_ns)


def test_a_mask_is_mono8(read, header):
    mask = road_and_car()
    found = read(messages.image(header, mask[:, ::2]))  # also where its rows are not in one piece
    assert (found.encoding, found.height, found.width, found.step) == ("mono8", 64, 48, 48)
    assert np.array_equal(found.data.reshape(64, 48), mask[:, ::2])


def test_an_overlay_is_a_jpeg_of_bgr(read, header):
    picture = np.full((32, 48, 3), (200, 20, 90), np.uint8)
    found = read(messages.compressed_image(header, picture))
    assert found.format == "bgr8; jpeg compressed bgr8"
    assert np.abs(cv2.imdecode(found.data, cv2.IMREAD_COLOR).astype(int) - picture).max() <= 3


def test_label_info_names_every_class(read, header):
    found = read(messages.label_info(header, CLASSES, 0.25))
    assert [(one.class_id, one.class_name) for one in found.class_map] == [
        (0, "road"),
        (1, "sky"),
        (2, "car"),
    ]
    assert found.threshold == 0.25


def test_a_grid_lies_where_the_view_does(read, header):
    view = BirdsEye(CAMERA, (1.0, 5.0), (-3.0, 2.0), 0.5)
    cells = view.occupancy(road_and_car(), {0})
    found = read(messages.occupancy_grid(header, view, cells))
    assert (found.info.width, found.info.height, found.info.resolution) == (8, 10, 0.5)
    assert (found.info.origin.position.x, found.info.origin.position.y) == (1.0, -3.0)
    assert found.info.origin.orientation.w == 1.0
    assert np.array_equal(found.data.reshape(10, 8), cells)
    assert set(np.unique(found.data)) <= {-1, 0, 100}


def test_a_scan_counts_from_right_to_left(read, header):
    angles = np.linspace(-0.5, 0.7, 25)
    ranges = np.where(np.arange(25) % 5, np.inf, 3.5)
    found = read(messages.laser_scan(header, angles, ranges, 12.0))
    again = found.angle_min + np.arange(len(found.ranges)) * found.angle_increment
    assert np.allclose(again, angles, atol=1e-6)
    assert again[-1] == pytest.approx(found.angle_max, abs=1e-6)
    assert np.array_equal(found.ranges, ranges.astype(np.float32))
    assert found.range_max == 12.0


def cloud_of(message) -> np.ndarray:
    """A PointCloud2 as its fields describe it."""
    names = [field.name for field in message.fields]
    kind = np.dtype(
        {
            "names": names,
            "formats": ["<f4"] * len(names),
            "offsets": [field.offset for field in message.fields],
            "itemsize": message.point_step,
        }
    )
    rows = message.data.reshape(message.height, message.row_step).view(kind)
    return np.stack([rows[name] for name in "xyz"], axis=-1)


def test_a_cloud_has_a_point_for_each_pixel(read, header):
    points = np.random.default_rng(0).normal(size=(5, 7, 3)).astype(np.float32)
    points[0] = np.nan
    found = read(messages.point_cloud(header, points))
    assert np.array_equal(cloud_of(found), points, equal_nan=True)
    assert not found.is_dense
    assert all(field.datatype == 7 for field in found.fields)


@pytest.mark.parametrize(
    "camera",
    [
        CAMERA,
        CameraModel(96, 64, 70.0, 70.0, 47.5, 31.5, height_m=0.3),
        CameraModel(96, 64, 70.0, 70.0, 47.5, 31.5, height_m=2.0, pitch_rad=math.pi / 2),
        CameraModel(96, 64, 70.0, 70.0, 47.5, 31.5, height_m=2.0, pitch_rad=0.4, roll_rad=-1.2),
    ],
)
def test_the_transform_places_the_ground_before_the_camera(read, header, camera):
    found = read(messages.ground_transform(header, "optical_ground", camera)).transforms[0]
    assert (found.header.frame_id, found.child_frame_id) == ("optical", "optical_ground")
    q, t = found.transform.rotation, found.transform.translation
    assert math.hypot(q.x, q.y, q.z, q.w) == pytest.approx(1.0)
    rotation = np.array(
        [
            [1 - 2 * (q.y**2 + q.z**2), 2 * (q.x * q.y - q.z * q.w), 2 * (q.x * q.z + q.y * q.w)],
            [2 * (q.x * q.y + q.z * q.w), 1 - 2 * (q.x**2 + q.z**2), 2 * (q.y * q.z - q.x * q.w)],
            [2 * (q.x * q.z - q.y * q.w), 2 * (q.y * q.z + q.x * q.w), 1 - 2 * (q.x**2 + q.y**2)],
        ]
    )
    ground = np.array([(1.0, 0.0, 0.0), (4.0, -1.5, 0.0), (2.5, 2.0, 0.0), (0.1, 0.2, 0.0)])
    seen = ground @ rotation.T + (t.x, t.y, t.z)
    expected = camera.ground_to_pixels(ground)
    ahead = np.isfinite(expected).all(axis=1)
    assert ahead.any()
    matrix = np.array([[camera.fx, 0, camera.cx], [0, camera.fy, camera.cy], [0, 0, 1]])
    pixels, _ = cv2.projectPoints(seen[ahead], np.zeros(3), np.zeros(3), matrix, None)
    assert np.allclose(pixels.reshape(-1, 2), expected[ahead], atol=1e-6)


def answers(topics: SegmentationTopics, mask: np.ndarray, confidence=None) -> dict:
    found = topics.of(mask, confidence, lambda: np.zeros((*mask.shape, 3), np.uint8), STAMP_NS, "optical")
    return dict(found)


def test_without_a_camera_there_are_only_pictures():
    topics = SegmentationTopics(CLASSES)
    assert topics.topics == ON_IMAGE
    assert [topic for topic, _ in topics.latched(STAMP_NS)] == [LABEL_INFO]
    assert set(answers(topics, road_and_car())) == {MASK, OVERLAY}
    assert set(answers(topics, road_and_car(), road_and_car())) == {MASK, CONFIDENCE, OVERLAY}


def test_with_a_camera_there_are_metres_too():
    topics = SegmentationTopics(CLASSES, Ground(CAMERA, {0}, GRID))
    assert topics.topics == (*ON_IMAGE, *ON_GROUND)
    assert [topic for topic, _ in topics.latched(STAMP_NS)] == [LABEL_INFO, TF_STATIC]
    found = answers(topics, road_and_car())
    assert set(found) == {MASK, OVERLAY, OCCUPANCY, SCAN, POINTS}
    assert {found[topic].header.frame_id for topic in (MASK, OVERLAY, POINTS)} == {"optical"}
    assert {found[topic].header.frame_id for topic in (OCCUPANCY, SCAN)} == {"optical_ground"}
    assert len({(one.header.stamp.sec, one.header.stamp.nanosec) for one in found.values()}) == 1


def test_what_nobody_wants_is_left_out_and_not_drawn():
    topics = SegmentationTopics(CLASSES, Ground(CAMERA, {0}, GRID), leave_out=(OVERLAY, POINTS, LABEL_INFO))
    found = dict(topics.of(road_and_car(), None, lambda: pytest.fail("drawn"), STAMP_NS))
    assert set(found) == {MASK, OCCUPANCY, SCAN}
    assert [topic for topic, _ in topics.latched(STAMP_NS)] == [TF_STATIC]


@pytest.mark.parametrize("size_wh", [(96, 64), (192, 128), (48, 32)])
def test_the_cloud_is_aligned_with_a_mask_of_any_size(size_wh):
    width, height = size_wh
    mask = cv2.resize(road_and_car(), size_wh, interpolation=cv2.INTER_NEAREST)
    found = answers(SegmentationTopics(CLASSES, Ground(CAMERA, {0}, GRID)), mask)
    cloud = cloud_of(found[POINTS]).astype(np.float64)
    assert cloud.shape == (height, width, 3)
    rows, columns = np.nonzero(np.isfinite(cloud[..., 2]))
    assert len(rows) > width * height // 4
    camera = CAMERA.scaled_to(width, height)
    matrix = np.array([[camera.fx, 0, camera.cx], [0, camera.fy, camera.cy], [0, 0, 1]])
    pixels, _ = cv2.projectPoints(cloud[rows, columns], np.zeros(3), np.zeros(3), matrix, None)
    assert np.abs(pixels.reshape(-1, 2) - np.stack([columns, rows], axis=1)).max() < 1e-2
    assert np.isnan(cloud[0]).all()  # above the horizon


def test_unknown_pixels_are_no_obstacles_where_there_is_confidence():
    mask, confidence = np.zeros((64, 96), np.uint8), np.full((64, 96), 250, np.uint8)
    mask[40:50, 30:60], confidence[40:50, 30:60] = 255, 170  # unknown below 0.7
    topics = SegmentationTopics(CLASSES, Ground(CAMERA, {0}, GRID))
    assert 100 not in answers(topics, mask, confidence)[OCCUPANCY].data
    assert -1 in answers(topics, mask, confidence)[OCCUPANCY].data
    assert 100 in answers(topics, mask)[OCCUPANCY].data  # nothing says that they are unknown


def test_a_scan_says_nothing_of_what_the_camera_does_not_see():
    found = answers(SegmentationTopics(CLASSES, Ground(CAMERA, {0}, GRID)), np.zeros((64, 96), np.uint8))
    scan = found[SCAN]
    assert -1.0 < scan.angle_min < 0 < scan.angle_max < 1.0
    for angle in (scan.angle_min, scan.angle_max):  # at 3 m all of it is in the picture
        (column, row) = CAMERA.ground_to_pixels([(3 * math.cos(angle), 3 * math.sin(angle))])[0]
        assert -1 < column < 96
        assert -1 < row < 64
    assert np.isinf(scan.ranges).all()


@pytest.mark.parametrize(("pitch_rad", "roll_rad"), [(-1.0, 0.0), (0.0, math.pi), (0.2, math.pi / 2)])
def test_a_camera_that_does_not_look_ahead_is_refused(pitch_rad, roll_rad):
    with pytest.raises(ConfigError, match="sees the ground"):
        Ground(dataclasses.replace(CAMERA, pitch_rad=pitch_rad, roll_rad=roll_rad), {0}, GRID)


def test_no_free_class_is_refused():
    with pytest.raises(ConfigError, match="at least one class that may be driven on"):
        Ground(CAMERA, (), GRID)
