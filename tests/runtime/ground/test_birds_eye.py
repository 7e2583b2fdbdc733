"""Grids and scans of masks whose ground truth is computed here, ray by ray, from the camera's own numbers."""

import math

import cv2
import numpy as np
import pytest

from runtime.errors import ConfigError, FrameError
from runtime.ground import BirdsEye, CameraModel

ROAD, WALL, GRASS = 0, 1, 2
CAMERA = CameraModel(1280, 720, 800.0, 800.0, 639.5, 359.5, height_m=1.3, pitch_rad=0.12, roll_rad=0.03)


def road(camera=CAMERA):
    return np.full((camera.height, camera.width), ROAD, np.uint8)


def draw_box(mask, camera, x_m, y_m, height_m=1.0, label=WALL):
    """Paint an upright box on the ground, ranges of x and y in metres, as the camera sees it."""
    corners = np.array([(x, y, z) for x in x_m for y in y_m for z in (0.0, height_m)])
    hull = cv2.convexHull(camera.ground_to_pixels(corners).astype(np.float32))
    cv2.fillConvexPoly(mask, np.round(hull).astype(np.int32), label)
    return mask


def cells(view):
    """Return x and y of every cell's centre."""
    x = view.x_range_m[0] + (np.arange(view.shape[1]) + 0.5) * view.cell_m
    y = view.y_range_m[0] + (np.arange(view.shape[0]) + 0.5) * view.cell_m
    return np.meshgrid(x, y)


def in_view(view):
    x, y = cells(view)
    pixels = view.camera.ground_to_pixels(np.stack([x.ravel(), y.ravel()], axis=1)).reshape(*view.shape, 2)
    size = (view.camera.width - 0.5, view.camera.height - 0.5)
    return ((pixels >= -0.5) & (pixels <= size)).all(axis=-1)


def test_the_grid_has_rows_of_y_and_columns_of_x():
    assert BirdsEye(CAMERA, (0, 20), (-5, 5), 0.25).shape == (40, 80)
    assert BirdsEye(CAMERA).shape == (200, 200)


def test_ground_that_is_all_free_is_free_where_it_is_seen():
    view = BirdsEye(CAMERA)
    grid = view.occupancy(road(), {ROAD})
    seen = in_view(view)
    assert grid.dtype == np.int8
    assert (grid[~seen] == -1).all()
    assert (grid[seen] == 0).mean() > 0.995


def test_ground_that_is_nowhere_free_is_occupied_where_sight_begins_and_unknown_behind():
    view = BirdsEye(CAMERA)
    grid = view.occupancy(np.full_like(road(), WALL), {ROAD})
    assert not (grid == 0).any()
    x, y = cells(view)
    assert np.hypot(x, y)[grid == 100].max() < np.hypot(x, y)[in_view(view)].min() + 4.5


@pytest.mark.parametrize("cell_m", [0.05, 0.1, 0.25])
@pytest.mark.parametrize(
    ("x_m", "y_m"),
    [
        ((6.0, 7.0), (-1.0, 1.0)),
        ((4.0, 4.5), (0.5, 0.7)),
        ((12.0, 16.0), (-4.0, -2.0)),
        ((8.0, 8.1), (1.0, 1.03)),  # a pole, thinner than a cell
    ],
)
def test_a_box_is_occupied_at_its_front_and_hides_what_is_behind(x_m, y_m, cell_m):
    view = BirdsEye(CAMERA, cell_m=cell_m)
    grid = view.occupancy(draw_box(road(), CAMERA, x_m, y_m), {ROAD})
    x, y = cells(view)
    # By bearing: the box covers those of its corners.
    corners = np.array([(px, py) for px in x_m for py in y_m])
    bearings = np.arctan2(corners[:, 1], corners[:, 0])
    low, high = bearings.min(), bearings.max()
    slack = 0.75 * cell_m / np.hypot(x, y) + 1 / 800
    bearing = np.arctan2(y, x)
    behind = (bearing > low) & (bearing < high) & (x > x_m[1] + cell_m) & in_view(view)
    assert behind.any()
    assert not (grid[behind] == 0).any()
    away = ((bearing < low - slack) | (bearing > high + slack)) & in_view(view)
    assert (grid[away] == 0).mean() > 0.99
    front = (grid == 100) & (bearing > low - slack) & (bearing < high + slack)
    assert front.any()
    assert np.abs(x[front] - x_m[0]).min() <= cell_m
    before = (bearing > low) & (bearing < high) & (x < x_m[0] - 1.5 * cell_m - 0.05 * x_m[0]) & in_view(view)
    assert (grid[before] == 0).mean() > 0.97


