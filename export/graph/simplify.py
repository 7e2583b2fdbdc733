"""Simplifies a traced graph with onnxsim, and refuses a result that computes something else."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout

import onnx
import onnx_ir as ir
import onnxsim

from runtime.errors import ParityError

RANDOM_CHECKS = 2  # runs of both graphs on random images; the real proof is export.proof.parity


def simplify(
    model: ir.Model,
    check_shapes: Mapping[str, Sequence[int]] | None = None,
    checks: int = RANDOM_CHECKS,
) -> ir.Model:
    """Return the simplified graph.

    Args:
        model: stays as it is.
        check_shapes: the shape of each input to compare both graphs at; needed where it is free.
        checks: runs of both graphs on random images; 0 where the caller compares them by himself.

    Raises:
        ParityError: onnxsim failed, or the simplified graph gives other numbers.
    """
    shapes = None if check_shapes is None else {name: list(shape) for name, shape in check_shapes.items()}
    simplified: onnx.ModelProto
    try:
        with redirect_stdout(io.StringIO()):  # onnxsim prints its progress
            simplified, same = onnxsim.simplify(ir.to_proto(model), check_n=checks, test_input_shapes=shapes)
    except Exception as error:  # onnxsim raises what its C++ passes and its checker raise
        raise ParityError(
            f"simplify: expected a smaller graph, onnxsim {onnxsim.__version__} failed "
            f"({type(error).__name__}: {error}); keep the graph as it was traced with --no-simplify"
        ) from error
    if not same:
        raise ParityError(
            f"simplify: expected the numbers of the traced graph, onnxsim {onnxsim.__version__} changed "
            "them, so no file was written; keep the graph as it was traced with --no-simplify"
        )
    return ir.from_proto(simplified)
