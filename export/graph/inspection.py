"""Reads what an ONNX file is without running it; where asked to, runs it once."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort

from export.graph.edit import opset_of, typed_copy
from export.graph.multiply_adds import multiply_adds
from runtime.base.shown import shown
from runtime.contract import METADATA_KEY, ModelContract
from runtime.errors import ModelLoadError
from runtime.network.description import contract_lines, file_lines
from runtime.network.onnx_file import GraphValue, read_onnx_file
from runtime.network.session import default_threads, session_options

FREE_SIDE = 256  # pixels, where a file leaves its size free
_TYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(uint8)": np.uint8,
    "tensor(int8)": np.int8,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
    "tensor(bool)": np.bool_,
}


@dataclass(frozen=True)
class Inspection:
    """What a file is.

    Attributes:
        path: of the file.
        size_bytes: of the file, and of its weights where they lie beside it.
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
    file = read_onnx_file(path, beside=True)
    try:
        model = ir.from_proto(onnx.load_model_from_string(file.content))
    except Exception as error:  # protobuf's decoding error is not public
        raise ModelLoadError(
            f"model {path}: expected an ONNX file, got something else ({shown(error, 200)})"
        ) from None
    if not len(model.graph):
        raise ModelLoadError(f"model {path}: expected an ONNX file with a graph, got one without nodes")
    text = file.metadata.get(METADATA_KEY)
    contract = None if text is None else ModelContract.from_json(text)
    constants = [value.const_value for value in model.graph.initializers.values()]
    return Inspection(
        path=str(path),
        size_bytes=len(file.content) + file.beside,
        contract=contract,
        is_sealed=file.is_sealed,
        inputs=file.inputs,
        outputs=file.outputs,
        operators=dict(Counter(node.op_type for node in model.graph).most_common()),
        parameters=sum(tensor.size for tensor in constants if tensor is not None),
        gmacs=_gmacs(model, contract),
        opset=opset_of(model),
        ir_version=model.ir_version,
        producer=f"{model.producer_name or ''} {model.producer_version or ''}".strip(),
    )


def _gmacs(model: ir.Model, contract: ModelContract | None) -> float | None:
    """Count multiply-accumulates at the contract's size; None if the sizes between layers are unknown."""
    sized = model.clone()
    if contract is not None and contract.input.is_dynamic:
        sized.graph.inputs[0].shape = ir.Shape((1, *contract.input.size_hw, 3))
        for value in (value for node in sized.graph for value in node.outputs):
            value.shape = None
    try:
        graph = typed_copy(sized, strict=False).graph
    except Exception:  # a file that contradicts itself has no count; onnxruntime will say more
        return None
    counts = [
        multiply_adds(node.op_type, [_sizes(value) for value in node.inputs], _sizes(node.outputs[0]))
        for node in graph
    ]
    known = [count for count in counts if count is not None]
    return sum(known) / 1e9 if len(known) == len(counts) else None


def _sizes(value: ir.Value | None) -> list[int] | None:
    """Return a tensor's shape; None if a size of it is unknown."""
    if value is None or value.shape is None:
        return None
    sizes = [size for size in value.shape if isinstance(size, int)]
    return sizes if len(sizes) == len(value.shape) else None


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
class Trial:
    """How one run went.

    Attributes:
        open_ms: milliseconds to open the file.
        run_ms: milliseconds of the one run, with all that the first run prepares.
        peak_mb: the most memory that the process held; None where the system does not tell.
        outputs: name, type and shape of each output, and between which numbers it lies.
    """

    open_ms: float
    run_ms: float
    peak_mb: float | None
    outputs: tuple[str, ...]

    def lines(self) -> list[str]:
        """Return the trial as printed."""
        memory = "" if self.peak_mb is None else f", {self.peak_mb:.0f} MB at most"
        return [
            f"trial      opened in {self.open_ms:.0f} ms, ran in {self.run_ms:.0f} ms{memory}",
            *(f"gave       {line}" for line in self.outputs),
        ]


def try_once(path: Path) -> Trial:
    """Open a file and run it on noise; for a process of its own, see `export.foreign.isolation.within`.

    Raises:
        ModelLoadError: onnxruntime cannot open or run it.
    """
    file = read_onnx_file(path, beside=True)
    started = time.perf_counter()
    try:
        # By its path where weights lie beside it: onnxruntime looks for them there.
        session = ort.InferenceSession(
            str(path) if file.beside else file.content,
            session_options(default_threads()),
            providers=["CPUExecutionProvider"],
        )
        opened = time.perf_counter()
        found = session.run(None, {one.name: _noise(one) for one in session.get_inputs()})
    except Exception as error:  # onnxruntime's errors have no common base class
        raise ModelLoadError(
            f"model {shown(path, 150)}: onnxruntime cannot open or run it ({shown(error, 250)})"
        ) from None
    ran = time.perf_counter()
    outputs = tuple(
        f"{shown(one.name, 80)} {_described(value)}"
        for one, value in zip(session.get_outputs(), found, strict=True)
    )
    return Trial((opened - started) * 1e3, (ran - opened) * 1e3, _peak_mb(), outputs)


def _noise(value: ort.NodeArg) -> np.ndarray:
    """Return random numbers for an input, one image where its batch is free."""
    sides = [
        side if isinstance(side, int) and side > 0 else 1 if place == 0 else 3 if place == 1 else FREE_SIDE
        for place, side in enumerate(value.shape)
    ]
    kind = _TYPES.get(value.type, np.float32)
    numbers = np.random.default_rng(0).random(sides)
    return (numbers * 255).astype(kind) if kind is np.uint8 else numbers.astype(kind)


def _described(value: object) -> str:
    if not isinstance(value, np.ndarray):
        return type(value).__name__
    if not value.size or value.dtype.kind not in "fiub":
        return f"{value.dtype} {list(value.shape)}"
    return f"{value.dtype} {list(value.shape)}, {value.min():.4g} to {value.max():.4g}"


def _peak_mb() -> float | None:
    try:
        import resource
    except ImportError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
