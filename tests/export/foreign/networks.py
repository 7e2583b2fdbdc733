"""Tiny random networks as the toolkits write them, and a pipeline in numpy to compare their files with."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from runtime.segmenter import Segmenter
from training.streets import render_scene

CLASSES = 5
SIZE_HW = (64, 96)
FLOAT = TensorProto.FLOAT
NCHW = (1, 3, *SIZE_HW)
FREE = ("batch", 3, "height", "width")
NAMES = [f"class {index}" for index in range(CLASSES)]
ENOUGH = 0.995
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


def body(
    channels: int = CLASSES, inputs: int = 3, seed: int = 0, gain: float = 1.0
) -> tuple[list[onnx.NodeProto], dict[str, np.ndarray]]:
    """planes float32 (N, inputs, H, W) → logits (N, channels, H / 4, W / 4)."""
    rng = np.random.default_rng(seed)
    sizes = {"stem": (8, inputs, 3, 3), "down": (8, 8, 3, 3), "head": (channels, 8, 1, 1)}
    weights = {
        name: rng.normal(0, gain / np.sqrt(np.prod(size[1:])), size).astype(np.float32)
        for name, size in sizes.items()
    }
    weights["bias"] = rng.normal(0, 0.1, channels).astype(np.float32)
    half: dict[str, Any] = {"strides": [2, 2], "pads": [1, 1, 1, 1]}
    nodes = [
        helper.make_node("Conv", ["planes", "stem"], ["a"], **half),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "down"], ["c"], **half),
        helper.make_node("Relu", ["c"], ["d"]),
        helper.make_node("Conv", ["d", "head", "bias"], ["logits"]),
    ]
    return nodes, weights


def write(
    path: Path,
    before: Sequence[onnx.NodeProto],
    after: Sequence[onnx.NodeProto],
    *,
    input_shape: Sequence[int | str],
    input_type: int = FLOAT,
    output_type: int = FLOAT,
    channels: int = CLASSES,
    inputs: int = 3,
    constants: dict[str, np.ndarray] | None = None,
    metadata: dict[str, str] | None = None,
    gain: float = 1.0,
    change: Callable[[onnx.ModelProto], None] | None = None,
    outputs: Sequence[str] = ("y",),
) -> Path:
    """Write `x` → before → planes → body → logits → after → `y`."""
    nodes, weights = body(channels, inputs, gain=gain)
    _balance(nodes, weights, inputs)
    weights |= constants or {}
    graph = helper.make_graph(
        [*before, *nodes, *after],
        "foreign",
        [helper.make_tensor_value_info("x", input_type, input_shape)],
        [helper.make_tensor_value_info(name, output_type, None) for name in outputs],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    if metadata:
        helper.set_model_props(model, metadata)
    if change is not None:
        change(model)
    onnx.save(model, path)
    return path


def _balance(nodes: list[onnx.NodeProto], weights: dict[str, np.ndarray], inputs: int) -> None:
    """Let every class win somewhere on a street: logits of mean 0 and standard deviation 1 each."""
    graph = helper.make_graph(
        nodes,
        "body",
        [helper.make_tensor_value_info("planes", FLOAT, None)],
        [helper.make_tensor_value_info("logits", FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    run = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    pictures = np.concatenate([rgb_planes(image) for image in scenes()])  # (N, 3, H, W)
    planes = {
        1: pictures[:, 1:2],
        3: pictures,
        4: np.concatenate((pictures, pictures[:, :1] * 0 + 1), axis=1),
    }
    (logits,) = run.run(None, {"planes": planes[inputs]})
    mean, std = logits.mean((0, 2, 3)), logits.std((0, 2, 3))
    weights["head"] = (weights["head"] / std[:, None, None, None]).astype(np.float32)
    weights["bias"] = ((weights["bias"] - mean) / std).astype(np.float32)


def node(operator: str, inputs: str, output: str, **attributes: Any) -> onnx.NodeProto:
    """A node with one output, its inputs named in one text."""
    return helper.make_node(operator, inputs.split(), [output], **attributes)


IDENTITY = [node("Identity", "x", "planes")]
LOGITS = [node("Identity", "logits", "y")]
TO_PLANES = [node("Transpose", "x", "planes", perm=[0, 3, 1, 2])]
TO_PIXELS = [node("Transpose", "logits", "y", perm=[0, 2, 3, 1])]


def scenes(count: int = 4, size_hw: tuple[int, int] = (120, 200)) -> list[np.ndarray]:
    """Pictures of another shape than the networks'."""
    return [render_scene(seed, size_hw).image_bgr for seed in range(7, 7 + count)]


def session(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    """The network as it is."""
    opened = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    name, kind = opened.get_inputs()[0].name, opened.get_inputs()[0].type
    types = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64}
    return lambda x: opened.run(None, {name: x.astype(types.get(kind, np.uint8))})[0]


def agreement(
    path: Path, by_hand: Callable[[np.ndarray], np.ndarray], images_bgr: Sequence[np.ndarray] = ()
) -> float:
    """Share of pixels on which an adapted file and a pipeline by hand give the same class."""
    same = pixels = 0
    with Segmenter(path) as segment:
        for image_bgr in images_bgr or scenes():
            mask, expected = segment(image_bgr).mask, by_hand(image_bgr)
            assert mask.shape == expected.shape == image_bgr.shape[:2]
            same += int((mask == expected).sum())
            pixels += mask.size
            assert expected.min() != expected.max(), "one class everywhere proves nothing"
    return same / pixels


def upsampled(scores: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    """(C, h, w) → classes (H, W)."""
    planes = [
        cv2.resize(np.float32(plane), size_hw[::-1], interpolation=cv2.INTER_LINEAR) for plane in scores
    ]
    return np.argmax(planes, axis=0)


def rgb_planes(image_bgr: np.ndarray, size_hw: tuple[int, int] = SIZE_HW) -> np.ndarray:
    """Stretched, RGB / 255, float32 (1, 3, H, W)."""
    resized = cv2.resize(image_bgr, size_hw[::-1], interpolation=cv2.INTER_LINEAR)
    return (resized[:, :, ::-1] / 255).astype(np.float32).transpose(2, 0, 1)[None]


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


def by_pil(image: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    pillow = pytest.importorskip("PIL.Image")
    return np.asarray(pillow.fromarray(image).resize(size_hw[::-1], pillow.Resampling.BILINEAR))
