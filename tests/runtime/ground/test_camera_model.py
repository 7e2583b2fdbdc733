"""The camera model against OpenCV's own projection, which shares no code with it."""

import math

import cv2
import numpy as np
import pytest

from runtime.errors import ConfigError
from runtime.ground import CameraModel

# Rows: the optical axes (right, down, forward) in the body's (forward, left, up).
OPTICAL = np.array([[0, -1, 0], [0, 0, -1], [1, 0, 0]])


def camera(**changes) -> CameraModel:
    settings = {
        "width": 640,
        "height": 480,
        "fx": 500.0,
        "fy": 510.0,
        "cx": 319.5,
        "cy": 239.5,
        "height_m": 1.2,
    }
    return CameraModel(**{**settings, **changes})


def rotation(axis, angle):
    return cv2.Rodrigues(np.array(axis, float) * angle)[0]


def by_opencv(model: CameraModel, points_m: np.ndarray) -> np.ndarray:
    """Project with cv2 alone: pose from Rodrigues vectors, lens from cv2's functions."""
    body_to_world = rotation((0, 1, 0), model.pitch_rad) @ rotation((1, 0, 0), model.roll_rad)
    turn = OPTICAL @ body_to_world.T
    shift = -turn @ (0.0, 0.0, model.height_m)
    matrix = np.array([[model.fx, 0, model.cx], [0, model.fy, model.cy], [0, 0, 1]])
    world = np.concatenate([points_m, np.zeros((len(points_m), 1))], axis=1)
    vector = cv2.Rodrigues(turn)[0]
    if model.distortion_model == "fisheye":
        return cv2.fisheye.projectPoints(world[:, None], vector, shift, matrix, np.array(model.distortion))[
            0
        ][:, 0]
    lens = np.array(model.distortion) if model.distortion else None
    return cv2.projectPoints(world, vector, shift, matrix, lens)[0][:, 0]


LENSES = {
    "none": ("plumb_bob", ()),
    "barrel": ("plumb_bob", (-0.28, 0.07, 0.0005, -0.0008)),
    "pincushion": ("plumb_bob", (0.11, -0.21, 0.001, 0.0005, 0.04)),
    "rational": ("plumb_bob", (0.4, 0.08, 0.0003, -0.0002, 0.004, 0.6, 0.2, 0.02)),
    "fisheye": ("fisheye", (-0.02, 0.01, -0.006, 0.001)),
}
POSES = {
    "level": (0.0, 0.0),
    "down": (0.35, 0.0),
    "up": (-0.15, 0.0),
    "leaning": (0.1, 0.2),
    "steep and leaning": (1.2, -0.4),
}


@pytest.mark.parametrize("pose", POSES)
@pytest.mark.parametrize("lens", LENSES)
def test_points_on_the_ground_are_seen_where_opencv_sees_them(lens, pose):
    model_name, distortion = LENSES[lens]
    pitch, roll = POSES[pose]
    model = camera(pitch_rad=pitch, roll_rad=roll, distortion=distortion, distortion_model=model_name)
    rng = np.random.default_rng(0)
    far = np.stack([rng.uniform(0.2, 30, 500), rng.uniform(-10, 10, 500)], axis=1)
    points_m = np.concatenate([far, rng.uniform(-2, 2, (500, 2))])
    pixels = model.ground_to_pixels(points_m)
    seen = ((pixels > -0.5) & (pixels < (639.5, 479.5))).all(axis=1)
    assert seen.sum() >= 20
    np.testing.assert_allclose(pixels[seen], by_opencv(model, points_m)[seen], atol=1e-6)
    np.testing.assert_allclose(model.pixels_to_ground(pixels[seen]), points_m[seen], rtol=1e-5, atol=1e-6)


def test_the_middle_of_a_level_picture_is_the_horizon():
    ground = camera(height_m=1.0).pixels_to_ground([(319.5, 239.5), (319.5, 239.4), (319.5, 238.0), (0, 0)])
    assert np.isnan(ground).all()


@pytest.mark.parametrize("pitch", [0.05, 0.3, 1.0])
def test_the_optical_axis_meets_the_ground_at_height_over_the_tangent_of_the_pitch(pitch):
    ground = camera(pitch_rad=pitch).pixels_to_ground([(319.5, 239.5)])
    np.testing.assert_allclose(ground, [(1.2 / math.tan(pitch), 0.0)], atol=1e-9)


