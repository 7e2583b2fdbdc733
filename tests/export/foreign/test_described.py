"""What toolkits write into a file or beside it is read, so that no flag is needed."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest

from export.adapt import main
from export.foreign.adaptation import AdaptOptions, adapt
from export.foreign.input import InputOptions
from runtime.contract import LATEST_SCHEMA, ImageFit, ModelContract
from runtime.errors import ConfigError
from tests.export.foreign.networks import (
    ENOUGH,
    FREE,
    HF_CONFIG,
    HF_PREPROCESSOR,
    IDENTITY,
    IMAGENET,
    LOGITS,
    NAMES,
    NCHW,
    SIZE_HW,
    ULTRALYTICS,
    agreement,
    beside,
    by_pil,
    normalized,
    session,
    stretched,
    upsampled,
    write,
)


def test_another_task_is_refused(tmp_path: Path) -> None:
    metadata = {**ULTRALYTICS, "task": "detect"}
    path = write(tmp_path / "net.onnx", IDENTITY, LOGITS, input_shape=NCHW, metadata=metadata)
    with pytest.raises(ConfigError, match="task 'detect'"):
        adapt(path)


def test_a_switch_that_is_off_wins(tmp_path: Path) -> None:
    path = write(tmp_path / "model.onnx", IDENTITY, LOGITS, input_shape=FREE)
    off = {**HF_PREPROCESSOR, "do_normalize": False, "do_flip_channel_order": True}
    beside(tmp_path, config__json=HF_CONFIG, preprocessor_config__json=off)
    report = adapt(path)
    run = session(path)

    def by_hand(image: np.ndarray) -> np.ndarray:
        bgr = by_pil(image, SIZE_HW)
        return upsampled(run(normalized(bgr))[0], image.shape[:2])

    assert agreement(report.path, by_hand) >= ENOUGH


def test_hugging_faces_crop_leaves_void_around_it(tmp_path: Path) -> None:
    path = write(tmp_path / "model.onnx", IDENTITY, LOGITS, input_shape=("batch", 3, "height", "width"))
    crop = {"do_center_crop": True, "crop_size": {"height": 64, "width": 64}, "size": {"shortest_edge": 72}}
    beside(tmp_path, config__json=HF_CONFIG, preprocessor_config__json={**HF_PREPROCESSOR, **crop})
    report = adapt(path)
    assert report.contract.input.fit == ImageFit("crop", "antialias", zoom=72 / 64)
    run = session(path)

    def by_hand(image: np.ndarray) -> np.ndarray:
        scaled = by_pil(image, (72, 120))[4:68, 28:92]
        scores = run(normalized(scaled[:, :, ::-1], *IMAGENET))[0]
        y, x = ((np.arange(n) + 0.5) * m / n - o for n, m, o in ((120, 72, 4), (200, 120, 28)))
        places = np.meshgrid(*(np.float32(at / 4 - 0.5) for at in (x, y)))
        planes = [
            cv2.remap(one, *places, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE) for one in scores
        ]
        mask = np.argmax(planes, axis=0)
        mask[(y < 0) | (y > 64)] = 255
        mask[:, (x < 0) | (x > 64)] = 255
        return mask

    assert agreement(report.path, by_hand) >= ENOUGH


@pytest.mark.parametrize(
    "content", ["{", "[1, 2]", '{"id2label": {"5": "a"}}', '{"id2label": 3}', "[" * 99_999]
)
def test_a_damaged_neighbour_is_noted_and_left_out(tmp_path: Path, content: str) -> None:
    path = write(tmp_path / "model.onnx", IDENTITY, LOGITS, input_shape=NCHW)
    (tmp_path / "config.json").write_text(content)
    beside(tmp_path, classes__json=NAMES)
    adapt(path)
    (tmp_path / "classes.json").unlink()
    with pytest.raises(ConfigError, match="--classes"):
        adapt(path)


def test_what_the_caller_says_goes_first(tmp_path: Path) -> None:
    path = write(tmp_path / "net.onnx", IDENTITY, LOGITS, input_shape=NCHW, metadata=ULTRALYTICS)
    wished = InputOptions(preprocess="imagenet", fit="stretch")
    report = adapt(path, options=AdaptOptions(wished))
    assert agreement(report.path, stretched(path, *IMAGENET)) >= ENOUGH


@pytest.mark.parametrize("option", ["preprocess", "scale"])
def test_a_preset_stands_alone(option: str) -> None:
    with pytest.raises(ConfigError, match="got both"):
        InputOptions(preprocess="unit", scale=1.0)


def test_only_a_fitted_file_needs_a_newer_runtime(tmp_path: Path) -> None:
    path = write(tmp_path / "net.onnx", IDENTITY, LOGITS, input_shape=NCHW, metadata=ULTRALYTICS)
    contract = adapt(path).contract
    plain = json.loads(contract.to_json())
    assert plain["schema"] == LATEST_SCHEMA
    assert ModelContract.from_json(contract.to_json()) == contract
    stretch = json.loads(contract.with_input(fit=ImageFit()).to_json())
    assert stretch["schema"] == 2
    assert "fit" not in stretch["input"]


def test_the_command_says_what_it_took_from_where(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "net.onnx", IDENTITY, LOGITS, input_shape=FREE, metadata=ULTRALYTICS)
    assert main([str(path)]) == 0
    printed = capsys.readouterr().out
    assert "took    names 5: it's, class 1, class 2, class 3, … (from Ultralytics' metadata)" in printed
    assert "took    size_hw 64 96 (from Ultralytics' metadata)" in printed
    assert "the network sees 0" in printed
    assert onnx.load(tmp_path / "net-edgeseg.onnx").graph.input[0].name == "image"
