"""Simplifies a traced graph with onnxsim, and refuses a result that computes something else."""

from __future__ import annotations

import io
from contextlib import redirect_stdout

import onnx
import onnxsim

from runtime.errors import ParityError

RANDOM_CHECKS = 2  # runs of both graphs on random images; the real proof is export.parity


def simplify(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the simplified graph.

    Raises:
        ParityError: onnxsim failed, or the simplified graph gives other numbers.
    """
    simplified: onnx.ModelProto
    try:
        with redirect_stdout(io.StringIO()):  # onnxsim prints its progress
            simplified, same = onnxsim.simplify(model, check_n=RANDOM_CHECKS)
    except Exception as error:  # onnxsim raises what its C++ passes and its checker raise
        raise ParityError(
            f"simplify: expected a smaller graph, onnxsim {onnxsim.__version__} failed "
            f"({type(error).__name__}: {error}); report it with the checkpoint"
        ) from error
    if not same:
        raise ParityError(
            f"simplify: expected the numbers of the traced graph, onnxsim {onnxsim.__version__} changed "
            "them, so no file was written; report it with the checkpoint"
        )
    return simplified
