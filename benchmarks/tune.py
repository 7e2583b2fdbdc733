"""Finds the best settings for a latency target: `python -m benchmarks.tune --model seg.onnx --target-ms 10`.

Sweeps threads x spinning x resolution. Every setting is measured twice, once on the way there and once on
the way back, so that a drifting machine favours none. The best is the largest resolution whose p90 of frame
to mask holds the target, and of its settings the one that takes the least processor time a frame: what is
left over is the robot's.
"""

from __future__ import annotations

import itertools
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from shlex import quote

from benchmarks.machine.description import Machine, this_machine
from benchmarks.timing.endless import DISTINCT_FRAMES
from runtime import ConfigError, EdgesegError, ModelContract, Segmenter, bundled_model
from runtime.base.codec import to_plain
from runtime.base.command import exit_code, make_parser
from runtime.base.percentiles import percentiles
from runtime.frame import Image
from runtime.network.session import PROVIDERS, NetworkSession, default_threads
from training.streets import Drive

_SHARES = (1.0, 0.75, 0.5)  # of the file's own height and width, where it takes others
_WARMUP = 5


class TuneError(EdgesegError):
    """No setting holds the target."""


@dataclass(frozen=True)
class TuneConfig:
    """What to sweep.

    Attributes:
        target_ms: milliseconds from frame to mask that 90 % of the frames must hold; None for the fastest.
        threads: to try; empty for 1, 2, 4 … up to the physical cores.
        sizes_hw: heights and widths of the network's input; empty for what the file takes.
        frames: of each setting, half of them on the way there.
        frame_size_hw: height and width of the camera's frames in pixels.
        provider: execution provider by short name.
    """

    target_ms: float | None = None
    threads: tuple[int, ...] = ()
    sizes_hw: tuple[tuple[int, int], ...] = ()
    frames: int = 100
    frame_size_hw: tuple[int, int] = (720, 1280)
    provider: str = "cpu"

    def __post_init__(self) -> None:
        """Check the numbers."""
        if self.frames < 2 or (self.target_ms is not None and not self.target_ms > 0):
            raise ConfigError(
                "tune: expected at least 2 frames and a positive target, got "
                f"{self.frames} frames and {self.target_ms} ms"
            )


@dataclass(frozen=True)
class Setting:
    """What can be chosen."""

    size_hw: tuple[int, int]
    threads: int
    spin: bool


@dataclass(frozen=True)
class Trial:
    """A setting, measured.

    Attributes:
        setting: what was chosen.
        total_ms: p50, p90, p99 and max from frame to mask.
        processor_ms: processor time a frame, of all threads.
    """

    setting: Setting
    total_ms: dict[str, float]
    processor_ms: float


@dataclass(frozen=True)
class TuneReport:
    """A sweep.

    Attributes:
        model: file name.
        target_ms: as asked for.
        trials: in the order they were first measured.
        best: None where none holds the target.
        machine: the computer and the software.
    """

    model: str
    target_ms: float | None
    trials: tuple[Trial, ...]
    best: Trial | None
    machine: Machine


@dataclass
class _Samples:
    total_ms: list[float] = field(default_factory=list)
    processor_ms: list[float] = field(default_factory=list)


def tune(model: Path, config: TuneConfig) -> TuneReport:
    """Measure every setting.

    Raises:
        EdgesegError: as `Segmenter`; ConfigError where the file takes none of the sizes.
    """
    contract = NetworkSession(model, threads=1, provider=config.provider).contract
    settings = settings_for(contract, config)
    drive = Drive(0, config.frame_size_hw)
    images_bgr = [drive.frame(index).image_bgr for index in range(DISTINCT_FRAMES)]
    samples = {setting: _Samples() for setting in settings}
    for setting in [*settings, *reversed(settings)]:
        _measure(model, setting, images_bgr, samples[setting], config)
    trials = tuple(
        Trial(setting, percentiles(taken.total_ms), percentiles(taken.processor_ms)["p50"])
        for setting, taken in samples.items()
    )
    return TuneReport(model.name, config.target_ms, trials, best_of(trials, config.target_ms), this_machine())


def settings_for(contract: ModelContract, config: TuneConfig) -> list[Setting]:
    """Return what to sweep; spinning says nothing about a single thread.

    Raises:
        ConfigError: a size that the file does not take.
    """
    described = contract.input
    step = described.size_multiple
    own = [
        (round(described.size_hw[0] * share / step) * step, round(described.size_hw[1] * share / step) * step)
        for share in _SHARES
    ]
    sizes_hw = config.sizes_hw or [size_hw for size_hw in dict.fromkeys(own) if described.accepts(size_hw)]
    for size_hw in sizes_hw:
        if not described.accepts(size_hw):
            raise ConfigError(
                f"tune: expected sizes among {described.accepted_sizes}, got {size_hw[0]}x{size_hw[1]}; "
                "choose such, or export the model with --dynamic"
            )
    most = default_threads()
    threads = config.threads or tuple(count for count in (1, 2, 4) if count <= most)
    return [
        Setting(size_hw, count, spin)
        for size_hw, count, spin in itertools.product(sizes_hw, threads, (False, True))
        if count > 1 or not spin
    ]


