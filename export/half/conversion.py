"""Turns a float32 graph into one with float16 weights and arithmetic, where float16 can hold the numbers.

float16 ends at 65504. So the float32 graph runs on real pictures first, and a node whose inputs or outputs
come near that end stays float32: an island, with a cast on each side. Nothing else is added, but one cast
from the uint8 image and one to the float32 logits.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import AttributeProto, TensorProto, helper, numpy_helper

from runtime.errors import ConfigError
from runtime.frame import Image
from runtime.network.session import default_threads, session_options

HEADROOM = 4  # other pictures than the ones tried may give larger numbers
LARGEST = float(np.finfo(np.float16).max) / HEADROOM

# Their results depend on more digits than float16 has, or their definition knows no float16.
FLOAT32_ONLY = frozenset(
    {"CumSum", "EyeLike", "NonMaxSuppression", "RandomNormal", "RandomUniform", "Range", "RoiAlign", "TopK"}
)
# Inputs by place that stay float32 by definition, while the node's others change.
FLOAT32_INPUTS = {"Resize": (1, 2)}


def to_half(model: onnx.ModelProto, images: Iterable[Image]) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """Return the float16 graph, and the operations that stayed float32.

    Args:
        model: float32, with float32 outputs, which stay float32; not changed.
        images: uint8 (H, W, 3) at the graph's input size, to find what overflows on.

    Raises:
        ConfigError: a graph with branches or loops.

    Returns:
        A new model, and each island as `operation name`.
    """
    if any(_subgraphs(node) for node in model.graph.node):
        raise ConfigError("half: expected a graph without branches and loops, got one; export it in float32")
    islands = _overflowing(model, images)
    return _Conversion(model, islands).run(), tuple(sorted(islands))


def _subgraphs(node: onnx.NodeProto) -> bool:
    return any(a.type in (AttributeProto.GRAPH, AttributeProto.GRAPHS) for a in node.attribute)


def _float_tensors(model: onnx.ModelProto) -> set[str]:
    """Return the names of all float32 tensors, weights included."""
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
    values = [*graph.input, *graph.output, *graph.value_info]
    names = {value.name for value in values if value.type.tensor_type.elem_type == TensorProto.FLOAT}
    return names | {tensor.name for tensor in graph.initializer if tensor.data_type == TensorProto.FLOAT}


def _overflowing(model: onnx.ModelProto, images: Iterable[Image]) -> set[str]:
    """Return the nodes, by the name of their first output, that float16 could not hold."""
    floats = _float_tensors(model)
    produced = [name for node in model.graph.node for name in node.output if name in floats]
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    del watched.graph.output[:]
    watched.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in produced
    )
    session = ort.InferenceSession(
        watched.SerializeToString(), session_options(default_threads()), providers=["CPUExecutionProvider"]
    )
    peaks: dict[str, float] = defaultdict(float)
    sums: dict[str, float] = defaultdict(float)
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT and (values := numpy_helper.to_array(tensor)).size:
            peaks[tensor.name] = _peak(values)
    for image in images:
        for name, values in zip(
            produced, session.run(produced, {model.graph.input[0].name: image[None]}), strict=True
        ):
            peaks[name] = max(peaks[name], _peak(values))
            if values.ndim == 4:
                sums[name] = max(sums[name], _peak(np.abs(values).sum(axis=(2, 3))))
    return {
        node.output[0]
        for node in model.graph.node
        if max((peaks[name] for name in (*node.input, *node.output)), default=0) > LARGEST
        or (
            node.op_type in ("GlobalAveragePool", "ReduceMean", "ReduceSum") and sums[node.input[0]] > LARGEST
        )
    }


def _peak(values: NDArray[np.float32]) -> float:
    """Return the largest magnitude; infinity for what is no number."""
    largest = float(np.abs(values).max())
    return largest if np.isfinite(largest) else float("inf")


@dataclass
class _Conversion:
    """One rewriting of a graph, node by node in their order."""

    model: onnx.ModelProto
    islands: set[str]
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: dict[str, TensorProto] = field(default_factory=dict)
    # (tensor of the old graph, wanted type) → its name in the new one
    names: dict[tuple[str, int], str] = field(default_factory=dict)

    def run(self) -> onnx.ModelProto:
        """Return the rewritten model."""
        floats = _float_tensors(self.model)
        constants = {tensor.name: tensor for tensor in self.model.graph.initializer}
        for node in self.model.graph.node:
            self._add(node, floats, constants)
        for output in self.model.graph.output:
            if output.name in floats:
                self._name_as(output.name, TensorProto.FLOAT, constants)
        rewritten = onnx.ModelProto()
        rewritten.CopyFrom(self.model)
        del rewritten.graph.node[:], rewritten.graph.initializer[:], rewritten.graph.value_info[:]
        rewritten.graph.node.extend(self.nodes)
        rewritten.graph.initializer.extend(self.weights.values())
        return rewritten

    def _add(self, old: onnx.NodeProto, floats: set[str], constants: dict[str, TensorProto]) -> None:
        """Append one node in its new type, behind the casts that it needs."""
        node = onnx.NodeProto()
        node.CopyFrom(old)
        is_half = old.output[0] not in self.islands and old.op_type not in FLOAT32_ONLY
        for place, name in enumerate(old.input):
            if name in floats:
                stays = not is_half or place in FLOAT32_INPUTS.get(old.op_type, ())
                kind = TensorProto.FLOAT if stays else TensorProto.FLOAT16
                node.input[place] = self._name_as(name, kind, constants)
            elif name in constants:
                self.weights[name] = constants[name]
        results = [name for name in old.output if name in floats]
        if is_half and results:
            _make_half(node)
            for place, name in enumerate(old.output):
                if name in floats:
                    node.output[place] = self._new_name(name)
                    self.names[name, TensorProto.FLOAT16] = node.output[place]
        else:
            self.names |= {(name, TensorProto.FLOAT): name for name in results}
        self.nodes.append(node)

    def _new_name(self, name: str) -> str:
        """Return a name for a float16 tensor; a graph's output keeps its own for the float32 one."""
        return f"{name}_half"

    def _name_as(self, name: str, kind: int, constants: dict[str, TensorProto]) -> str:
        """Return the name of a tensor in the wanted type; casts it at its first use in that type."""
        if (name, kind) in self.names:
            return self.names[name, kind]
        wanted = name if kind == TensorProto.FLOAT else self._new_name(name)
        if name in constants:
            tensor = constants[name]
            if kind == TensorProto.FLOAT16:
                tensor = numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), wanted)
            self.weights[wanted] = tensor
        else:
            other = TensorProto.FLOAT if kind == TensorProto.FLOAT16 else TensorProto.FLOAT16
            source = self.names.get((name, other), name)  # a float32 input of the graph has its own name
            self.nodes.append(helper.make_node("Cast", [source], [wanted], f"{wanted}_cast", to=kind))
        self.names[name, kind] = wanted
        return wanted


def _make_half(node: onnx.NodeProto) -> None:
    """Change the attributes that name a float32 type or hold a float32 tensor."""
    for attribute in node.attribute:
        if node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.FLOAT:
            attribute.i = TensorProto.FLOAT16
        if attribute.type == AttributeProto.TENSOR and attribute.t.data_type == TensorProto.FLOAT:
            values = numpy_helper.to_array(attribute.t).astype(np.float16)
            attribute.t.CopyFrom(numpy_helper.from_array(values, attribute.t.name))
        elif node.op_type == "Constant" and attribute.name in ("value_float", "value_floats"):
            values = np.array(
                attribute.f if attribute.name == "value_float" else attribute.floats, np.float16
            )
            attribute.CopyFrom(helper.make_attribute("value", numpy_helper.from_array(values)))
