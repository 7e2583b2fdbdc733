"""What this machine can do at most, measured beside the networks that are held against it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnxruntime as ort

from benchmarks.machine import conv_rate
from benchmarks.machine import onnx_bytes as onnx
from benchmarks.machine.conv_rate import ConvRate
from runtime.base.percentiles import percentiles
from runtime.errors import ConfigError
from runtime.network.session import PROVIDERS, default_threads, session_options

MATRIX = 1024  # rows and columns of both matrices of the GEMM
GEMM_GMAC = MATRIX**3 / 1e9
CACHE_BYTES = 4 << 20  # a copy's source and target together, which the caches of most processors hold
MEMORY_BYTES = 256 << 20  # the same, more than they hold
_COPY_S = 0.02  # of each thread's copies in one sample
DEFAULT_RUNS = 15


@dataclass(frozen=True)
class MachineLimits:
    """Rates that plain work reaches here and now with the network's own threads; medians.

    Attributes:
        conv_gmac_s: 10^9 multiply-adds a second of float32 3x3 convolutions, see
            `benchmarks.machine.conv_rate`.
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
        conv, int8_conv = ConvRate(self.threads), ConvRate(self.threads, is_int8=True)
        gemm = _Gemm(self.threads)
        cache, memory = _Copies(CACHE_BYTES, self.threads), _Copies(MEMORY_BYTES, self.threads)
        # Each sample is a rate; see `MachineLimits` for the units.
        self._samplers: dict[str, Callable[[], float]] = {
            "memory_gb_s": memory.gb_s,
            "cache_gb_s": cache.gb_s,
            "conv_gmac_s": lambda: conv_rate.GMAC / conv.run_ms() * 1000,
            "gemm_gmac_s": lambda: GEMM_GMAC / gemm.run_ms() * 1000,
            "int8_conv_gmac_s": lambda: conv_rate.GMAC / int8_conv.run_ms() * 1000,
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


def measure_limits(threads: int | None = None, runs: int = DEFAULT_RUNS) -> MachineLimits:
    """Measure the machine alone; beside networks, `Yardsticks` in turn with them is the fairer way.

    Args:
        threads: worker threads; None takes the physical cores, at most 4.
        runs: samples of each rate.

    Raises:
        ConfigError: no runs, or a number of threads outside 1 to 256.
    """
    if runs < 1:
        raise ConfigError(f"runs: expected at least 1, got {runs}")
    yardsticks = Yardsticks(threads)
    for _ in range(runs):
        yardsticks.run()
    return yardsticks.limits()


def gemm_onnx() -> bytes:
    """Return a float32 product of two matrices as an ONNX file; of a row of ones it makes ones."""
    shape = (MATRIX, MATRIX)
    weights = onnx.tensor_attribute("value", onnx.tensor(np.array([1 / MATRIX], "<f4")))
    return onnx.model(
        "gemm_rate",
        [
            onnx.node("ConstantOfShape", ["shape"], "weights", weights),
            onnx.node("MatMul", ["x", "weights"], "y"),
        ],
        [onnx.tensor(np.array(shape, "<i8"), "shape")],
        onnx.value("x", onnx.FLOAT, shape),
        onnx.value("y", onnx.FLOAT, shape),
    )


class _Gemm:
    """One float32 matrix product in onnxruntime."""

    def __init__(self, threads: int) -> None:
        self._session = ort.InferenceSession(
            gemm_onnx(), session_options(threads), providers=[PROVIDERS["cpu"]]
        )
        self._input = {"x": np.ones((MATRIX, MATRIX), np.float32)}

    def run_ms(self) -> float:
        started_ns = time.perf_counter_ns()
        self._session.run(None, self._input)
        return (time.perf_counter_ns() - started_ns) / 1e6


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
