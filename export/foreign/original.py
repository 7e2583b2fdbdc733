"""Somebody else's network as it was, on an image prepared by hand: what its rewriting must reproduce."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from export.foreign.interface import SMALLEST_PROBABILITY, ForeignInput, ForeignOutput
from export.graph.probe import check_file, open_graph
from export.proof.parity import FrameParity, Named, Parity, Tolerance, passed
from runtime.base.progress import tracked
from runtime.base.shown import shown
from runtime.contract import ClassMap
from runtime.errors import ConfigError, ModelLoadError, ParityError
from runtime.network.resize import fit_image
from runtime.network.session import NetworkSession

Scores = NDArray[np.float64]

# Normalisation in the graph and by hand round differently, and a foreign network may be deep: 0.1 %.
TOLERANCE = Tolerance("float32", epsilons=2.0**13, mask_agreement=0.999, miou=0.0)
# Rounding to float16 or int8 between layers turns a difference in the last bit into one of a whole step.
COARSE_TOLERANCE = Tolerance("float16", epsilons=32, mask_agreement=0.99, miou=0.0)
FEWEST_FRAMES = 4  # of a proof that takes long
LOWEST_SPREAD = 0.1  # of what a network should see of a picture; nobody trains on less
HIGHEST_VALUE = 300.0  # beyond what pixels of 0 to 255 are, whatever is subtracted


class Original:
    """The network as it was, in onnxruntime."""

    def __init__(self, model: ir.Model, path: Path) -> None:
        """Open a graph of `export.foreign.rewrite.with_size`; the path is for messages.

        Raises:
            ModelLoadError: onnxruntime cannot open it.
        """
        (image,) = model.graph.inputs
        assert image.dtype is not None
        assert image.shape is not None
        self._input_name, self._dtype = image.name, image.dtype.numpy()
        self.path = path
        self.shape = list(image.shape.numpy())
        self.names = [str(value.name) for value in model.graph.outputs]
        self.tolerance = COARSE_TOLERANCE if _is_coarse(model) else TOLERANCE
        try:
            self._session = open_graph(model)
        except Exception as error:  # onnxruntime's errors have no common base class
            raise self._refused("open it with", error) from None

    def run(self, image: NDArray[np.float32]) -> dict[str, NDArray[np.generic]]:
        """Return all outputs for a preprocessed image.

        Raises:
            ModelLoadError: onnxruntime cannot run it.
        """
        try:
            outputs = self._session.run(self.names, {self._input_name: image.astype(self._dtype)})
        except Exception as error:
            raise self._refused("run it on", error) from None
        return dict(zip(self.names, outputs, strict=True))

    def _refused(self, doing: str, error: Exception) -> ModelLoadError:
        return ModelLoadError(
            f"model {shown(self.path, 120)}: onnxruntime cannot {doing} an input of {self.shape} "
            f"({shown(error, 240)}); check --layout and --imgsz"
        )


def peek(
    model: ir.Model, values: Sequence[ir.Value], pictures: Sequence[float]
) -> list[list[NDArray[np.generic]]] | None:
    """Return what tensors inside a graph are for pictures of one number; None if onnxruntime cannot say it.

    Args:
        model: of `export.foreign.rewrite.with_size`; stays as it is.
        values: of its graph.
        pictures: every pixel's number.
    """
    watched = model.clone()
    inside = ir.convenience.create_value_mapping(watched.graph)
    watched.graph.outputs.clear()
    for value in values:
        inner = inside[str(value.name)]
        inner.type, inner.shape = None, None
        watched.graph.outputs.append(inner)
    (image,) = watched.graph.inputs
    assert image.shape is not None
    assert image.dtype is not None
    try:
        session = open_graph(watched)
        shape, dtype = image.shape.numpy(), image.dtype.numpy()
        return [session.run(None, {image.name: np.full(shape, one, dtype)}) for one in pictures]
    except Exception:  # it may not give a tensor's type
        return None


def seen_range(
    source: ForeignInput, frames: Sequence[Named], size_hw: tuple[int, int]
) -> tuple[float, float]:
    """Return the lowest and the highest number that the network sees of real pictures.

    Raises:
        ConfigError: numbers that no network was trained on, since scale, mean and std are of different units.
    """
    prepared = [source.prepare(fit_image(image, size_hw, source.fit))[0] for _, image in frames]
    low, high = min(float(one.min()) for one in prepared), max(float(one.max()) for one in prepared)
    axes = (1, 2) if source.layout == "nchw" else (0, 1)
    spread = max(float((one.max(axes) - one.min(axes)).max()) for one in prepared)  # of one channel
    if spread < LOWEST_SPREAD or max(-low, high) > HIGHEST_VALUE:
        raise ConfigError(
            f"mean and std: with them the network would see pictures as numbers from {low:.4g} to "
            f"{high:.4g}; they are in units of pixel / {source.scale:g}: give them so, or --scale 1 where "
            "they are of 0 to 255"
        )
    return low, high


def compare(
    path: Path,
    original: Original,
    source: ForeignInput,
    output: ForeignOutput,
    classes: ClassMap,
    frames: Sequence[Named],
    *,
    most_s: float = math.inf,
) -> Parity:
    """Compare a rewritten file, as the runtime opens it, with the original.

    Args:
        path: of the file.
        original: what it was made from.
        source: what the original wants; done by hand here.
        output: what the original gives.
        classes: which it may give.
        frames: names and pictures to compare on.
        most_s: seconds after which no picture is begun, but for the first 4.

    Returns:
        Differences of logits, of probabilities if it gives those; none of class indices.

    Raises:
        ConfigError: the original gives class indices that are none.
        ParityError: listing frames that differ, an original that gives NaN, or an invalid graph.
    """
    check_file(path)
    session = NetworkSession(path)
    size_hw = session.contract.input.size_hw
    compared: list[FrameParity] = []
    started = time.monotonic()
    for name, image_bgr in tracked(frames, "proof"):
        if len(compared) >= FEWEST_FRAMES and time.monotonic() - started >= most_s:
            break
        fitted = fit_image(image_bgr, size_hw, source.fit)
        planes = output.planes(original.run(source.prepare(fitted))[output.name])
        if not np.isfinite(planes).all():
            raise ParityError(
                f"model {shown(original.path, 150)}: the network itself gives NaN or infinity for {name}, "
                "before anything is changed; float16 may overflow: export it in float32, or check --scale, "
                "--mean and --std"
            )
        if output.kind == "argmax":
            _check_indices(planes, output, classes)
            expected_mask = _resized_mask(planes[0], size_hw)
            if output.void is not None:
                expected_mask[expected_mask == output.void] = classes.ignore_index
            agreement = float((session.run_mask(fitted)[0] == expected_mask).mean())
            compared.append(FrameParity(name, 0.0, 0.0, agreement))
        else:
            compared.append(
                _compared(name, output, planes, session.run(fitted)[0], size_hw, original.tolerance)
            )
    return passed(compared, original.tolerance, between="the original and the file", advice=_advice(output))


def _compared(
    name: str,
    output: ForeignOutput,
    planes: Scores,
    found: NDArray[np.float32],
    size_hw: tuple[int, int],
    tolerance: Tolerance,
) -> FrameParity:
    """Compare one frame's scores; a class that all but ties with the highest is as good."""
    expected = _expected_scores(planes, output, size_hw)  # (C, h, w)
    scores = _softmax(found) if output.is_probability else found.astype(np.float64)
    if scores.shape != expected.shape or not np.isfinite(scores).all():
        return FrameParity(name, float("inf"), float("inf"), 0.0)
    largest = max(float(np.abs(expected).max()), float(np.finfo(np.float32).tiny))
    chosen = np.take_along_axis(expected, found.argmax(0)[None], 0)[0]
    agreement = float((chosen >= expected.max(0) - tolerance.relative * largest).mean())
    difference = float(np.abs(scores - expected).max())
    return FrameParity(name, difference, difference / largest, agreement)


