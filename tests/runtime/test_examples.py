from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from runtime.contract import CAMVID_CLASSES
from runtime.examples import blur_people, drive, log_jsonl, nav2_parameters
from runtime.ground.options import GridOptions
from runtime.masks.areas import FreeSpace


def arguments(model: Path) -> list[str]:
    return ["--model", str(model), "--source", "synthetic", "--max-frames", "2"]


def test_drive_prints_a_command_a_frame(tiny_onnx, capsys):
    assert drive.main([*arguments(tiny_onnx), "--ground", "red"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines] == ["frame 0", "frame 1"]


@pytest.mark.parametrize(("ahead", "speed"), [(0.05, 0.0), (0.225, 0.5), (0.9, 1.0)])
def test_drive_slows_down_where_little_is_free(ahead, speed):
    assert drive.steer(FreeSpace(np.zeros(3, np.float32), ahead, 0.4))[0] == pytest.approx(speed)


def test_blur_hides_people_and_leaves_the_rest():
    image = np.random.default_rng(0).integers(0, 255, (120, 160, 3), dtype=np.uint8)
    mask = np.zeros((120, 160), np.uint8)
    mask[40:80, 60:100] = 5
    hidden = blur_people.blurred(image, mask, {5})
    assert np.array_equal(hidden[:, :50], image[:, :50])
    assert hidden[45:75, 65:95].std() < image[45:75, 65:95].std() / 4


def test_blur_records_a_video(tiny_onnx, tmp_path):
    path = tmp_path / "private.avi"
    assert blur_people.main([*arguments(tiny_onnx), "--save", str(path), "--people", "red"]) == 0
    assert cv2.VideoCapture(str(path)).get(cv2.CAP_PROP_FRAME_COUNT) == 2


def test_log_writes_a_line_a_frame(tiny_onnx, tmp_path, capsys):
    path = tmp_path / "log.jsonl"
    assert log_jsonl.main([*arguments(tiny_onnx), "--jsonl", str(path)]) == 0
    assert [json.loads(line)["frame_id"] for line in path.read_text().splitlines()] == [0, 1]
    assert "mostly " in capsys.readouterr().out


def test_the_ros2_package_holds_the_parameters_of_the_bundled_networks():
    path = Path(__file__).parents[2] / "packaging/ros2/edgeseg_ros/config/nav2_costmap.yaml"
    flags = "--free road pavement --grid-ahead 0 8 --grid-side -4 4 --cell-m 0.05"
    grid = GridOptions((0.0, 8.0), (-4.0, 4.0), 0.05)
    assert path.read_text() == nav2_parameters.parameters(CAMVID_CLASSES, ("road", "pavement"), grid, flags)


def test_every_class_of_a_model_is_in_one_of_nav2s_class_types(tiny_onnx, capsys):
    assert nav2_parameters.main(["--model", str(tiny_onnx), "--free", "red", "--grid-ahead", "1", "5"]) == 0
    said = capsys.readouterr().out
    for line in ('classes: ["red"]', 'classes: ["blue", "green"]', "width: 10", "raytrace_max_range: 5.0"):
        assert f" {line}\n" in said
    assert nav2_parameters.main(["--model", str(tiny_onnx), "--free", "road"]) == 1


def test_a_class_that_the_network_lacks(tiny_onnx, capsys):
    assert drive.main(arguments(tiny_onnx)) == 1
    assert "expected names among blue, green, red, got road" in capsys.readouterr().err
