"""Cameras are found again from pictures of a board that were rendered with OpenCV's lens, not with ours."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
import pytest

from runtime import calibrate
from runtime.errors import ConfigError
from runtime.ground import CameraModel
from runtime.ground.camera_files import camera_yaml
from runtime.ground.pose import pitch_error_m, pose_from_ground, pose_from_horizon

BOARD = (9, 6)
SIZE = (640, 480)
MATRIX = np.array([[520.0, 0, 325.0], [0, 523.0, 236.0], [0, 0, 1]])
LENSES = {"plumb_bob": (-0.25, 0.08, 0.001, -0.0007, 0.0), "fisheye": (-0.02, 0.005, -0.002, 0.0004)}
TIMES = 2  # pixels are averages of so many by so many


def looks(lens: str) -> np.ndarray:
    """Return the directions of finer pixels, (H, W, 2) at unit distance, by OpenCV's own lens."""
    across, down = (np.arange(side * TIMES) / TIMES - 0.5 + 0.5 / TIMES for side in SIZE)
    pixels = np.stack(np.meshgrid(across, down), axis=-1).reshape(-1, 1, 2)
    distortion = np.array(LENSES[lens])
    if lens == "fisheye":
        straight = cv2.fisheye.undistortPoints(pixels, MATRIX, distortion)
    else:
        bent = (pixels[:, 0] - MATRIX[:2, 2]) / np.diag(MATRIX)[:2]
        straight = cv2.undistortPoints(pixels, MATRIX, distortion)[:, 0]
        for _ in range(2):  # until OpenCV's own projection puts it where it should be
            points = np.concatenate([straight, np.ones((len(straight), 1))], axis=1)
            there = cv2.projectPoints(points, np.zeros(3), np.zeros(3), np.eye(3), distortion)[0][:, 0]
            straight -= there - bent
    return straight.reshape(SIZE[1] * TIMES, SIZE[0] * TIMES, 2)


def picture(straight: np.ndarray, turn: tuple[float, float, float], place: tuple[float, float, float]):
    """Render a board of 10 x 7 squares of 1, white all around, on grey."""
    rotation = cv2.Rodrigues(np.array(turn))[0]
    corner = np.array(place) - rotation @ (4.0, 2.5, 0.0)  # the board's first inner corner
    normal = rotation[:, 2]
    rays = np.concatenate([straight, np.ones((*straight.shape[:2], 1))], axis=-1)
    hits = rays * (normal @ corner / (rays @ normal))[..., None] - corner
    u, v = hits @ rotation[:, 0], hits @ rotation[:, 1]
    squares = (np.floor(u) + np.floor(v)) % 2 == 0
    on_board = (u > -1) & (u < 9) & (v > -1) & (v < 6)
    on_paper = (u > -2) & (u < 10) & (v > -2) & (v < 7)
    fine = np.where(on_board, np.where(squares, 30, 230), np.where(on_paper, 230, 120)).astype(np.float32)
    gray = cv2.resize(fine, SIZE, interpolation=cv2.INTER_AREA)
    return cv2.cvtColor(np.rint(gray).astype(np.uint8), cv2.COLOR_GRAY2BGR)


POSES = (
    ((0.0, 0.0, 0.0), (0.0, 0.0, 12.0)),
    ((0.5, 0.0, 0.1), (-2.0, -1.2, 13.0)),
    ((-0.5, 0.1, 0.0), (2.0, 1.4, 13.0)),
    ((0.0, 0.55, -0.1), (2.2, -1.5, 13.0)),
    ((0.1, -0.55, 0.2), (-2.4, 1.3, 13.0)),
    ((0.35, 0.35, 0.0), (0.5, 0.3, 11.0)),
    ((-0.4, 0.3, -0.3), (-0.6, -0.2, 11.0)),
)


