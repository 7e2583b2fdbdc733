"""What toolkits write opens without a flag, and gives the masks of a pipeline by hand on pictures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto

from export.foreign.adaptation import AdaptOptions, adapt
from export.foreign.input import InputOptions
from runtime.contract import ImageFit
from runtime.errors import ConfigError
from tests.export.foreign.networks import (
    CLASSES,
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
    TO_PIXELS,
    TO_PLANES,
    ULTRALYTICS,
    agreement,
    beside,
    by_pil,
    exactly,
    letterboxed,
    node,
    normalized,
    session,
    stretched,
    upsampled,
    write,
)

ByHand = Callable[[np.ndarray], np.ndarray]
MEAN_255, STD_255 = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
CROP = ImageFit("crop", "antialias", zoom=72 / 64)
STRETCH = ImageFit("stretch", "antialias")
NHWC = ("batch", *SIZE_HW, 3)
TO_INDICES = [node("ArgMax", "logits", "m", axis=1, keepdims=0), node("Cast", "m", "y", to=TensorProto.INT32)]


@dataclass(frozen=True)
class Brought:
    """What somebody brings: a file, or the folder around it, and what his own pipeline makes of a picture."""

    place: Path
    by_hand: ByHand
    says: str = ""  # of the report's lines on what was taken


def of_indices(run: ByHand, prepared: ByHand) -> ByHand:
    """The network's own class indices at the frame's pixels, each from its nearest."""

    def by_hand(image: np.ndarray) -> np.ndarray:
        mask = run(prepared(image)).reshape(-1, *(side // 4 for side in SIZE_HW))[0].astype(np.uint8)
        mask = mask.repeat(4, 0).repeat(4, 1)
        return cv2.resize(mask, image.shape[1::-1], interpolation=cv2.INTER_NEAREST_EXACT)

    return by_hand


def of_pixels(run: ByHand, prepared: ByHand) -> ByHand:
    """Logits or probabilities of a network with channels last."""

    def by_hand(image: np.ndarray) -> np.ndarray:
        scores = run(prepared(image)).reshape(SIZE_HW[0] // 4, SIZE_HW[1] // 4, -1)
        return upsampled(scores.transpose(2, 0, 1), image.shape[:2])

    return by_hand


def rgb(image: np.ndarray) -> np.ndarray:
    return cv2.resize(image, SIZE_HW[::-1])[:, :, ::-1]


def ultralytics(folder: Path) -> Brought:
    """dynamic=True, simplify=False: logits, sizes free."""
    path = write(folder / "net.onnx", IDENTITY, LOGITS, input_shape=FREE, metadata=ULTRALYTICS)
    return Brought(path, exactly(session(path)), "names 5: it's, class 1, class 2, class 3, …")


def ultralytics_argmax(folder: Path) -> Brought:
    """Its plain export: an argmax at the input's size, as bytes."""
    after = [
        node("Resize", "logits none none to", "full", mode="linear"),
        node("ArgMax", "full", "classes", axis=1, keepdims=0),
        node("Cast", "classes", "y", to=TensorProto.UINT8),
    ]
    constants = {"to": np.array([1, CLASSES, *SIZE_HW]), "none": np.array([], np.float32)}
    path = write(
        folder / "net.onnx",
        IDENTITY,
        after,
        input_shape=NCHW,
        output_type=TensorProto.UINT8,
        metadata=ULTRALYTICS,
        constants=constants,
    )
    run = session(path)

    def by_hand(image: np.ndarray) -> np.ndarray:
        picture, (top, left, height, width) = letterboxed(image, 114)
        mask = run(normalized(picture[:, :, ::-1]))[0][top : top + height, left : left + width]
        return cv2.resize(mask, image.shape[1::-1], interpolation=cv2.INTER_NEAREST_EXACT)

    return Brought(path, by_hand, "fit letterbox, bilinear")


