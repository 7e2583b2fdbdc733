"""Frame after frame without a pause, minute by minute: what heat and other programs make of a latency."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from benchmarks.machine.energy import Energy, EnergyMeter
from benchmarks.machine.processor import SystemFiles
from benchmarks.machine.usage import (
    CpuMeter,
    CpuShares,
    CpuUse,
    Temperature,
    clocks_mhz,
    cpu_times,
    shares,
    temperature,
)
from runtime.base.flags import flag
from runtime.base.percentiles import FINE_PERCENTS, LatencyLog

MINUTE_S = 60.0
ENERGY_EVERY_S = 5.0  # a package's counter may wrap around within half a minute
_UNITS_S = {"h": 3600, "m": 60, "s": 1}


def duration_s(text: str) -> float:
    """Return the seconds of a duration such as 90s, 10m or 1h.

    >>> duration_s("1.5h")
    5400.0
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text)
    if not found or float(found[1]) == 0:
        raise ValueError(f"expected a duration such as 90s, 10m or 1h, got {text!r}")
    return float(found[1]) * _UNITS_S[found[2]]


def duration_text(seconds: float) -> str:
    """Return a duration as it would be typed.

    >>> duration_text(3600), duration_text(90)
    ('1h', '90s')
    """
    unit = next(unit for unit, length_s in _UNITS_S.items() if unit == "s" or seconds % length_s == 0)
    return f"{seconds / _UNITS_S[unit]:g}{unit}"


def duration_flag(help: str, default: float, name: str) -> Any:
    """Return the flag of a field in seconds that takes durations such as 90s, 10m or 1h; 0 for none."""
    show = duration_text if default else lambda _: "none"
    return flag(help, default=default, at_least=0, name=name, parse=duration_s, show=show)


@dataclass(frozen=True)
class Minute:
    """One minute of it; the last may be shorter.

    Attributes:
        until_s: seconds since the start at its end.
        wall_s: seconds of the work in it.
        frames: in it.
        total_ms: p50, p90, p99, p99.9 and max of a frame.
        cpu: processor time of this process.
        temperature: at its end; None where the system does not tell.
        clock_mhz: likewise, of the fastest hardware thread.
        others: what other programs and the host took of all hardware threads.
        energy: of the package.
    """

    until_s: float
    wall_s: float
    frames: int
    total_ms: dict[str, float]
    cpu: CpuUse
    temperature: Temperature | None
    clock_mhz: float | None
    others: CpuShares | None
    energy: Energy


def sustain(
    frame_ms: Callable[[], float],
    duration_s: float,
    show: Callable[[Minute], None] = lambda minute: None,
    *,
    minute_s: float = MINUTE_S,
    clock_s: Callable[[], float] = time.monotonic,
    files: SystemFiles | None = None,
) -> tuple[Minute, ...]:
    """Work for some time.

    Args:
        frame_ms: works on one frame and returns its milliseconds.
        duration_s: seconds, at least one frame long.
        show: gets each minute when it is over.
        minute_s: seconds of a row; for tests.
        clock_s: for tests.
        files: for tests.
    """
    files = files or SystemFiles()
    started_s = clock_s()
    minutes: list[Minute] = []
    while clock_s() - started_s < duration_s:
        until_s = min(started_s + (len(minutes) + 1) * minute_s, started_s + duration_s)
        minutes.append(_one_minute(frame_ms, started_s, until_s, clock_s, files))
        show(minutes[-1])
    return tuple(minutes)


def slowdown(minutes: tuple[Minute, ...]) -> float | None:
    """Return the slowest later minute's median over the first one's; None where there is only one.

    A short last minute counts as well as the others.
    """
    if len(minutes) < 2:
        return None
    return max(minute.total_ms["p50"] for minute in minutes[1:]) / minutes[0].total_ms["p50"]


def _one_minute(
    frame_ms: Callable[[], float],
    started_s: float,
    until_s: float,
    clock_s: Callable[[], float],
    files: SystemFiles,
) -> Minute:
    log, cpu, energy = LatencyLog(), CpuMeter(), EnergyMeter(files)
    frames, now_s = 0, clock_s()
    before = cpu_times()
    while now_s < until_s or not frames:
        read_again_s = now_s + ENERGY_EVERY_S
        with energy, cpu:
            while (now_s < min(until_s, read_again_s)) or not frames:
                log.add({"total": frame_ms()})
                frames += 1
                now_s = clock_s()
    return Minute(
        until_s=now_s - started_s,
        wall_s=cpu.wall_ns / 1e9,
        frames=frames,
        total_ms=log.summary(FINE_PERCENTS)["total"],
        cpu=cpu.use(frames),
        temperature=temperature(),
        clock_mhz=clocks_mhz()[0],
        others=shares(before, cpu_times()),
        energy=energy.energy(),
    )
