"""Puts the contract into a graph's metadata, and takes out what does not belong to a user's file."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

import onnx

from export.graph.seal import seal
from runtime.contract import METADATA_KEY, ModelContract

TOOLS = ("edgeseg", "torch", "onnx", "onnxscript", "onnxsim")


def stamp(model: onnx.ModelProto, contract: ModelContract) -> None:
    """Write the contract into `metadata_props`, and a checksum of the file; changes the graph in place.

    The tracer leaves stack traces with file names of the exporting machine in every node; they go. The IR
    version becomes the lowest that knows the graph's operator set, so that old runtimes open the file.
    Sizes that are free get names that say what they are.
    """
    graph = model.graph
    if contract.input.is_dynamic:
        _name_free_sizes(graph, contract)
    for part in (
        model,
        graph,
        *graph.input,
        *graph.output,
        *graph.node,
        *graph.initializer,
        *graph.value_info,
    ):
        del part.metadata_props[:]
        part.doc_string = ""
    model.ir_version = onnx.helper.find_min_ir_version_for(model.opset_import, True)
    model.producer_name, model.producer_version = "edgeseg", installed_version("edgeseg")
    model.metadata_props.add(key=METADATA_KEY, value=contract.to_json())
    seal(model)


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