@pytest.fixture(scope="module", params=LENSES)
def shots(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    straight = looks(request.param)
    for number, (turn, place) in enumerate(POSES):
        cv2.imwrite(str(folder / f"{number}.png"), picture(straight, turn, place))
    cv2.imwrite(str(folder / "wall.png"), np.full((SIZE[1], SIZE[0], 3), 90, np.uint8))
    return request.param, folder


def test_a_known_camera_is_found_from_pictures_of_a_board(shots, tmp_path, capsys):
    lens, folder = shots
    out = tmp_path / "front.yaml"
    files = sorted(map(str, folder.glob("*.png")))
    argv = ["--images", *files, "--lens", lens, "--out", str(out)]
    assert calibrate.main([*argv, "--horizon", "0", "200", "639", "204", "--height-m", "1.2"]) == 0
    printed = capsys.readouterr()
    assert "in 7 of 8 pictures of 640x480" in printed.out
    assert "warning: wall.png: no board of 9 x 6 corners" in printed.err
    rms_px = float(printed.out.split(f"{lens}, RMS ")[1].split(" px")[0])
    assert rms_px < 0.1
    camera = CameraModel.from_yaml(out)
    assert (camera.width, camera.height, camera.distortion_model) == (*SIZE, lens)
    assert camera.height_m == 1.2
    np.testing.assert_allclose((camera.fx, camera.fy), (520, 523), rtol=0.005)
    np.testing.assert_allclose((camera.cx, camera.cy), (325, 236), atol=2.0)
    # Coefficients trade with each other: what counts is where a ray ends up.
    true = CameraModel(*SIZE, 520, 523, 325, 236, LENSES[lens], 1.0, math.pi / 4, 0.0, lens)
    found = CameraModel.from_yaml(out, needs_pose=False)
    pixels = [(60, 60), (320, 100), (600, 60), (60, 420), (600, 420), (325, 236)]
    rays, expected = found.rays(pixels), true.rays(pixels)
    np.testing.assert_allclose(rays[:, 1:], expected[:, 1:], atol=0.005)
    residuals = cv2.imread(str(tmp_path / "front-residuals.png"))
    assert residuals is not None
    assert residuals.shape == (760, 960, 3)


POSED = CameraModel(640, 480, 500.0, 505.0, 322.0, 238.0, (-0.2, 0.05, 0.001, 0.0), 1.35, 0.14, -0.05)


def seen_horizon(camera: CameraModel) -> list[tuple[float, float]]:
    """Return two points of a camera's horizon, where ground very far away is seen."""
    far = [(1e7 * math.cos(bearing), 1e7 * math.sin(bearing)) for bearing in (0.4, -0.4)]
    return [tuple(point) for point in camera.ground_to_pixels(far)]


@pytest.mark.parametrize(("pitch", "roll"), [(0.14, -0.05), (0.0, 0.0), (-0.1, 0.2), (0.5, 0.1), (0.3, -0.6)])
def test_the_horizon_tells_pitch_and_roll(pitch, roll):
    true = CameraModel(640, 480, 500, 505, 322, 238, (-0.2, 0.05, 0.001, 0), 1.35, pitch, roll)
    horizon = seen_horizon(true)
    found = pose_from_horizon(CameraModel(640, 480, 500, 505, 322, 238, true.distortion, 9.0), horizon, 1.35)
    assert found.pitch_rad == pytest.approx(pitch, abs=1e-5)
    assert found.roll_rad == pytest.approx(roll, abs=1e-5)
    assert found.height_m == 1.35


@pytest.mark.parametrize("turned_rad", [0.0, 0.7])
@pytest.mark.parametrize("count", [4, 7])
def test_points_on_the_ground_tell_the_whole_pose(turned_rad, count):
    ground = np.array([(3, 1), (3, -1), (8, 2.5), (8, -2), (5, 0), (4, 1.2), (6, -1.3)][:count], float)
    pixels = POSED.ground_to_pixels(ground)
    # Measured from somewhere else, along another direction.
    turn = np.array(
        [[math.cos(turned_rad), -math.sin(turned_rad)], [math.sin(turned_rad), math.cos(turned_rad)]]
    )
    found, missed_px = pose_from_ground(POSED.scaled_to(640, 480), pixels, ground @ turn.T + (2.0, -7.0))
    assert missed_px < 1e-3
    assert found.height_m == pytest.approx(1.35, abs=1e-4)
    assert found.pitch_rad == pytest.approx(0.14, abs=1e-4)
    assert found.roll_rad == pytest.approx(-0.05, abs=1e-4)


def test_a_pose_of_pixels_that_are_half_a_pixel_off_is_near(tmp_path, capsys):
    ground = np.array([(3, 1), (3, -1), (8, 2.5), (8, -2)], float)
    pixels = POSED.ground_to_pixels(ground) + np.random.default_rng(0).uniform(-0.5, 0.5, (4, 2))
    (tmp_path / "lens.yaml").write_text(camera_yaml(POSED, "lens", has_pose=False))
    argv = ["--camera", str(tmp_path / "lens.yaml"), "--out", str(tmp_path / "posed.yaml")]
    for pixel, metres in zip(pixels, ground, strict=True):
        argv += ["--ground-point", *(f"{value:.3f}" for value in (*pixel, *metres))]
    assert calibrate.main(argv) == 0
    printed = capsys.readouterr().out
    assert "with the pitch off by 0.5°, 10 m seem 9.4 to 10.7 m" in printed
    found = CameraModel.from_yaml(tmp_path / "posed.yaml")
    assert found.height_m == pytest.approx(1.35, abs=0.03)
    assert found.pitch_rad == pytest.approx(0.14, abs=0.005)
    assert (found.fx, found.distortion) == (POSED.fx, POSED.distortion)


@pytest.mark.parametrize(
    "camera",
    [
        POSED,
        CameraModel(640, 480, 500, 500, 320, 240, (), 1.0),
        CameraModel(640, 480, 500, 500, 320, 240, (0.1, 0, 0, 0), 1.0, 0.1, 0.0, "fisheye"),
        CameraModel(640, 480, 500, 500, 320, 240, (0.4, 0.08, 0, 0, 0.004, 0.6, 0.2, 0.02), 1.0, 0.1),
    ],
)
def test_what_is_written_is_read(camera, tmp_path):
    (tmp_path / "camera.yaml").write_text(camera_yaml(camera, "front"))
    read = CameraModel.from_yaml(tmp_path / "camera.yaml")
    pixels = [(100.0, 400.0), (320.0, 300.0)]
    np.testing.assert_array_equal(read.pixels_to_ground(pixels), camera.pixels_to_ground(pixels))
    assert read.distortion_model == camera.distortion_model


def test_a_lens_without_a_pose_says_what_comes_next(shots, tmp_path, capsys):
    lens, folder = shots
    out = tmp_path / "camera.yaml"
    files = [str(folder / f"{number}.png") for number in range(4)]
    assert calibrate.main(["--images", *files, "--lens", lens, "--out", str(out)]) == 0
    assert "--horizon X1 Y1 X2 Y2 --height-m H" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="expected the camera's pose"):
        CameraModel.from_yaml(out)


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ([], "images: expected pictures of a board or a --camera FILE, got both or neither"),
        (["--camera", "{lens}", "--horizon", "0", "1", "9", "1"], "height_m: expected it together with"),
        (["--camera", "{lens}", "--height-m", "1"], "height_m: expected it together with"),
        (
            ["--camera", "{lens}", "--horizon", "5", "5", "5", "5", "--height-m", "1"],
            "two points that are far",
        ),
        (["--camera", "{lens}", "--horizon", "0", "2000", "9", "2e3", "--height-m", "1"], "camera that sees"),
        (["--camera", "{lens}", *["--ground-point", "1", "2", "3", "4"] * 3], "at least 4 points"),
        (["--camera", "{lens}", *["--ground-point", "1", "2", "3", "4"] * 4], "not on one line"),
        (["--images", "{wall}", "{wall}"], "in at least 4 pictures, found it in 0"),
        (["--images", "{wall}", "{small}"], "expected pictures of one camera and one size, got 64x48 and"),
        (["--images", "{lens}"], "lens.yaml"),
        (["--images", "{wall}", "--board", "2", "6"], "board: expected a number from 3 to 100, got 2 6"),
    ],
)
def test_what_cannot_be_calibrated_gets_one_clear_line(argv, said, tmp_path, capsys):
    (tmp_path / "lens.yaml").write_text(camera_yaml(CameraModel(640, 480, 500, 500, 320, 240, (), 1.0), "a"))
    cv2.imwrite(str(tmp_path / "wall.png"), np.full((48, 64, 3), 90, np.uint8))
    cv2.imwrite(str(tmp_path / "small.png"), np.full((24, 32, 3), 90, np.uint8))
    names = {"lens": tmp_path / "lens.yaml", "wall": tmp_path / "wall.png", "small": tmp_path / "small.png"}
    out = Path(tmp_path / "out.yaml")
    assert calibrate.main([*(text.format(**names) for text in argv), "--out", str(out)]) == 1
    error = capsys.readouterr().err
    assert said in error
    assert error.count("error:") == 1
    assert not out.exists()


def test_mirrored_ground_points_are_refused():
    ground = np.array([(3, 1), (3, -1), (8, 2.5), (8, -2)], float)
    with pytest.raises(ConfigError, match="is y positive to the left"):
        pose_from_ground(POSED, POSED.ground_to_pixels(ground), ground * (1, -1))


@pytest.mark.parametrize(
    ("distance_m", "height_m", "expected"), [(20.0, 0.15, math.inf), (5.0, 1.0, 5.238), (20.0, 1.5, 22.64)]
)
def test_half_a_degree_of_pitch_costs_metres(distance_m, height_m, expected):
    near, far = pitch_error_m(distance_m, height_m, math.radians(0.5))
    assert near < distance_m < far
    assert far == pytest.approx(expected, abs=0.01)
