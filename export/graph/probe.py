"""Runs and checks a graph before it is anybody's file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

import onnx
import onnx_ir as ir
import onnxruntime as ort

from export.graph.edit import Array, value_named
from runtime.base.files import name_for_libraries
from runtime.errors import ParityError
from runtime.network.session import default_threads, session_options

Watch: TypeAlias = Callable[[Array], dict[str, Array]]


def open_graph(model: ir.Model, threads: int | None = None) -> ort.InferenceSession:
    """Open a graph in onnxruntime on the CPU; without `threads` on the physical cores, at most 4."""
    return ort.InferenceSession(
        ir.to_proto(model).SerializeToString(),
        session_options(default_threads() if threads is None else threads),
        providers=["CPUExecutionProvider"],
    )


def watch(model: ir.Model, names: Sequence[str]) -> Watch:
    """Open a graph so that tensors inside it can be seen.

    Args:
        model: takes images, uint8 (N, H, W, 3); stays as it is.
        names: float32 tensors.

    Returns:
        Runs the graph on images, and gives the tensors by name.
    """
    watched = model.clone()
    for name in names:
        value = value_named(watched, name)
        if not value.is_graph_output():
            value.type, value.shape = ir.TensorType(ir.DataType.FLOAT), None
            watched.graph.outputs.append(value)
    session = open_graph(watched)
    image = model.graph.inputs[0].name
    return lambda images_bgr: dict(zip(names, session.run(list(names), {image: images_bgr}), strict=True))


def check_file(path: Path) -> None:
    """Check a file with onnx.checker.

    Raises:
        ParityError: what is wrong with it.
    """
    try:
        with name_for_libraries(path) as name:
            onnx.checker.check_model(name, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ParityError(
            f"proof: expected a valid ONNX graph, onnx.checker says: {error}; report it with the model"
        ) from error
