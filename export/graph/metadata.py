"""Writes a graph as a file that says what it is, and nothing of the machine that made it."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import onnx
import onnx_ir as ir

from runtime.contract import METADATA_KEY, ModelContract
from runtime.network.onnx_file import SEAL_KEY, content_sha256

TOOLS = ("edgeseg", "torch", "onnx", "onnxscript", "onnxsim")


def write_model(model: ir.Model, contract: ModelContract, path: Path) -> None:
    """Write a graph with its contract and a checksum, by which the runtime sees every flipped bit.

    The tracer leaves stack traces with file names of the exporting machine in every node; they go. The IR
    version becomes the lowest that knows the graph's operator set, so that old runtimes open the file.
    Sizes that are free get names that say what they are.

    Args:
        model: stays as it is.
        contract: describes it.
        path: the file.

    Raises:
        OSError: it cannot be written.
    """
    proto = ir.to_proto(model)
    graph = proto.graph
    if contract.input.is_dynamic:
        _name_free_sizes(graph, contract)
    kept = [value for value in graph.value_info if value.name not in model.graph.initializers]
    del graph.value_info[:]
    graph.value_info.extend(kept)
    for part in (
        proto,
        graph,
        *graph.input,
        *graph.output,
        *graph.node,
        *graph.initializer,
        *graph.value_info,
    ):
        del part.metadata_props[:]
        part.doc_string = ""
    proto.ir_version = onnx.helper.find_min_ir_version_for(proto.opset_import, True)
    proto.producer_name, proto.producer_version = "edgeseg", installed_version("edgeseg")
    proto.metadata_props.add(key=METADATA_KEY, value=contract.to_json())
    # Protobuf writes fields in the order of their numbers, so the file minus this one entry is these bytes.
    checksum = content_sha256(proto.SerializeToString())
    proto.metadata_props.add(key=SEAL_KEY, value=checksum)
    path.write_bytes(proto.SerializeToString())


def _name_free_sizes(graph: onnx.GraphProto, contract: ModelContract) -> None:
    """Name the free sizes of inputs and outputs; what the tracer called them inside goes."""
    del graph.value_info[:]
    image, output = contract.input, contract.output
    names = {
        image.name: ("batch", "height", "width", None),
        output.name: ("batch", None, f"height/{output.stride}", f"width/{output.stride}"),
        output.mask_name: ("batch", "height", "width"),
    }
    for value in (*graph.input, *graph.output):
        dims = value.type.tensor_type.shape.dim
        for dim, name in zip(dims, names.get(value.name, ()), strict=False):
            if name is not None:
                dim.dim_param = name


def tool_versions() -> dict[str, str]:
    """Return the versions of everything that shapes an exported file."""
    return {tool: installed_version(tool) for tool in TOOLS}


def installed_version(distribution: str) -> str:
    """Return a package's version; edgeseg itself may run from its source folder."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "not installed"
