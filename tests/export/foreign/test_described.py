"""What toolkits write into a file or beside it is read, so that no flag is needed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto

from export.adapt import main
from export.foreign.adaptation import AdaptOptions, adapt
from export.foreign.input import InputOptions
from runtime.contract import LATEST_SCHEMA, ImageFit, ModelContract
from runtime.errors import ConfigError
from tests.export.foreign.networks import CLASSES, SIZE_HW, agreement, node, session, upsampled, write

IDENTITY = [node("Identity", "x", "planes")]
LOGITS = [node("Identity", "logits", "y")]
NCHW = (1, 3, *SIZE_HW)
FREE = ("batch", 3, "height", "width")
NAMES = [f"class {index}" for index in range(CLASSES)]
ENOUGH = 0.995
MEAN_255, STD_255 = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
ULTRALYTICS = {
    "description": "Ultralytics YOLO26n-sem model",
    "author": "Ultralytics",
    "stride": "32",
    "task": "semantic",
    "batch": "1",
    "imgsz": str(list(SIZE_HW)),
    "names": str(dict(enumerate(["it's", *NAMES[1:]]))),
    "channels": "3",
}


def beside(folder: Path, **files: object) -> None:
    """Write JSON files, their dots as two underscores."""
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_text(json.dumps(content))


def normalized(rgb: np.ndarray, mean: object = 0.0, std: object = 1.0, scale: float = 255) -> np.ndarray:
    return ((rgb / scale - np.array(mean)) / np.array(std)).astype(np.float32).transpose(2, 0, 1)[None]


def stretched(
    path: Path, mean: object, std: object, scale: float = 255, **how: int
) -> Callable[..., np.ndarray]:
    run = session(path)

    def by_hand(image: np.ndarray) -> np.ndarray:
        rgb = cv2.resize(image, SIZE_HW[::-1], **how)[:, :, ::-1]
        return upsampled(run(normalized(rgb, mean, std, scale))[0], image.shape[:2])

    return by_hand


def letterboxed(image: np.ndarray, fill: int) -> tuple[np.ndarray, tuple[int, int, int, int]]:
    """As Ultralytics' LetterBox does it: the picture, and top, left, height and width of the frame in it."""
    ratio = min(SIZE_HW[0] / image.shape[0], SIZE_HW[1] / image.shape[1])
    width, height = round(image.shape[1] * ratio), round(image.shape[0] * ratio)
    resized = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    down, across = (SIZE_HW[0] - height) / 2, (SIZE_HW[1] - width) / 2
    top, left = round(down - 0.1), round(across - 0.1)
    bottom, right = SIZE_HW[0] - height - top, SIZE_HW[1] - width - left
    borders = (top, bottom, left, right)
    picture = cv2.copyMakeBorder(resized, *borders, cv2.BORDER_CONSTANT, value=(fill,) * 3)
    return picture, (top, left, height, width)


def test_ultralytics_needs_no_flag(tmp_path: Path) -> None:
    path = write(tmp_path / "net.onnx", IDENTITY, LOGITS, input_shape=FREE, metadata=ULTRALYTICS)
    report = adapt(path)
    assert report.contract.classes.names[0] == "it's"
    assert report.contract.input.fit == ImageFit("letterbox")
    assert report.contract.input.size_hw == SIZE_HW
    assert any(line.startswith("names 5: it's, ") and "Ultralytics" in line for line in report.taken)
    run = session(path)

    def by_hand(image: np.ndarray) -> np.ndarray:
        picture, (top, left, height, width) = letterboxed(image, 114)
        scores = run(normalized(picture[:, :, ::-1]))[0]
        full = [cv2.resize(plane, SIZE_HW[::-1])[top : top + height, left : left + width] for plane in scores]
        return upsampled(np.stack(full), image.shape[:2])

    # Their way interpolates twice, to the input's size and then to the frame's.
    assert agreement(report.path, by_hand) >= 0.98
    assert agreement(report.path, exactly(run)) >= ENOUGH


