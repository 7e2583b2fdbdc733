"""Yardsticks: plain work in onnxruntime that says how fast, and how evenly, this machine works here and now.

A network's time multiplied by the rate of plain convolutions says how many multiply-adds its time was worth,
a number that can be compared between machines and with the multiply-adds it really has. How unequal the times
of equal work are says how noisy the machine is: all threads that a network would use take part, so that what
disturbs the yardstick would disturb a network. A machine whose speed changes from minute to minute can be
quiet for two seconds; what lasts longer shows in the yardstick that runs within a measurement.

The files are made by `tests/benchmarks/machine/make_yardsticks.py`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import onnxruntime as ort

from benchmarks.machine.usage import CpuShares, cpu_times, shares
from runtime.base.percentiles import percentiles
from runtime.network.session import PROVIDERS, default_threads, session_options

Kind = Literal["conv", "int8_conv", "gemm"]

FOLDER = Path(__file__).parent / "yardsticks"
LAYERS, CHANNELS, KERNEL, HEIGHT, WIDTH = 6, 64, 3, 90, 120  # of the convolutions, in float32 and in int8
MATRIX = 1024  # rows and columns of both matrices of the product
CONV_GMAC = LAYERS * CHANNELS * CHANNELS * KERNEL * KERNEL * HEIGHT * WIDTH / 1e9
GEMM_GMAC = MATRIX**3 / 1e9
CACHE_BYTES = 4 << 20  # a copy's source and target together, which the caches of most processors hold
MEMORY_BYTES = 256 << 20  # the same, more than they hold
_COPY_S = 0.02  # of each thread's copies in one sample

NOISE_S = 2.0
LEAST_SAMPLES = 20
# A desktop with nothing else to do stays below all three.
NOISY_SPREAD_PERCENT = 10.0
NOISY_OTHERS_PERCENT = 10.0
NOISY_STEAL_PERCENT = 2.0


class Yardstick:
    """Six convolutions of 3x3, 64 to 64 channels, at 90x120, or a product of two matrices.

    Attributes:
        gmac: billion multiply-adds of one run.
    """

    def __init__(self, threads: int, provider: str = "cpu", kind: Kind = "conv") -> None:
        """Open it with the threads and the provider of the network that is held against it."""
        self.gmac = GEMM_GMAC if kind == "gemm" else CONV_GMAC
        self._session = ort.InferenceSession(
            FOLDER / f"{kind}.onnx",
            session_options(threads),
            providers=list(dict.fromkeys([PROVIDERS[provider], PROVIDERS["cpu"]])),
        )
        (described,) = self._session.get_inputs()
        dtype = np.uint8 if kind == "int8_conv" else np.float32
        self._input = {described.name: np.ones(described.shape, dtype)}

    def run_ms(self) -> float:
        """Return the milliseconds of one run."""
        started_ns = time.perf_counter_ns()
        self._session.run(None, self._input)
        return (time.perf_counter_ns() - started_ns) / 1e6

    def gmac_s(self) -> float:
        """Return the billion multiply-adds a second of one run."""
        return 1000 * self.gmac / self.run_ms()


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
            f"p90 of {self.samples} equal runs of plain convolutions is {self.spread_percent:.0f} % above "
            f"the median, the slowest {self.worst_percent:.0f} %"
        ]
        if self.others_percent is not None:
            parts.append(f"other programs took {self.others_percent:.0f} % of the CPU")
        if self.steal_percent is not None:
            parts.append(f"the host stole {self.steal_percent:.1f} %")
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
    seconds: float = NOISE_S,
    threads: int | None = None,
    *,
    run_ms: Callable[[], float] | None = None,
) -> Noise:
    """Work for some seconds, but not less than `LEAST_SAMPLES` pieces.

    Args:
        seconds: how long.
        threads: worker threads; None takes those that a network would.
        run_ms: does a piece of work and returns its milliseconds; for tests.
    """
    run_ms = run_ms or Yardstick(default_threads() if threads is None else threads).run_ms
    run_ms()  # the first one plans memory and wakes the clock
    before, started_s = cpu_times(), time.monotonic()
    samples_ms: list[float] = []
    while len(samples_ms) < LEAST_SAMPLES or time.monotonic() - started_s < seconds:
        samples_ms.append(run_ms())
    return noise_of(samples_ms, shares(before, cpu_times()))


@dataclass(frozen=True)
class MachineLimits:
    """Rates that plain work reaches here and now with the network's own threads; medians.

    Attributes:
        conv_gmac_s: 10^9 multiply-adds a second of float32 3x3 convolutions, see `Yardstick`.
        gemm_gmac_s: of a float32 product of two matrices of 1024x1024.
        int8_conv_gmac_s: of the same convolutions in int8.
        memory_gb_s: 10^9 bytes a second of copies between 128 MiB and 128 MiB, one thread for each of
            `threads`; bytes read and bytes written both count.
        threads: worker threads.
        cache_gb_s: of copies between 2 MiB and 2 MiB, which stay in the caches as layers' tensors do.
    """

    conv_gmac_s: float
    gemm_gmac_s: float
    int8_conv_gmac_s: float
    memory_gb_s: float
    threads: int
    cache_gb_s: float


class Yardsticks:
    """Runs all yardsticks once a call, so that they can be interleaved with what is measured."""

    def __init__(self, threads: int | None = None) -> None:
        """Open them and run each once to warm up.

        Raises:
            ConfigError: a number of threads outside 1 to 256.
        """
        self.threads = default_threads() if threads is None else threads
        conv, int8_conv, gemm = (Yardstick(self.threads, kind=kind) for kind in get_args(Kind))
        cache, memory = _Copies(CACHE_BYTES, self.threads), _Copies(MEMORY_BYTES, self.threads)
        # Each sample is a rate; see `MachineLimits` for the units.
        self._samplers: dict[str, Callable[[], float]] = {
            "memory_gb_s": memory.gb_s,
            "cache_gb_s": cache.gb_s,
            "conv_gmac_s": conv.gmac_s,
            "gemm_gmac_s": gemm.gmac_s,
            "int8_conv_gmac_s": int8_conv.gmac_s,
        }
        self.samples: dict[str, list[float]] = {name: [] for name in self._samplers}
        for sampler in self._samplers.values():
            sampler()

    def run(self) -> MachineLimits:
        """Take one sample of each, and return these."""
        now = {name: sampler() for name, sampler in self._samplers.items()}
        for name, rate in now.items():
            self.samples[name].append(rate)
        return MachineLimits(threads=self.threads, **now)

    def limits(self) -> MachineLimits:
        """Return the medians of the samples taken so far, of which there must be one."""
        medians = {name: percentiles(rates)["p50"] for name, rates in self.samples.items()}
        return MachineLimits(threads=self.threads, **medians)


class _Copies:
    """Copies between two arrays a thread."""

    def __init__(self, total_bytes: int, threads: int) -> None:
        part = total_bytes // (2 * threads)
        self._pairs = [(np.ones(part, np.uint8), np.zeros(part, np.uint8)) for _ in range(threads)]

    def gb_s(self) -> float:
        """Return bytes read and written a second, all threads at once; numpy copies without the GIL."""
        rates = [0.0] * len(self._pairs)
        start = threading.Barrier(len(self._pairs))

        def copy(index: int) -> None:
            source, target = self._pairs[index]
            start.wait()
            started, copies, elapsed_s = time.perf_counter_ns(), 0, 0.0
            while elapsed_s < _COPY_S:
                np.copyto(target, source)
                copies += 1
                elapsed_s = (time.perf_counter_ns() - started) / 1e9
            rates[index] = copies * (source.nbytes + target.nbytes) / elapsed_s / 1e9

        workers = [threading.Thread(target=copy, args=(index,)) for index in range(len(rates))]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        return sum(rates)
