"""Somebody else's networks become files that the runtime opens, with their own numbers."""

from __future__ import annotations

import json
import os
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

import export.foreign.adaptation
from export.adapt import main
from export.foreign.adaptation import AdaptOptions, adapt, read_classes
from export.foreign.input import InputOptions
from export.foreign.interface import ForeignInput, OutputKind
from export.foreign.loading import load_foreign
from export.graph.edit import numbers, set_array
from runtime.contract import ClassMap
from runtime.errors import ConfigError, ModelLoadError, ParityError
from runtime.network.session import NetworkSession
from runtime.segmenter import Segmenter
from training.streets import render_scene

NHWC = InputOptions(layout="nhwc")
IMAGENET = InputOptions(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


def class_map(count: int) -> ClassMap:
    return ClassMap(tuple(f"class {index}" for index in range(count)), ((1, 2, 3),) * count)


def write_classes(folder: Path, count: int) -> Path:
    path = folder / "classes.json"
    path.write_text(json.dumps([f"class {index}" for index in range(count)]))
    return path


def write_keras_like(path: Path, last: str = "softmax", channels: int = 10) -> Path:
    """The graph that Keras 3 writes for the article's network: NHWC, free batch, softmax at stride 4."""
    rng = np.random.default_rng(0)
    sizes = {"stem": (8, 3, 3, 3), "down": (8, 8, 3, 3), "left": (8, 8, 3, 3), "head": (channels, 8, 1, 1)}
    weights: dict[str, np.ndarray] = {
        name: rng.normal(0, 0.4, size).astype(np.float32) for name, size in sizes.items()
    }
    half = {"strides": [2, 2], "auto_pad": "SAME_UPPER"}
    nodes = [
        helper.make_node("Transpose", ["input_image"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["planes", "stem"], ["a"], **half),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "down"], ["c"], **half),
        helper.make_node("Relu", ["c"], ["d"]),
        helper.make_node("Conv", ["d", "left"], ["e"], pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["d", "e"], ["f"]),
        helper.make_node("Conv", ["f", "head"], ["g"]),
        helper.make_node("Transpose", ["g"], ["all rows"], perm=[0, 2, 3, 1]),
        helper.make_node(
            "Slice",
            ["all rows", "one" if last.startswith("odd ") else "zero", "end", "one", "one"],
            ["logits"],
        ),
        {
            "softmax": helper.make_node("Softmax", ["logits"], ["output_0"], axis=-1),
            "scaled softmax": helper.make_node("Softmax", ["logits"], ["p"], axis=-1),
            "logits": helper.make_node("Identity", ["logits"], ["output_0"]),
            "argmax": helper.make_node("ArgMax", ["logits"], ["output_0"], axis=-1, keepdims=0),
        }[last.removeprefix("odd ")],
    ]
    for name, value in {"zero": 0, "one": 1, "end": 999}.items():
        weights[name] = np.array([value], np.int64)
    if last == "scaled softmax":
        weights["unit"] = np.array(1, np.float32)
        nodes.append(helper.make_node("Mul", ["p", "unit"], ["output_0"]))
    graph = helper.make_graph(
        nodes,
        "keras",
        [helper.make_tensor_value_info("input_image", TensorProto.FLOAT, ["batch", 224, 224, 3])],
        [
            helper.make_tensor_value_info(
                "output_0", TensorProto.INT64 if "argmax" in last else TensorProto.FLOAT, None
            )
        ],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), path)
    return path