def test_left_in_the_picture_is_left_on_the_ground():
    ((_, left), (_, right)) = camera(pitch_rad=0.2).pixels_to_ground([(100, 400), (540, 400)])
    assert left > 0 > right


def test_a_positive_roll_leans_to_the_right():
    left, right = camera(roll_rad=0.1).horizon_rows
    assert left > 239.5 > right  # the right side sank, so what is level rises to the right


def test_the_horizon_is_where_ground_far_away_is_seen():
    model = camera(pitch_rad=0.2, roll_rad=0.05)
    bearings = np.linspace(-0.4, 0.4, 9)
    far = 1e7 * np.stack([np.cos(bearings), np.sin(bearings)], axis=1)
    columns, rows = model.ground_to_pixels(far).T
    np.testing.assert_allclose(rows, np.interp(columns, (0, 639), model.horizon_rows), atol=1e-3)


def test_what_is_behind_the_camera_is_not_seen():
    assert np.isnan(camera(pitch_rad=0.1).ground_to_pixels([(-5.0, 0.0), (-0.3, 3.0)])).all()


def test_a_steep_camera_sees_ground_behind_itself():
    ((x, _),) = camera(pitch_rad=1.5).pixels_to_ground([(319.5, 479.0)])
    assert x < 0


def test_points_above_the_ground_are_projected_too():
    model = camera()
    np.testing.assert_allclose(model.ground_to_pixels([(5.0, 0.0, 1.2)]), [(319.5, 239.5)], atol=1e-9)


def test_a_lens_beyond_its_turning_point_has_no_ray():
    model = camera(distortion=(-0.4, 0.0, 0.0, 0.0), pitch_rad=0.5)  # turns at a radius of 0.91
    assert np.isnan(model.pixels_to_ground([(319.5, 239.5 + 510 * 0.95)])).all()
    assert np.isnan(model.ground_to_pixels([(0.35, 2.0)])).all()


@pytest.mark.parametrize("size", [(1280, 960), (320, 240), (641, 479), (1920, 1080)])
def test_a_resized_picture_shows_the_same_ground(size):
    model = camera(pitch_rad=0.2, distortion=(-0.1, 0.02, 0.001, 0.0))
    scaled = model.scaled_to(*size)
    across, down = size[0] / 640, size[1] / 480
    points = np.array([(10.0, 400.0), (320.0, 300.0), (600.5, 470.25)])
    moved = (points + 0.5) * (across, down) - 0.5
    np.testing.assert_allclose(scaled.pixels_to_ground(moved), model.pixels_to_ground(points), atol=1e-9)


def test_scaling_to_its_own_size_changes_nothing():
    assert camera().scaled_to(640, 480) == camera()


@pytest.mark.parametrize("shape", [(0, 2), (0,)])
def test_no_points_give_no_points(shape):
    assert camera().pixels_to_ground(np.zeros(shape)).shape == (0, 2)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"fx": 0.0}, "fx: expected a number above 0 pixels, got 0.0"),
        ({"fy": -3.0}, "fy: expected a number above 0 pixels, got -3.0"),
        ({"fx": math.nan}, "fx: expected a number above 0"),
        ({"height_m": 0.0}, "height_m: expected a number above 0 metres above the ground, got 0.0"),
        ({"height_m": math.nan}, "height_m: expected a number above 0 metres"),
        ({"width": 0}, "width: expected 1 to"),
        ({"height": 480.0}, "height: expected 1 to"),
        ({"width": 10**6}, "width: expected 1 to"),
        ({"cx": math.inf}, "cx: expected a finite number"),
        ({"pitch_rad": math.nan}, "pitch_rad: expected a finite number"),
        ({"pitch_rad": 12.0}, "pitch_rad: expected radians .* got 12; degrees times 0.01745 are radians"),
        ({"pitch_rad": -0.6}, "expected a camera that sees the ground, got -0.6 with roll_rad 0 and"),
        ({"pitch_rad": -1.2, "distortion": (-0.1, 0.01, 0, 0)}, "expected a camera that sees the ground"),
        ({"pitch_rad": -math.pi / 2}, "expected a camera that sees the ground"),
        ({"distortion": (0.1,)}, r"expected 0 or 4 or 5 or 8 finite coefficients of plumb_bob, got \[0.1\]"),
        ({"distortion": (0.1, math.nan, 0, 0)}, "distortion: expected 0 or 4"),
        ({"distortion": (0.0,) * 5, "distortion_model": "fisheye"}, "0 or 4 finite coefficients of fisheye"),
        ({"distortion_model": "division"}, "expected one of plumb_bob, fisheye, got 'division'"),
    ],
)  # fmt: skip
def test_a_camera_that_cannot_be_is_refused(changes, said):
    with pytest.raises(ConfigError, match=said):
        camera(**changes)


