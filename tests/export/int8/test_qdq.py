"""Rewriting small graphs, each written by hand, so that every operator and every way in is seen."""

from collections.abc import Callable

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from export.graph.edit import numbers, set_array, typed_copy
from export.int8.qdq import int8_nodes, quantize_weights, watched_tensors, write_int8
from export.int8.ranges import ActivationRanges, calibrate
from export.int8.repair import correct_biases, equalize
from export.int8.stem import ImagePath, find_image_path
from export.int8.target import TARGETS
from runtime.errors import ParityError

Constants = dict[str, NDArray[np.generic]]
HEIGHT, WIDTH = 8, 12
RANDOM = np.random.default_rng(0)
IMAGES = list(RANDOM.integers(0, 256, (4, HEIGHT, WIDTH, 3), dtype=np.uint8))


def floats(*shape: int, scale: float = 0.2) -> NDArray[np.float32]:
    return RANDOM.normal(scale=scale, size=shape).astype(np.float32)


def graph_of(nodes: list[onnx.NodeProto], constants: Constants, channels: int | None = 4) -> ir.Model:
    """A graph from uint8 `image` to float32 `logits`."""
    graph = helper.make_graph(
        nodes,
        "hand",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, [1, HEIGHT, WIDTH, 3])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, channels, None, None])],
        [numpy_helper.from_array(values, name) for name, values in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    return typed_copy(ir.from_proto(model))


def node(operator: str, inputs: str, output: str, **attributes: object) -> onnx.NodeProto:
    return helper.make_node(operator, inputs.split(), [output], **attributes)


def planes() -> list[onnx.NodeProto]:
    return [
        node("Transpose", "image", "bytes", perm=[0, 3, 1, 2]),
        node("Cast", "bytes", "planes", to=TensorProto.FLOAT),
    ]


def stem() -> tuple[list[onnx.NodeProto], Constants]:
    """image → x, float32 (1, 4, 8, 12) of both signs."""
    nodes = [
        *planes(),
        node("Sub", "planes mean", "centred"),
        node("Conv", "centred w0 b0", "x", pads=[1] * 4),
    ]
    mean = np.array([110.1, 108.2, 104.6], np.float32).reshape(1, 3, 1, 1)
    return nodes, {"mean": mean, "w0": floats(4, 3, 3, 3, scale=0.01), "b0": floats(4)}


def run(model: ir.Model, image: NDArray[np.uint8]) -> NDArray[np.float32]:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    content = ir.to_proto(model).SerializeToString()
    session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return session.run(["logits"], {"image": image[None]})[0]


def calibrated(model: ir.Model) -> tuple[ActivationRanges, ImagePath | None]:
    image = find_image_path(model)
    names = watched_tensors(int8_nodes(model, image), image)
    return calibrate(model, names, IMAGES, "minmax"), image


def int8_of(model: ir.Model, target: str = "x86-vnni", excluded: frozenset[str] = frozenset()) -> ir.Model:
    ranges, image = calibrated(model)
    written = write_int8(model, ranges, TARGETS[target], image, excluded)
    onnx.checker.check_model(ir.to_proto(written), full_check=True)
    return written


def relative_error(model: ir.Model, written: ir.Model) -> float:
    expected = np.stack([run(model, image) for image in IMAGES])
    found = np.stack([run(written, image) for image in IMAGES])
    return float(np.sqrt(((found - expected) ** 2).mean() / (expected**2).mean()))


TAILS: dict[str, tuple[list[onnx.NodeProto], Constants, int]] = {
    "conv": ([node("Conv", "x w1 b1", "logits")], {"w1": floats(4, 4, 1, 1), "b1": floats(4)}, 4),
    "conv without bias": ([node("Conv", "x w1", "logits")], {"w1": floats(4, 4, 1, 1)}, 4),
    "depthwise": ([node("Conv", "x w1", "logits", group=4)], {"w1": floats(4, 1, 3, 3)}, 4),
    "relu": ([node("Relu", "x", "y"), node("Add", "y y", "logits")], {}, 4),
    "relu read beside its input": ([node("Relu", "x", "y"), node("Add", "x y", "logits")], {}, 4),
    "relu6": (
        [node("Clip", "x zero six", "y"), node("Add", "y y", "logits")],
        {"zero": np.array(0, np.float32), "six": np.array(3, np.float32)},
        4,
    ),
    "relu as output": ([node("Relu", "x", "logits")], {}, 4),
    "add of a constant": ([node("Add", "x one", "logits")], {"one": np.array([1], np.float32)}, 4),
    "max-pool": ([node("MaxPool", "x", "logits", kernel_shape=[2, 2], strides=[2, 2])], {}, 4),
    "concat": (
        [node("Relu", "x", "y"), node("Sigmoid", "y", "z"), node("Concat", "y z", "logits", axis=1)],
        {},
        8,
    ),
    "resize": (
        [node("Resize", "x  sizes", "y", mode="linear"), node("Add", "y y", "logits")],
        {"sizes": np.array([1, 1, 2, 2], np.float32)},
        4,
    ),
    "global pool": (
        [node("GlobalAveragePool", "x", "y"), node("Mul", "x y", "logits")],
        {},
        4,
    ),
    "weights shared by two": (
        [node("Conv", "x w1 b1", "y"), node("Relu", "y", "z"), node("Conv", "z w1 b1", "logits")],
        {"w1": floats(4, 4, 1, 1, scale=2), "b1": floats(4)},
        4,
    ),
    "channel without weights": (
        [node("Conv", "x w1 b1", "logits")],
        {"w1": np.zeros((4, 4, 1, 1), np.float32), "b1": np.array([1000, -3, 0, 0.5], np.float32)},
        4,
    ),
}


def with_tail(name: str) -> ir.Model:
    nodes, constants = stem()
    tail, more, channels = TAILS[name]
    for part in tail:
        if part.op_type == "Resize":
            del part.input[:]
            part.input.extend(["x", "", "sizes"])
    return graph_of([*nodes, *tail], {**constants, **more}, channels)


@pytest.mark.parametrize("target", ["x86-vnni", "arm"])
@pytest.mark.parametrize("tail", TAILS)
def test_int8_keeps_the_numbers(tail: str, target: str) -> None:
    model = with_tail(tail)

    assert relative_error(model, int8_of(model, target)) < 0.03


def test_seven_bits_of_weight_keep_the_numbers_nearly_as_well() -> None:
    model = with_tail("conv")
    written = int8_of(model, "x86")

    stored = [numbers(value) for value in written.graph.initializers.values()]
    assert max(np.abs(values).max() for values in stored if values.dtype == np.int8) == 63
    assert relative_error(model, written) < 0.03


def test_arm_has_int8_on_both_sides() -> None:
    written = typed_copy(int8_of(with_tail("conv"), "arm"))

    quantized = [item.outputs[0] for item in written.graph if item.op_type == "QuantizeLinear"]
    assert {value.dtype for value in quantized} == {ir.DataType.INT8}


def test_an_excluded_layer_keeps_its_float_weights() -> None:
    model = with_tail("conv")
    written = int8_of(model, excluded=frozenset({"w1"}))

    conv = written.graph.outputs[0].producer()
    assert conv.op_type == "Conv"
    assert conv.inputs[1].is_initializer()
    assert conv.inputs[1].dtype == ir.DataType.FLOAT
    assert relative_error(model, written) < 0.02


def test_an_excluded_first_layer_takes_the_image_as_float() -> None:
    model = with_tail("conv")
    written = int8_of(model, excluded=frozenset({"w0"}))

    assert "Sub" in [item.op_type for item in written.graph]
    assert relative_error(model, written) < 0.02


@pytest.mark.parametrize(
    "arithmetic",
    [
        "Sub Div",
        "Mul Sub",
        "Div Add",
        "Mul",
    ],
)
def test_the_images_arithmetic_moves_into_the_first_convolution(arithmetic: str) -> None:
    constants: Constants = {
        "Sub": np.array([10, 20, 30], np.float32).reshape(3, 1, 1),
        "Add": np.array([-1.5], np.float32),
        "Div": np.array([50, 60, 70], np.float32).reshape(1, 3, 1, 1),
        "Mul": np.array(1 / 255, np.float32),
        "w": floats(4, 3, 3, 3),
    }
    nodes, name = planes(), "planes"
    for operator in arithmetic.split():
        nodes.append(node(operator, f"{name} {operator}", f"{operator}_result"))
        name = f"{operator}_result"
    model = graph_of([*nodes, node("Conv", f"{name} w", "logits")], constants)

    written = int8_of(model)

    assert [item.op_type for item in written.graph][:2] == ["Transpose", "DequantizeLinear"]
    assert relative_error(model, written) < 0.02  # no padding, so the zero point does not show


def test_constants_before_the_transposition_count_along_the_last_axis() -> None:
    constants: Constants = {"mean": np.array([10, 200, 30], np.float32), "w": floats(4, 3, 3, 3)}
    nodes = [
        node("Cast", "image", "float", to=TensorProto.FLOAT),
        node("Sub", "float mean", "centred"),
        node("Transpose", "centred", "planes", perm=[0, 3, 1, 2]),
        node("Conv", "planes w", "logits"),
    ]
    model = graph_of(nodes, constants)

    assert find_image_path(model) is not None
    assert relative_error(model, int8_of(model)) < 0.02


@pytest.mark.parametrize("target", ["x86-vnni", "arm"])
@pytest.mark.parametrize(
    ("stride", "pads", "is_blocked"), [(2, [1, 1, 1, 1], True), (1, [1, 1, 1, 1], False), (2, [0] * 4, False)]
)
def test_a_stem_of_stride_two_reads_blocks_of_pixels(
    stride: int, pads: list[int], is_blocked: bool, target: str
) -> None:
    middle = np.array([107], np.float32)  # all means alike, so that the border is exact too
    constants: Constants = {"mean": middle, "w": floats(4, 3, 3, 3), "b": floats(4)}
    nodes = [*planes(), node("Sub", "planes mean", "centred")]
    conv = node("Conv", "centred w b", "logits", strides=[stride] * 2, pads=pads)
    model = graph_of([*nodes, conv], constants)

    written = int8_of(model, target)

    assert ("Concat" in [item.op_type for item in written.graph]) == is_blocked
    assert relative_error(model, written) < 0.02


def other_operator() -> list[onnx.NodeProto]:
    return [*planes(), node("Abs", "planes", "y"), node("Conv", "y w", "logits")]


def division_of_a_constant() -> list[onnx.NodeProto]:
    return [*planes(), node("Div", "c planes", "y"), node("Conv", "y w", "logits")]


def second_reader() -> list[onnx.NodeProto]:
    return [*planes(), node("Conv", "planes w", "y"), node("Concat", "y planes", "logits", axis=1)]


def factor_of_zero() -> list[onnx.NodeProto]:
    return [*planes(), node("Mul", "planes zero", "y"), node("Conv", "y w", "logits")]


@pytest.mark.parametrize(
    "nodes", [other_operator, division_of_a_constant, second_reader, factor_of_zero], ids=lambda f: f.__name__
)
def test_other_arithmetic_on_the_image_stays_float(nodes: Callable[[], list[onnx.NodeProto]]) -> None:
    constants: Constants = {
        "w": floats(4, 3, 1, 1),
        "c": np.array([2], np.float32),
        "zero": np.array([0], np.float32),
    }
    model = graph_of(nodes(), constants, channels=None)

    assert find_image_path(model) is None


def test_the_zero_point_lies_in_the_middle_of_the_means() -> None:
    nodes, constants = stem()
    path = find_image_path(graph_of([*nodes, node("Relu", "x", "logits")], constants))

    assert path is not None
    assert path.zero_point == 107
    assert path.border_error == pytest.approx(3.1, abs=1e-4)


def test_no_value_of_a_watched_tensor_may_be_nan() -> None:
    nodes, constants = stem()
    constants["b0"] = np.array([0, np.nan, 0, 0], np.float32)

    with pytest.raises(ParityError, match="finite values in x, got NaN"):
        calibrate(graph_of([*nodes, node("Relu", "x", "logits")], constants), ["x"], IMAGES, "minmax")


@pytest.mark.parametrize("method", ["percentile", "entropy"])
def test_rare_outliers_do_not_stretch_the_range(method: str) -> None:
    constants: Constants = {"w": np.array([0.02, 0.0314, 0.0071], np.float32).reshape(1, 3, 1, 1)}
    model = graph_of([*planes(), node("Conv", "planes w", "x"), node("Relu", "x", "logits")], constants, 1)
    images = [RANDOM.integers(0, 20, (HEIGHT, WIDTH, 3), dtype=np.uint8) for _ in range(300)]
    images[0][0, 0] = 255  # one value in 28,800, above 99.99 %

    _, widest = calibrate(model, ["x"], images, "minmax").limits["x"]
    low, high = calibrate(model, ["x"], images, method).limits["x"]

    assert widest == pytest.approx(255 * 0.0585)
    assert low == 0
    assert 0.5 < high < 2


def test_a_tensor_that_is_always_zero_is_no_fault() -> None:
    nodes, constants = stem()
    constants["w0"], constants["b0"] = np.zeros_like(constants["w0"]), np.zeros_like(constants["b0"])
    model = graph_of([*nodes, node("Relu", "x", "y"), node("Add", "y y", "logits")], constants)

    ranges = calibrate(model, ["y", "logits"], IMAGES, "entropy")

    assert ranges.limits["y"] == (0, 0)
    assert not run(int8_of(model), IMAGES[0]).any()


def test_equalised_channels_are_alike_and_compute_the_same() -> None:
    nodes, constants = stem()
    constants["w1"] = floats(4, 4, 1, 1) * np.array([100, 1, 0.01, 0], np.float32).reshape(4, 1, 1, 1)
    constants["b1"], constants["w2"] = floats(4), floats(4, 4, 1, 1)
    tail = [node("Conv", "x w1 b1", "y"), node("Relu", "y", "z"), node("Conv", "z w2", "logits")]
    model = graph_of([*nodes, *tail], constants)

    equalized = equalize(model, find_image_path(model))

    weights = numbers(equalized.graph.initializers["w1"])
    spread = np.abs(weights).max(axis=(1, 2, 3))[:3]
    assert spread.max() / spread.min() < 1000  # of 10,000 before; the square root of it is left
    for image in IMAGES:
        np.testing.assert_allclose(run(equalized, image), run(model, image), rtol=1e-4, atol=1e-4)


def test_corrected_biases_take_the_mean_error_of_rounded_weights_back() -> None:
    nodes, constants = stem()
    constants["w1"], constants["b1"] = floats(4, 4, 1, 1), floats(4)
    model = graph_of([*nodes, node("Relu", "x", "y"), node("Conv", "y w1 b1", "logits")], constants)
    ranges, _ = calibrated(model)
    coarse = TARGETS["x86"].__class__("coarse", "uint8", 3, 13)  # two bits, so that rounding shows

    def mean_error(form: ir.Model) -> float:
        rounded = form.clone()
        weights = quantize_weights(constants["w1"].astype(np.float32), 3).dequantized
        set_array(rounded.graph.initializers["w1"], weights)
        errors = np.stack([run(rounded, image) - run(model, image) for image in IMAGES])
        return float(np.abs(errors.mean(axis=(0, 1, 3, 4))).max())

    assert mean_error(model) > 1e-3
    assert mean_error(correct_biases(model, ranges, coarse)) < 1e-6
