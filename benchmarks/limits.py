"""Says how near networks come to what this machine can do: `python -m benchmarks.limits --model a.onnx`.

Machine and networks are measured in turn, in one run and with the same threads: a sample of each rate, a few
runs of a network, the rates again. So a drifting machine slows both alike. A network's multiply-adds divided
by the machine's rate are its time at the limit; its layers are held against the limit one by one.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from shlex import quote

from benchmarks.layers.machine_limits import MachineLimits, Yardsticks, measure_limits
from benchmarks.layers.op_profile import (
    BLOCK,
    DEFAULT_RUNS,
    ModelProfiler,
    OpProfile,
    kind_rates,
    profile_model,
)
from benchmarks.machine.description import Machine, this_machine
from runtime import ConfigError, bundled_model
from runtime.base.command import exit_code, make_parser
from runtime.base.percentiles import percentiles

__all__ = [
    "LimitsReport",
    "MachineLimits",
    "ModelLimits",
    "OpProfile",
    "measure_limits",
    "measure_models",
    "profile_model",
]

DEFAULT_LAYERS = 12


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


def measure_models(
    paths: Sequence[str | Path],
    *,
    threads: int | None = None,
    runs: int = DEFAULT_RUNS,
    free_size_hw: tuple[int, int] | None = None,
) -> LimitsReport:
    """Measure the machine and networks in turn.

    Args:
        paths: any ONNX files.
        threads: worker threads; None takes the physical cores, at most 4.
        runs: of each network that count; the rates are sampled before each few of them.
        free_size_hw: of images whose size is free, see `benchmarks.subjects.any_model.open_any_model`.

    Raises:
        EdgesegError: as `benchmarks.subjects.any_model.open_any_model`; ConfigError: no runs, or threads
            outside 1 to 256.
    """
    if runs < 1:
        raise ConfigError(f"runs: expected at least 1, got {runs}")
    with ExitStack() as opened:
        profilers = [
            opened.enter_context(ModelProfiler(path, threads=threads, free_size_hw=free_size_hw))
            for path in paths
        ]
        yardsticks = Yardsticks(threads)
        ratios: list[list[float]] = [[] for _ in profilers]
        for done in range(0, runs, BLOCK):
            for profiler, beside in zip(profilers, ratios, strict=True):
                now = yardsticks.run()
                samples_ms = profiler.run(min(BLOCK, runs - done))
                limit_ms = _limit_ms(profiler, now)
                if limit_ms:
                    beside.append(percentiles(samples_ms)["p50"] / limit_ms)
        limits = yardsticks.limits()
        models = tuple(
            _model_limits(profiler, limits, beside)
            for profiler, beside in zip(profilers, ratios, strict=True)
        )
    return LimitsReport(limits, yardsticks.samples, models, runs, this_machine())


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


def as_text(report: LimitsReport, layers: int) -> str:
    """Return the report for a terminal."""
    limits = report.limits
    lines = [
        f"this machine, {limits.threads} threads, medians: 3x3 convolutions "
        f"{limits.conv_gmac_s:.0f} GMAC/s, in int8 {limits.int8_conv_gmac_s:.0f}, GEMM "
        f"{limits.gemm_gmac_s:.0f}; copies, read + written, {limits.memory_gb_s:.0f} GB/s in memory, "
        f"{limits.cache_gb_s:.0f} in the caches",
        f"machine: {report.machine}",
        "limit: the multiply-adds at these rates; layers: the sum of their medians, and of their limits with "
        "memory counted; profiled: a whole run while layers are timed",
        "",
        f"{'':28} {'GMAC':>6} {'ms':>7} {'limit':>7} {'ratio':>6} | {'layers':>7} {'limit':>7} "
        f"{'profiled':>8}",
    ]
    for model in report.models:
        known = model.limit_ms is not None
        lines.append(
            f"{Path(model.file).name:28} {sum(model.gmacs.values()):6.3f} {model.network_ms:7.2f} "
            + (f"{model.limit_ms:7.2f} {model.ratio:6.2f}" if known else f"{'unknown':>7} {'':6}")
            + f" | {model.layers_ms:7.2f} {model.layers_limit_ms:7.2f} {model.profiled_ms:8.2f}"
        )
    for model in report.models:
        lines += ["", *_layer_lines(model, layers)]
    return "\n".join(lines)


def _layer_lines(model: ModelLimits, layers: int) -> list[str]:
    """Return the layers that lose most."""
    slowest = model.slowest(layers)
    lost_ms = sum(op.lost_ms for op in model.ops if op.lost_ms > 0)
    shown_ms = sum(op.lost_ms for op in slowest)
    lines = [
        f"{Path(model.file).name}: the {len(slowest)} of {len(model.ops)} layers that lose most, "
        f"{shown_ms:.2f} of {lost_ms:.2f} ms",
        f"{'ms':>7} {'limit':>7} {'ratio':>6} {'GMAC/s':>6} {'MB':>6}  {'operator':18} {'output':20} "
        "why, layer",
    ]
    for op in slowest:
        ratio = f"{op.ratio:6.1f}" if op.ratio is not None else f"{'':6}"
        rate = f"{op.gmac_s:6.0f}" if op.gmac_s is not None else f"{'':6}"
        shape = "x".join(map(str, op.output_shape))
        lines.append(
            f"{op.median_ms:7.3f} {op.limit_ms:7.3f} {ratio} {rate} {op.bytes_moved / 1e6:6.2f}  "
            f"{op.operator:18} {shape:20} {op.reason} ({op.name})"
        )
    return lines


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; see `--help`."""
    parser = make_parser(
        "benchmarks.limits", "Hold networks and their layers against what this machine can do at most."
    )
    parser.add_argument("--model", nargs="+", metavar="FILE", help="any ONNX files; without it the bundled s")
    parser.add_argument("--threads", type=int, help="worker threads; without it physical cores, at most 4")
    parser.add_argument("--runs", type=int, default=DEFAULT_RUNS, help="runs of each network")
    parser.add_argument(
        "--foreign-size",
        nargs=2,
        type=int,
        metavar=("H", "W"),
        help="height and width in pixels for files that leave them free",
    )
    parser.add_argument("--layers", type=int, default=DEFAULT_LAYERS, help="layers shown of each network")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    args = parser.parse_args(argv)

    def command() -> None:
        paths = args.model or [bundled_model()]
        free_size_hw = None if args.foreign_size is None else (args.foreign_size[0], args.foreign_size[1])
        report = measure_models(paths, threads=args.threads, runs=args.runs, free_size_hw=free_size_hw)
        print(json.dumps(asdict(report)) if args.json else as_text(report, args.layers))
        if not args.json:
            print(f"\nnext: python -m benchmarks.latency --model {quote(str(paths[0]))}")

    return exit_code(command)


if __name__ == "__main__":
    sys.exit(main())
