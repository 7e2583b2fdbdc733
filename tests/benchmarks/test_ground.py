"""Metres against the renderer's own geometry, on few frames; `benchmarks.ground` takes 200."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from benchmarks import ground
from benchmarks.subjects.street_ground import (
    StreetGroundConfig,
    camera_model,
    kerb_m,
    measure_street_ground,
    walk,
)
from training.streets.camera import ONE
from training.streets.scenes import World

SMALL = StreetGroundConfig(frames=4, size_hw=(360, 480))


@pytest.fixture(scope="module")
def report():
    return measure_street_ground(SMALL, lambda image_bgr: np.full(image_bgr.shape[:2], 3, np.uint8))


def test_scans_and_grids_of_exact_masks_are_a_cell_off_at_most(report):
    assert report.scan.rays > 20
    for errors in (report.scan, report.grid):
        assert errors.median_m <= report.cell_m
        assert errors.missed == 0
    assert report.kerb.median_m <= report.cell_m
    assert report.scan_far.median_m <= report.cell_m


def test_no_cell_is_called_free_that_exact_masks_hide(report):
    assert sum(each.free_cells for each in report.exact) > 5000
    assert sum(each.other_cells for each in report.exact) > 1000
    assert all(each.false_free == 0 for each in report.exact)
    assert max(each.false_occupied for each in report.exact) < 0.005  # a cell is marked as a whole


def test_a_network_that_sees_road_everywhere_calls_all_free(report):
    far = [each for each in report.network if each.other_cells]
    assert far
    assert min(each.false_free for each in far) > 0.98
    assert all(each.false_occupied == 0 for each in report.network)


@pytest.mark.parametrize("seed", range(3))
def test_the_model_of_a_renderers_camera_projects_as_the_renderer_does(seed):
    camera = World(seed, (360, 480)).camera(7.0, turn=0.05)
    rng = np.random.default_rng(seed)
    ahead, left = rng.uniform(2, 30, 200), rng.uniform(-5, 5, 200)
    # From the street's axes to the camera's, by hand: yaw turns to the right.
    along = ahead * math.cos(camera.yaw) + left * math.sin(camera.yaw)
    right = ahead * math.sin(camera.yaw) - left * math.cos(camera.yaw)
    s = camera.s + along
    beam = camera.view(np.stack([s, camera.x + right - camera.swing(s), 0 * s], axis=1))
    pixels = camera_model(camera).ground_to_pixels(np.stack([ahead, left], axis=1))
    np.testing.assert_allclose(pixels, beam[:, :2] / beam[:, 2:] / ONE, atol=1e-6)


def test_a_walk_ends_at_the_kerb_where_nothing_stands_before_it():
    world = World(3, (360, 480))
    camera = world.camera(1.0)
    label = np.full((360, 480), 3, np.uint8)
    angles = np.linspace(-0.3, 0.3, 61)
    assert np.isinf(walk(camera, label, angles).range_m).all()
    ends = kerb_m(world, camera, angles)
    assert np.isfinite(ends).any()
    assert ends.min() > 1.0


def test_the_command_prints_tables_and_writes_the_figure(tmp_path, capsys):
    argv = ["--frames", "1", "--size", "192", "256", "--cost-rounds", "2"]
    assert ground.main([*argv, "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    for words in (
        "1 rendered frames, cells of 10 cm",
        "scan, up to 10 m",
        "false occupied %",
        "added by confidence",
        "pitch off by 0.5°",
    ):
        assert words in printed
    assert {path.name for path in tmp_path.iterdir()} >= {"report.json", "report.txt"}
    assert ground.main([*argv, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["streets"]["frames"] == 1
    assert found["cost"]["parts_ms"].keys() == {"bird's eye", "occupancy", "scan", "confidence"}