@pytest.mark.parametrize("pitch", [-0.4, -0.2, 0.0, 1.0, math.pi / 2, 2.5])
def test_a_camera_that_sees_some_ground_may_be(pitch):
    assert camera(pitch_rad=pitch).pitch_rad == pitch


def test_points_of_another_shape_are_refused():
    with pytest.raises(ConfigError, match=r"points: expected an array of shape \(N, 2\), got \(3,\)"):
        camera().pixels_to_ground([1.0, 2.0, 3.0])


CAMERA_INFO = """\
# written by camera_calibration
image_width: 1280
image_height: 720
camera_name: front
camera_matrix:
  rows: 3
  cols: 3
  data: [800.5, 0, 640.25,
         0, 801.0, 360,
         0, 0, 1]
distortion_model: plumb_bob
distortion_coefficients:
  rows: 1
  cols: 5
  data: [0.1, -2.0e-1, 0.001, 0.0005, 0]
"""
POSE = "height_m: 1.25\npitch_rad: 0.05\n"
EXPECTED = CameraModel(1280, 720, 800.5, 801.0, 640.25, 360.0, (0.1, -0.2, 0.001, 0.0005, 0.0), 1.25, 0.05)


def written(folder, text=CAMERA_INFO, pose=POSE):
    (folder / "camera.yaml").write_text(text)
    if pose is not None:
        (folder / "pose.yaml").write_text(pose)
    return folder / "camera.yaml"


def test_a_ros_camera_file_and_a_pose_beside_it_are_read(tmp_path):
    assert CameraModel.from_yaml(written(tmp_path)) == EXPECTED


def test_the_pose_may_have_any_name(tmp_path):
    (tmp_path / "mast.yaml").write_text(POSE)
    assert CameraModel.from_yaml(written(tmp_path, pose=None), tmp_path / "mast.yaml") == EXPECTED


def test_the_pose_may_stand_in_the_cameras_file(tmp_path):
    pose = "pose:\n" + "".join(f"  {line}\n" for line in POSE.splitlines())
    assert CameraModel.from_yaml(written(tmp_path, CAMERA_INFO + pose, pose=None)) == EXPECTED


def test_block_lists_quotes_and_document_marks_are_read(tmp_path):
    text = CAMERA_INFO.replace(
        "data: [0.1, -2.0e-1, 0.001, 0.0005, 0]", "data:\n  - 0.1\n  - -0.2\n  - 0.001\n  - 0.0005\n  - 0"
    )
    text = "%YAML 1.0\n---\n" + text.replace("plumb_bob", '"plumb_bob"')
    assert CameraModel.from_yaml(written(tmp_path, text)) == EXPECTED


@pytest.mark.parametrize(
    "matrix",
    [
        "camera_matrix: {rows: 3, cols: 3, data: [800.5, 0, 640.25, 0, 801.0, 360, 0, 0, 1]}",
        "camera_matrix: {\n  'rows': 3,\n  \"data\":[800.5, 0, 640.25,\n 0, 801.0, 360, 0, 0, 1,],\n}",
        "camera_matrix:\n  {data: [800.5, 0, 640.25, 0, 801.0, 360, 0, 0, 1], note: 'a, {b]', more: {x: {}}}",
        "camera_matrix:\n  data:\n    [800.5, 0, 640.25, 0,  # fx\n    801.0, 360, 0, 0, 1]",
        "camera_matrix: [800.5, 0, 640.25, 0, 801.0, 360, 0, 0, 1]",
    ],
)
def test_mappings_and_lists_in_brackets_are_read(tmp_path, matrix):
    before, rest = CAMERA_INFO.split("camera_matrix:")
    after = rest.partition("distortion_model:")[2]
    text = f"{before}{matrix}\ndistortion_model:{after}"
    assert (
        CameraModel.from_yaml(written(tmp_path, text, "pose: {height_m: 1.25, pitch_rad: 0.05}\n"))
        == EXPECTED
    )