def segformer(folder: Path) -> Brought:
    """optimum's folder: several files in onnx/, what describes them above it."""
    (folder / "onnx").mkdir()
    path = write(folder / "onnx" / "model.onnx", IDENTITY, LOGITS, input_shape=FREE)
    (folder / "onnx" / "model_fp16.onnx").write_bytes(path.read_bytes())
    beside(folder, config__json=HF_CONFIG, preprocessor_config__json=HF_PREPROCESSOR)
    run = session(path)

    def by_hand(image: np.ndarray) -> np.ndarray:
        return upsampled(run(normalized(by_pil(image, SIZE_HW)[:, :, ::-1], *IMAGENET))[0], image.shape[:2])

    return Brought(folder, by_hand, "ignore_index 255 (from config.json)")


def mobilevit(folder: Path) -> Brought:
    """BGR / 255 of an image processor without a switch for mean and std, which it writes all the same."""
    path = write(folder / "model.onnx", IDENTITY, LOGITS, input_shape=FREE)
    processor = {key: value for key, value in HF_PREPROCESSOR.items() if key != "do_normalize"}
    processor |= {"image_processor_type": "MobileViTImageProcessor", "do_flip_channel_order": True}
    beside(folder, config__json=HF_CONFIG, processor_config__json={"image_processor": processor})
    run = session(path)

    def by_hand(image: np.ndarray) -> np.ndarray:
        return upsampled(run(normalized(by_pil(image, SIZE_HW)))[0], image.shape[:2])

    return Brought(path, by_hand, "color bgr (from processor_config.json)")


def model_api(folder: Path) -> Brought:
    """OpenVINO's rt_info as it is written into ONNX."""
    info = {
        "model_info model_type": "Segmentation",
        "model_info labels": " ".join(name.replace(" ", "_") for name in NAMES),
        "model_info mean_values": " ".join(map(str, MEAN_255)),
        "model_info scale_values": " ".join(map(str, STD_255)),
        "model_info reverse_input_channels": "True",
        "model_info resize_type": "standard",
        "model_info pad_value": "0",
    }
    path = write(folder / "net.onnx", IDENTITY, LOGITS, input_shape=NCHW, metadata=info)
    return Brought(path, stretched(path, MEAN_255, STD_255, 1), "names 5: class_0, class_1")


def otx(folder: Path) -> Brought:
    """Geti's exporter: RGB though it turns no channels, and labels without the background."""
    info = {
        "model_info model_type": "Segmentation",
        "model_info otx_version": "2.4.0",
        "model_info labels": "road car person sign",
        "model_info mean_values": str(list(MEAN_255)),
        "model_info scale_values": " ".join(map(str, STD_255)),
        "model_info reverse_input_channels": "False",
        "model_info resize_type": "standard",
        "model_info pad_value": "None",
    }
    after = [node("Identity", "logits", "y")]
    path = write(folder / "net.onnx", IDENTITY, after, input_shape=NCHW, metadata=info, change=_state_output)
    return Brought(path, stretched(path, MEAN_255, STD_255, 1), "names 5: background, road, car, person, …")


