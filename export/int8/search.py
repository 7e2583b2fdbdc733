"""Makes int8 candidates of one float32 file, and finds the fastest that keeps within an accuracy budget.

A candidate is the network as exported or repaired, with any of its layers left in float32.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from export.graph.edit import layer_name, opset_of, typed_copy
from export.graph.probe import watch
from export.int8.qdq import int8_nodes, watched_tensors, write_int8
from export.int8.ranges import ActivationRanges, calibrate
from export.int8.repair import correct_biases, equalize
from export.int8.stem import find_image_path
from export.int8.target import TargetCpu
from runtime.base.progress import tracked
from runtime.contract import Accuracy
from runtime.errors import ConfigError, ParityError
from runtime.frame import Image

AS_EXPORTED = "as exported"
REPAIRS = ("biases corrected", "equalised, biases corrected")
_RANKING_FRAMES = 4
MAX_RATIO = 0.95  # of float32's time; less gain than that is not worth another file
_MAX_SLOWDOWN = 1.1  # of the straight form, that leaving layers out may cost before repairs are tried


@dataclass(frozen=True)
class LayerError:
    """What int8 in one layer alone does to the logits.

    Attributes:
        layer: as `export.graph.edit.layer_name`.
        sqnr_db: signal to quantization noise of the logits in decibels; low is bad.
    """

    layer: str
    sqnr_db: float


class Int8Builder:
    """Calibrates once a form of the network and builds from that.

    Attributes:
        image: how the image reaches the first convolution without float arithmetic; None if it cannot.
        layers: names of all layers that int8 can compute.
    """

    def __init__(
        self,
        model: ir.Model,
        images_bgr: Sequence[Image],
        method: str,
        target: TargetCpu,
        logits_name: str,
        is_over: Callable[[], bool] = lambda: False,
    ) -> None:
        """Look at a graph.

        Args:
            model: float32, with uint8 (1, H, W, 3) in.
            images_bgr: uint8 (H, W, 3) of the input's size, to calibrate on.
            method: one of `export.int8.ranges.METHODS`.
            target: kind of processor.
            logits_name: of the output that the error is measured at.
            is_over: whether the time for a ranking is used up.

        Raises:
            ConfigError: an operator set too old for int8, or no layer that int8 can compute.
        """
        if opset_of(model) < target.min_opset:
            raise ConfigError(
                f"quantize: expected ONNX operator set {target.min_opset} or newer for {target.name}, got "
                f"{opset_of(model)}; export the network again with a newer --opset"
            )
        model = typed_copy(model)
        self._images_bgr, self._method, self._target = images_bgr, method, target
        self._logits_name, self._is_over = logits_name, is_over
        self.image = find_image_path(model)
        nodes = int8_nodes(model, self.image)
        self.layers = tuple(layer_name(node) for node in nodes)
        if not any(node.op_type == "Conv" for node in nodes):
            raise ConfigError(
                "quantize: expected float32 convolutions with constant weights, found none; give the float32 "
                "file of export.to_onnx"
            )
        self._watched = watched_tensors(nodes, self.image)
        self._forms = {AS_EXPORTED: (model, self._calibrated(model))}

    def build(self, form: str = AS_EXPORTED, excluded: frozenset[str] = frozenset()) -> ir.Model:
        """Return an int8 graph.

        Args:
            form: `AS_EXPORTED` or one of `REPAIRS`.
            excluded: layers that stay float32.
        """
        if form not in self._forms:
            self._forms[form] = self._repaired(form)
        model, ranges = self._forms[form]
        return write_int8(model, ranges, self._target, self.image, excluded)

    def rank_layers(self) -> list[LayerError]:
        """Return every layer with its error, worst first; those that the time allowed."""
        images = self._images_bgr[:: max(1, len(self._images_bgr) // _RANKING_FRAMES)][:_RANKING_FRAMES]
        expected = self._logits(self._forms[AS_EXPORTED][0], images)
        signal = float((expected**2).sum())
        errors = []
        everything = frozenset(self.layers)
        for layer in tracked(self.layers, "layers"):
            if self._is_over():
                break
            found = self._logits(self.build(excluded=everything - {layer}), images)
            noise = max(float(((found - expected) ** 2).sum()), np.finfo(np.float64).tiny)
            errors.append(LayerError(layer, float(10 * np.log10(max(signal, noise * 1e-9) / noise))))
        return sorted(errors, key=lambda error: error.sqnr_db)

    def _calibrated(self, model: ir.Model) -> ActivationRanges:
        return calibrate(model, self._watched, self._images_bgr, self._method)

    def _repaired(self, form: str) -> tuple[ir.Model, ActivationRanges]:
        model, ranges = self._forms[AS_EXPORTED]
        if form == REPAIRS[1]:
            model = equalize(model, self.image)
            ranges = self._calibrated(model)
        # The new biases move the activations by far less than a step, so the ranges stay.
        return correct_biases(model, ranges, self._target), ranges

    def _logits(self, model: ir.Model, images_bgr: Sequence[Image]) -> NDArray[np.float64]:
        """Return float64 (N, C, h, w)."""
        run = watch(model, [self._logits_name])
        logits = [run(image[None])[self._logits_name] for image in images_bgr]
        return np.concatenate(logits).astype(np.float64)


@dataclass(frozen=True)
class Step:
    """One candidate, measured.

    Attributes:
        form: `AS_EXPORTED` or one of `REPAIRS`.
        excluded: layers in float32, worst first.
        points: mIoU or mask agreement, of 100.
        drop: points below the float32 file; negative where int8 is better.
        float_ms: the float32 network's milliseconds, interleaved with this candidate's.
        int8_ms: milliseconds of the candidate's network.
        ratio: median of the candidate's time as a share of float32's.
        size_bytes: of the file.
        accuracy: in full, where there are labels.
    """

    form: str
    excluded: tuple[str, ...]
    points: float
    drop: float
    float_ms: float
    int8_ms: float
    ratio: float
    size_bytes: int
    accuracy: Accuracy | None = None


@dataclass(frozen=True)
class SearchResult:
    """All candidates in the order they were tried, the chosen one, and the ranking if one was needed."""

    steps: tuple[Step, ...]
    chosen: Step
    ranking: tuple[LayerError, ...] = ()


def search(
    measure: Callable[[str, tuple[str, ...]], Step],
    rank_layers: Callable[[], list[LayerError]],
    max_drop: float,
    is_over: Callable[[], bool] = lambda: False,
) -> SearchResult:
    """Return the fastest candidate that keeps the budget.

    1. All layers in int8. If that holds, it is the answer.
    2. Layers are left out, those with the worst error first, until the budget holds.
    3. If that costs more than a tenth of the speed, repaired forms with all layers in int8 are tried.

    Args:
        measure: builds and measures the candidate of a form and its excluded layers.
        rank_layers: called at most once.
        max_drop: points that may be lost.
        is_over: whether the time is used up; the best so far is then the answer.

    Raises:
        ParityError: no candidate holds; the message names the best.
    """
    straight = measure(AS_EXPORTED, ())
    if straight.drop <= max_drop:
        return SearchResult((straight,), straight)
    steps = [straight]
    ranking = tuple(rank_layers())
    for count in range(1, len(ranking) + 1):
        if is_over():
            break
        step = measure(AS_EXPORTED, tuple(error.layer for error in ranking[:count]))
        steps.append(step)
        if step.drop <= max_drop or step.ratio >= MAX_RATIO:
            break
    if steps[-1].drop > max_drop or steps[-1].ratio > _MAX_SLOWDOWN * straight.ratio:
        steps += [measure(form, ()) for form in REPAIRS if not is_over()]
    held = [step for step in steps if step.drop <= max_drop]
    if not held:
        best = min(steps, key=lambda step: step.drop)
        late = "; the time is used up, allow more with --budget-s" if is_over() else ""
        raise ParityError(
            f"quantize: expected at most {max_drop:g} points lost, the best of {len(steps)} candidates "
            f"({best.form}, {len(best.excluded)} layers in float32) loses {best.drop:.2f}, so no file was "
            f"written{late}; allow more with --max-drop, or try another --calibration or more pictures"
        )
    return SearchResult(tuple(steps), min(held, key=lambda step: step.ratio), ranking)
