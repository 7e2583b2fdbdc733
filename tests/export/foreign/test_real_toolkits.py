"""The toolkits themselves write tiny random networks and say what is right; each test needs its package.

pytest tests/export/foreign/test_real_toolkits.py -rP
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime as ort
import pytest
import torch
from torch import nn

from export.foreign.adaptation import AdaptOptions, adapt
from export.foreign.input import InputOptions
from tests.export.foreign.networks import ENOUGH, agreement, scenes, upsampled

NAMES = [f"class {index}" for index in range(7)]
SIZE_HW = (128, 160)
pytestmark = pytest.mark.filterwarnings("ignore")  # other people's
ByHand = Callable[[np.ndarray], np.ndarray]


class Balanced(nn.Module):
    """Logits of mean 0 and standard deviation 1 each, so that every class wins somewhere."""

    def __init__(
        self,
        logits_of: Callable[[torch.Tensor], torch.Tensor],
        network: nn.Module,
        size_hw: tuple[int, int] = SIZE_HW,
    ) -> None:
        super().__init__()
        self.network, self.logits_of = network.eval(), logits_of
        pictures = np.stack([cv2.resize(image, size_hw[::-1]) for image in scenes()])
        with torch.no_grad():
            logits = logits_of(torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1)
        self.register_buffer("mean", logits.mean((0, 2, 3), keepdim=True))
        self.register_buffer("std", logits.std((0, 2, 3), keepdim=True))

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        scaled: torch.Tensor = (self.logits_of(pixel_values) - self.mean) / self.std
        return scaled


def export(network: nn.Module, path: Path, size_hw: tuple[int, int] = SIZE_HW) -> None:
    logging.disable(logging.WARNING)  # what torch's exporter says about itself
    image = torch.zeros(1, 3, *size_hw)
    torch.onnx.export(network.eval(), (image,), str(path), dynamo=True, opset_version=18, verbose=False)
    logging.disable(logging.NOTSET)


def onnx_run(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda x: session.run(None, {name: np.asarray(x, np.float32)})[0]


def check(place: Path, by_hand: ByHand, options: AdaptOptions | None = None) -> None:
    """Adapt, compare, and print for the table in the documentation."""
    report = adapt(place, options=options or AdaptOptions())
    equal = agreement(report.path, by_hand)
    print(f"{equal:.3%} of pixels equal")
    assert equal >= ENOUGH


def segformer(transformers: Any) -> tuple[nn.Module, Any]:
    config = transformers.SegformerConfig(
        depths=[1] * 4,
        hidden_sizes=[8, 16, 24, 32],
        num_attention_heads=[1, 1, 2, 2],
        decoder_hidden_size=16,
        num_labels=len(NAMES),
    )
    processor = transformers.SegformerImageProcessor(size={"height": SIZE_HW[0], "width": SIZE_HW[1]})
    return transformers.SegformerForSemanticSegmentation(config), processor


def beit(transformers: Any) -> tuple[nn.Module, Any]:
    config = transformers.BeitConfig(
        image_size=128,
        hidden_size=32,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=64,
        out_indices=[1, 2, 3, 4],
        use_auxiliary_head=False,
        pool_scales=[1, 2],
        num_labels=len(NAMES),
    )
    processor = transformers.BeitImageProcessor(size={"height": 128, "width": 128}, do_center_crop=False)
    return transformers.BeitForSemanticSegmentation(config), processor


def upernet(transformers: Any) -> tuple[nn.Module, Any]:
    backbone = transformers.ConvNextConfig(
        depths=[1] * 4, hidden_sizes=[8, 16, 24, 32], out_features=["stage1", "stage2", "stage3", "stage4"]
    )
    config = transformers.UperNetConfig(
        backbone_config=backbone, hidden_size=16, use_auxiliary_head=False, pool_scales=[1, 2], num_labels=7
    )
    processor = transformers.SegformerImageProcessor(size={"height": SIZE_HW[0], "width": SIZE_HW[1]})
    return transformers.UperNetForSemanticSegmentation(config), processor


@pytest.mark.parametrize("make", [segformer, beit, upernet])
def test_transformers(tmp_path: Path, make: Callable[[Any], tuple[nn.Module, Any]]) -> None:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    network, processor = make(transformers)
    config: Any = network.config
    config.id2label = dict(enumerate(NAMES))
    config.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    net: Any = network
    size_hw = (processor.size["height"], processor.size["width"])
    export(Balanced(lambda x: net(pixel_values=x).logits, network, size_hw), tmp_path / "model.onnx", size_hw)
    run = onnx_run(tmp_path / "model.onnx")

    def by_hand(image: np.ndarray) -> np.ndarray:
        pixels = processor(images=np.ascontiguousarray(image[:, :, ::-1]), return_tensors="np")
        return upsampled(run(pixels["pixel_values"])[0], image.shape[:2])

    check(tmp_path, by_hand)


@pytest.mark.parametrize(("classes", "activation"), [(7, None), (7, "softmax2d"), (1, None), (1, "sigmoid")])
def test_segmentation_models(tmp_path: Path, classes: int, activation: str | None) -> None:
    """One flag: nothing beside the file says which mean and std its weights want."""
    smp = pytest.importorskip("segmentation_models_pytorch")
    torch.manual_seed(0)
    network = smp.Unet("resnet18", encoder_weights=None, classes=classes, activation=activation)
    export(network, tmp_path / "model.onnx")
    names = NAMES if classes == 7 else ["background", "road"]
    (tmp_path / "classes.json").write_text(json.dumps(names))
    run = onnx_run(tmp_path / "model.onnx")

    def by_hand(image: np.ndarray) -> np.ndarray:
        rgb = cv2.resize(image, SIZE_HW[::-1])[:, :, ::-1] / 255
        x = (rgb - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)
        scores = run(x.transpose(2, 0, 1)[None])[0].astype(np.float64)
        if activation == "sigmoid":
            scores = np.log(scores) - np.log1p(-scores)
        elif activation is not None:
            scores = np.log(scores)
        if classes == 1:
            scores = np.concatenate((0 * scores, scores))
        return upsampled(scores, image.shape[:2])

    check(tmp_path / "model.onnx", by_hand, AdaptOptions(InputOptions(preprocess="imagenet")))


@pytest.mark.parametrize("last", ["softmax", "flattened", "rescaling"])
def test_keras(tmp_path: Path, last: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    keras = pytest.importorskip("keras")
    if keras.backend.backend() != "torch":
        pytest.skip("keras was imported with another backend")
    keras.utils.set_random_seed(0)
    layers = keras.layers
    x = image = layers.Input((*SIZE_HW, 3), name="image")
    if last == "rescaling":
        x = layers.Rescaling(1 / 127.5, -1)(x)
    x = layers.Conv2D(8, 3, 2, "same", activation="relu")(x)
    x = layers.SeparableConv2D(16, 3, strides=2, padding="same", activation="relu")(x)
    x = layers.Conv2DTranspose(16, 3, 2, "same", activation="relu")(x)
    x = layers.Conv2D(7, 1)(layers.UpSampling2D(2, interpolation="bilinear")(x))
    if last == "flattened":
        x = layers.Reshape((SIZE_HW[0] * SIZE_HW[1], 7))(x)
    if last != "rescaling":
        x = layers.Activation("softmax")(x)
    network = keras.Model(image, x)
    network(np.zeros((1, *SIZE_HW, 3), np.float32))
    logging.disable(logging.WARNING)
    network.export(str(tmp_path / "model.onnx"), format="onnx", verbose=False)
    logging.disable(logging.NOTSET)
    (tmp_path / "labels.txt").write_text("\n".join(NAMES))
    run = onnx_run(tmp_path / "model.onnx")

    def by_hand(image: np.ndarray) -> np.ndarray:
        rgb = cv2.resize(image, SIZE_HW[::-1])[:, :, ::-1]
        scores = run(rgb[None] if last == "rescaling" else rgb[None] / 255).reshape(*SIZE_HW, 7)
        scores = scores if last == "rescaling" else np.log(np.maximum(scores, 1e-30))
        return upsampled(scores.transpose(2, 0, 1), image.shape[:2])

    check(tmp_path, by_hand)


@pytest.mark.parametrize("how", [{}, {"dynamic": True}, {"half": True}], ids=["plain", "dynamic", "half"])
def test_ultralytics(tmp_path: Path, how: dict[str, bool], monkeypatch: pytest.MonkeyPatch) -> None:
    """Its whole predictor, on frames that need no resize: of four equally near pixels it takes another."""
    monkeypatch.setenv("YOLO_OFFLINE", "true")
    monkeypatch.setenv("YOLO_CONFIG_DIR", str(tmp_path / "settings"))
    ultralytics = pytest.importorskip("ultralytics")
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    network = ultralytics.YOLO("yolo26n-sem.yaml")
    inner = network.model.eval()
    head = next(
        module
        for module in inner.modules()
        if isinstance(module, nn.Conv2d) and module.out_channels == inner.yaml["nc"]
    )
    said: list[torch.Tensor] = []
    hook = head.register_forward_hook(lambda *given: said.append(given[2].detach()))
    pictures = np.stack([cv2.resize(image, SIZE_HW[::-1])[:, :, ::-1] for image in scenes()])
    with torch.no_grad():
        inner(torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255)
        hook.remove()
        mean, std = said[0].mean((0, 2, 3)), said[0].std((0, 2, 3)) + 1e-9
        bias = torch.zeros(len(mean)) if head.bias is None else head.bias
        head.weight.div_(std[:, None, None, None])
        head.bias = nn.Parameter((bias - mean) / std)
    path = network.export(format="onnx", imgsz=SIZE_HW, simplify=False, device="cpu", opset=18, **how)
    theirs = ultralytics.YOLO(path, task="semantic")
    report = adapt(Path(path))

    def by_hand(image: np.ndarray) -> np.ndarray:
        (found,) = theirs.predict(image, imgsz=SIZE_HW, verbose=False, device="cpu", rect=False)
        return np.asarray(found.semantic_mask.data).reshape(image.shape[:2])

    frames = [
        cv2.resize(image, (SIZE_HW[1], SIZE_HW[0] - 16 * number)) for number, image in enumerate(scenes())
    ]
    equal = agreement(report.path, by_hand, frames)
    print(f"{equal:.3%} of pixels equal")
    assert equal >= ENOUGH
