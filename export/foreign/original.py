"""Somebody else's network as it was, on an image prepared by hand: what its rewriting must reproduce."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from export.foreign.rewrite import SMALLEST_PROBABILITY, ForeignInput, ForeignOutput
from export.graph.probe import check_file, open_graph
from export.proof.parity import FrameParity, Parity, Tolerance, passed, proof_frames
from runtime.errors import ModelLoadError
from runtime.network.resize import fit_image
from runtime.network.session import NetworkSession

# Normalisation in the graph and by hand round differently, and a foreign network may be deep: 0.1 %.
TOLERANCE = Tolerance("float32", epsilons=2.0**13, mask_agreement=0.999, miou=0.0)


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
        try:
            self._session = open_graph(model, threads=1)
        except Exception as error:  # onnxruntime's errors have no common base class
            raise self._refused("open it with", error) from None

    def run(self, image: NDArray[np.float32], name: str) -> NDArray[np.generic]:
        """Return one output for a preprocessed image.

        Raises:
            ModelLoadError: onnxruntime cannot run it.
        """
        try:
            (output,) = self._session.run([name], {self._input_name: image.astype(self._dtype)})
        except Exception as error:
            raise self._refused("run it on", error) from None
        return output  # type: ignore[no-any-return]

    def _refused(self, doing: str, error: Exception) -> ModelLoadError:
        return ModelLoadError(
            f"model {self.path}: onnxruntime cannot {doing} an input of {self.shape} "
            f"({' '.join(str(error).split())[:300]}); check --layout and --imgsz"
        )


def compare(path: Path, original: Original, source: ForeignInput, output: ForeignOutput) -> Parity:
    """Compare a rewritten file, as the runtime opens it, with the original on 16 rendered streets.

    Args:
        path: of the file.
        original: what it was made from.
        source: what the original wants; done by hand here.
        output: what the original gives.

    Returns:
        Differences of logits, of probabilities if it gives those; none of class indices.

    Raises:
        ParityError: listing each frame that differs, or an invalid graph.
    """
    check_file(path)
    session = NetworkSession(path)
    size_hw = session.contract.input.size_hw
    compared = []
    for name, image_bgr in proof_frames():
        fitted = fit_image(image_bgr, size_hw)
        raw = original.run(source.prepare(fitted), output.name)
        if output.kind == "argmax":
            expected_mask = _resized_mask(raw.reshape(output.size_hw), size_hw)
            agreement = float((session.run_mask(fitted)[0] == expected_mask).mean())
            compared.append(FrameParity(name, 0.0, 0.0, agreement))
        else:
            expected = _expected_scores(raw, output, size_hw)  # (C, h, w)
            found = session.run(fitted)[0]
            agreement = float((found.argmax(0) == expected.argmax(0)).mean())
            scores = _softmax(found) if output.kind == "softmax" else found
            difference = float(np.abs(scores - expected).max())
            largest = max(float(np.abs(expected).max()), float(np.finfo(np.float32).tiny))
            compared.append(FrameParity(name, difference, difference / largest, agreement))
    return passed(
        compared,
        TOLERANCE,
        between="the original and the file",
        advice="check that --softmax-output is true of it",
    )


def _expected_scores(
    raw: NDArray[np.generic], output: ForeignOutput, size_hw: tuple[int, int]
) -> NDArray[np.float64]:
    """Return the original's scores as (C, h, w), upsampled if their stride is odd."""
    scores: NDArray[np.float64] = raw[0].astype(np.float64)
    if output.layout == "nhwc":
        scores = scores.transpose(2, 0, 1)
    if output.stride(size_hw) is None:
        if output.kind == "softmax":
            scores = np.log(np.maximum(scores, SMALLEST_PROBABILITY))
        planes = [cv2.resize(plane.astype(np.float32), size_hw[::-1]) for plane in scores]
        scores = np.stack(planes).astype(np.float64)
        return _softmax(scores) if output.kind == "softmax" else scores
    return scores


def _softmax(scores: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return probabilities along the first axis."""
    powers = np.exp(scores.astype(np.float64) - scores.max(0))
    result: NDArray[np.float64] = powers / powers.sum(0)
    return result


def _resized_mask(mask: NDArray[np.generic], size_hw: tuple[int, int]) -> NDArray[np.uint8]:
    """Return a mask with each pixel from the nearest centre."""
    rows, columns = (
        np.minimum(np.floor((np.arange(side) + 0.5) * own / side), own - 1).astype(int)
        for side, own in zip(size_hw, mask.shape, strict=True)
    )
    resized: NDArray[np.uint8] = mask[rows][:, columns].astype(np.uint8)
    return resized