@pytest.mark.parametrize("distance_m", [3.0, 5.0, 8.0, 12.0])
def test_a_wall_is_measured_to_a_cell_by_grid_and_scan(distance_m):
    view = BirdsEye(CAMERA)
    mask = draw_box(road(), CAMERA, (distance_m, distance_m + 1), (-30.0, 30.0), 3.0)
    angles = np.linspace(-0.4, 0.4, 41)
    ranges = view.range_scan(mask, angles, {ROAD})
    pixel_m = distance_m**2 / (CAMERA.height_m * CAMERA.fy)
    np.testing.assert_allclose(ranges * np.cos(angles), distance_m, atol=view.cell_m + pixel_m)
    x, _ = cells(view)
    grid = view.occupancy(mask, {ROAD})
    assert np.abs(x[grid == 100] - distance_m).max() <= 1.5 * view.cell_m + pixel_m


def test_a_scan_of_free_ground_sees_nothing():
    assert np.isinf(BirdsEye(CAMERA).range_scan(road(), [-0.3, 0.0, 0.3], {ROAD})).all()


def test_a_scan_outside_of_the_view_sees_nothing():
    wall = np.full_like(road(), WALL)
    assert np.isinf(BirdsEye(CAMERA).range_scan(wall, [1.5, math.pi, -2.0], {ROAD})).all()


def test_a_scan_agrees_with_a_ray_followed_by_hand():
    view, rng = BirdsEye(CAMERA), np.random.default_rng(3)
    mask = road()
    for _ in range(8):
        x, y = rng.uniform(3, 15), rng.uniform(-5, 5)
        draw_box(mask, CAMERA, (x, x + 1), (y, y + 0.8))
    angles, distances = np.linspace(-0.5, 0.5, 101), np.arange(0.01, view.farthest_m, 0.01)
    for angle, measured in zip(angles, view.range_scan(mask, angles, {ROAD}), strict=True):
        pixels = CAMERA.ground_to_pixels(distances[:, None] * (math.cos(angle), math.sin(angle)))
        is_seen = ((pixels >= -0.5) & (pixels <= (1279.5, 719.5))).all(axis=1)
        columns, rows = np.clip(np.rint(pixels[is_seen]).astype(int), 0, (1279, 719)).T
        blocked = distances[is_seen][mask[rows, columns] != ROAD]
        expected = blocked[0] if len(blocked) else math.inf
        assert measured == expected or abs(measured - expected) <= view.cell_m


def test_every_class_that_is_not_named_blocks():
    view = BirdsEye(CAMERA)
    mask = draw_box(road(), CAMERA, (6.0, 7.0), (-1.0, 1.0), 0.01, GRASS)
    assert np.isfinite(view.range_scan(mask, [0.0], {ROAD}))[0]
    assert np.isinf(view.range_scan(mask, [0.0], {ROAD, GRASS}))[0]
    assert np.isfinite(view.range_scan(np.full_like(mask, 255), [0.0], {ROAD, GRASS}))[0]


def test_what_is_unsure_is_unknown_and_so_is_all_behind_it():
    view = BirdsEye(CAMERA)
    confidence = np.full_like(road(), 255)
    draw_box(confidence, CAMERA, (6.0, 7.0), (-1.0, 1.0), 0.01, 40)
    grid = view.occupancy(road(), {ROAD}, confidence)
    x, y = cells(view)
    patch = (x > 6.1) & (x < 6.9) & (np.abs(y) < 0.9)
    assert (grid[patch] == -1).all()
    assert not (grid[(x > 7.2) & (np.abs(y) < 0.9 * x / 7)] == 0).any()
    assert (grid[(x > 3.5) & (x < 5.8) & (np.abs(y) < 0.9)] == 0).all()


def test_a_doubtful_obstacle_is_no_obstacle_but_never_free():
    view = BirdsEye(CAMERA)
    mask = draw_box(road(), CAMERA, (6.0, 7.0), (-1.0, 1.0))
    grid = view.occupancy(mask, {ROAD}, np.where(mask == WALL, 40, 255).astype(np.uint8))
    x, y = cells(view)
    assert not (grid == 100).any()
    assert not (grid[(x > 6.2) & (np.abs(y) < 0.9 * x / 7)] == 0).any()


def test_a_mask_is_warped_to_its_nearest_classes_and_void_outside():
    view = BirdsEye(CAMERA)
    warped = view.warp(draw_box(road(), CAMERA, (6.0, 7.0), (-1.0, 1.0), 0.0, 7))
    assert set(np.unique(warped)) == {ROAD, 7, 255}
    assert (warped == 255).tolist() == (~in_view(view)).tolist()
    x, y = cells(view)
    assert (warped[(x > 6.1) & (x < 6.9) & (np.abs(y) < 0.9)] == 7).all()


