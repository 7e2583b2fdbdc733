"""What all hardware threads did in a stretch of time: our work, that of others, or stolen by the host."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

from benchmarks.machine.system_files import SystemFiles, text_of

_FIELDS = 8  # user, nice, system, idle, iowait, irq, softirq, steal; what follows is in user already
_IDLE, _IOWAIT, _STEAL = 3, 4, 7


@dataclass(frozen=True)
class CpuTimes:
    """The counters of /proc/stat at one moment, and this process's own.

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


def cpu_times(files: SystemFiles, own_s: float | None = None) -> CpuTimes | None:
    """Read the counters; `own_s` is for tests."""
    first = (text_of(files.proc / "stat") or "").partition("\n")[0].split()
    if not first or first[0] != "cpu":
        return None
    try:
        ticks = [int(word) for word in first[1 : _FIELDS + 1]]
    except ValueError:
        return None
    if len(ticks) < _FIELDS:
        return None
    a_second = os.sysconf("SC_CLK_TCK")
    idle = ticks[_IDLE] + ticks[_IOWAIT]
    return CpuTimes(
        total_s=sum(ticks) / a_second,
        busy_s=(sum(ticks) - idle - ticks[_STEAL]) / a_second,
        steal_s=ticks[_STEAL] / a_second,
        own_s=time.process_time() if own_s is None else own_s,
    )


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


def steal_since_boot_percent(files: SystemFiles) -> float | None:
    """Return the share of all hardware threads' time since the start that the host took for others."""
    times = cpu_times(files)
    return 100 * times.steal_s / times.total_s if times is not None and times.total_s else None


def load_average(files: SystemFiles) -> tuple[float, float, float] | None:
    """Return the programs that ran or wanted to, over 1, 5 and 15 minutes."""
    words = (text_of(files.proc / "loadavg") or "").split()
    try:
        one, five, fifteen = (float(word) for word in words[:3])
    except ValueError:
        return None
    return one, five, fifteen
