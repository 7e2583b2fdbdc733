import json
import os

import cv2
import numpy as np
import pytest

from benchmarks.accuracy import main
from runtime.contract import CAMVID_CLASSES
from runtime.segmenter import Segmenter
from training.data.cityscapes import CITYSCAPES_CLASSES
from training.data.synthetic import SyntheticStreets
from training.evaluation.metrics import class_probabilities


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


def test_the_share_of_unknown_pixels_is_told_of_pictures_with_and_without_labels(
    street_onnx, tmp_path, capsys
):
    grey, noise = np.full((2, 48, 64, 3), 128, np.uint8)
    noise[:] = np.random.default_rng(0).integers(0, 256, noise.shape)
    for name, picture in (("grey", grey), ("noise", noise)):
        cv2.imwrite(str(tmp_path / f"{name}.png"), picture)
    arguments = ["--model", str(street_onnx), "--data", "synthetic", "--limit", "1", "--unlabelled"]
    arguments += [
        str(tmp_path / "*.png"),
        str(tmp_path / "grey.png"),
        "--unknown-below",
        "0",
        "0.2",
        "0.6",
        "1",
    ]
    assert main([*arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["unknown"]
    assert [one["name"] for one in found] == [
        "synthetic val",
        str(tmp_path / "*.png"),
        str(tmp_path / "grey.png"),
    ]
    assert [one["frames"] for one in found] == [1, 1, 1]
    with Segmenter(street_onnx, unknown_below=0.6) as segment:
        answer = segment(grey)
    assert found[2]["shares"][2] == pytest.approx((answer.mask == 255).mean())
    assert found[2]["mean_confidence"] == pytest.approx(answer.confidence.mean() / 255)
    for one in found:
        assert one["shares"] == sorted(one["shares"])
        assert one["shares"][0] == 0
    assert len(found[0]["right"]) == 4
    assert found[1]["right"] == []
    assert main(arguments) == 0
    assert "right of the others" in capsys.readouterr().out


def test_text_ends_with_the_next_command(street_onnx, capsys):
    assert main(["--model", str(street_onnx), "--data", "synthetic", "--limit", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("mIoU") for line in lines)
    assert lines[-1] == f"next: python -m benchmarks.latency --model {street_onnx}"


def test_a_network_of_other_classes_is_measured_through_a_map(tmp_path, tiny, write_tiny_onnx, capsys):
    contract = tiny.tiny_contract((64, 96), classes=CITYSCAPES_CLASSES)
    foreign = write_tiny_onnx(tmp_path / "foreign.onnx", contract=contract)
    arguments = ["--model", str(foreign), "--data", "synthetic", "--limit", "2", "--json"]
    assert main(arguments) == 1
    assert "--class-map" in capsys.readouterr().err
    assert main([*arguments, "--class-map", "cityscapes-to-camvid", "--ece"]) == 0
    captured = capsys.readouterr()
    report = json.loads(captured.out)
    assert "sidewalk → pavement" in captured.err

    # The same by hand: sums of probabilities at the label's size, then the largest.
    dataset = SyntheticStreets("val")
    groups = [group for _, group in sorted(GROUPS.items())]
    counted = np.zeros((11, 11), np.int64)
    with Segmenter(foreign) as segment:
        for index in range(2):
            sample = dataset[index]
            logits = segment.infer(segment.fit(sample.image_bgr)).output
            shares = class_probabilities(logits, sample.label.shape)
            mask = np.stack([shares[group].sum(axis=0) for group in groups]).argmax(axis=0)
            known = sample.label != 255
            np.add.at(counted, (sample.label[known], mask[known]), 1)
    assert report["pixel_accuracy"] == pytest.approx(np.trace(counted) / counted.sum(), abs=1e-3)


GROUPS = {
    0: [10], 1: [2, 3], 2: [5], 3: [0], 4: [1], 5: [8, 9], 6: [6, 7], 7: [4], 8: [13, 14, 15, 16], 9: [11],
    10: [12, 17, 18],
}  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--data", "camvid"], "--root"),
        (["--data", "camvid", "--root", "no-such-folder"], "no-such-folder"),
        (["--data", "synthetic", "--split", "tuesday"], "tuesday"),
        (["--data", "synthetic", "--limit", "0"], "limit"),
        (["--data", "synthetic", "--limit", "1", "--unlabelled", "no-such.mp4"], "no-such.mp4"),
        (["--data", "synthetic", "--unknown-below", "2"], "unknown_below"),
        (["--data", "synthetic", "--class-map", "no-such-map"], "no-such-map"),
        (["--data", "synthetic", "--class-map", "x", "--unlabelled", "a.mp4"], "leave one out"),
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
