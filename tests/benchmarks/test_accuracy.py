import json
import os
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks.accuracy import main, measure_accuracy, measure_calibration
from runtime import Segmenter
from runtime.contract import CAMVID_CLASSES
from runtime.errors import ConfigError, DatasetError
from runtime.network.session import NetworkSession


class Pictures:
    name, split, terms = "pictures", "val", ""

    def __init__(self, classes, *samples):
        self.classes = classes
        self._samples = samples

    def __len__(self):
        return len(self._samples)

    def __getitem__(self, index):
        image_bgr, label = self._samples[index]
        return SimpleNamespace(image_bgr=image_bgr, label=label, name=str(index))


def plain(channel, label):
    image_bgr = np.zeros((64, 96, 3), np.uint8)
    image_bgr[..., channel] = 255
    return image_bgr, label


def test_agrees_with_figures_worked_out_by_hand(tiny_onnx, tiny):
    all_blue = np.zeros((64, 96), np.uint8)
    half_green = np.ones((64, 96), np.uint8)
    half_green[:, :48] = 0
    half_void = np.full((64, 96), 255, np.uint8)
    half_void[:32] = 1
    pictures = Pictures(tiny.COLOR_CLASSES, plain(0, all_blue), plain(0, half_green), plain(1, half_void))
    with Segmenter(tiny_onnx) as segment:
        accuracy = measure_accuracy(segment, pictures)
    # In half pictures: blue is labelled 3, predicted 4, both 3; green labelled 2, predicted 1, both 1.
    assert accuracy.per_class_iou == {"blue": 3 / 4, "green": 1 / 2, "red": None}
    assert accuracy.miou == pytest.approx(5 / 8)
    assert accuracy.pixel_accuracy == pytest.approx(4 / 5)
    assert accuracy.frames == 3


def test_a_limit_takes_the_first_images_only(tiny_onnx, tiny):
    right, wrong = np.zeros((64, 96), np.uint8), np.full((64, 96), 2, np.uint8)
    pictures = Pictures(tiny.COLOR_CLASSES, plain(0, right), plain(0, wrong))
    with Segmenter(tiny_onnx) as segment:
        accuracy = measure_accuracy(segment, pictures, limit=1)
    assert (accuracy.miou, accuracy.frames) == (1.0, 1)


@pytest.mark.parametrize("limit", [0, -3])
def test_refuses_a_limit_that_measures_nothing(tiny_onnx, tiny, limit):
    with Segmenter(tiny_onnx) as segment, pytest.raises(ConfigError, match="at least 1"):
        measure_accuracy(segment, Pictures(tiny.COLOR_CLASSES), limit=limit)


def test_refuses_data_of_other_classes(tiny_onnx):
    with Segmenter(tiny_onnx) as segment, pytest.raises(DatasetError, match=r"blue.*sky"):
        measure_accuracy(segment, Pictures(CAMVID_CLASSES))


@pytest.fixture
def street_onnx(tmp_path, tiny, write_tiny_onnx):
    contract = tiny.tiny_contract((64, 96), classes=CAMVID_CLASSES)
    return write_tiny_onnx(tmp_path / "street.onnx", contract=contract)


def test_json_is_all_of_stdout(street_onnx, capsys):
    arguments = ["--model", str(street_onnx), "--data", "synthetic", "--limit", "2", "--json"]
    assert main(arguments) == 0
    report = json.loads(capsys.readouterr().out)
    assert 0 <= report["miou"] <= 1
    assert 0 <= report["pixel_accuracy"] <= 1
    assert list(report["per_class_iou"]) == list(CAMVID_CLASSES.names)
    assert (report["dataset"], report["split"], report["frames"]) == ("synthetic", "val", 2)


def test_a_calibration_error_is_measured_when_asked_for(street_onnx, capsys):
    arguments = ["--model", str(street_onnx), "--data", "synthetic", "--limit", "1", "--json"]
    assert main(arguments) == 0
    assert json.loads(capsys.readouterr().out)["ece"] is None
    assert main([*arguments, "--ece"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert 0 <= report["ece"] <= 1
    assert 0 <= report["mean_confidence"] <= 1


def test_calibration_agrees_with_figures_worked_out_by_hand(tiny_onnx, tiny):
    half_right = np.zeros((64, 96), np.uint8)
    half_right[:, 48:] = 2
    half_right[0] = 255
    pictures = Pictures(tiny.COLOR_CLASSES, plain(0, half_right))
    calibration = measure_calibration(NetworkSession(tiny_onnx), pictures)
    sure = np.e / (np.e + 2)  # logits 1, 0, 0 everywhere
    assert calibration.mean_confidence == pytest.approx(sure)
    assert calibration.ece == pytest.approx(sure - 0.5)


@pytest.mark.parametrize("limit", [0, -3])
def test_refuses_to_calibrate_on_nothing(tiny_onnx, tiny, limit):
    with pytest.raises(ConfigError, match="at least 1"):
        measure_calibration(NetworkSession(tiny_onnx), Pictures(tiny.COLOR_CLASSES), limit=limit)


def test_refuses_to_calibrate_on_data_of_other_classes(tiny_onnx):
    with pytest.raises(DatasetError, match=r"blue.*sky"):
        measure_calibration(NetworkSession(tiny_onnx), Pictures(CAMVID_CLASSES))


def test_text_ends_with_the_next_command(street_onnx, capsys):
    assert main(["--model", str(street_onnx), "--data", "synthetic", "--limit", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("mIoU") for line in lines)
    assert lines[-1] == f"next: python -m benchmarks.latency --model {street_onnx}"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--data", "camvid"], "--root"),
        (["--data", "camvid", "--root", "no-such-folder"], "no-such-folder"),
        (["--data", "synthetic", "--split", "tuesday"], "tuesday"),
        (["--data", "synthetic", "--limit", "0"], "limit"),
        (["--data", "synthetic", "--leave-out", "0006R0"], "0006R0"),
    ],
)
def test_bad_input_gives_1_and_one_line(street_onnx, capsys, arguments, says):
    assert main(["--model", str(street_onnx), *arguments, "--json"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert says in captured.err


@pytest.mark.skipif("EDGESEG_CAMVID" not in os.environ, reason="needs CamVid, see EDGESEG_CAMVID")
def test_measures_real_frames(street_onnx, capsys):
    arguments = ["--data", "camvid", "--root", os.environ["EDGESEG_CAMVID"], "--limit", "2", "--json"]
    assert main(["--model", str(street_onnx), *arguments]) == 0
    assert json.loads(capsys.readouterr().out)["frames"] == 2
