"""What onnxruntime's own profiler says of a file: each node's time, operator and shapes."""

from __future__ import annotations

import json
import math
import tempfile
import time
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnxruntime as ort

from benchmarks.subjects.any_model import AnyModel
from runtime.base.closing import Closable
from runtime.network.session import session_options

# They hold graphs of their own, whose nodes the profiler lists beside them.
_HOLDERS = ("If", "Loop", "Scan")
_KERNEL = "_kernel_time"
_ELEMENT_BYTES = {"float": 4, "double": 8, "float16": 2, "bfloat16": 2, "uint16": 2, "int16": 2}
_ELEMENT_BYTES |= {"int32": 4, "uint32": 4, "int64": 8, "uint64": 8, "bool": 1, "uint8": 1, "int8": 1}


@dataclass(frozen=True)
class Tensor:
    """Element type, in onnxruntime's words, and shape of what a node reads or writes."""

    type: str
    shape: tuple[int, ...]

    @property
    def bytes(self) -> int:
        """Its size; elements of less than a byte count as one."""
        return math.prod(self.shape) * _ELEMENT_BYTES.get(self.type, 1)


@dataclass(frozen=True)
class ProfiledNode:
    """A node of the graph that onnxruntime made of the file.

    Attributes:
        name: in the graph, which may hold it twice.
        index: of the node, unique in the graph.
        operator: as onnxruntime runs it.
        inputs: by place, as far as the profiler lists them: it leaves out weights that a kernel repacked.
        outputs: by place.
        samples_ms: its time in each run.
    """

    name: str
    index: int
    operator: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    samples_ms: tuple[float, ...]


class ProfiledSession(Closable):
    """A session with onnxruntime's profiler on, which writes into a temporary folder."""

    def __init__(self, model: AnyModel, options: ort.SessionOptions) -> None:
        """Open a file; `options` are changed."""
        self._folder = tempfile.TemporaryDirectory(prefix="edgeseg-profile-")
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(self._folder.name) / "profile")
        self._model = model
        try:
            self._session = model.session(options)
        except BaseException:
            self._folder.cleanup()
            raise
        self._profile: str | None = None
        self._counted: list[bool] = []

    def run_ms(self, *, counts: bool = True) -> float:
        """Run once; return the milliseconds.

        Args:
            counts: whether `nodes` shall tell of this run, too; False to warm up.
        """
        self._counted.append(counts)
        started_ns = time.perf_counter_ns()
        self._model.run(self._session)
        return (time.perf_counter_ns() - started_ns) / 1e6

    def nodes(self) -> tuple[ProfiledNode, ...]:
        """End the profiling and return what it holds of the runs that count."""
        self._end()
        return parse_profile(self._profile or "[]", self._counted)

    def close(self) -> None:
        """End the profiling and remove its file."""
        self._end()
        self._folder.cleanup()

    def _end(self) -> None:
        if self._profile is None:
            self._profile = Path(self._session.end_profiling()).read_text(encoding="utf-8")


def shapes_session(model: AnyModel, *, is_optimized: bool) -> ProfiledSession:
    """Return a session that is slow, but whose profile lists the weights' shapes, since none is repacked.

    Args:
        model: the file.
        is_optimized: whether onnxruntime may rewrite the graph, else its nodes are those of the file.
    """
    options = session_options(1)
    options.add_session_config_entry("session.disable_prepacking", "1")
    if not is_optimized:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ProfiledSession(model, options)


def parse_profile(text: str, counted: Sequence[bool]) -> tuple[ProfiledNode, ...]:
    """Return the nodes of a profile in the order they ran; a node that ran several times in a run is summed.

    Args:
        text: the JSON that onnxruntime wrote: a list of events with `cat`, `name`, `ts` and `dur` in µs.
        counted: for each run, whether it counts.
    """
    events = json.loads(text)
    starts = sorted(event["ts"] for event in events if event["name"] == "model_run")
    kernels: dict[tuple[int, str], Mapping[str, Any]] = {}
    samples_us: dict[tuple[int, str], dict[int, int]] = {}
    for event in events:
        is_kernel = event["cat"] == "Node" and event["name"].endswith(_KERNEL)
        run = bisect_right(starts, event["ts"]) - 1
        if not is_kernel or run < 0 or not counted[run] or event["args"]["op_name"] in _HOLDERS:
            continue
        key = (int(event["args"]["node_index"]), event["name"].removesuffix(_KERNEL))
        kernels.setdefault(key, event["args"])
        runs = samples_us.setdefault(key, {})
        runs[run] = runs.get(run, 0) + event["dur"]
    return tuple(
        ProfiledNode(
            name=name,
            index=index,
            operator=kernel["op_name"],
            inputs=_tensors(kernel["input_type_shape"]),
            outputs=_tensors(kernel["output_type_shape"]),
            samples_ms=tuple(duration / 1000 for duration in samples_us[index, name].values()),
        )
        for (index, name), kernel in kernels.items()
    )


def _tensors(entries: list[dict[str, list[int]]]) -> tuple[Tensor, ...]:
    """Read the profiler's `[{"float": [1, 3, 352, 480]}, …]`."""
    return tuple(Tensor(kind, tuple(shape)) for entry in entries for kind, shape in entry.items())
