"""How near networks come to what this machine can do.

Machine and networks are measured in turn, in one run and with the same threads: a sample of each rate, a few
runs of a network, the rates again. So a drifting machine slows both alike. A network's multiply-adds divided
by the machine's rate are its time at the limit; its layers are held against the limit one by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks.layers.op_profile import BLOCK, ModelProfiler, OpProfile, kind_rates
from benchmarks.machine.description import Machine, this_machine
from benchmarks.machine.yardstick import MachineLimits, Yardsticks
from benchmarks.timing.frames import size_flag
from runtime.base.flags import check_fields, flag, nested
from runtime.base.percentiles import percentiles
from runtime.network.options import ModelOptions


@dataclass(frozen=True)
class LimitsConfig:
    """How to measure; see `--help` of `benchmarks.limits`."""

    runs: int = flag("runs of each network; the rates are sampled before each few", default=50, at_least=1)
    network: ModelOptions = nested(ModelOptions, without=("model", "provider"))
    free_size_hw: tuple[int, int] | None = size_flag(
        "height and width for files that leave them free", "--foreign-size", None
    )

    def __post_init__(self) -> None:
        """Check the numbers."""
        check_fields(self)


@dataclass(frozen=True)
class ModelLimits:
    """A network held against the machine.

    Attributes:
        file: its path.
        gmacs: 10^9 multiply-accumulates of its convolutions and matrix products as the file states them, by
            the arithmetic that does them: "conv" and "gemm" in float32, "int8". Empty if unknown.
        network_ms: its median time.
        limit_ms: its multiply-accumulates at the machine's rate of their kind; None if unknown.
        ratio: time over limit, the median of `ratio_samples`.
        ratio_samples: of each few runs in a row, their median time over the limit as measured right before.
        layers_ms: sum of its layers' median times in the profiled runs.
        layers_limit_ms: sum of their limits, memory counted too.
        profiled_ms: median time of the profiled runs, which the profiler makes slower.
        samples_ms: of the network, every run.
        ops: its layers in the order they run.
    """

    file: str
    gmacs: dict[str, float]
    network_ms: float
    limit_ms: float | None
    ratio: float | None
    ratio_samples: tuple[float, ...]
    layers_ms: float
    layers_limit_ms: float
    profiled_ms: float
    samples_ms: tuple[float, ...]
    ops: tuple[OpProfile, ...]

    def slowest(self, count: int) -> list[OpProfile]:
        """Return the layers that lose most time to the limit, most first."""
        return sorted(self.ops, key=lambda op: op.lost_ms, reverse=True)[:count]


@dataclass(frozen=True)
class LimitsReport:
    """A measurement.

    Attributes:
        limits: of the machine.
        samples: rates that the limits are the medians of, by the names of their fields.
        models: in the order they were given.
        runs: of each network that count; of the rates there is a sample for each few of them.
        machine: the computer and the software.
    """

    limits: MachineLimits
    samples: dict[str, list[float]]
    models: tuple[ModelLimits, ...]
    runs: int
    machine: Machine


def measure_limits(paths: Sequence[str | Path], config: LimitsConfig) -> LimitsReport:
    """Measure the machine and networks in turn.

    Args:
        paths: any ONNX files.
        config: how.

    Raises:
        EdgesegError: as `benchmarks.subjects.any_model.open_any_model`.
    """
    with ExitStack() as opened:
        profilers = [
            opened.enter_context(
                ModelProfiler(path, threads=config.network.threads, free_size_hw=config.free_size_hw)
            )
            for path in paths
        ]
        yardsticks = Yardsticks(config.network.threads)
        ratios: list[list[float]] = [[] for _ in profilers]
        for done in range(0, config.runs, BLOCK):
            for profiler, beside in zip(profilers, ratios, strict=True):
                now = yardsticks.run()
                samples_ms = profiler.run(min(BLOCK, config.runs - done))
                limit_ms = _limit_ms(profiler, now)
                if limit_ms:
                    beside.append(percentiles(samples_ms)["p50"] / limit_ms)
        limits = yardsticks.limits()
        models = tuple(
            _model_limits(profiler, limits, beside)
            for profiler, beside in zip(profilers, ratios, strict=True)
        )
    return LimitsReport(limits, yardsticks.samples, models, config.runs, this_machine())


def _limit_ms(profiler: ModelProfiler, limits: MachineLimits) -> float | None:
    """Return a network's multiply-accumulates at the machine's rates."""
    rates = kind_rates(limits)
    return sum(macs / rates[kind] / 1e6 for kind, macs in profiler.macs_by_kind.items()) or None


def _model_limits(profiler: ModelProfiler, limits: MachineLimits, ratios: list[float]) -> ModelLimits:
    ops = profiler.ops(limits)
    return ModelLimits(
        file=str(profiler.model.path),
        gmacs={kind: macs / 1e9 for kind, macs in profiler.macs_by_kind.items()},
        network_ms=percentiles(profiler.samples_ms)["p50"],
        limit_ms=_limit_ms(profiler, limits),
        ratio=percentiles(ratios)["p50"] if ratios else None,
        ratio_samples=tuple(ratios),
        layers_ms=sum(op.median_ms for op in ops),
        layers_limit_ms=sum(op.limit_ms for op in ops),
        profiled_ms=percentiles(profiler.profiled_samples_ms)["p50"],
        samples_ms=tuple(profiler.samples_ms),
        ops=ops,
    )
