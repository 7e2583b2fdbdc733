"""Holds each layer of a network against what the machine could do at most, and says why it stays below."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from benchmarks.layers.ort_profile import ProfiledNode, ProfiledSession, shapes_session
from benchmarks.machine.yardstick import MachineLimits
from benchmarks.subjects.any_model import AnyModel, open_any_model
from export.graph.multiply_adds import CONVOLUTIONS, multiply_adds
from runtime.base.closing import Closable
from runtime.base.percentiles import percentiles
from runtime.network.session import default_threads, session_options

WARMUP = 3
BLOCK = 5  # runs in a row, between which nothing else runs
MAX_CACHED_BYTES = 16 << 20  # of a layer, that caches may hold; a limit takes the faster rate
_INT8 = (
    "ConvInteger",
    "DynamicQuantizeMatMul",
    "MatMulInteger",
    "MatMulIntegerToFloat",
    "QGemm",
    "QLinearConv",
    "QLinearMatMul",
)
_GEMMS = ("FusedGemm", "FusedMatMul", "Gemm", "MatMul")

VECTOR_BYTES = 64  # of the widest vectors, which hold 16 float32 or 64 int8
SMALL_PLANE = 512  # pixels of a layer's output, too few to keep several threads busy
SHORT_MS = 0.02  # starting a node and waking its threads are a share of less
NEAR_LIMIT = 1.15  # times the limit, within which a layer needs no excuse

VIEWS = ("Flatten", "Identity", "Reshape", "Shape", "Squeeze", "Unsqueeze")  # whose data stays where it is
PICKS = ("Gather", "Slice")  # read no more than they write
_REORDERS = ("ReorderInput", "ReorderOutput", "Transpose")
_CONVERSIONS = ("Cast", "DequantizeLinear", "DynamicQuantizeLinear", "QuantizeLinear")
_RESIZES = ("Resize", "Upsample")
_COPIES = ("Concat", "DepthToSpace", "Expand", "Pad", "SpaceToDepth", "Split", "Tile", *PICKS)
_SELECTIONS = ("ArgMax", "ArgMin", "Softmax", "TopK")

AT_THE_LIMIT = "at the limit"
NONE_KNOWN = "none that its shape tells"
_SHORT = "short: starting it is a large share"
_MEMORY_BOUND = "memory bound: little arithmetic for each number moved"
# Operators whose time is no multiply-adds, with what it is.
_WORDS: dict[str, str] = {
    **dict.fromkeys(VIEWS, "view: nothing to do but to be started"),
    **dict.fromkeys(_REORDERS, "layout reorder: moves every number, computes nothing"),
    **dict.fromkeys(_CONVERSIONS, "quantize, dequantize or cast: converts every number, computes nothing"),
    **dict.fromkeys(_RESIZES, "Resize: its interpolation does not count as multiply-adds"),
    **dict.fromkeys(_COPIES, "copy: moves every number, computes nothing"),
    **dict.fromkeys(_SELECTIONS, "selection: its arithmetic does not count as multiply-adds"),
}


@dataclass(frozen=True)
class OpProfile:
    """A layer as onnxruntime ran it.

    Attributes:
        name: of the node in the graph that onnxruntime made of the file.
        operator: of it.
        output_shape: of its first output; channels may be filled up to a vector's width.
        element_type: of its first output, such as "float" or "uint8".
        median_ms: its time, as onnxruntime's profiler tells it.
        macs: its multiply-accumulates; 0 for what has none, None if unknown.
        bytes_moved: what it must read and write at least once: inputs, weights and outputs.
        gmac_s: 10^9 multiply-accumulates a second; None without any.
        limit_ms: the longer of its multiply-accumulates at the machine's rate, of their kind, and its bytes
            at the machine's rate of copies, in the caches where they may fit.
        ratio: median_ms / limit_ms; None where the limit is 0 or its work unknown.
        reason: why it falls below the limit, as far as its operator and shapes tell.
    """

    name: str
    operator: str
    output_shape: tuple[int, ...]
    element_type: str
    median_ms: float
    macs: int | None
    bytes_moved: int
    gmac_s: float | None
    limit_ms: float
    ratio: float | None
    reason: str

    @property
    def lost_ms(self) -> float:
        """Milliseconds above the limit."""
        return self.median_ms - self.limit_ms


class ModelProfiler(Closable):
    """Runs a file bare and then profiled, a few times a call, so that others can be interleaved."""

    def __init__(
        self, path: str | Path, *, threads: int | None = None, free_size_hw: tuple[int, int] | None = None
    ) -> None:
        """Open a file, count its work and warm up.

        Args:
            path: any ONNX file.
            threads: worker threads; None takes the physical cores, at most 4.
            free_size_hw: of images whose size is free, see `benchmarks.subjects.any_model.open_any_model`.

        Raises:
            EdgesegError: as `open_any_model`; ConfigError: a number of threads outside 1 to 256.
        """
        self.threads = default_threads() if threads is None else threads
        self.model = open_any_model(path, free_size_hw)
        # First of all, since a profiled session complains on stderr about a file that cannot be opened.
        self._session = self.model.session(session_options(self.threads))
        self.samples_ms: list[float] = []
        self.profiled_samples_ms: list[float] = []
        # As written the file tells its work, as optimized which arithmetic does it.
        self.macs = _total(_macs(node) for node in _shapes_of(self.model, is_optimized=False))
        self._shapes = {(node.index, node.name): node for node in _shapes_of(self.model, is_optimized=True)}
        self._profiled = ProfiledSession(self.model, session_options(self.threads))
        for _ in range(WARMUP):
            self.model.run(self._session)
            self._profiled.run_ms(counts=False)

    def run(self, count: int = BLOCK) -> list[float]:
        """Take samples of both, and return the bare ones, after one run of each that does not count.

        That one finds in the caches what others left there, of which a yardstick's copies are the worst.
        """
        self.model.run(self._session)
        for _ in range(count):
            started_ns = time.perf_counter_ns()
            self.model.run(self._session)
            self.samples_ms.append((time.perf_counter_ns() - started_ns) / 1e6)
        self._profiled.run_ms(counts=False)
        self.profiled_samples_ms += [self._profiled.run_ms() for _ in range(count)]
        return self.samples_ms[-count:]

    def ops(self, limits: MachineLimits) -> tuple[OpProfile, ...]:
        """Return the layers in the order they run; the file cannot be profiled further after that."""
        return tuple(
            op_profile(node, self._shapes.get((node.index, node.name), node), limits)
            for node in self._profiled.nodes()
        )

    @cached_property
    def macs_by_kind(self) -> dict[str, float]:
        """Return the file's multiply-accumulates by the arithmetic that onnxruntime does them in.

        onnxruntime fills channels up, so what it computes is scaled to what the file asks for. Empty if
        unknown.
        """
        done: Counter[str] = Counter()
        for node in self._shapes.values():
            macs = _macs(node)
            if macs is None:
                return {}
            done[_kind(node)] += macs
        if self.macs is None or not done.total():
            return {}
        return {kind: self.macs * macs / done.total() for kind, macs in done.items() if macs}

    def close(self) -> None:
        """Remove the profiler's file."""
        self._profiled.close()


