"""Reads somebody else's ONNX file without believing it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.inliner
import onnx.numpy_helper
import onnx_ir as ir

from export.foreign.interface import MIN_OPSET
from export.graph.edit import opset_of
from runtime.base.shown import shown
from runtime.errors import ConfigError, ModelLoadError
from runtime.network.onnx_file import OnnxFile, read_onnx_file


def find_model(place: Path) -> Path:
    """Return the ONNX file that a path means: itself, or the one in a folder or in its folder `onnx`.

    Raises:
        ModelLoadError: a path where nothing is, or a folder without ONNX files.
        ConfigError: a folder with several.
    """
    if not place.is_dir():
        if not place.exists():
            raise ModelLoadError(f"model {shown(place)}: expected an ONNX file, found none; check the path")
        return place
    found = sorted(place.glob("*.onnx")) or sorted(place.glob("onnx/*.onnx"))
    found = [path for path in found if not path.stem.endswith("-edgeseg")]
    plain = [path for path in found if path.stem in ("model", "end2end")]
    if len(found) > 1 and len(plain) == 1:  # as optimum and mmdeploy name the whole one
        found = plain
    if not found:
        raise ModelLoadError(f"model {shown(place)}: expected a folder with an ONNX file, found none in it")
    if len(found) > 1:
        names = ", ".join(path.name for path in found[:8])
        raise ConfigError(f"model {shown(place)}: expected one ONNX file in it, got {shown(names)}; name one")
    return found[0]


def load_foreign(path: Path) -> tuple[OnnxFile, ir.Model]:
    """Read somebody else's ONNX file; its weights may lie in other files of the same folder.

    Functions inside the file are written out, and nodes that stand before what they read are put in order.

    Raises:
        ModelLoadError: a file that is missing, no ONNX file, too old, unbounded, or with weights outside its
            folder.
    """
    file = read_onnx_file(path, beside=True)
    try:
        proto = onnx.load_model_from_string(file.content)
        if file.beside:
            onnx.load_external_data_for_model(proto, str(path.parent))
        if proto.functions:
            proto = onnx.inliner.inline_local_functions(proto)
        _sort(proto.graph)
        if any(value.type.tensor_type.elem_type == onnx.TensorProto.DOUBLE for value in proto.graph.input):
            _to_float32(proto.graph)  # onnxruntime has no convolution in float64
        model = ir.from_proto(proto)
    except Exception as error:  # protobuf and the readers of external data have no common base
        raise ModelLoadError(
            f"model {shown(path, 150)}: expected an ONNX file, with weights inside or beside it, got "
            f"something else ({shown(error, 200)}); export it again"
        ) from None
    if opset_of(model) < MIN_OPSET:
        raise ModelLoadError(
            f"model {shown(path, 150)}: expected operator set {MIN_OPSET} or later, got {opset_of(model)}; "
            "export it again, or convert it with onnx.version_converter"
        )
    if not len(model.graph):
        raise ModelLoadError(f"model {shown(path, 150)}: expected a network, got a graph without nodes")
    return file, model


def _sort(graph: onnx.GraphProto) -> None:
    """Put nodes behind those whose output they read; converters to float16 append theirs at the end.

    Raises:
        ValueError: nodes that read each other.
    """
    made = {name for node in graph.node for name in node.output if name}
    ready = {*(value.name for value in graph.input), *(tensor.name for tensor in graph.initializer)}
    order: list[onnx.NodeProto] = []
    waiting = [(node, {name for name in _reads(node) if name in made}) for node in graph.node]
    while waiting:
        later = []
        for node, needed in waiting:
            if needed <= ready:
                order.append(node)
                ready.update(node.output)
            else:
                later.append((node, needed))
        if len(later) == len(waiting):
            raise ValueError("its nodes read each other in a circle")
        waiting = later
    if any(one is not other for one, other in zip(order, graph.node, strict=True)):
        copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in order]
        del graph.node[:]
        graph.node.extend(copies)


def _to_float32(graph: onnx.GraphProto) -> None:
    """Compute in float32 what a graph computes in float64."""
    double, single = onnx.TensorProto.DOUBLE, onnx.TensorProto.FLOAT

    def converted(tensor: onnx.TensorProto) -> None:
        if tensor.data_type == double:
            values = onnx.numpy_helper.to_array(tensor).astype(np.float32)
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))

    for tensor in graph.initializer:
        converted(tensor)
    for value in (*graph.input, *graph.output, *graph.value_info):
        if value.type.tensor_type.elem_type == double:
            value.type.tensor_type.elem_type = single
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.name in ("to", "dtype") and attribute.i == double:
                attribute.i = single
            if attribute.HasField("t"):
                converted(attribute.t)
            for inner in ([attribute.g] if attribute.HasField("g") else []) + list(attribute.graphs):
                _to_float32(inner)


def _reads(node: onnx.NodeProto) -> set[str]:
    """Return the names that a node reads, those inside its graphs with them."""
    names = set(node.input)
    for attribute in node.attribute:
        for graph in ([attribute.g] if attribute.HasField("g") else []) + list(attribute.graphs):
            for inner in graph.node:
                names |= _reads(inner)
            names |= {value.name for value in graph.output}
    return names
