"""Lines of metres and the bird's eye, looked at pixel by pixel."""

import numpy as np
import pytest

from runtime.contract import ClassMap
from runtime.errors import ConfigError
from runtime.ground import CameraModel
from runtime.ground.drawing import GroundSight, marks_m
from runtime.ground.options import GridOptions, GroundOptions
from runtime.masks.overlay import Overlay

CAMERA = CameraModel(640, 360, 400.0, 400.0, 319.5, 179.5, height_m=1.3, pitch_rad=0.12)
CAMERA_YAML = (
    "image_width: 640\nimage_height: 360\n"
    "camera_matrix:\n  data: [400, 0, 319.5, 0, 400, 179.5, 0, 0, 1]\n"
    "pose:\n  height_m: 1.3\n  pitch_rad: 0.12\n"
)
GRID = GridOptions(grid_ahead=(0.0, 20.0), grid_side=(-10.0, 10.0))
CLASSES = ClassMap(("road", "wall"), ((128, 64, 128), (200, 200, 0)), traversable=("road",))


def sight(**settings):
    return GroundSight(CAMERA, {0}, GRID, **settings)


@pytest.mark.parametrize("x_m", [5.0, 10.0, 15.0])
@pytest.mark.parametrize("scale", [1, 2])
def test_a_line_is_drawn_where_its_metres_are_seen(x_m, scale):
    picture = np.full((360 * scale, 640 * scale, 3), 90, np.uint8)
    sight().stamp(picture)
    camera = CAMERA.scaled_to(640 * scale, 360 * scale)
    for y_m in (-2.2, 1.1, 2.7):  # between the lines ahead
        ((column, row),) = camera.ground_to_pixels([(x_m, y_m)])
        near = picture[round(row) - 2 : round(row) + 3, round(column)]
        assert near.max() > 150
    ((column, row),) = camera.ground_to_pixels([(x_m + 2.4, 1.1)])
    assert (picture[round(row), round(column)] == 90).all()


def test_nothing_is_drawn_above_the_horizon():
    picture = np.full((360, 640, 3), 90, np.uint8)
    sight().stamp(picture)
    assert (picture[: int(min(CAMERA.horizon_rows)) - 20] == 90).all()


def test_a_lens_bends_the_lines_and_breaks_none_of_them():
    bent = CameraModel(640, 360, 400.0, 400.0, 319.5, 179.5, (-0.3, 0.1, 0.0, 0.0), 1.3, 0.12, 0.1)
    picture = np.full((360, 640, 3), 90, np.uint8)
    GroundSight(bent, {0}, GRID).stamp(picture)
    ((column, row),) = bent.ground_to_pixels([(5.0, 2.0)])
    assert picture[round(row) - 2 : round(row) + 3, round(column)].max() > 150


def test_the_birds_eye_shows_classes_where_they_are_known_and_what_blocks():
    mask = np.zeros((360, 640), np.uint8)
    ((_, row),) = CAMERA.ground_to_pixels([(8.0, 0.0)])
    mask[: round(row)] = 1
    above = sight().from_above(mask, Overlay(CLASSES).colors, height=424)
    assert above.shape == (424, 400, 3)  # 20 m and a strip for the robot, at 20 pixels a metre

    def at(x_m, y_m):
        return above[round((20 - x_m) * 20), round((10 - y_m) * 20)].astype(int)

    assert at(6.5, 0.9).tolist() == list(CLASSES.palette_rgb[0][::-1])
    assert max(at(x, 0.9)[2] - at(x, 0.9)[1] for x in np.arange(7.5, 8.6, 0.05)) > 100  # red
    assert 80 < at(12.5, 1.3).max() < 100  # behind it: dark
    assert (at(1.1, 9.0) == 0).all()  # outside of the view
    assert above[395:405, 195:205].min(axis=2).max() == 255  # the robot
    assert [above[round((20 - ring_m) * 20), 200].min() > 60 for ring_m in (5, 10, 15)] == [True] * 3


def test_unknown_pixels_are_no_obstacles_from_above():
    mask = np.zeros((360, 640), np.uint8)
    ((_, row),) = CAMERA.ground_to_pixels([(8.0, 0.0)])
    mask[: round(row)] = 255
    above = sight().from_above(mask, Overlay(CLASSES).colors, height=424)
    assert not (above.astype(int) @ [0, -1, 1] > 100).any()  # no red
    assert above[round((20 - 6.5) * 20), round((10 - 0.9) * 20)].tolist() == list(
        CLASSES.palette_rgb[0][::-1]
    )
    assert (above[round((20 - 12.5) * 20), round((10 - 1.3) * 20)] == 0).all()


@pytest.mark.parametrize(
    ("ahead", "side", "shape"),
    [
        ((0.0, 20.0), (-5.0, 5.0), (424, 200, 3)),
        ((-10.0, 10.0), (-5.0, 5.0), (424, 200, 3)),  # the robot amid the grid
        ((1.0, 21.0), (-5.0, 5.0), (424, 191, 3)),  # a little before it
        ((10.0, 20.0), (-5.0, 5.0), (424, 400, 3)),  # far before it
    ],
)
def test_the_height_of_the_birds_eye_can_be_chosen(ahead, side, shape):
    above = GroundSight(CAMERA, {0}, GridOptions(ahead, side)).from_above(
        np.zeros((360, 640), np.uint8), Overlay(CLASSES).colors, height=424
    )
    assert above.shape == shape


def test_pictures_of_several_sizes_share_their_tables():
    made = sight()
    for height in (360, 180, 360, 90, 45, 30, 360):
        mask = np.zeros((height, height * 16 // 9), np.uint8)
        assert made.view(mask) is made.view(mask)
        assert made.view(mask).camera.height == height


def test_an_overlay_shows_the_lines():
    picture, mask = np.full((360, 640, 3), 90, np.uint8), np.zeros((360, 640), np.uint8)
    plain, marked = Overlay(CLASSES), Overlay(CLASSES, marks=sight().stamp)
    differs = (plain.draw(picture, mask) != marked.draw(picture, mask)).any(axis=2)
    ((column, row),) = CAMERA.ground_to_pixels([(5.0, 1.1)])
    assert differs[round(row), round(column)]
    assert (picture == 90).all()


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 20, [5, 10, 15, 20]),
        (-10, 10, [-5, 0, 5, 10]),
        (0, 2.5, [0.5, 1, 1.5, 2, 2.5]),
        (0, 1e6, []),
    ],
)
def test_metres_are_round(low, high, expected):
    assert marks_m(low, high) == expected


def test_flags_make_it(tmp_path):
    (tmp_path / "camera.yaml").write_text(CAMERA_YAML)
    assert GroundSight.of(GroundOptions(), None, CLASSES) is None
    options = GroundOptions(camera=tmp_path / "camera.yaml", draw_grid=True)
    made = GroundSight.of(options, None, CLASSES)
    assert made is not None
    assert made.draws_grid
    assert made.view(np.zeros((360, 640), np.uint8)).camera == CAMERA
    assert made.view(np.zeros((720, 1280), np.uint8)).camera == CAMERA.scaled_to(1280, 720)
    with pytest.raises(ConfigError, match="free: expected the classes that may be driven on"):
        GroundSight.of(options, None, ClassMap(("a",), ((0, 0, 0),)))
