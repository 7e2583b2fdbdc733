"""Finishes a graph by its contract: the outputs that it promises, and a file that says what it is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir

from export.graph.edit import append
from runtime.base.files import replacing
from runtime.contract import METADATA_KEY, ModelContract
from runtime.errors import ConfigError
from runtime.network.onnx_file import SEAL_KEY, content_sha256

TOOLS = ("edgeseg", "torch", "onnx", "onnxscript", "onnxsim")


def set_outputs(model: ir.Model, contract: ModelContract) -> None:
    """Give a graph that ends in logits the outputs that its contract promises; changes it in place.

        logits ──┬──────────────────────────────────────▶ logits, if asked for
                 └─ Resize (bilinear) ─ ArgMax ─ Cast ──▶ mask, if asked for

    Bilinear with half-pixel centres, then the highest logit, the lowest class where some tie: the
    definition of `runtime.network.mask.class_mask`, at the input's size. Channels stay in front, although
    classes last would be a third faster in onnxruntime, since other engines resize the last two axes only.

    Args:
        model: its only output is the logits.
        contract: names and kind of the outputs, stride.
    """
    graph, output = model.graph, contract.output
    if not output.has_mask:
        return
    (logits,) = graph.outputs
    if not output.has_logits:
        graph.outputs.clear()
    name = output.mask_name
    scales = np.array([1, 1, output.stride, output.stride], np.float32)
    full_size = append(
        graph,
        "Resize",
        [logits, None, scales],
        f"{name}_logits",
        mode="linear",
        coordinate_transformation_mode="half_pixel",
    )  # (N, C, H, W)
    classes = append(graph, "ArgMax", [full_size], f"{name}_classes", axis=1, keepdims=0)  # (N, H, W) int64
    mask = append(graph, "Cast", [classes], name, to=ir.DataType.UINT8)
    mask.type, mask.shape = ir.TensorType(ir.DataType.UINT8), ir.Shape([1, *contract.input.size_hw])
    graph.outputs.append(mask)


def onnx_path(path: str | Path) -> Path:
    """Return the path of a file to write, before any work is done for it.

    Raises:
        ConfigError: it does not end in .onnx.
    """
    if Path(path).suffix != ".onnx":
        raise ConfigError(f"{path}: expected an output name that ends in .onnx; correct -o")
    return Path(path)


@contextmanager
def replacing_model(path: Path) -> Iterator[Path]:
    """Yield where to write and prove a file that takes this place only if the block succeeds.

    Raises:
        ConfigError: the place cannot be written.
    """
    try:
        with replacing(path) as part:
            yield part
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot write it ({error.strerror or error}); choose another place with -o"
        ) from None


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