def op_profile(timed: ProfiledNode, shaped: ProfiledNode, limits: MachineLimits) -> OpProfile:
    """Judge a layer.

    Args:
        timed: with its times.
        shaped: the same node with the shapes of all its inputs.
        limits: of the machine.
    """
    macs = _macs(shaped)
    bytes_moved = _bytes_moved(shaped)
    compute_ms = (macs or 0) / kind_rates(limits)[_kind(shaped)] / 1e6
    bytes_gb_s = limits.cache_gb_s if bytes_moved <= MAX_CACHED_BYTES else limits.memory_gb_s
    memory_ms = bytes_moved / bytes_gb_s / 1e6
    median_ms = percentiles(timed.samples_ms)["p50"]
    limit_ms = max(compute_ms, memory_ms)
    output = shaped.outputs[0] if shaped.outputs else None
    return OpProfile(
        name=timed.name,
        operator=timed.operator,
        output_shape=output.shape if output else (),
        element_type=output.type if output else "",
        median_ms=median_ms,
        macs=macs,
        bytes_moved=bytes_moved,
        gmac_s=macs / median_ms / 1e6 if macs and median_ms else None,
        limit_ms=limit_ms,
        ratio=median_ms / limit_ms if limit_ms and macs is not None else None,
        reason=layer_reason(shaped, median_ms, compute_ms, memory_ms),
    )