def _state_output(model: onnx.ModelProto) -> None:
    """State the output's shape, as every exporter does."""
    shape = model.graph.output[0].type.tensor_type.shape
    for axis in (1, CLASSES, *(side // 4 for side in SIZE_HW)):
        shape.dim.add().dim_value = axis


def model_api_of_raw_pixels(folder: Path) -> Brought:
    """Without mean and scale Model API gives the pixels as they are."""
    info = {"model_info model_type": "Segmentation", "model_info labels": "a b c d e"}
    info |= {"model_info reverse_input_channels": "False", "model_info resize_type": "standard"}
    path = write(folder / "net.onnx", IDENTITY, LOGITS, input_shape=NCHW, metadata=info)
    run = session(path)

    def by_hand(image: np.ndarray) -> np.ndarray:
        return upsampled(run(normalized(rgb(image)[:, :, ::-1], 0, 1, 1))[0], image.shape[:2])

    return Brought(path, by_hand, "scale 1.0 (from the file's model_info)")


def segmentation_models(folder: Path) -> Brought:
    """smp's save_pretrained: the encoder's weights say what it wants."""
    path = write(folder / "model.onnx", IDENTITY, LOGITS, input_shape=NCHW)
    config = {"encoder_name": "resnet34", "encoder_weights": "imagenet", "in_channels": 3, "classes": CLASSES}
    beside(folder, config__json=config, classes__json=NAMES)
    return Brought(path, stretched(path, *IMAGENET), "mean 0.485 0.456 0.406 (from config.json)")


def normalizing_inside(folder: Path) -> Brought:
    """What it was trained with lies beside a graph that does the same by itself."""
    before = [node("Sub", "x mean", "shifted"), node("Div", "shifted std", "planes")]
    constants = {
        name: np.array(values, np.float32).reshape(1, 3, 1, 1)
        for name, values in (("mean", MEAN_255), ("std", STD_255))
    }
    path = write(folder / "model.onnx", before, LOGITS, input_shape=NCHW, constants=constants)
    processor = {**HF_PREPROCESSOR, "do_resize": False}
    beside(folder, config__json=HF_CONFIG, preprocessor_config__json=processor)
    run = session(path)

    def by_hand(image: np.ndarray) -> np.ndarray:
        return upsampled(run(normalized(by_pil(image, SIZE_HW)[:, :, ::-1], 0, 1, 1))[0], image.shape[:2])

    return Brought(path, by_hand, "scale, mean, std of preprocessor_config.json: not used, since the graph")


def mmdeploy(folder: Path) -> Brought:
    """pipeline.json and the mask of end2end.onnx, whose channel axis is 1; names in a list beside it."""
    after = [node("ArgMax", "logits", "y", axis=1, keepdims=1)]
    kind = TensorProto.INT64
    path = write(folder / "end2end.onnx", IDENTITY, after, input_shape=FREE, output_type=kind)
    transforms = [
        {"type": "LoadImageFromFile"},
        {"type": "Resize", "keep_ratio": False, "size": list(SIZE_HW)},
        {"type": "Normalize", "to_rgb": True, "mean": list(MEAN_255), "std": list(STD_255)},
        {"type": "Collect", "keys": ["img"]},
    ]
    task = {"type": "Task", "module": "Transform", "name": "Preprocess", "transforms": transforms}
    beside(folder, pipeline__json={"pipeline": {"tasks": [task, {"module": "Net"}]}}, classes__json=NAMES)
    by_hand = of_indices(session(path), lambda image: normalized(rgb(image), MEAN_255, STD_255, 1))
    return Brought(folder, by_hand, "size_hw 64 96 (from pipeline.json)")


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


def paddleseg(folder: Path) -> Brought:
    """deploy.yaml and a mask of int32 without channels."""
    pytest.importorskip("yaml")
    shape, kind = (-1, 3, -1, -1), TensorProto.INT32
    path = write(folder / "model.onnx", IDENTITY, TO_INDICES, input_shape=shape, output_type=kind)
    (folder / "deploy.yaml").write_text(DEPLOY)
    (folder / "labels.txt").write_text("".join(f"{name}\n" for name in NAMES))
    by_hand = of_indices(session(path), lambda image: normalized(rgb(image), 0.5, 0.5))
    return Brought(path, by_hand, "names 5: class 0, class 1, class 2, class 3, … (from labels.txt)")


def paddlex(folder: Path) -> Brought:
    """The same in inference.yml, with shapes that are not stated, and a padding of its own colour."""
    pytest.importorskip("yaml")
    path = write(folder / "model.onnx", IDENTITY, TO_INDICES, input_shape=FREE, output_type=TensorProto.INT32)
    text = DEPLOY.replace("[-1, 3, -1, -1]", "[null, 3, null, null]").replace(
        "    type: Resize\n",
        "    type: Resize\n    keep_ratio: true\n"
        "  - target_size: [96, 64]\n    im_padding_value: 0\n    type: Padding\n",
    )
    (folder / "inference.yml").write_text(text.replace("[96, 64]", "[96, 54]", 1))
    (folder / "labels.txt").write_text("".join(f"{name}\n" for name in NAMES))
    run = session(path)

    def by_hand(image: np.ndarray) -> np.ndarray:
        scale = min(side / own for side, own in zip(SIZE_HW, image.shape, strict=False))
        height, width = (round(side * scale) for side in image.shape[:2])
        picture = np.zeros((*SIZE_HW, 3), np.uint8)
        picture[:height, :width] = cv2.resize(image, (width, height))
        mask = run(normalized(picture[:, :, ::-1], 0.5, 0.5))[0].astype(np.uint8).repeat(4, 0).repeat(4, 1)
        return cv2.resize(mask[:height, :width], image.shape[1::-1], interpolation=cv2.INTER_NEAREST_EXACT)

    return Brought(path, by_hand, "size_hw 64 96 (from inference.yml)")


def kerashub(folder: Path) -> Brought:
    """Channels last, sizes free, scale and offset in preprocessor.json."""
    path = write(folder / "model.onnx", TO_PLANES, TO_PIXELS, input_shape=("batch", "height", "width", 3))
    config = {"image_size": list(SIZE_HW), "scale": 1 / 127.5, "offset": -1.0, "interpolation": "bilinear"}
    beside(
        folder, preprocessor__json={"config": {"image_converter": {"config": config}}}, classes__json=NAMES
    )
    by_hand = of_pixels(session(path), lambda image: np.float32(rgb(image) / 127.5 - 1)[None])
    return Brought(path, by_hand, "std 127.5 127.5 127.5")


def keras_rescaling(folder: Path) -> Brought:
    """A Rescaling layer takes pixels of 0 to 255; softmax over flattened pixels."""
    before = [
        node("Mul", "x factor", "scaled"),
        node("Add", "scaled offset", "shifted"),
        node("Transpose", "shifted", "planes", perm=[0, 3, 1, 2]),
    ]
    after = [
        node("Transpose", "logits", "pixels", perm=[0, 2, 3, 1]),
        node("Reshape", "pixels flat", "rows"),
        node("Softmax", "rows", "y", axis=-1),
    ]
    constants = {
        "factor": np.array(1 / 127.5, np.float32),
        "offset": np.array(-1, np.float32),
        "flat": np.array([-1, SIZE_HW[0] * SIZE_HW[1] // 16, CLASSES]),
    }
    path = write(folder / "model.onnx", before, after, input_shape=NHWC, constants=constants)
    beside(folder, classes__json=NAMES)
    run = session(path)
    by_hand = of_pixels(lambda x: np.log(run(x)), lambda image: np.float32(rgb(image))[None])
    return Brought(path, by_hand, "scale 1.0 (from the graph, which normalises by itself)")


def keras_resizing(folder: Path) -> Brought:
    """A Resizing layer, and a clip, before the Rescaling."""
    before = [
        node("Transpose", "x", "turned", perm=[0, 3, 1, 2]),
        node("Resize", "turned none none to", "resized", mode="linear"),
        node("Clip", "resized low high", "clipped"),
        node("Mul", "clipped factor", "scaled"),
        node("Add", "scaled offset", "planes"),
    ]
    constants = {
        "to": np.array([1, 3, *SIZE_HW]),
        "none": np.array([], np.float32),
        "low": np.array(0, np.float32),
        "high": np.array(255, np.float32),
        "factor": np.array(1 / 127.5, np.float32),
        "offset": np.array(-1, np.float32),
    }
    path = write(folder / "model.onnx", before, TO_PIXELS, input_shape=NHWC, constants=constants)
    beside(folder, classes__json=NAMES)
    by_hand = of_pixels(session(path), lambda image: np.float32(rgb(image))[None])
    return Brought(path, by_hand, "scale 1.0 (from the graph, which normalises by itself)")


def keras_data_norm(folder: Path) -> Brought:
    """A batch norm of the pixels, as in the ResNets of image-classifiers; one channel of probabilities."""
    before = [
        node("Transpose", "x", "bytes", perm=[0, 3, 1, 2]),
        node("BatchNormalization", "bytes one zero mean variance", "planes"),
    ]
    after = [node("Sigmoid", "logits", "p"), node("Transpose", "p", "y", perm=[0, 2, 3, 1])]
    constants = {
        "one": np.ones(3, np.float32),
        "zero": np.zeros(3, np.float32),
        "mean": np.array(MEAN_255, np.float32),
        "variance": np.array(STD_255, np.float32) ** 2,
    }
    path = write(
        folder / "model.onnx", before, after, input_shape=NHWC, constants=constants, channels=1, gain=3
    )
    (folder / "labels.txt").write_text("0 background\n1 road\n")
    run = session(path)

    def by_hand(image: np.ndarray) -> np.ndarray:
        p = run(np.float32(rgb(image))[None])[0, ..., 0].astype(np.float64)
        return upsampled(np.stack((0 * p, np.log(p) - np.log(1 - p))), image.shape[:2])

    return Brought(path, by_hand, "names 2: background, road")


def frozen_tensorflow(folder: Path) -> Brought:
    """DeepLab's frozen graph through tf2onnx: bytes in, scaled inside, class indices out."""
    before = [
        node("Cast", "x", "f", to=TensorProto.FLOAT),
        node("Mul", "f factor", "scaled"),
        node("Sub", "scaled one", "shifted"),
        node("Transpose", "shifted", "planes", perm=[0, 3, 1, 2]),
    ]
    constants = {"factor": np.array(1 / 127.5, np.float32), "one": np.array(1, np.float32)}
    path = write(
        folder / "frozen.onnx",
        before,
        TO_INDICES,
        input_shape=(1, *SIZE_HW, 3),
        input_type=TensorProto.UINT8,
        output_type=TensorProto.INT32,
        constants=constants,
    )
    beside(folder, classes__json={"names": NAMES})
    return Brought(path, of_indices(session(path), lambda image: rgb(image)[None]))


TOOLKITS = (
    ultralytics,
    ultralytics_argmax,
    segformer,
    mobilevit,
    model_api,
    model_api_of_raw_pixels,
    otx,
    segmentation_models,
    normalizing_inside,
    mmdeploy,
    paddleseg,
    paddlex,
    kerashub,
    keras_rescaling,
    keras_resizing,
    keras_data_norm,
    frozen_tensorflow,
)


@pytest.mark.parametrize("bring", TOOLKITS, ids=lambda bring: bring.__name__)
def test_it_opens_without_a_flag(tmp_path: Path, bring: Callable[[Path], Brought]) -> None:
    brought = bring(tmp_path)
    report = adapt(brought.place)
    assert any(brought.says in line for line in (*report.taken, *report.notes)) or not brought.says
    assert agreement(report.path, brought.by_hand) >= ENOUGH


def test_what_describes_nothing_takes_one_flag(tmp_path: Path) -> None:
    """Of torchvision: an auxiliary output, and mean and std that only its documentation names."""
    path = write(
        tmp_path / "model.onnx",
        IDENTITY,
        [*LOGITS, node("Neg", "logits", "aux")],
        input_shape=NCHW,
        outputs=("y", "aux"),
    )
    beside(tmp_path, classes__json=NAMES)
    report = adapt(path, options=AdaptOptions(InputOptions(preprocess="imagenet")))
    assert agreement(report.path, stretched(path, *IMAGENET)) >= ENOUGH


@pytest.mark.parametrize(
    ("processor", "fit", "notes"),
    [
        (
            {"size": 72, "do_center_crop": True, "crop_size": 64},
            ImageFit("crop", "antialias", zoom=1.125),
            "",
        ),
        ({"size": 64, "image_processor_type": "BeitImageProcessor"}, STRETCH, ""),
        (
            {"size": {"height": 72, "width": 72}, "do_center_crop": True, "crop_size": 64},
            STRETCH,
            "stretches to (72, 72), then crops",
        ),
        ({"size": {"shortest_edge": 64}, "resample": 3}, ImageFit("stretch", "antialias-bicubic"), "--imgsz"),
        ({"size": {"height": 64, "width": 64}, "keep_aspect_ratio": True}, STRETCH, "--imgsz"),
    ],
)
def test_sizes_of_image_processors(
    tmp_path: Path, processor: dict[str, object], fit: ImageFit, notes: str
) -> None:
    path = write(tmp_path / "model.onnx", IDENTITY, LOGITS, input_shape=(1, 3, 64, 64))
    beside(tmp_path, config__json=HF_CONFIG, preprocessor_config__json={"do_normalize": False, **processor})
    report = adapt(path)
    assert report.contract.input.size_hw == (64, 64)
    assert report.contract.input.fit == fit
    assert notes in " ".join(report.notes)


def test_a_mask_of_0_and_255_is_no_class_index(tmp_path: Path) -> None:
    after = [
        node("Greater", "logits middle", "is_road"),
        node("Where", "is_road white black", "y"),
    ]
    constants = {
        "middle": np.array(0, np.float32),
        "white": np.array(255, np.uint8),
        "black": np.array(0, np.uint8),
    }
    kind = TensorProto.UINT8
    path = write(
        tmp_path / "net.onnx",
        IDENTITY,
        after,
        input_shape=NCHW,
        output_type=kind,
        channels=1,
        constants=constants,
    )
    beside(tmp_path, classes__json=["background", "road"])
    with pytest.raises(ConfigError, match="got 0 and 255"):
        adapt(path)


def test_of_several_outputs_the_deepest_is_named(tmp_path: Path) -> None:
    after = [*LOGITS, node("Conv", "b head2", "early", strides=[2, 2])]
    path = write(
        tmp_path / "net.onnx",
        IDENTITY,
        after,
        input_shape=NCHW,
        outputs=("early", "y"),
        constants={"head2": np.ones((CLASSES, 8, 1, 1), np.float32)},
    )
    beside(tmp_path, classes__json=NAMES)
    with pytest.raises(ConfigError, match="most of the network is before y"):
        adapt(path)


@pytest.mark.parametrize(
    ("transforms", "size_hw", "fit"),
    [
        (
            [{"type": "Resize", "size": [64, 256], "keep_ratio": True}],
            SIZE_HW,
            ImageFit(fill_bgr=(0, 0, 0), place="corner"),
        ),
        (
            [
                {"type": "Resize", "size": [64, 96], "keep_ratio": True},
                {"type": "Pad", "size": [96, 96], "pad_val": []},
            ],
            None,
            None,
        ),
        (
            [{"type": "Resize", "size": [54, 96], "keep_ratio": True}, {"type": "Pad", "size": [64, 96]}],
            SIZE_HW,
            ImageFit("letterbox", fill_bgr=(0, 0, 0), place="corner"),
        ),
    ],
)
def test_sizes_of_mmdeploy(
    tmp_path: Path, transforms: list[dict[str, object]], size_hw: tuple[int, int] | None, fit: ImageFit | None
) -> None:
    path = write(tmp_path / "end2end.onnx", IDENTITY, LOGITS, input_shape=FREE)
    task = {
        "module": "Transform",
        "transforms": [*transforms, {"type": "Normalize", "mean": [0], "std": [1]}],
    }
    beside(tmp_path, pipeline__json={"pipeline": {"tasks": [task]}}, classes__json=NAMES)
    report = adapt(path, options=AdaptOptions(size_hw=SIZE_HW))
    assert report.contract.input.size_hw == SIZE_HW
    if fit is None:
        assert any("pipeline.json was left out" in note for note in report.notes)
    else:
        assert report.contract.input.fit == fit
        assert any("--imgsz" in note for note in report.notes) == (fit.mode == "stretch")


def test_what_is_assumed_is_said(tmp_path: Path) -> None:
    path = write(tmp_path / "model.onnx", IDENTITY, LOGITS, input_shape=NCHW)
    beside(tmp_path, classes__json=NAMES)
    assert any("RGB / 255 is assumed" in note for note in adapt(path).notes)
    options = AdaptOptions(InputOptions(preprocess="unit"))
    assert adapt(path, output_path=tmp_path / "told.onnx", options=options).notes == ()


def test_several_sigmoids_and_a_fourth_channel_are_told(tmp_path: Path) -> None:
    after = [node("Sigmoid", "logits", "y")]
    path = write(tmp_path / "model.onnx", IDENTITY, after, input_shape=(1, 4, *SIZE_HW), inputs=4)
    beside(tmp_path, classes__json=NAMES)
    notes = " ".join(adapt(path).notes)
    assert "gives 5 probabilities of their own" in notes
    assert "its fourth channel gets 255 everywhere" in notes
