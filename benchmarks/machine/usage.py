"""What runs on the machine meanwhile, and what this process takes of it, as psutil tells.

psutil belongs to the extra `bench`. Without it, and for what a system does not tell, the answer is None and
never a guess; `MISSING` says so where numbers are shown. What psutil lacks is in
`benchmarks.machine.processor`.
"""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, TypeVar

from benchmarks.machine.processor import give_back_freed_memory, resident_mb

try:
    import psutil
except ImportError:
    psutil = None

T = TypeVar("T")

VERSION: str | None = None if psutil is None else psutil.__version__
MISSING = "psutil is not installed; pip install 'edgeseg[bench]'"
_OF_THE_CPU = ("coretemp", "k10temp", "zenpower", "cpu", "soc", "x86_pkg_temp")  # in names of sensors
_PLAUSIBLE_C = (-40.0, 150.0)  # a sensor that is not connected tells something else


def _told(read: Callable[[Any], T | None]) -> T | None:
    """Return what psutil reads; None where it is missing, or this system lacks the thing."""
    if psutil is None:
        return None
    try:
        return read(psutil)
    except (AttributeError, OSError, RuntimeError, ValueError, psutil.Error):
        return None


@dataclass(frozen=True)
class CpuTimes:
    """The system's counters at one moment, and this process's own.

    Attributes:
        total_s: seconds of all hardware threads together since the start.
        busy_s: of these, those in which something ran here.
        steal_s: of these, those in which the host ran somebody else.
        own_s: seconds that this process ran, all its threads together.
    """

    total_s: float
    busy_s: float
    steal_s: float
    own_s: float


@dataclass(frozen=True)
class CpuShares:
    """Percent of all hardware threads' time; 100 is all of them busy all the time.

    Attributes:
        steal_percent: the host of this virtual machine ran somebody else.
        others_percent: other programs here ran.
    """

    steal_percent: float
    others_percent: float


def cpu_times() -> CpuTimes | None:
    """Read the counters."""
    times = _told(lambda psutil: psutil.cpu_times()._asdict())
    if times is None:
        return None
    steal_s = times.get("steal", 0.0)
    # What a guest took is in "user" and "nice" already.
    total_s = sum(seconds for name, seconds in times.items() if not name.startswith("guest"))
    busy_s = total_s - steal_s - times["idle"] - times.get("iowait", 0.0)
    return CpuTimes(total_s, busy_s, steal_s, time.process_time())


def shares(before: CpuTimes | None, after: CpuTimes | None) -> CpuShares | None:
    """Return what happened between two readings; None where nothing was told or no time has passed.

    >>> shares(CpuTimes(100, 20, 1, 5), CpuTimes(110, 28, 2, 10))
    CpuShares(steal_percent=10.0, others_percent=30.0)
    """
    if before is None or after is None or after.total_s <= before.total_s:
        return None
    total_s = after.total_s - before.total_s
    others_s = (after.busy_s - before.busy_s) - (after.own_s - before.own_s)
    return CpuShares(
        steal_percent=100 * max(0.0, after.steal_s - before.steal_s) / total_s,
        others_percent=100 * max(0.0, others_s) / total_s,
    )


def steal_since_boot_percent() -> float | None:
    """Return the share of all hardware threads' time since the start that the host took for others."""
    times = cpu_times()
    return 100 * times.steal_s / times.total_s if times is not None and times.total_s else None


def load_average() -> tuple[float, float, float] | None:
    """Return the programs that ran or wanted to, over 1, 5 and 15 minutes."""
    try:
        return os.getloadavg()
    except (AttributeError, OSError):  # Windows has none
        return None


def memory_mb() -> float | None:
    """Return the whole machine's memory in units of 2^20 bytes."""
    return _told(lambda psutil: psutil.virtual_memory().total / (1 << 20))


def clocks_mhz() -> tuple[float | None, float | None]:
    """Return the clock of the fastest hardware thread at this moment, and the highest it can have.

    In a virtual machine it is what the host states, not what it measures.
    """
    clocks = _told(lambda psutil: psutil.cpu_freq(percpu=True)) or []
    now = max((clock.current for clock in clocks), default=0.0)
    highest = max((clock.max for clock in clocks), default=0.0)
    return now or None, highest or None


@dataclass(frozen=True)
class Temperature:
    """The hottest sensor of the processor; of all where none says that it is the processor's."""

    celsius: float
    sensor: str

    def __str__(self) -> str:
        """Return it in words."""
        return f"{self.celsius:.1f} °C ({self.sensor})"


def temperature() -> Temperature | None:
    """Read the sensors."""
    low, high = _PLAUSIBLE_C
    found = [
        Temperature(reading.current, chip)
        for chip, readings in (_told(lambda psutil: psutil.sensors_temperatures()) or {}).items()
        for reading in readings
        if low <= reading.current <= high
    ]
    of_the_cpu = [one for one in found if any(name in one.sensor.lower() for name in _OF_THE_CPU)]
    return max(of_the_cpu or found, key=lambda one: one.celsius, default=None)


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


def footprint() -> Footprint | None:
    """Look at this process, after what Python and the C library could free is freed."""
    gc.collect()
    give_back_freed_memory()

    def look(psutil: Any) -> Footprint:
        process = psutil.Process()
        with process.oneshot():
            files = process.num_handles() if os.name == "nt" else process.num_fds()
            memory = process.memory_info().rss / (1 << 20)
            return Footprint(memory, process.num_threads(), files, resident_mb()[1])

    return _told(look)


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