@pytest.mark.parametrize(
    ("ros", "ours", "coefficients"),
    [("equidistant", "fisheye", 4), ("rational_polynomial", "plumb_bob", 8)],
)
def test_ros_names_of_lenses_are_understood(tmp_path, ros, ours, coefficients):
    data = ", ".join(["0.01"] * coefficients)
    text = CAMERA_INFO.replace("plumb_bob", ros).replace("0.1, -2.0e-1, 0.001, 0.0005, 0", data)
    model = CameraModel.from_yaml(written(tmp_path, text))
    assert (model.distortion_model, model.distortion) == (ours, (0.01,) * coefficients)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("image_width: 1280\n", "", "expected a whole number as image_width, got None"),
        ("image_width: 1280", "image_width: wide", "expected a whole number as image_width, got 'wide'"),
        ("800.5, 0,", "800.5,", "expected a camera_matrix of"),
        ("800.5", "nan", "expected a finite number as camera_matrix, got nan"),
        ("800.5", "-800.5", "camera fx: expected a number above 0"),
        ("camera_matrix:", "matrix:", "expected camera_matrix with data"),
        ("plumb_bob", "thin_prism", "expected a distortion_model among plumb_bob"),
        ("image_width: 1280", "image_width 1280", "line 2: expected `name: value`"),
        ("image_width: 1280", "image_width: 1280\nimage_width: 640", "line 3: expected image_width once"),
        ("image_width: 1280", "image_width: !!python/object 1", "line 2: expected `name: value`"),
        ("image_width: 1280", "image_width: {a: 1}", "expected a whole number as image_width"),
        ("image_width: 1280", "image_width: {a: 1, a: 2}", "line 2: expected `name: value`"),
        ("image_width: 1280", "image_width: {a 1}", "line 2: expected `name: value`"),
        ("image_width: 1280", "image_width: {a: 1]", "line 2: expected `name: value`"),
        ("image_width: 1280", "image_width: [1, 2] 3", "line 2: expected `name: value`"),
        ("image_width: 1280", "image_width: " + "[" * 2000 + "]" * 2000, "line 2: expected `name: value`"),
        ("image_width: 1280", "image_width: {a: {", "line 2: expected `name: value`"),
        ("[0.1, -2.0e-1", "[0.1, [-2.0e-1", "expected"),
    ],
)  # fmt: skip
def test_a_strangers_camera_file_gets_one_clear_line(tmp_path, old, new, said):
    with pytest.raises(ConfigError, match=said) as refused:
        CameraModel.from_yaml(written(tmp_path, CAMERA_INFO.replace(old, new)))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("pose", "said"),
    [
        (None, "camera.yaml: expected the camera's pose, height_m, pitch_rad and roll_rad, got no height_m"),
        ("pitch_rad: 0.1\n", "pose.yaml: expected the camera's pose"),
        ("height_m: 1\nyaw_rad: 0\n", "expected a pose of height_m, pitch_rad, roll_rad, got yaw_rad too"),
        ("height_m: tall\n", "expected a finite number as height_m, got 'tall'"),
        ("height_m: -1\n", "height_m: expected a number above 0 metres"),
        ("", "pose.yaml: expected the camera's pose"),
    ],
)
def test_a_pose_that_is_missing_or_wrong_gets_one_clear_line(tmp_path, pose, said):
    with pytest.raises(ConfigError, match=said):
        CameraModel.from_yaml(written(tmp_path, pose=pose))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"\xff\xfe\x00", "not UTF-8"),
        (b"", "expected camera_matrix"),
        (b"a:\n" * 3, "expected a once"),
        (b"[" * 5000, "expected"),
        (b"".join(b" " * n + b"k:\n" for n in range(1000)), "expected"),
        (b"x" * (1 << 21), "more than 1 MiB"),
    ],
)
def test_bytes_of_strangers_get_one_clear_line(tmp_path, data, said):
    (tmp_path / "camera.yaml").write_bytes(data)
    with pytest.raises(ConfigError, match=said):
        CameraModel.from_yaml(tmp_path / "camera.yaml")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"none.yaml: expected a YAML file, cannot read it \(No such file"):
        CameraModel.from_yaml(tmp_path / "none.yaml")