class Planes(torch.nn.Module):
    """Takes normalised RGB (N, 3, H, W)."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = torch.nn.Conv2d(3, 8, 3, 2, 1)
        self.head = torch.nn.Conv2d(8, 5, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(torch.relu(self.stem(image)))
        return logits


@pytest.fixture(scope="session")
def from_torch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("torch") / "planes.onnx"
    image = torch.zeros(1, 3, 64, 96)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what the exporter says about itself
        program = torch.onnx.export(Planes().eval(), (image,), dynamo=True, verbose=False, opset_version=18)
    assert program is not None
    program.save(path)
    return path


def test_a_keras_network_gives_its_own_classes_from_camera_pixels(tmp_path: Path) -> None:
    original = write_keras_like(tmp_path / "keras.onnx")
    report = adapt(original, class_map(10), options=AdaptOptions(NHWC, "softmax"))
    assert report.path == tmp_path / "keras-edgeseg.onnx"
    assert report.frames == 16
    assert report.contract.output.stride == 4
    image_bgr = render_scene(7, (224, 224)).image_bgr
    by_hand = image_bgr[None, :, :, ::-1].astype(np.float32) / 255
    (expected,) = ort.InferenceSession(original).run(None, {"input_image": by_hand})  # (1, 56, 56, 10)
    logits = NetworkSession(report.path).run(image_bgr)
    assert logits.shape == (1, 10, 56, 56)
    powers = np.exp(logits - logits.max(1, keepdims=True))
    assert np.abs(powers / powers.sum(1, keepdims=True) - expected.transpose(0, 3, 1, 2)).max() < 1e-5
    assert (logits.argmax(1) == expected.argmax(3)).mean() > 0.999
    assert Segmenter(report.path)(render_scene(7, (120, 160)).image_bgr).mask.shape == (120, 160)


def test_the_softmax_is_taken_out(tmp_path: Path) -> None:
    options = AdaptOptions(NHWC, kind="softmax")
    report = adapt(write_keras_like(tmp_path / "keras.onnx"), class_map(10), options=options)
    operators = {node.op_type for node in onnx.load(report.path).graph.node}
    assert not operators & {"Softmax", "Log", "Max"}


def test_probabilities_of_another_making_become_logarithms(tmp_path: Path) -> None:
    options = AdaptOptions(NHWC, kind="softmax")
    model = onnx.load(write_keras_like(tmp_path / "keras.onnx", "scaled softmax"))
    weights = next(tensor for tensor in model.graph.initializer if tensor.name == "head")
    weights.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weights) * 100, "head"))  # exact zeros
    onnx.save(model, tmp_path / "hard.onnx")
    report = adapt(tmp_path / "hard.onnx", class_map(10), options=options)
    assert "Log" in {node.op_type for node in onnx.load(report.path).graph.node}
    assert np.isfinite(NetworkSession(report.path).run(render_scene(7, (224, 224)).image_bgr)).all()


def test_class_indices_become_a_mask_at_the_inputs_size(tmp_path: Path) -> None:
    original = write_keras_like(tmp_path / "keras.onnx", "argmax")
    options = AdaptOptions(NHWC, kind="argmax")
    report = adapt(original, class_map(10), options=options)
    assert report.contract.output.kind == "mask"
    image_bgr = render_scene(7, (224, 224)).image_bgr
    by_hand = image_bgr[None, :, :, ::-1].astype(np.float32) / 255
    (expected,) = ort.InferenceSession(original).run(None, {"input_image": by_hand})  # (1, 56, 56)
    mask = NetworkSession(report.path).run_mask(image_bgr)
    assert mask.dtype == np.uint8
    assert (mask[0] == expected[0].repeat(4, 0).repeat(4, 1)).mean() > 0.999


@pytest.mark.parametrize("color", ["rgb", "bgr"])
def test_a_torch_network_in_planes_gives_its_own_logits(tmp_path: Path, from_torch: Path, color: str) -> None:
    source = InputOptions(color=color, mean=IMAGENET.mean, std=IMAGENET.std)  # type: ignore[arg-type]
    report = adapt(from_torch, class_map(5), tmp_path / "out.onnx", AdaptOptions(source))
    image_bgr = render_scene(7, (64, 96)).image_bgr
    image = image_bgr[:, :, ::-1] if color == "rgb" else image_bgr
    by_hand = ((image / 255.0 - np.array(IMAGENET.mean)) / np.array(IMAGENET.std)).astype(np.float32)
    with torch.inference_mode():
        expected = Planes().eval()(torch.from_numpy(by_hand.transpose(2, 0, 1)[None].copy())).numpy()
    found = NetworkSession(report.path).run(image_bgr)
    assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()
    red_first = report.contract.normalization.mean_bgr[::-1]
    assert red_first == pytest.approx([255 * m for m in IMAGENET.mean[:: 1 if color == "rgb" else -1]])


@pytest.mark.parametrize(
    ("last", "kind"), [("odd logits", "logits"), ("odd softmax", "softmax"), ("odd argmax", "argmax")]
)
def test_an_odd_stride_is_resized_to_the_inputs_size(tmp_path: Path, last: str, kind: OutputKind) -> None:
    original = write_keras_like(tmp_path / "keras.onnx", last)
    report = adapt(original, class_map(10), options=AdaptOptions(NHWC, kind))
    assert report.output.size_hw == (55, 56)
    assert report.contract.output.stride == 1
    assert Segmenter(report.path)(render_scene(7, (60, 80)).image_bgr).mask.shape == (60, 80)


def test_weights_beside_the_model_move_inside(tmp_path: Path) -> None:
    model = onnx.load(write_keras_like(tmp_path / "keras.onnx"))
    split = tmp_path / "split.onnx"
    onnx.save_model(model, split, save_as_external_data=True, location="split.data", size_threshold=0)
    options = AdaptOptions(NHWC, kind="softmax")
    report = adapt(split, class_map(10), tmp_path / "out.onnx", options)
    (tmp_path / "split.data").unlink()
    NetworkSession(report.path)


def test_weights_outside_the_models_folder_are_refused(tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    model = onnx.load(write_keras_like(tmp_path / "keras.onnx"))
    onnx.save_model(
        model, tmp_path / "split.onnx", save_as_external_data=True, location="secret", size_threshold=0
    )
    model = onnx.load(tmp_path / "split.onnx", load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            entry.value = "../secret" if entry.key == "location" else entry.value
    (inner / "split.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ModelLoadError, match="weights inside or beside it"):
        adapt(inner / "split.onnx", class_map(10))


def test_a_result_that_differs_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = write_keras_like(tmp_path / "keras.onnx")

    def damage(model: ir.Model, **_: object) -> ir.Model:
        for name, value in model.graph.initializers.items():
            if name.endswith("head"):
                set_array(value, -numbers(value))
        return model

    monkeypatch.setattr(export.foreign.adaptation, "simplify", damage)
    options = AdaptOptions(NHWC, kind="softmax")
    with pytest.raises(ParityError, match="16 of 16 frames differ"):
        adapt(original, class_map(10), options=options)
    assert [path.name for path in tmp_path.iterdir()] == ["keras.onnx"]


def test_a_proof_ends_in_time_and_a_graph_that_cannot_be_simplified_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> ir.Model:
        raise ParityError("onnxsim failed")

    monkeypatch.setattr(export.foreign.adaptation, "simplify", fail)
    options = AdaptOptions(NHWC, kind="softmax", proof_s=1e-9)
    report = adapt(write_keras_like(tmp_path / "keras.onnx"), class_map(10), options=options)
    assert report.frames == 4
    assert "the graph stays as it is: onnxsim failed" in report.notes


def test_logits_called_probabilities_are_found_out(tmp_path: Path) -> None:
    options = AdaptOptions(NHWC, kind="softmax")
    with pytest.raises(ParityError, match="--softmax-output"):
        adapt(write_keras_like(tmp_path / "keras.onnx", "logits"), class_map(10), options=options)


@pytest.mark.parametrize(
    ("options", "classes", "says"),
    [
        (AdaptOptions(InputOptions(layout="nchw")), 10, "--layout"),
        (AdaptOptions(NHWC), 11, r"axis of 11 classes.*\[1, 56, 56, 10\]"),
        (AdaptOptions(NHWC, output_layout="nchw"), 10, "--output-layout"),
        (AdaptOptions(NHWC, output_name="aux"), 10, r"one of \['output_0'\], got aux"),
        (AdaptOptions(NHWC, size_hw=(96, 96)), 10, "takes 224x224 only, got 96x96"),
        (AdaptOptions(NHWC, kind="argmax"), 10, "one class a pixel"),
    ],
)
def test_options_that_do_not_fit_the_file_are_named(
    tmp_path: Path, options: AdaptOptions, classes: int, says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        adapt(write_keras_like(tmp_path / "keras.onnx"), class_map(classes), options=options)


def test_a_class_axis_that_may_be_either_is_asked_for(tmp_path: Path) -> None:
    original = write_keras_like(tmp_path / "keras.onnx", "logits", channels=56)
    with pytest.raises(ConfigError, match="second or the last"):
        adapt(original, class_map(56), options=AdaptOptions(NHWC))
    adapt(original, class_map(56), options=AdaptOptions(NHWC, output_layout="nhwc"))


@pytest.mark.parametrize("content", [b"", b"no network" * 9])
def test_what_is_no_onnx_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "noise.onnx").write_bytes(content)
    with pytest.raises(ModelLoadError, match=r"noise\.onnx"):
        adapt(tmp_path / "noise.onnx", class_map(2))


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf")])
def test_a_scale_that_cannot_divide_is_refused(scale: float) -> None:
    with pytest.raises(ConfigError, match="scale"):
        ForeignInput(scale=scale)


@pytest.mark.parametrize("text", ["", "{", '{"names": 3}', "[]", '["a", "a"]', "[" * 100_000])
def test_classes_that_cannot_be_read_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "classes.json").write_text(text)
    with pytest.raises(ConfigError, match=r"classes\.json"):
        read_classes(tmp_path / "classes.json")


def test_pipes_and_devices_are_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "device").symlink_to("/dev/zero")
    for kind in ("pipe", "device"):
        with pytest.raises(ModelLoadError, match=f"it is a {kind}, not a regular file"):
            load_foreign(tmp_path / kind)
        with pytest.raises(ConfigError, match=f"cannot read it .it is a {kind}, not a regular file"):
            read_classes(tmp_path / kind)


def test_the_command_says_what_it_proved_and_what_to_run_next(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    original = write_keras_like(tmp_path / "keras.onnx")
    classes = write_classes(tmp_path, 10)
    flags = ["--classes", str(classes), "--layout", "nhwc", "--softmax-output"]
    assert main([str(original), *flags]) == 0
    printed = capsys.readouterr().out
    assert "16 frames against the original" in printed
    assert printed.splitlines()[-1].split() == [
        "next",
        *("python", "-m", "runtime.camera", "--model", str(tmp_path / "keras-edgeseg.onnx")),
    ]
    flags.append("--no-isolated")  # which takes longer than the rest
    assert main([str(original), *flags, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["contract"]["classes"]["names"][9] == "class 9"
    assert main([str(tmp_path / "gone.onnx"), *flags]) == 1
    assert "found none" in capsys.readouterr().err


def test_an_output_is_of_one_kind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--classes", str(write_classes(tmp_path, 10)), "--softmax-output", "--argmax-output"]
    assert main([str(write_keras_like(tmp_path / "keras.onnx")), *flags]) == 1
    assert "expected --softmax-output or --argmax-output, got both" in capsys.readouterr().err


def test_the_operator_set_may_be_called_by_its_long_name(tmp_path: Path) -> None:
    model = onnx.load(write_keras_like(tmp_path / "keras.onnx"))
    model.opset_import[0].domain = "ai.onnx"
    onnx.save(model, tmp_path / "long.onnx")
    adapt(tmp_path / "long.onnx", class_map(10), options=AdaptOptions(NHWC, "softmax"))
