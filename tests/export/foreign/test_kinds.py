"""Networks of every kind that people bring give the classes that a pipeline by hand gives."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from export.foreign.adaptation import AdaptOptions, adapt
from export.foreign.input import InputOptions
from export.foreign.interface import OutputKind
from runtime.contract import ClassMap
from runtime.errors import ConfigError, ContractError, ModelLoadError, ParityError
from runtime.network.session import NetworkSession
from runtime.segmenter import Segmenter
from tests.export.foreign.networks import (
    CLASSES,
    ENOUGH,
    IDENTITY,
    LOGITS,
    NCHW,
    SIZE_HW,
    agreement,
    node,
    rgb_planes,
    scenes,
    session,
    upsampled,
    write,
)


def class_map(count: int = CLASSES) -> ClassMap:
    return ClassMap(tuple(f"class {index}" for index in range(count)), ((1, 2, 3),) * count)


def plain_by_hand(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    run = session(path)
    return lambda image: upsampled(run(rgb_planes(image))[0], image.shape[:2])


def test_the_plain_kind(tmp_path: Path) -> None:
    path = write(tmp_path / "net.onnx", IDENTITY, LOGITS, input_shape=NCHW)
    assert agreement(adapt(path, class_map()).path, plain_by_hand(path)) >= ENOUGH


@pytest.mark.parametrize(
    ("kind", "threshold", "layout"),
    [  # each two of them together once
        (None, 0.5, "nchw"),
        (None, 0.4, "nhwc"),
        (None, 0.5, "no channels"),
        ("sigmoid", 0.4, "nchw"),
        ("sigmoid", 0.5, "nhwc"),
        ("sigmoid", 0.4, "no channels"),
    ],
)
def test_one_channel_of_probabilities_is_two_classes(
    tmp_path: Path, kind: OutputKind | None, threshold: float, layout: str
) -> None:
    moves = {
        "nchw": [node("Identity", "p", "y")],
        "nhwc": [node("Transpose", "p", "y", perm=[0, 2, 3, 1])],
        "no channels": [node("Squeeze", "p one", "y")],
    }[layout]
    path = write(
        tmp_path / "net.onnx",
        IDENTITY,
        [node("Sub", "logits middle", "s"), node("Sigmoid", "s", "p"), *moves],
        input_shape=NCHW,
        channels=1,
        constants={"one": np.array([1]), "middle": np.array(0.1, np.float32)},
        gain=3,
    )
    report = adapt(path, class_map(2), options=AdaptOptions(kind=kind, threshold=threshold))
    run = session(path)

    def by_hand(image: np.ndarray) -> np.ndarray:
        p = run(rgb_planes(image)).reshape(16, 24).astype(np.float64)
        logit = np.log(p) - np.log(1 - p) - np.log(threshold / (1 - threshold))
        return upsampled(np.stack((0 * logit, logit)), image.shape[:2])

    assert agreement(report.path, by_hand) >= ENOUGH
    assert report.contract.output.kind == "logits"
    assert "Sigmoid" not in {one.op_type for one in onnx.load(report.path).graph.node}


def test_probabilities_of_another_making_need_their_flag(tmp_path: Path) -> None:
    after = [node("Sigmoid", "logits", "p"), node("Mul", "p unit", "y")]
    unit = {"unit": np.array(1, np.float32)}
    path = write(tmp_path / "net.onnx", IDENTITY, after, input_shape=NCHW, channels=1, constants=unit, gain=3)
    with pytest.raises(ConfigError, match="say --sigmoid-output"):
        adapt(path, class_map(2))
    with pytest.raises(ConfigError, match=r"expected class indices, got 0\.\d+; .*--sigmoid-output"):
        adapt(path, class_map(2), options=AdaptOptions(kind="argmax"))
    run = session(path)
    report = adapt(path, class_map(2), options=AdaptOptions(kind="sigmoid"))

    def by_hand(image: np.ndarray) -> np.ndarray:
        p = run(rgb_planes(image))[0, 0]
        logit = np.log(p) - np.log(1 - p)
        return upsampled(np.stack((0 * logit, logit)), image.shape[:2])

    assert agreement(report.path, by_hand) >= ENOUGH


def test_one_channel_of_logits_is_two_classes(tmp_path: Path) -> None:
    path = write(tmp_path / "net.onnx", IDENTITY, LOGITS, input_shape=NCHW, channels=1, gain=3)
    run = session(path)

    def by_hand(image: np.ndarray) -> np.ndarray:
        logit = run(rgb_planes(image))[0, 0]
        return upsampled(np.stack((0 * logit, logit)), image.shape[:2])

    assert agreement(adapt(path, class_map(2)).path, by_hand) >= ENOUGH
    with pytest.raises(ConfigError, match=r"expected probabilities of 0 to 1"):
        adapt(path, class_map(2), options=AdaptOptions(kind="sigmoid"))


@pytest.mark.parametrize("names", [1, 3])
def test_one_channel_needs_two_names(tmp_path: Path, names: int) -> None:
    after = [node("Sigmoid", "logits", "y")]
    path = write(tmp_path / "net.onnx", IDENTITY, after, input_shape=NCHW, channels=1)
    options = AdaptOptions(kind="sigmoid")
    with pytest.raises(ConfigError, match=r"two classes apart, got [13] names; give two"):
        adapt(path, class_map(names), options=options)


def write_indices(path: Path, change: list[onnx.NodeProto], **constants: np.ndarray) -> Path:
    return write(
        path,
        IDENTITY,
        [node("ArgMax", "logits", "classes", axis=1, keepdims=0), *change],
        input_shape=NCHW,
        output_type=TensorProto.INT64,
        constants=dict(constants),
    )


def test_an_argmax_over_more_classes_than_names_is_refused(tmp_path: Path) -> None:
    path = write_indices(tmp_path / "net.onnx", [node("Identity", "classes", "y")])
    with pytest.raises(ConfigError, match="among 5 classes, got 4 names"):
        adapt(path, class_map(4))


def test_class_indices_that_no_name_stands_for_are_refused(tmp_path: Path) -> None:
    path = write_indices(tmp_path / "net.onnx", [node("Sub", "classes one", "y")], one=np.array(1))
    with pytest.raises(ConfigError, match=r"indices 0 to 3 of 4 names.*got -1 on .*--void-index -1"):
        adapt(path, class_map(4))
    more = write_indices(tmp_path / "more.onnx", [node("Add", "classes far", "y")], far=np.array(256))
    with pytest.raises(ConfigError, match=r"got 25[6-9]"):
        adapt(more, class_map())


def test_a_class_index_may_mean_void(tmp_path: Path) -> None:
    path = write_indices(tmp_path / "net.onnx", [node("Sub", "classes one", "y")], one=np.array(1))
    report = adapt(path, class_map(4), options=AdaptOptions(void_index=-1))
    run = session(path)
    mask = NetworkSession(report.path).run_mask(cv2.resize(scenes(1)[0], SIZE_HW[::-1]))[0]
    expected = run(rgb_planes(scenes(1)[0]))[0].repeat(4, 0).repeat(4, 1)
    assert (mask == np.where(expected == -1, 255, expected)).mean() >= ENOUGH


@pytest.mark.parametrize(("void", "count"), [(0, CLASSES), (4, CLASSES), (4, CLASSES - 1)])
def test_an_argmax_may_choose_void(tmp_path: Path, void: int, count: int) -> None:
    path = write_indices(tmp_path / "net.onnx", [node("Identity", "classes", "y")])
    report = adapt(path, class_map(count), options=AdaptOptions(void_index=void))
    assert report.mask_agreement == 1
    with Segmenter(report.path) as segment:
        found = set(np.unique(np.concatenate([segment(scene).mask.ravel() for scene in scenes(3)])).tolist())
    assert 255 in found
    assert void not in found


def test_void_is_no_class(tmp_path: Path) -> None:
    path = write_indices(
        tmp_path / "net.onnx",
        [node("Equal", "classes last", "is_void"), node("Where", "is_void void classes", "y")],
        last=np.array(CLASSES - 1),
        void=np.array(255),
    )
    report = adapt(path, class_map(CLASSES - 1))
    assert report.contract.classes.ignore_index == 255


def test_classes_that_show_up_later_are_refused_by_the_runtime(tmp_path: Path) -> None:
    # On streets the sum of all pixels is never 0; on a black picture every class index grows by 300.
    after = [
        node("ReduceSum", "x", "sum", keepdims=0),
        node("Equal", "sum nothing", "is_black"),
        node("Where", "is_black far zero", "more"),
        node("Add", "classes more", "y"),
    ]
    path = write_indices(
        tmp_path / "net.onnx",
        after,
        nothing=np.array(0, np.float32),
        far=np.array(300),
        zero=np.array(0),
    )
    report = adapt(path, class_map())
    with Segmenter(report.path) as segment:
        segment(scenes(1)[0])
        with pytest.raises(ContractError, match="expected class indices 0 to 4"):
            segment(np.zeros((40, 60, 3), np.uint8))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (InputOptions(mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375)), "--scale 1"),
        (InputOptions(scale=1.0, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)), "pixel / 1"),
        (InputOptions(scale=1 / 255), r"to 6\.\d+e\+04"),
    ],
)
def test_mean_and_std_in_other_units_than_the_pixels_are_found_out(
    tmp_path: Path, options: InputOptions, says: str
) -> None:
    path = write(tmp_path / "net.onnx", IDENTITY, LOGITS, input_shape=NCHW)
    with pytest.raises(ConfigError, match=says):
        adapt(path, class_map(), options=AdaptOptions(options))


def test_a_network_that_gives_nan_is_named(tmp_path: Path) -> None:
    constants = {"nothing": np.array(0, np.float32)}
    after = [node("Mul", "logits nothing", "o"), node("Div", "o nothing", "y")]
    path = write(tmp_path / "net.onnx", IDENTITY, after, input_shape=NCHW, constants=constants)
    with pytest.raises(ParityError, match="the network itself gives NaN"):
        adapt(path, class_map())


def as_half(model: onnx.ModelProto) -> None:
    """Make it float16 as converters do: Casts at the end of the list, weights in half."""
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype == np.float32:
            tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), tensor.name))


@pytest.mark.parametrize("unordered", [False, True])
def test_float16_files(tmp_path: Path, unordered: bool) -> None:
    def change(model: onnx.ModelProto) -> None:
        as_half(model)
        if unordered:
            first = onnx.NodeProto.FromString(model.graph.node[0].SerializeToString())
            del model.graph.node[0]
            model.graph.node.append(first)

    half = TensorProto.FLOAT16
    before = [node("Cast", "x", "planes", to=half)] if unordered else IDENTITY
    after = [node("Cast", "logits", "y", to=FLOAT)] if unordered else LOGITS
    kinds = {"input_type": FLOAT if unordered else half, "output_type": FLOAT if unordered else half}
    path = write(tmp_path / "net.onnx", before, after, input_shape=NCHW, change=change, **kinds)
    report = adapt(path, class_map())
    ordered = tmp_path / "ordered.onnx"
    model = onnx.load(path)
    if unordered:
        last = onnx.NodeProto.FromString(model.graph.node[-1].SerializeToString())
        del model.graph.node[-1]
        model.graph.node.insert(0, last)
    onnx.save(model, ordered)
    assert agreement(report.path, plain_by_hand(ordered)) >= ENOUGH


FLOAT = TensorProto.FLOAT


def test_float64_files(tmp_path: Path) -> None:
    def change(model: onnx.ModelProto) -> None:
        for tensor in model.graph.initializer:
            values = numpy_helper.to_array(tensor)
            tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float64), tensor.name))

    double = TensorProto.DOUBLE
    path = write(
        tmp_path / "net.onnx",
        IDENTITY,
        LOGITS,
        input_shape=NCHW,
        input_type=double,
        output_type=double,
        change=change,
    )
    single = write(tmp_path / "single.onnx", IDENTITY, LOGITS, input_shape=NCHW)  # as onnxruntime can run it
    assert agreement(adapt(path, class_map()).path, plain_by_hand(single)) >= ENOUGH


def test_camera_bytes_go_in_as_they_are(tmp_path: Path) -> None:
    before = [
        node("Cast", "x", "f", to=FLOAT),
        node("Div", "f full", "u"),
        node("Transpose", "u", "planes", perm=[0, 3, 1, 2]),
    ]
    path = write(
        tmp_path / "net.onnx",
        before,
        LOGITS,
        input_shape=(1, *SIZE_HW, 3),
        input_type=TensorProto.UINT8,
        constants={"full": np.array(255, np.float32)},
    )
    run = session(path)

    def by_hand(image: np.ndarray) -> np.ndarray:
        resized = cv2.resize(image, SIZE_HW[::-1])[None, :, :, ::-1]
        return upsampled(run(resized)[0], image.shape[:2])

    assert agreement(adapt(path, class_map()).path, by_hand) >= ENOUGH
    with pytest.raises(ConfigError, match="normalises by itself"):
        adapt(path, class_map(), options=AdaptOptions(InputOptions(preprocess="imagenet")))


@pytest.mark.parametrize("fixed_inside", [False, True])
def test_a_fixed_batch_runs_for_one_picture(tmp_path: Path, fixed_inside: bool) -> None:
    after = [node("Reshape", "logits shape", "y")] if fixed_inside else LOGITS
    path = write(
        tmp_path / "net.onnx",
        IDENTITY,
        after,
        input_shape=(4, 3, *SIZE_HW),
        constants={"shape": np.array([4, CLASSES, 16, 24])} if fixed_inside else {},
    )
    run = session(path)

    def by_hand(image: np.ndarray) -> np.ndarray:
        return upsampled(run(rgb_planes(image).repeat(4, 0))[0], image.shape[:2])

    assert agreement(adapt(path, class_map()).path, by_hand) >= ENOUGH


@pytest.mark.parametrize("shape", ["hw", "1hw", "hwc", "chw", "pixels c", "c pixels"])
def test_outputs_of_fewer_axes(tmp_path: Path, shape: str) -> None:
    moves = {
        "hw": [node("ArgMax", "logits", "m", axis=1, keepdims=0), node("Squeeze", "m zero", "y")],
        "1hw": [node("ArgMax", "logits", "y", axis=1, keepdims=0)],
        "hwc": [node("Squeeze", "logits zero", "s"), node("Transpose", "s", "y", perm=[1, 2, 0])],
        "chw": [node("Squeeze", "logits zero", "y")],
        "pixels c": [node("Transpose", "logits", "s", perm=[0, 2, 3, 1]), node("Reshape", "s flat", "y")],
        "c pixels": [node("Reshape", "logits across", "y")],
    }[shape]
    constants = {
        "zero": np.array([0]),
        "flat": np.array([1, 16 * 24, CLASSES]),
        "across": np.array([1, CLASSES, 16 * 24]),
    }
    path = write(
        tmp_path / "net.onnx",
        IDENTITY,
        moves,
        input_shape=NCHW,
        constants=constants,
        output_type=TensorProto.INT64 if shape in ("hw", "1hw") else FLOAT,
    )
    report = adapt(path, class_map())
    if shape in ("hw", "1hw"):
        assert report.contract.output.kind == "mask"
        return
    bare = write(tmp_path / "bare.onnx", IDENTITY, LOGITS, input_shape=NCHW)
    assert agreement(report.path, plain_by_hand(bare)) >= ENOUGH


@pytest.mark.parametrize("channels", [1, 4])
def test_grey_and_four_channel_networks(tmp_path: Path, channels: int) -> None:
    path = write(
        tmp_path / "net.onnx", IDENTITY, LOGITS, input_shape=(1, channels, *SIZE_HW), inputs=channels
    )
    run = session(path)

    def by_hand(image: np.ndarray) -> np.ndarray:
        resized = cv2.resize(image, SIZE_HW[::-1])
        code = cv2.COLOR_BGR2GRAY if channels == 1 else cv2.COLOR_BGR2RGBA
        planes = cv2.cvtColor(resized, code).reshape(*SIZE_HW, channels).transpose(2, 0, 1)[None] / 255
        return upsampled(run(planes)[0], image.shape[:2])

    assert agreement(adapt(path, class_map()).path, by_hand) >= ENOUGH


@pytest.mark.parametrize("free", [-1, "height", 0])
def test_sizes_that_are_free_are_chosen(tmp_path: Path, free: int | str) -> None:
    path = write(tmp_path / "net.onnx", IDENTITY, LOGITS, input_shape=(free, 3, free, free))
    with pytest.raises(ConfigError, match="--imgsz"):
        adapt(path, class_map())
    fixed = write(tmp_path / "fixed.onnx", IDENTITY, LOGITS, input_shape=NCHW)
    report = adapt(path, class_map(), options=AdaptOptions(size_hw=SIZE_HW))
    assert agreement(report.path, plain_by_hand(fixed)) >= ENOUGH


def test_an_if_reads_constants_around_it(tmp_path: Path) -> None:
    def branch(operator: str) -> onnx.GraphProto:
        made = helper.make_tensor_value_info("branch", FLOAT, None)
        return helper.make_graph([node(operator, "logits outer", "branch")], operator, [], [made])

    after = [
        node("ReduceMax", "x", "highest", keepdims=0),
        node("Greater", "highest limit", "is_bright"),
        helper.make_node("If", ["is_bright"], ["y"], then_branch=branch("Add"), else_branch=branch("Sub")),
    ]
    constants = {"outer": np.arange(CLASSES, dtype=np.float32).reshape(1, -1, 1, 1) / 10}
    path = write(
        tmp_path / "net.onnx",
        IDENTITY,
        after,
        input_shape=NCHW,
        constants={**constants, "limit": np.array(0.1, np.float32)},
    )
    assert agreement(adapt(path, class_map()).path, plain_by_hand(path)) >= ENOUGH


def test_an_auxiliary_output_is_passed_over(tmp_path: Path) -> None:
    after = [*LOGITS, node("Neg", "logits", "aux")]
    path = write(tmp_path / "net.onnx", IDENTITY, after, input_shape=NCHW, outputs=("y", "aux"))
    assert adapt(path, class_map()).output.name == "y"
    two = write(
        tmp_path / "two.onnx",
        IDENTITY,
        [*LOGITS, node("Neg", "logits", "z")],
        input_shape=NCHW,
        outputs=("y", "z"),
    )
    with pytest.raises(ConfigError, match="--output-name"):
        adapt(two, class_map())


def test_the_error_for_a_file_of_nonsense_is_short(tmp_path: Path) -> None:
    def change(model: onnx.ModelProto) -> None:
        model.graph.node[0].op_type = "Nonsense" * 500

    path = write(tmp_path / "net.onnx", IDENTITY, LOGITS, input_shape=NCHW, change=change)
    with pytest.raises(ModelLoadError) as caught:
        adapt(path, class_map())
    assert len(str(caught.value)) <= 500


def test_a_mask_of_true_and_false_is_two_classes(tmp_path: Path) -> None:
    after = [node("Greater", "logits nothing", "y")]
    path = write(
        tmp_path / "net.onnx",
        IDENTITY,
        after,
        input_shape=NCHW,
        channels=1,
        output_type=TensorProto.BOOL,
        constants={"nothing": np.array(0, np.float32)},
    )
    report = adapt(path, class_map(2))
    run = session(path)
    mask = NetworkSession(report.path).run_mask(cv2.resize(scenes(1)[0], SIZE_HW[::-1]))[0]
    assert (mask == run(rgb_planes(scenes(1)[0]))[0, 0].repeat(4, 0).repeat(4, 1)).mean() >= ENOUGH


def test_a_file_of_edgeseg_is_not_adapted_again(tmp_path: Path) -> None:
    path = adapt(write(tmp_path / "net.onnx", IDENTITY, LOGITS, input_shape=NCHW), class_map()).path
    with pytest.raises(ConfigError, match="carries edgeseg's contract already"):
        adapt(path, class_map())