def test_a_picture_is_interpolated_and_black_outside():
    view = BirdsEye(CAMERA)
    columns, rows = np.meshgrid(np.arange(1280), np.arange(720))
    picture = np.stack([columns // 8, rows // 4, np.full_like(rows, 200)], axis=-1).astype(np.uint8)
    warped = view.warp(picture)
    assert warped.shape == (200, 200, 3)
    assert (warped[~in_view(view)] == 0).all()
    x, y = cells(view)
    column, row = CAMERA.ground_to_pixels([(x[100, 80], y[100, 80])])[0]
    assert abs(int(warped[100, 80, 0]) - column / 8) <= 1.5
    assert abs(int(warped[100, 80, 1]) - row / 4) <= 1.5


def test_the_edge_of_the_picture_is_part_of_it():
    camera = CameraModel(64, 48, 40.0, 40.0, 31.5, 23.5, height_m=1.0, pitch_rad=0.5)
    view = BirdsEye(camera, (0, 6), (-3, 3), 0.02)
    assert (view.warp(np.zeros((48, 64), np.uint8))[in_view(view)] == 0).all()


def test_upright_puts_forward_up_and_left_left():
    view = BirdsEye(CAMERA, (0, 4), (-1, 1), 1.0)
    grid = np.arange(8).reshape(2, 4)  # rows: right, left; columns: near to far
    assert view.upright(grid).tolist() == [[7, 3], [6, 2], [5, 1], [4, 0]]


def test_points_lie_on_the_ground_where_pixels_see_it():
    view = BirdsEye(CAMERA)
    cloud = view.points(road())
    assert cloud.shape == (720, 1280, 3)
    assert cloud.dtype == np.float32
    (expected,) = CAMERA.pixels_to_ground([(700, 600)])
    np.testing.assert_allclose(cloud[600, 700], [*expected, 0.0], rtol=1e-5)
    assert np.isnan(cloud[:200]).all()
    assert np.nanmax(np.hypot(cloud[..., 0], cloud[..., 1])) <= view.farthest_m


def test_points_of_doubtful_pixels_are_left_out():
    view = BirdsEye(CAMERA)
    confidence = np.full_like(road(), 255)
    confidence[600:] = 0
    cloud = view.points(road(), confidence)
    assert np.isnan(cloud[600:]).all()
    assert np.isfinite(cloud[590]).all()
    assert np.isfinite(view.points(road())[650]).all()  # the one before left no trace


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"x_range_m": (5, 5)}, "x_range_m: expected metres from low to high, got 5 to 5"),
        ({"y_range_m": (3, -3)}, "y_range_m: expected metres from low to high"),
        ({"x_range_m": (0, math.inf)}, "x_range_m: expected metres"),
        ({"cell_m": 0.0}, "cell_m: expected a number above 0 metres, got 0.0"),
        ({"cell_m": 1e-4}, "expected 1 to 4000000 cells"),
        ({"cell_m": 100.0}, "expected 1 to 4000000 cells, got 0 x 0"),
    ],
)
def test_a_grid_that_cannot_be_is_refused(settings, said):
    with pytest.raises(ConfigError, match=said):
        BirdsEye(CAMERA, **settings)


def test_a_grid_that_the_camera_does_not_see_is_unknown():
    view = BirdsEye(CAMERA, x_range_m=(-8, -2), y_range_m=(-2, 2))
    mask = road()
    assert (view.occupancy(mask, {0}) == -1).all()
    assert (view.warp(mask) == 255).all()
    assert np.isinf(view.range_scan(np.ones_like(mask), [math.pi], {0})).all()


@pytest.mark.parametrize("free_classes", [{-1}, {256}, {"road"}, {0.0}])
def test_free_classes_that_are_no_classes_are_refused(free_classes):
    view = BirdsEye(CAMERA)
    with pytest.raises(ConfigError, match="free_classes: expected class indices from 0 to 255, got"):
        view.occupancy(road(), free_classes)
    with pytest.raises(ConfigError, match="free_classes: expected class indices from 0 to 255, got"):
        view.range_scan(road(), [0.0], free_classes)


def test_a_mask_may_be_a_part_of_a_larger_picture():
    whole = np.zeros((720, 2560), np.uint8)
    mask = whole[:, ::2]
    mask[:] = draw_box(road(), CAMERA, (6.0, 7.0), (-1.0, 1.0))
    view = BirdsEye(CAMERA)
    packed = np.ascontiguousarray(mask)
    assert np.array_equal(view.occupancy(mask, {ROAD}), view.occupancy(packed, {ROAD}))
    assert np.array_equal(view.warp(mask), view.warp(packed))


@pytest.mark.parametrize(
    ("picture", "said"),
    [
        (np.zeros((48, 64), np.uint8), "expected the camera's 1280x720 pixels, got 64x48; use camera.sca"),
        (np.zeros((720, 1280), np.float32), "expected a class mask, uint8"),
        (np.zeros((720, 1280, 3), np.float32), "expected uint8"),
        (np.zeros(5, np.uint8), "expected uint8"),
    ],
)  # fmt: skip
def test_a_picture_of_another_camera_is_refused(picture, said):
    with pytest.raises(FrameError, match=said):
        BirdsEye(CAMERA).warp(picture)


def test_a_confidence_of_another_size_is_refused():
    with pytest.raises(FrameError, match=r"confidence: expected uint8 \(720, 1280\), got uint8 \(3, 4\)"):
        BirdsEye(CAMERA).occupancy(road(), {ROAD}, np.zeros((3, 4), np.uint8))


def test_angles_that_are_no_numbers_are_refused():
    with pytest.raises(ConfigError, match="expected finite angles"):
        BirdsEye(CAMERA).range_scan(road(), [math.nan], {ROAD})
