"""Frame after frame without a pause, minute by minute: what heat and other programs make of a latency."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.machine.cpu_times import CpuShares, cpu_times, shares
from benchmarks.machine.description import usable_cpus
from benchmarks.machine.energy import Energy, EnergyMeter
from benchmarks.machine.process_usage import CpuMeter, CpuUse
from benchmarks.machine.sensors import Temperature, clock_mhz, temperature
from benchmarks.machine.system_files import SystemFiles
from runtime.base.percentiles import FINE_PERCENTS, LatencyLog

MINUTE_S = 60.0
ENERGY_EVERY_S = 5.0  # a package's counter may wrap around within half a minute


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
    before = cpu_times(files)
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
        temperature=temperature(files),
        clock_mhz=clock_mhz(files, usable_cpus()),
        others=shares(before, cpu_times(files)),
        energy=energy.energy(),
    )
