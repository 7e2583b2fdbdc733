"""From the start of a process to its first mask, what a robot waits for after power-on or a crash.

Each run is a fresh process of the same Python. Files are in the system's cache from the run before, unless
it is the very first, so a slow disk after power-on comes on top.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from runtime import EdgesegError
from runtime.base.percentiles import percentiles
from runtime.frame import Image

STAGES = ("start", "import", "open", "first mask", "total")
_TIMEOUT_S = 300.0


class ColdStartError(EdgesegError):
    """A fresh process that gave no mask."""


@dataclass(frozen=True)
class ColdStart:
    """Fresh processes up to their first mask.

    Attributes:
        samples_ms: milliseconds a stage, run by run: "start" of the interpreter, "import" of runtime,
            numpy, OpenCV and onnxruntime, "open" of the model, "first mask", and their "total".
        memory_mb: resident after the first mask, the largest of all runs, in units of 2^20 bytes; None
            where it is not told.
        peak_mb: most that was resident up to then, likewise.
    """

    samples_ms: dict[str, tuple[float, ...]]
    memory_mb: float | None
    peak_mb: float | None

    @property
    def runs(self) -> int:
        """How many processes there were."""
        return len(self.samples_ms["total"])

    def p50_ms(self, stage: str) -> float:
        """Return the median of one of `STAGES`."""
        return percentiles(self.samples_ms[stage])["p50"]

    def max_ms(self, stage: str) -> float:
        """Return the slowest run's."""
        return max(self.samples_ms[stage])


def measure_cold_start(
    model: Path,
    frame_bgr: Image,
    runs: int = 5,
    *,
    threads: int | None = None,
    provider: str = "cpu",
    python: Sequence[str] = (sys.executable,),
) -> ColdStart:
    """Start processes one after the other.

    Args:
        model: ONNX file with a contract.
        frame_bgr: uint8 (H, W, 3), what they segment.
        runs: at least 1.
        threads: worker threads; None takes the default.
        provider: execution provider by short name.
        python: the interpreter's command.

    Raises:
        ColdStartError: one of them failed or hung.
    """
    height, width = frame_bgr.shape[:2]
    told = []
    for _ in range(runs):
        arguments = [str(model), str(height), str(width), str(threads or 0), provider]
        try:
            done = subprocess.run(
                [*python, "-m", "benchmarks.timing.first_mask", *arguments, str(time.monotonic_ns())],
                input=frame_bgr.tobytes(),
                capture_output=True,
                timeout=_TIMEOUT_S,
            )
        except subprocess.TimeoutExpired:
            raise ColdStartError(
                f"cold start of {model}: expected a mask within {_TIMEOUT_S:g} s, got none; leave it out "
                "with --cold-starts 0"
            ) from None
        if done.returncode:
            lines = done.stderr.decode(errors="replace").strip().splitlines() or ["no message"]
            raise ColdStartError(
                f"cold start of {model}: expected a fresh process to give a mask, it exited with "
                f"{done.returncode} ({lines[-1]}); leave it out with --cold-starts 0"
            )
        told.append(json.loads(done.stdout))
    samples_ms = {
        stage: tuple(float(one["stages_ms"][stage]) for one in told) for stage in STAGES if stage != "total"
    }
    totals_ms = tuple(sum(stages_ms) for stages_ms in zip(*samples_ms.values(), strict=True))
    return ColdStart(
        samples_ms={**samples_ms, "total": totals_ms},
        memory_mb=_largest([one["memory_mb"] for one in told]),
        peak_mb=_largest([one["peak_mb"] for one in told]),
    )


def _largest(values: Sequence[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)