def exactly(run: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
    """Letterboxed by hand, each pixel's logits read at its own place in the picture."""

    def by_hand(image: np.ndarray) -> np.ndarray:
        picture, (top, left, height, width) = letterboxed(image, 114)
        scores = run(normalized(picture[:, :, ::-1]))[0]
        rows = ((np.arange(image.shape[0]) + 0.5) * height / image.shape[0] + top) / 4 - 0.5
        columns = ((np.arange(image.shape[1]) + 0.5) * width / image.shape[1] + left) / 4 - 0.5
        x, y = np.meshgrid(columns.astype(np.float32), rows.astype(np.float32))
        return np.argmax([remapped(plane, x, y) for plane in scores], axis=0)

    return by_hand


def remapped(plane: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Bilinear values at places of a plane, the outermost ones beyond it."""
    return cv2.remap(plane, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def test_ultralytics_own_argmax_comes_back_at_the_frames_pixels(tmp_path: Path) -> None:
    after = [
        node("Resize", "logits none none to", "full", mode="linear"),
        node("ArgMax", "full", "classes", axis=1, keepdims=0),
        node("Cast", "classes", "y", to=TensorProto.UINT8),
    ]
    constants = {"to": np.array([1, CLASSES, *SIZE_HW]), "none": np.array([], np.float32)}
    path = write(
        tmp_path / "net.onnx",
        IDENTITY,
        after,
        input_shape=NCHW,
        output_type=TensorProto.UINT8,
        metadata=ULTRALYTICS,
        constants=constants,
    )
    report = adapt(path)
    assert report.contract.output.kind == "mask"
    run = session(path)

    def by_hand(image: np.ndarray) -> np.ndarray:
        picture, (top, left, height, width) = letterboxed(image, 114)
        mask = run(normalized(picture[:, :, ::-1]))[0][top : top + height, left : left + width]
        return cv2.resize(mask, image.shape[1::-1], interpolation=cv2.INTER_NEAREST_EXACT)

    assert agreement(report.path, by_hand) >= ENOUGH


def test_another_task_is_refused(tmp_path: Path) -> None:
    metadata = {**ULTRALYTICS, "task": "detect"}
    path = write(tmp_path / "net.onnx", IDENTITY, LOGITS, input_shape=NCHW, metadata=metadata)
    with pytest.raises(ConfigError, match="task 'detect'"):
        adapt(path)


HF_CONFIG = {
    "id2label": {str(index): name for index, name in enumerate(NAMES)},
    "semantic_loss_ignore_index": 255,
}
HF_PREPROCESSOR = {
    "do_resize": True,
    "size": {"height": SIZE_HW[0], "width": SIZE_HW[1]},
    "resample": 2,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": list(IMAGENET[0]),
    "image_std": list(IMAGENET[1]),
    "do_reduce_labels": True,
}


def by_pil(image: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    pillow = pytest.importorskip("PIL.Image")
    return np.asarray(pillow.fromarray(image).resize(size_hw[::-1], pillow.Resampling.BILINEAR))


def test_hugging_faces_folder_needs_no_flag(tmp_path: Path) -> None:
    (tmp_path / "onnx").mkdir()
    path = write(tmp_path / "onnx" / "model.onnx", IDENTITY, LOGITS, input_shape=FREE)
    (tmp_path / "onnx" / "model_fp16.onnx").write_bytes(path.read_bytes())
    beside(tmp_path, config__json=HF_CONFIG, preprocessor_config__json=HF_PREPROCESSOR)
    report = adapt(tmp_path)
    assert report.contract.classes.names == tuple(NAMES)
    assert report.contract.classes.ignore_index == 255
    run = session(path)

    def by_hand(image: np.ndarray) -> np.ndarray:
        return upsampled(run(normalized(by_pil(image, SIZE_HW)[:, :, ::-1], *IMAGENET))[0], image.shape[:2])

    assert agreement(report.path, by_hand) >= ENOUGH


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


def test_model_apis_entries_need_no_flag(tmp_path: Path) -> None:
    info = {
        "model_info model_type": "Segmentation",
        "model_info labels": " ".join(name.replace(" ", "_") for name in NAMES),
        "model_info mean_values": "123.675 116.28 103.53",
        "model_info scale_values": "58.395 57.12 57.375",
        "model_info reverse_input_channels": "True",
        "model_info resize_type": "standard",
        "model_info pad_value": "0",
    }
    path = write(tmp_path / "net.onnx", IDENTITY, LOGITS, input_shape=NCHW, metadata=info)
    report = adapt(path)
    assert report.contract.classes.names[1] == "class_1"
    by_hand = stretched(path, (123.675, 116.28, 103.53), (58.395, 57.12, 57.375), 1)
    assert agreement(report.path, by_hand) >= ENOUGH


def test_mmdeploys_pipeline_needs_the_names_only(tmp_path: Path) -> None:
    path = write(tmp_path / "end2end.onnx", IDENTITY, LOGITS, input_shape=FREE)
    transforms = [
        {"type": "LoadImageFromFile"},
        {"type": "Resize", "keep_ratio": False, "size": list(SIZE_HW)},
        {
            "type": "Normalize",
            "to_rgb": True,
            "mean": [123.675, 116.28, 103.53],
            "std": [58.395, 57.12, 57.375],
        },
        {"type": "Collect", "keys": ["img"]},
    ]
    task = {"type": "Task", "module": "Transform", "name": "Preprocess", "transforms": transforms}
    beside(tmp_path, pipeline__json={"pipeline": {"tasks": [task, {"module": "Net"}]}})
    with pytest.raises(ConfigError, match="--classes"):
        adapt(tmp_path)
    beside(tmp_path, classes__json=NAMES)
    by_hand = stretched(path, (123.675, 116.28, 103.53), (58.395, 57.12, 57.375), 1)
    assert agreement(adapt(tmp_path).path, by_hand) >= ENOUGH


DEPLOY = """
Deploy:
  input_shape: [-1, 3, -1, -1]
  model: model.pdmodel
  output_op: argmax
  params: model.pdiparams
  transforms:
  - target_size: [96, 64]
    type: Resize
  - mean: [0.5, 0.5, 0.5]
    std: [0.5, 0.5, 0.5]
    type: Normalize
"""


def test_paddlesegs_deploy_file_needs_the_names_only(tmp_path: Path) -> None:
    pytest.importorskip("yaml")
    after = [node("ArgMax", "logits", "m", axis=1, keepdims=0), node("Cast", "m", "y", to=TensorProto.INT32)]
    kind = TensorProto.INT32
    path = write(tmp_path / "model.onnx", IDENTITY, after, input_shape=(-1, 3, -1, -1), output_type=kind)
    (tmp_path / "deploy.yaml").write_text(DEPLOY)
    beside(tmp_path, classes__json=NAMES)
    report = adapt(path)
    run = session(path)

    def by_hand(image: np.ndarray) -> np.ndarray:
        rgb = cv2.resize(image, SIZE_HW[::-1])[:, :, ::-1]
        mask = run(normalized(rgb, 0.5, 0.5))[0].astype(np.uint8).repeat(4, 0).repeat(4, 1)
        return cv2.resize(mask, image.shape[1::-1], interpolation=cv2.INTER_NEAREST_EXACT)

    assert agreement(report.path, by_hand) >= ENOUGH


def test_kerashubs_converter_needs_the_names_only(tmp_path: Path) -> None:
    before = [node("Transpose", "x", "planes", perm=[0, 3, 1, 2])]
    after = [node("Transpose", "logits", "y", perm=[0, 2, 3, 1])]
    path = write(tmp_path / "model.onnx", before, after, input_shape=("batch", "height", "width", 3))
    config = {"image_size": list(SIZE_HW), "scale": 1 / 127.5, "offset": -1.0, "interpolation": "bilinear"}
    beside(
        tmp_path, preprocessor__json={"config": {"image_converter": {"config": config}}}, classes__json=NAMES
    )
    report = adapt(path)
    assert report.output.layout == "nhwc"
    run = session(path)

    def by_hand(image: np.ndarray) -> np.ndarray:
        rgb = cv2.resize(image, SIZE_HW[::-1])[:, :, ::-1]
        scores = run(np.float32(rgb / 127.5 - 1)[None])[0].transpose(2, 0, 1)
        return upsampled(scores, image.shape[:2])

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
