"""How evenly a machine works: equal pieces of work, one after the other, and how unequal their times are.

The pieces are the plain convolutions of `benchmarks.machine.conv_rate` on all threads that a network would
use, so that what disturbs them would disturb a network. A machine whose speed changes from minute to minute
can be quiet for two seconds; what lasts longer shows in the yardstick that runs within a measurement.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.machine.conv_rate import ConvRate
from benchmarks.machine.cpu_times import CpuShares, cpu_times, shares
from benchmarks.machine.system_files import SystemFiles
from runtime.base.percentiles import percentiles
from runtime.network.session import default_threads

CALIBRATION_S = 2.0
LEAST_SAMPLES = 20
# A desktop with nothing else to do stays below all three.
NOISY_SPREAD_PERCENT = 10.0
NOISY_OTHERS_PERCENT = 10.0
NOISY_STEAL_PERCENT = 2.0


@dataclass(frozen=True)
class Noise:
    """How unequal equal work was.

    Attributes:
        samples: pieces of work.
        p50_ms: their median time.
        spread_percent: by how much the slowest tenth exceeded the median, at least: p90 / p50 - 1.
        worst_percent: by how much the slowest did: max / p50 - 1.
        steal_percent: time of all hardware threads that the host gave to others meanwhile.
        others_percent: time of all hardware threads that other programs took meanwhile.
    """

    samples: int
    p50_ms: float
    spread_percent: float
    worst_percent: float
    steal_percent: float | None
    others_percent: float | None

    @property
    def is_noisy(self) -> bool:
        """Whether differences of a few percent mean nothing here."""
        return (
            self.spread_percent > NOISY_SPREAD_PERCENT
            or (self.others_percent or 0) > NOISY_OTHERS_PERCENT
            or (self.steal_percent or 0) > NOISY_STEAL_PERCENT
        )

    def __str__(self) -> str:
        """Return the verdict and its numbers in words."""
        parts = [
            f"a tenth of {self.samples} equal runs of plain convolutions took {self.spread_percent:.0f} % "
            f"longer than the median or more, the slowest {self.worst_percent:.0f} %"
        ]
        if self.others_percent is not None:
            parts.append(f"other programs took {self.others_percent:.0f} % of the processor")
        if self.steal_percent is not None:
            parts.append(f"the host {self.steal_percent:.1f} %")
        return f"{'NOISY' if self.is_noisy else 'quiet'}: {'; '.join(parts)}"


def noise_of(samples_ms: Sequence[float], taken: CpuShares | None) -> Noise:
    """Judge times of equal work.

    Args:
        samples_ms: at least one.
        taken: what others took meanwhile, where the system told.
    """
    found = percentiles(samples_ms)
    return Noise(
        samples=len(samples_ms),
        p50_ms=found["p50"],
        spread_percent=100 * (found["p90"] / found["p50"] - 1),
        worst_percent=100 * (found["max"] / found["p50"] - 1),
        steal_percent=taken.steal_percent if taken else None,
        others_percent=taken.others_percent if taken else None,
    )


def measure_noise(
    seconds: float = CALIBRATION_S,
    threads: int | None = None,
    *,
    run_ms: Callable[[], float] | None = None,
    files: SystemFiles | None = None,
) -> Noise:
    """Work for some seconds, but not less than `LEAST_SAMPLES` pieces.

    Args:
        seconds: how long.
        threads: worker threads; None takes those that a network would.
        run_ms: does a piece of work and returns its milliseconds; for tests.
        files: for tests.
    """
    files = files or SystemFiles()
    run_ms = run_ms or ConvRate(default_threads() if threads is None else threads).run_ms
    run_ms()  # the first one plans memory and wakes the clock
    before, started_s = cpu_times(files), time.monotonic()
    samples_ms: list[float] = []
    while len(samples_ms) < LEAST_SAMPLES or time.monotonic() - started_s < seconds:
        samples_ms.append(run_ms())
    return noise_of(samples_ms, shares(before, cpu_times(files)))
