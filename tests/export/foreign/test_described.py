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


@pytest.mark.parametrize(
    ("metadata", "says"),
    [
        ({"classes": str({name: index for index, name in enumerate(NAMES)})}, ""),
        ({"labels": str({index + 1: name for index, name in enumerate(NAMES)})}, "numbered [1, 2, 3, 4, 5]"),
        ({"labels": str([{"name": "no id"}] * 5)}, "metadata 'labels' was left out"),
        ({"model_info mean_values": "many"}, "model_info was left out"),
        ({"model_info mean_values": "1 2"}, "model_info was left out"),
        ({"model_info pad_value": "black"}, "model_info was left out"),
        ({"task": "semantic", "names": "{0: 'a', 7: 'b'}"}, "Ultralytics' metadata was left out"),
    ],
)
def test_odd_metadata_are_noted_and_left_out(tmp_path: Path, metadata: dict[str, str], says: str) -> None:
    path = write(tmp_path / "net.onnx", IDENTITY, LOGITS, input_shape=NCHW, metadata=metadata)
    (tmp_path / "labels.txt").write_text("\n".join(NAMES))
    report = adapt(path)
    assert report.contract.classes.names == tuple(NAMES)
    assert says in " ".join(report.notes)


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("preprocessor_config.json", {"rescale_factor": 0}),
        ("pipeline.json", {"pipeline": {"tasks": []}}),
        (
            "pipeline.json",
            {"pipeline": {"tasks": [{"module": "Transform", "transforms": [{"type": "Resize"}]}]}},
        ),
        ("image_converter.json", {"config": {"scale": 0}}),
        ("config.json", {"id2label": {"0": "a", "255": "void"}}),
    ],
)
def test_an_odd_neighbour_is_noted_and_left_out(tmp_path: Path, name: str, plain: object) -> None:
    path = write(tmp_path / "net.onnx", IDENTITY, LOGITS, input_shape=NCHW)
    (tmp_path / "labels.txt").write_text("\n".join(NAMES))
    (tmp_path / name).write_text(json.dumps(plain))
    report = adapt(path)
    assert report.contract.input.size_hw == SIZE_HW
    is_whole = name == "pipeline.json" and plain != {"pipeline": {"tasks": []}}  # a size of none is no error
    assert is_whole or f"{name} was left out" in " ".join(report.notes)


@pytest.mark.parametrize(
    "classes",
    [
        {str(index): name for index, name in enumerate(NAMES)},
        {name: index for index, name in enumerate(NAMES)},
        [{"id": index, "name": name} for index, name in enumerate(NAMES)],
    ],
)
def test_classes_in_other_forms(tmp_path: Path, classes: object) -> None:
    path = write(tmp_path / "net.onnx", IDENTITY, LOGITS, input_shape=NCHW)
    (tmp_path / "classes.json").write_text(json.dumps(classes))
    assert adapt(path).contract.classes.names == tuple(NAMES)


def test_a_refusal_says_what_was_found(tmp_path: Path) -> None:
    path = write(tmp_path / "net.onnx", IDENTITY, LOGITS, input_shape=NCHW)
    (tmp_path / "classes.json").write_text(json.dumps([f"class {index}" for index in range(300)]))
    with pytest.raises(ConfigError, match=r"classes.json was left out: it names 300 classes, expected 255"):
        adapt(path)


def test_a_file_named_from_its_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "onnx").mkdir()
    write(tmp_path / "onnx" / "model.onnx", IDENTITY, LOGITS, input_shape=FREE)
    beside(tmp_path, config__json=HF_CONFIG, preprocessor_config__json=HF_PREPROCESSOR)
    monkeypatch.chdir(tmp_path / "onnx")
    assert adapt("model.onnx", output_path=tmp_path / "out.onnx").contract.classes.names == tuple(NAMES)