def best_of(trials: Sequence[Trial], target_ms: float | None) -> Trial | None:
    """Return the best trial; without a target the fastest at the largest resolution."""
    holding = [trial for trial in trials if target_ms is None or trial.total_ms["p90"] <= target_ms]
    if not holding:
        return None
    largest = max(_pixels(trial) for trial in holding)
    holding = [trial for trial in holding if _pixels(trial) == largest]
    if target_ms is None:
        return min(holding, key=lambda trial: trial.total_ms["p90"])
    return min(holding, key=lambda trial: trial.processor_ms)


def _pixels(trial: Trial) -> int:
    return trial.setting.size_hw[0] * trial.setting.size_hw[1]


def _measure(
    model: Path, setting: Setting, images_bgr: Sequence[Image], samples: _Samples, config: TuneConfig
) -> None:
    """Add one pass of a setting."""
    with Segmenter(
        model, size_hw=setting.size_hw, threads=setting.threads, spin=setting.spin, provider=config.provider
    ) as segment:
        for index in range(-_WARMUP, config.frames // 2):
            image_bgr = images_bgr[index % len(images_bgr)]
            started_ns, worked_ns = time.perf_counter_ns(), time.process_time_ns()
            segment(image_bgr)
            if index >= 0:
                samples.total_ms.append((time.perf_counter_ns() - started_ns) / 1e6)
                samples.processor_ms.append((time.process_time_ns() - worked_ns) / 1e6)


def as_text(report: TuneReport) -> str:
    """Return the report for a terminal."""
    rows = [
        f"{'input':>9} {'threads':>8} {'spin':>5} {'p50 ms':>8} {'p90 ms':>8} {'p99 ms':>8} {'cpu ms':>8}"
    ]
    for trial in report.trials:
        height, width = trial.setting.size_hw
        ms = (trial.total_ms["p50"], trial.total_ms["p90"], trial.total_ms["p99"], trial.processor_ms)
        rows.append(
            f"{f'{width}x{height}':>9} {trial.setting.threads:8} {'yes' if trial.setting.spin else 'no':>5} "
            + " ".join(f"{value:8.2f}" for value in ms)
            + ("  best" if trial is report.best else "")
        )
    if len({trial.setting.size_hw for trial in report.trials}) == 1:
        rows.append("one resolution: export the model with --dynamic to compare several")
    return "\n".join([*rows, f"machine: {report.machine}"])


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; see `--help`."""
    defaults = TuneConfig()
    parser = make_parser("benchmarks.tune", "Find the best threads, spinning and resolution for a target.")
    parser.add_argument("--model", type=Path, help="ONNX file of export.to_onnx; without it the bundled s")
    parser.add_argument(
        "--target-ms", type=float, help="p90 from frame to mask to hold; without it the fastest is the best"
    )
    parser.add_argument("--threads", type=int, nargs="+", default=[], help="to try; without it 1, 2 and 4")
    parser.add_argument(
        "--imgsz",
        type=int,
        nargs=2,
        action="append",
        default=[],
        metavar=("H", "W"),
        help="height and width of the network's input to try, pixels; may be given several times; without "
        "it the file's own, of --dynamic files also 3/4 and 1/2 of it",
    )
    parser.add_argument("--frames", type=int, default=defaults.frames, help="frames of each setting")
    parser.add_argument(
        "--size",
        type=int,
        nargs=2,
        default=defaults.frame_size_hw,
        metavar=("H", "W"),
        help="height and width of the camera's frames, pixels",
    )
    parser.add_argument(
        "--provider", default=defaults.provider, choices=sorted(PROVIDERS), help="execution provider"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    given = parser.parse_args(argv)

    def command() -> None:
        model = given.model or bundled_model()
        config = TuneConfig(
            target_ms=given.target_ms,
            threads=tuple(given.threads),
            sizes_hw=tuple((height, width) for height, width in given.imgsz),
            frames=given.frames,
            frame_size_hw=(given.size[0], given.size[1]),
            provider=given.provider,
        )
        report = tune(model, config)
        print(json.dumps(to_plain(report)) if given.json else as_text(report))
        if report.best is None:
            fastest = min(trial.total_ms["p90"] for trial in report.trials)
            raise TuneError(
                f"{model}: expected a p90 of at most {config.target_ms:g} ms, the best of "
                f"{len(report.trials)} settings has {fastest:.1f} ms; take a smaller network or resolution"
            )
        if not given.json:
            print(
                f"\nnext: python -m runtime.camera --model {quote(str(model))} {_flags(report.best.setting)}"
            )

    return exit_code(command)


def _flags(setting: Setting) -> str:
    """Return the settings as flags of `runtime.camera`."""
    height, width = setting.size_hw
    return f"--threads {setting.threads}{' --spin' if setting.spin else ''} --imgsz {height} {width}"


if __name__ == "__main__":
    sys.exit(main())
