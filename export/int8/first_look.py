"""Says within a minute whether int8 pays for a network on this machine, and if not, why.

The search that follows has a time to keep to.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import onnx_ir as ir

from export.graph.finish import write_model
from export.int8.judge import OptimizedGraph, optimized_graph, paired_speed
from export.int8.search import Int8Builder
from export.int8.target import TargetCpu
from runtime.contract import ModelContract
from runtime.errors import ConfigError
from runtime.frame import Image

_SPEED_S = 15.0  # of timing, where a network is slow
_FEWEST_FRAMES = 4


class Budget:
    """A time that starts to run when it is made."""

    def __init__(self, seconds: float) -> None:
        """Start."""
        self.seconds = seconds
        self._started = time.monotonic()

    @property
    def spent_s(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._started

    def is_over(self) -> bool:
        """Whether the time is used up."""
        return self.spent_s >= self.seconds

    def say(self, text: str) -> None:
        """Print a step to stderr, with the time."""
        left = max(0.0, self.seconds - self.spent_s)
        print(f"{self.spent_s:4.0f} s  {text} (at most {left:.0f} s left)", file=sys.stderr, flush=True)


def first_look(
    source: Path,
    model: ir.Model,
    contract: ModelContract,
    fitted: Sequence[Image],
    target: TargetCpu,
    budget: Budget,
    *,
    pairs: int,
    threads: int | None,
    force: bool,
) -> int:
    """Measure an int8 form made from one frame, whose accuracy is poor and whose speed is the final one's.

    Args:
        source: the float32 file.
        model: its graph.
        contract: its contract.
        fitted: frames to calibrate on, at the input's size.
        target: kind of processor.
        budget: of the search.
        pairs: runs of each file.
        threads: worker threads.
        force: whether a slower file is wanted all the same.

    Returns:
        How many frames may be calibrated on within a third of the time.

    Raises:
        ConfigError: int8 is slower than float32 here.
    """
    started = budget.spent_s
    rough = Int8Builder(model, fitted[:1], "minmax", target, contract.output.name)
    frame_s = budget.spent_s - started
    if force:
        return _affordable(len(fitted), frame_s, budget)
    with tempfile.TemporaryDirectory() as folder:
        candidate = Path(folder) / "candidate.onnx"
        write_model(rough.build(), contract, candidate)
        speed = paired_speed(source, candidate, pairs=pairs, threads=threads, most_s=_SPEED_S)
        budget.say(f"first look: {speed.ratio:.2f} of float32's time")
        if speed.ratio >= 1:
            reasons = obstacles(model, optimized_graph(candidate))
            raise ConfigError(
                f"quantize: int8 does not pay for this network here: {speed.candidate_ms:.1f} ms against "
                f"{speed.reference_ms:.1f} ms, {speed.ratio:.2f} of float32's time with preset "
                f"{target.name}, since {reasons}; so no file was written; keep the float32 file, or write it "
                "for another machine with --force"
            )
    return _affordable(len(fitted), frame_s, budget)


def _affordable(frames: int, frame_s: float, budget: Budget) -> int:
    """Return how many frames to calibrate on: two rounds over them, within a third of the time."""
    most = int(budget.seconds / 3 / max(3 * frame_s, 1e-9))
    return max(min(frames, most), min(frames, _FEWEST_FRAMES))


def obstacles(model: ir.Model, graph: OptimizedGraph) -> str:
    """Return in words what keeps a network from being fast in int8."""
    convolutions = [node for node in model.graph if node.op_type == "Conv"]
    dilated = sum(max(node.attributes.get_ints("dilations", [1])) > 1 for node in convolutions)
    grouped = sum(node.attributes.get_int("group", 1) > 1 for node in convolutions)
    alike = sum(node.op_type == "PRelu" for node in model.graph)
    found = []
    if alike:
        found.append(f"{alike} PRelu compute in float32, with conversions before and after each")
    if dilated:
        found.append(f"{dilated} of {len(convolutions)} convolutions are dilated")
    if grouped:
        found.append(f"{grouped} of {len(convolutions)} are grouped or depthwise")
    if dilated or grouped:
        found.append("for which integers have no faster kernel")
    kept = {name: count for name, count in graph.floating.items() if name != "PRelu"}
    if kept:
        found.append(f"float32 stay {counted(kept)}")
    conversions = graph.quantize + graph.dequantize
    found.append(f"{conversions} conversions between int8 and float32 are left")
    return ", ".join(found)


def counted(operators: dict[str, int]) -> str:
    """Return operators as text, each with its number."""
    return ", ".join(f"{count} {name}" for name, count in sorted(operators.items())) or "none"
