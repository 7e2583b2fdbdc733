"""Makes int8 candidates of one float32 file: repaired or as exported, with any layers left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

from export.graph.view import GraphView
from export.int8.image_input import ImagePath, find_image_path
from export.int8.progress import tracked
from export.int8.qdq import int8_nodes, watched_tensors, write_int8
from export.int8.ranges import ActivationRanges, calibrate
from export.int8.repair import correct_biases, equalize
from export.int8.target import TargetCpu
from runtime.errors import ConfigError
from runtime.frame import Image
from runtime.network.session import default_threads, session_options

AS_EXPORTED = "as exported"
REPAIRS = ("biases corrected", "equalised, biases corrected")
_RANKING_FRAMES = 4


@dataclass(frozen=True)
class LayerError:
    """What int8 in one layer alone does to the logits.

    Attributes:
        layer: as `GraphView.layer_name`.
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
        model: onnx.ModelProto,
        images_bgr: Sequence[Image],
        method: str,
        target: TargetCpu,
        logits_name: str,
    ) -> None:
        """Look at a graph.

        Args:
            model: float32, with uint8 (1, H, W, 3) in.
            images_bgr: uint8 (H, W, 3) of the input's size, to calibrate on.
            method: one of `export.int8.ranges.METHODS`.
            target: kind of processor.
            logits_name: of the output that the error is measured at.

        Raises:
            ConfigError: an operator set too old for int8, or no layer that int8 can compute.
        """
        opset = next(item.version for item in model.opset_import if item.domain in ("", "ai.onnx"))
        if opset < target.min_opset:
            raise ConfigError(
                f"quantize: expected ONNX operator set {target.min_opset} or newer for {target.name}, got "
                f"{opset}; export the network again with a newer --opset"
            )
        view = GraphView(model)
        self._images_bgr, self._method, self._target = images_bgr, method, target
        self._logits_name = logits_name
        self.image: ImagePath | None = find_image_path(view, model.graph.input[0].name)
        nodes = int8_nodes(view, model, self.image)
        self.layers = tuple(view.layer_name(node) for node in nodes)
        if not any(node.op_type == "Conv" for node in nodes):
            raise ConfigError(
                "quantize: expected float32 convolutions with constant weights, found none; give the float32 "
                "file of export.to_onnx"
            )
        self._watched = watched_tensors(view, nodes, self.image)
        self._forms: dict[str, tuple[onnx.ModelProto, ActivationRanges]] = {
            AS_EXPORTED: (model, self._calibrated(model))
        }

    def build(self, form: str = AS_EXPORTED, excluded: frozenset[str] = frozenset()) -> onnx.ModelProto:
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
        """Return every layer with its error, worst first."""
        images = self._images_bgr[:: max(1, len(self._images_bgr) // _RANKING_FRAMES)][:_RANKING_FRAMES]
        expected = self._logits(self._forms[AS_EXPORTED][0], images)
        signal = float((expected**2).sum())
        errors = []
        everything = frozenset(self.layers)
        for layer in tracked(self.layers, len(self.layers), "layers"):
            found = self._logits(self.build(excluded=everything - {layer}), images)
            noise = max(float(((found - expected) ** 2).sum()), np.finfo(np.float64).tiny)
            errors.append(LayerError(layer, float(10 * np.log10(max(signal, noise * 1e-9) / noise))))
        return sorted(errors, key=lambda error: error.sqnr_db)

    def _calibrated(self, model: onnx.ModelProto) -> ActivationRanges:
        return calibrate(model, self._watched, self._images_bgr, self._method)

    def _repaired(self, form: str) -> tuple[onnx.ModelProto, ActivationRanges]:
        model, ranges = self._forms[AS_EXPORTED]
        if form == REPAIRS[1]:
            model = equalize(model, self.image)
            ranges = self._calibrated(model)
        # The new biases move the activations by far less than a step, so the ranges stay.
        return correct_biases(model, ranges, self._target), ranges

    def _logits(self, model: onnx.ModelProto, images_bgr: Sequence[Image]) -> NDArray[np.float64]:
        """Return float64 (N, C, h, w)."""
        session = ort.InferenceSession(
            model.SerializeToString(), session_options(default_threads()), providers=["CPUExecutionProvider"]
        )
        name = model.graph.input[0].name
        runs = [session.run([self._logits_name], {name: image[None]})[0] for image in images_bgr]
        return np.concatenate(runs).astype(np.float64)
