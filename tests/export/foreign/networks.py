"""Tiny random networks as the toolkits write them, and a pipeline in numpy to compare their files with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from runtime.segmenter import Segmenter
from training.streets import render_scene

CLASSES = 5
SIZE_HW = (64, 96)
FLOAT = TensorProto.FLOAT


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


def scenes(count: int = 4, size_hw: tuple[int, int] = (120, 200)) -> list[np.ndarray]:
    """Pictures of another shape than the networks'."""
    return [render_scene(seed, size_hw).image_bgr for seed in range(7, 7 + count)]


def session(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    """The network as it is."""
    opened = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    name, kind = opened.get_inputs()[0].name, opened.get_inputs()[0].type
    types = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64}
    return lambda x: opened.run(None, {name: x.astype(types.get(kind, np.uint8))})[0]


def agreement(path: Path, by_hand: Callable[[np.ndarray], np.ndarray]) -> float:
    """Share of pixels on which an adapted file and a pipeline by hand give the same class."""
    same = pixels = 0
    with Segmenter(path) as segment:
        for image_bgr in scenes():
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
