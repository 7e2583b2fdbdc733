import json

import cv2
import numpy as np
import pytest

from benchmarks.steadiness import main
from benchmarks.subjects.flicker import Flicker
from runtime.contract import CAMVID_CLASSES

TEXTURE = cv2.GaussianBlur(
    np.random.default_rng(1).integers(0, 256, (200, 300, 3), dtype=np.uint8), (0, 0), 3
)
TEXTURE = cv2.normalize(TEXTURE, None, 0, 255, cv2.NORM_MINMAX)


def test_classes_that_change_where_the_picture_moves_along_are_counted():
    meter = Flicker()
    for number in range(4):
        label = np.zeros((120, 160), np.uint8)
        label[:, 60 - 3 * number :] = 1
        label[40:60, 100:140] = 2 * (number % 2)  # a twentieth of the picture flickers
        meter.add(TEXTURE[:120, 3 * number : 160 + 3 * number], label)
    assert meter.share == pytest.approx(800 / 120 / 160, abs=0.012)
    before = meter.still
    meter.begin_anew()
    meter.add(TEXTURE[:120, :160], np.zeros((120, 160), np.uint8))
    assert meter.still == before


def test_masks_of_a_drive_and_a_video_are_measured(tmp_path, tiny, write_tiny_onnx, capsys):
    model = write_tiny_onnx(
        tmp_path / "s.onnx", contract=tiny.tiny_contract((64, 96), classes=CAMVID_CLASSES)
    )
    for number in range(3):
        cv2.imwrite(str(tmp_path / f"{number}.png"), TEXTURE[:96, 4 * number : 128 + 4 * number])
    arguments = ["--model", str(model), "--drives", "1", "--frames", "5", "--size", "96", "128"]
    assert main([*arguments, "--video", str(tmp_path / "*.png"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    for masks in (found["plain"], found["steady"]):
        assert 0 <= masks["video_flicker"] <= 1
        assert 0 < masks["miou"] < 1
    assert found["steady"]["flicker"] <= found["plain"]["flicker"] < 1
    assert main(arguments) == 0
    assert "of each frame" in capsys.readouterr().out
    assert (
        main(["--model", str(write_tiny_onnx(tmp_path / "other.onnx")), "--drives", "1", "--frames", "5"])
        == 1
    )
    assert "expected one of CamVid's classes" in capsys.readouterr().err
