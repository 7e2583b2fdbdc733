"""What this process takes from the machine: processor time, memory, threads, open files."""

from __future__ import annotations

import gc
import re
import time
from dataclasses import dataclass
from types import TracebackType

from benchmarks.machine.system_files import SystemFiles, text_of

_KB_A_MB = 1024


@dataclass(frozen=True)
class Footprint:
    """What this process holds.

    Attributes:
        memory_mb: resident, in units of 2^20 bytes.
        threads: of all kinds.
        files: open ones.
        peak_mb: most that was resident so far; None where it is not told.
    """

    memory_mb: float
    threads: int
    files: int
    peak_mb: float | None = None


def footprint(files: SystemFiles | None = None) -> Footprint | None:
    """Look at this process, after what Python could free is freed; None without /proc."""
    gc.collect()
    own = (files or SystemFiles()).proc / "self"
    status = text_of(own / "status") or ""
    numbers = {key: int(value) for key, value in re.findall(r"^(VmRSS|VmHWM|Threads):\s+(\d+)", status, re.M)}
    try:
        opened = len(list((own / "fd").iterdir()))
    except OSError:
        return None
    if "VmRSS" not in numbers or "Threads" not in numbers:
        return None
    peak_kb = numbers.get("VmHWM")
    return Footprint(
        memory_mb=numbers["VmRSS"] / _KB_A_MB,
        threads=numbers["Threads"],
        files=opened,
        peak_mb=None if peak_kb is None else peak_kb / _KB_A_MB,
    )


@dataclass(frozen=True)
class CpuUse:
    """Processor time of this process, all its threads together.

    Attributes:
        percent: of one hardware thread; 200 is two of them busy all the time.
        ms_a_frame: processor milliseconds a frame.
    """

    percent: float
    ms_a_frame: float


class CpuMeter:
    """Adds up the processor time and the time on the wall of stretches.

    >>> meter = CpuMeter()
    >>> with meter:
    ...     _ = sum(range(1000))
    >>> meter.use(frames=1).percent > 0
    True
    """

    def __init__(self) -> None:
        """Start with nothing."""
        self.cpu_ns = self.wall_ns = 0

    def __enter__(self) -> CpuMeter:
        """Begin a stretch."""
        self._cpu_ns, self._wall_ns = time.process_time_ns(), time.perf_counter_ns()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it."""
        self.wall_ns += time.perf_counter_ns() - self._wall_ns
        self.cpu_ns += time.process_time_ns() - self._cpu_ns

    def use(self, frames: int) -> CpuUse:
        """Return what the stretches took for some frames, at least one."""
        return CpuUse(100 * self.cpu_ns / self.wall_ns, self.cpu_ns / 1e6 / frames)