def kind_rates(limits: MachineLimits) -> dict[str, float]:
    """Return 10^9 multiply-accumulates a second by kind of arithmetic."""
    return {"conv": limits.conv_gmac_s, "gemm": limits.gemm_gmac_s, "int8": limits.int8_conv_gmac_s}


def _kind(node: ProfiledNode) -> str:
    """Return which of the machine's rates a node is held against."""
    return "int8" if node.operator in _INT8 else "gemm" if node.operator in _GEMMS else "conv"


def _macs(node: ProfiledNode) -> int | None:
    shapes = [tensor.shape for tensor in node.inputs]
    return multiply_adds(node.operator, shapes, node.outputs[0].shape if node.outputs else None)


def _bytes_moved(node: ProfiledNode) -> int:
    """Return what must be read and written at least once."""
    if node.operator in VIEWS:
        return 0
    written = sum(tensor.bytes for tensor in node.outputs)
    return 2 * written if node.operator in PICKS else written + sum(tensor.bytes for tensor in node.inputs)


def _shapes_of(model: AnyModel, *, is_optimized: bool) -> tuple[ProfiledNode, ...]:
    """Run a file once; return its nodes with all shapes."""
    with shapes_session(model, is_optimized=is_optimized) as session:
        session.run_ms()
        return session.nodes()


def _total(counts: Iterable[int | None]) -> int | None:
    """Return the sum; None if a part is unknown."""
    known = list(counts)
    return None if None in known else sum(count for count in known if count is not None)


def layer_reason(node: ProfiledNode, median_ms: float, compute_ms: float, memory_ms: float) -> str:
    """Return the reason in a few words.

    Args:
        node: with the shapes of all its inputs.
        median_ms: its time.
        compute_ms: its multiply-adds at the machine's limit.
        memory_ms: its bytes at the machine's limit.
    """
    if 0 < median_ms <= NEAR_LIMIT * max(compute_ms, memory_ms):
        return AT_THE_LIMIT
    if node.operator in _WORDS:
        return _WORDS[node.operator]
    if "Pool" in node.operator:
        return "pooling: its arithmetic does not count as multiply-adds"
    place = CONVOLUTIONS.get(node.operator)
    reason = _convolution(node, place) if place is not None and place < len(node.inputs) else ""
    if reason:
        return reason
    if median_ms < SHORT_MS:
        return _SHORT
    return _MEMORY_BOUND if memory_ms > compute_ms else NONE_KNOWN


def _convolution(node: ProfiledNode, place: int) -> str:
    """Return what in a convolution's shapes keeps it from the rate of 3x3, 64 to 64 channels; or nothing."""
    source, weights, output = node.inputs[0].shape, node.inputs[place], node.outputs[0].shape
    out_channels, group_channels = weights.shape[:2]
    pixels = math.prod(output) // (output[0] * out_channels)
    full_vector = VECTOR_BYTES * math.prod(weights.shape) // weights.bytes
    if group_channels == 1 and out_channels > 1 and out_channels in source[1:]:
        return "depthwise: one kernel a channel, so memory bound"
    if group_channels < full_vector:
        return f"few input channels: {group_channels}, where a vector holds {full_vector}"
    if out_channels < full_vector:
        return f"few output channels: {out_channels}, where a vector holds {full_vector}"
    if pixels < SMALL_PLANE:
        return f"small spatial size: {pixels} pixels share the start and the weights"
    if math.prod(weights.shape[2:]) == 1:
        return "1x1 kernel: a number loaded serves fewer multiply-adds than in 3x3"
    if math.prod(source) >= 4 * output[0] * group_channels * pixels:
        return "stride: a number loaded serves fewer multiply-adds"
    return ""
