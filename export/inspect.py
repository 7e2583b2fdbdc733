"""Says what an ONNX file is: `python -m export.inspect seg.onnx`."""

from __future__ import annotations

import json
import math
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

import onnx
from onnx import TensorProto, helper

from export.graph.multiply_adds import multiply_adds
from runtime.base.codec import to_plain
from runtime.base.flags import flag, run_command
from runtime.contract import METADATA_KEY, ModelContract
from runtime.errors import ModelLoadError
from runtime.network.description import contract_lines, file_lines
from runtime.network.onnx_file import GraphValue, read_onnx_file


@dataclass(frozen=True)
class Inspection:
    """What a file is.

    Attributes:
        path: of the file.
        size_bytes: of the file.
        contract: None in a file that is not edgeseg's.
        is_sealed: whether the file carries a checksum of itself; a wrong one is an error.
        inputs: of the graph.
        outputs: of the graph.
        operators: how many nodes of each operator, most first.
        parameters: numbers in its constant tensors.
        gmacs: 10^9 multiply-accumulates of convolutions and matrix products; None if a size is unknown.
        opset: version of the operator set.
        ir_version: version of the file format.
        producer: the tool that wrote it.
    """

    path: str
    size_bytes: int
    contract: ModelContract | None
    is_sealed: bool
    inputs: tuple[GraphValue, ...]
    outputs: tuple[GraphValue, ...]
    operators: dict[str, int]
    parameters: int
    gmacs: float | None
    opset: int
    ir_version: int
    producer: str


def inspect(path: str | Path) -> Inspection:
    """Read a file without running it.

    Raises:
        ModelLoadError: a file that is missing, damaged, unsafe or no ONNX file.
        ContractError: a contract that is damaged.
    """
    file = read_onnx_file(path)
    try:
        model = onnx.load_model_from_string(file.content)
    except Exception as error:  # protobuf's decoding error is not public
        raise ModelLoadError(f"model {path}: expected an ONNX file, got something else ({error})") from None
    if not model.graph.node:
        raise ModelLoadError(f"model {path}: expected an ONNX file with a graph, got one without nodes")
    text = file.metadata.get(METADATA_KEY)
    contract = None if text is None else ModelContract.from_json(text)
    return Inspection(
        path=str(path),
        size_bytes=len(file.content),
        contract=contract,
        is_sealed=file.is_sealed,
        inputs=file.inputs,
        outputs=file.outputs,
        operators=dict(Counter(node.op_type for node in model.graph.node).most_common()),
        parameters=sum(math.prod(tensor.dims) for tensor in model.graph.initializer),
        gmacs=_gmacs(model, contract),
        opset=next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0),
        ir_version=model.ir_version,
        producer=f"{model.producer_name} {model.producer_version}".strip(),
    )


def _gmacs(model: onnx.ModelProto, contract: ModelContract | None) -> float | None:
    """Count multiply-accumulates at the contract's size; None if the sizes between layers are unknown."""
    sized = onnx.ModelProto()
    sized.CopyFrom(model)
    if contract is not None and contract.input.is_dynamic:
        for value in sized.graph.input:
            if value.name == contract.input.name:
                shape = (1, *contract.input.size_hw, 3)
                value.CopyFrom(helper.make_tensor_value_info(value.name, TensorProto.UINT8, shape))
        for value in sized.graph.output:
            value.type.tensor_type.ClearField("shape")
        del sized.graph.value_info[:]
    try:
        graph = onnx.shape_inference.infer_shapes(sized, data_prop=True).graph
    except Exception:  # a file that contradicts itself has no count; onnxruntime will say more
        return None
    shapes = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    for value in (*graph.input, *graph.output, *graph.value_info):
        axes = value.type.tensor_type.shape.dim
        if axes and all(axis.HasField("dim_value") for axis in axes):
            shapes[value.name] = [axis.dim_value for axis in axes]
    counts = [
        multiply_adds(node.op_type, [shapes.get(name) for name in node.input], shapes.get(node.output[0]))
        for node in graph.node
    ]
    known = [count for count in counts if count is not None]
    return sum(known) / 1e9 if len(known) == len(counts) else None


def report_text(inspection: Inspection) -> str:
    """Return the report as printed, with the command to run next."""
    lines = [
        f"file       {inspection.path} ({inspection.size_bytes / 1e6:.2f} MB, opset {inspection.opset}, "
        f"IR {inspection.ir_version}, by {inspection.producer or 'an unnamed tool'})",
        *file_lines(inspection),
        f"operators  {sum(inspection.operators.values())}: "
        + ", ".join(f"{count} {name}" for name, count in inspection.operators.items()),
        f"parameters {inspection.parameters / 1e6:.3f} M",
        "work       "
        + ("unknown, since sizes are free" if inspection.gmacs is None else f"{inspection.gmacs:.3f} GMAC"),
        *contract_lines(inspection.contract),
    ]
    path = quote(inspection.path)
    if inspection.contract is None:
        lines.append(f"next       python -m export.adapt {path} --classes classes.json")
    else:
        lines.append(f"next       python -m benchmarks.latency --model {path}")
    return "\n".join(lines)


@dataclass(frozen=True)
class InspectOptions:
    """What the command line asks for."""

    model: str = flag("ONNX file", name="model")
    as_json: bool = flag("print one JSON object and nothing else", default=False, name="--json")


def command(options: InspectOptions) -> None:
    """Inspect a file and print what was found."""
    inspection = inspect(options.model)
    print(json.dumps(to_plain(inspection), indent=1) if options.as_json else report_text(inspection))


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; see `--help`."""
    description = "Say what an ONNX file is, without running it."
    return run_command("export.inspect", description, InspectOptions, command, argv)


if __name__ == "__main__":
    sys.exit(main())
