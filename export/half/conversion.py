"""Turns a float32 graph into one with float16 weights and arithmetic, where float16 can hold the numbers.

float16 ends at 65504. So the float32 graph runs on real pictures first, and a node whose inputs or outputs
come near that end stays float32: an island, with a cast on each side. Nothing else is added, but one cast
from the uint8 image and one to the float32 logits.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import numpy as np
import onnx_ir as ir
from onnx_ir import DataType
from onnx_ir.passes.common import LiftConstantsToInitializersPass

from export.graph.edit import (
    Array,
    append,
    array_of,
    constant,
    insert_after,
    insert_before,
    numbers,
    replace_output,
    set_array,
    sweep,
    typed_copy,
)
from export.graph.probe import watch
from runtime.errors import ConfigError
from runtime.frame import Image

HEADROOM = 4  # other pictures than the ones tried may give larger numbers
LARGEST = float(np.finfo(np.float16).max) / HEADROOM

# Their results depend on more digits than float16 has, or their definition knows no float16.
FLOAT32_ONLY = frozenset(
    {"CumSum", "EyeLike", "NonMaxSuppression", "RandomNormal", "RandomUniform", "Range", "RoiAlign", "TopK"}
)
# Inputs by place that stay float32 by definition, while the node's others change.
FLOAT32_INPUTS = {"Resize": (1, 2)}
_SUBGRAPHS = (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)
_SUMS = ("GlobalAveragePool", "ReduceMean", "ReduceSum")


def to_half(model: ir.Model, images: Iterable[Image]) -> tuple[ir.Model, tuple[str, ...]]:
    """Return the float16 graph, and the operations that stayed float32.

        x32 ─ Conv(w32) ─ y32 ─ Exp ─ z32          where y overflows in float16
        x16 ─ Conv(w16) ─ y16                      where nothing does
        x16 ─ Cast ─ x32 ─ Conv(w32) ─ y32 ─ Exp ─ z32 ─ Cast ─ z16        an island

    Args:
        model: float32, with float32 outputs, which stay float32; not changed.
        images: uint8 (H, W, 3) at the graph's input size, to find what overflows on.

    Raises:
        ConfigError: a graph with branches or loops.

    Returns:
        A new model, and each island as `operation name`.
    """
    if any(attribute.type in _SUBGRAPHS for node in model.graph for attribute in node.attributes.values()):
        raise ConfigError("half: expected a graph without branches and loops, got one; export it in float32")
    half = typed_copy(LiftConstantsToInitializersPass(True, 0)(model.clone()).model)
    islands = _overflowing(half, images)
    _convert(half, islands)
    return sweep(half), tuple(sorted(islands))


def _overflowing(model: ir.Model, images: Iterable[Image]) -> set[str]:
    """Return the nodes, by the name of their first output, that float16 could not hold."""
    produced = [str(value.name) for node in model.graph for value in node.outputs if _is_float(value)]
    peaks: dict[str, float] = defaultdict(float)
    sums: dict[str, float] = defaultdict(float)
    for name, value in model.graph.initializers.items():
        values = array_of(value)
        if _is_float(value) and values is not None and values.size:
            peaks[name] = _peak(values)
    run = watch(model, produced)
    for image in images:
        for name, values in run(image[None]).items():
            peaks[name] = max(peaks[name], _peak(values))
            if values.ndim == 4:
                sums[name] = max(sums[name], _peak(np.abs(values).sum(axis=(2, 3))))
    overflowing = set()
    for node in model.graph:
        read, made = ([str(value.name) for value in ends if value] for ends in (node.inputs, node.outputs))
        largest = max(peaks[name] for name in (*read, *made))
        if largest > LARGEST or (node.op_type in _SUMS and sums[read[0]] > LARGEST):
            overflowing.add(made[0])
    return overflowing


def _is_float(value: ir.Value) -> bool:
    return value.dtype == DataType.FLOAT


def _peak(values: Array) -> float:
    """Return the largest magnitude; infinity for what is no number."""
    largest = float(np.abs(values).max())
    return largest if np.isfinite(largest) else float("inf")


def _convert(model: ir.Model, islands: set[str]) -> None:
    """Rewrite a graph node by node; a tensor is cast at its first use in another type than its own."""
    graph = model.graph
    made = [value for node in graph for value in node.outputs]
    names = {
        value: str(value.name)
        for value in (*graph.inputs, *graph.initializers.values(), *made)
        if _is_float(value)
    }  # of all float32 tensors
    typed = {(value, DataType.FLOAT): value for value in names}

    def in_type(value: ir.Value, kind: DataType, reader: ir.Node | None) -> ir.Value:
        if (value, kind) not in typed:
            name = names[value] if kind == DataType.FLOAT else f"{names[value]}_half"
            weights = array_of(value)
            if weights is not None:
                typed[value, kind] = constant(graph, name, weights.astype(np.float16))
            elif reader is not None:
                typed[value, kind] = insert_before(reader, "Cast", [value], name, to=kind)
            else:
                typed[value, kind] = append(graph, "Cast", [value], name, to=kind)
        return typed[value, kind]

    for node in tuple(graph):
        is_half = node.outputs[0].name not in islands and node.op_type not in FLOAT32_ONLY
        for place, value in enumerate(node.inputs):
            if value in names:
                stays = not is_half or place in FLOAT32_INPUTS.get(node.op_type, ())
                kind = DataType.FLOAT if stays else DataType.FLOAT16
                node.replace_input_with(place, in_type(value, kind, node))
        results = [value for value in node.outputs if value in names]
        if is_half and results:
            _retype(node, DataType.FLOAT, DataType.FLOAT16)
            for value in results:
                value.name, value.type = f"{names[value]}_half", ir.TensorType(DataType.FLOAT16)
                typed[value, DataType.FLOAT16] = typed.pop((value, DataType.FLOAT))
    for output in tuple(graph.outputs):
        if output in names and (wanted := in_type(output, DataType.FLOAT, None)) is not output:
            wanted.type, wanted.shape = ir.TensorType(DataType.FLOAT), output.shape
            replace_output(output, wanted)


def _retype(node: ir.Node, old: DataType, new: DataType) -> None:
    """Change the attributes that name a type or hold a tensor of it."""
    for name, attribute in tuple(node.attributes.items()):
        if node.op_type == "Cast" and name == "to" and attribute.as_int() == old:
            node.attributes[name] = ir.AttrInt64(name, new)
        elif attribute.type == ir.AttributeType.TENSOR and attribute.as_tensor().dtype == old:
            values = attribute.as_tensor().numpy().astype(new.numpy())
            node.attributes[name] = ir.AttrTensor(name, ir.tensor(values))


def rounded_everywhere(model: ir.Model) -> ir.Model:
    """Return a float32 graph that rounds as a processor with float16 arithmetic does.

        x16 ─ Conv(w16) ─ y16
        x32 ─ Conv(w32) ─ Cast (float16) ─ Cast (float32) ─ y32

    onnxruntime has few float16 operations on x86 and computes the rest in float32 without rounding in
    between, so that running the file itself would prove its weights only. Here every float16 tensor is
    cast to float16 and back, explicitly, which onnxruntime keeps.

    Args:
        model: of `to_half`; not changed.
    """
    rounded = typed_copy(model)
    graph = rounded.graph
    for node in tuple(graph):
        _retype(node, DataType.FLOAT16, DataType.FLOAT)
        for value in node.outputs:
            if value.dtype == DataType.FLOAT16:
                value.type = ir.TensorType(DataType.FLOAT)
                uses = value.uses()
                half = insert_after(value, "Cast", [value], f"{value.name}_rounded", to=DataType.FLOAT16)
                single = insert_after(half, "Cast", [half], f"{value.name}_single", to=DataType.FLOAT)
                for reader, place in uses:
                    reader.replace_input_with(place, single)
    for value in graph.initializers.values():
        if value.dtype == DataType.FLOAT16:
            set_array(value, numbers(value).astype(np.float32))
    return rounded
