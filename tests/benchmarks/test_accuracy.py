import json
import os

import pytest

from benchmarks.accuracy import main
from runtime.contract import CAMVID_CLASSES


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


def test_the_ece_is_measured_when_asked_for(street_onnx, capsys):
    arguments = ["--model", str(street_onnx), "--data", "synthetic", "--limit", "1", "--json"]
    assert main(arguments) == 0
    assert json.loads(capsys.readouterr().out)["ece"] is None
    assert main([*arguments, "--ece"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert 0 <= report["ece"] <= 1
    assert 0 <= report["mean_confidence"] <= 1


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