def _advice(output: ForeignOutput) -> str:
    """Return what to try where the proof fails: of the flags that matter here."""
    if output.is_probability:
        return f"check that --{output.kind}-output is true of it"
    return "report it with the model"


def _check_indices(planes: Scores, output: ForeignOutput, classes: ClassMap) -> None:
    """Refuse numbers that are no class of the model's."""
    fractions = planes[planes != np.round(planes)]
    if fractions.size:
        raise ConfigError(
            f"output {output.name}: expected class indices, got {fractions[0]:.4g}; for probabilities of one "
            "class beside a background say --sigmoid-output and give two names"
        )
    void = classes.ignore_index if output.void is None else output.void
    wrong = planes[
        ((planes < 0) | (planes >= len(classes))) & (planes != classes.ignore_index) & (planes != void)
    ]
    if wrong.size:
        values = sorted({int(value) for value in np.unique(wrong)})
        raise ConfigError(
            f"output {output.name}: expected class indices 0 to {len(classes) - 1} of {len(classes)} names, "
            f"or {classes.ignore_index} for void, got {', '.join(map(str, values[:5]))} on "
            f"{wrong.size / planes.size:.1%} of a picture; name all classes in its order, or say "
            f"--void-index {values[0]} if that is void"
        )


def _expected_scores(planes: Scores, output: ForeignOutput, size_hw: tuple[int, int]) -> Scores:
    """Return scores (C, h, w) of what the original gave, upsampled if their stride is odd."""
    scores = planes
    if output.is_single:
        logit = planes[0]
        if output.kind == "sigmoid":
            logit = np.log(np.maximum(logit, SMALLEST_PROBABILITY)) - np.log(
                np.maximum(1 - logit, SMALLEST_PROBABILITY)
            )
        logit = logit - np.log(output.threshold / (1 - output.threshold))
        scores = np.stack((-logit / 2, logit / 2))
    elif output.is_probability:
        if output.stride(size_hw) is not None:
            return scores
        scores = np.log(np.maximum(scores, SMALLEST_PROBABILITY))
    if output.stride(size_hw) is None:
        scores = np.stack(
            [cv2.resize(plane.astype(np.float32), size_hw[::-1]).astype(np.float64) for plane in scores]
        )
    return _softmax(scores) if output.is_probability else scores


def _softmax(scores: NDArray[np.floating]) -> Scores:
    """Return probabilities along the first axis."""
    powers = np.exp(scores.astype(np.float64) - scores.max(0))
    result: Scores = powers / powers.sum(0)
    return result


def _resized_mask(mask: Scores, size_hw: tuple[int, int]) -> NDArray[np.int64]:
    """Return a mask with each pixel from the nearest centre."""
    rows, columns = (
        np.minimum(np.floor((np.arange(side) + 0.5) * own / side), own - 1).astype(int)
        for side, own in zip(size_hw, mask.shape, strict=True)
    )
    resized: NDArray[np.int64] = mask[rows][:, columns].astype(np.int64)
    return resized


def _is_coarse(model: ir.Model) -> bool:
    """Whether a graph computes in float16 or in int8."""
    half = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
    values = [*model.graph.inputs, *model.graph.initializers.values()]
    return any(value.dtype in half for value in values) or any(
        node.op_type in ("QuantizeLinear", "QLinearConv", "DynamicQuantizeLinear", "ConvInteger")
        or (node.op_type == "Cast" and node.attributes.get_int("to", 0) in half)
        for node in model.graph
    )
