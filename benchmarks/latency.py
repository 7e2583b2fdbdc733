"""Times a model stage by stage: `python -m benchmarks.latency --model seg.onnx`.

Frames of a synthetic drive go through the very `Segmenter` and `Overlay` that the camera uses. Every sample
after the warm-up counts; the result is percentiles, never a mean. Beside them stands what they cost: the
start of a process, processor time, memory and energy.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import cycle, pairwise
from pathlib import Path
from shlex import quote

from benchmarks.machine.conv_rate import GMAC, ConvRate
from benchmarks.machine.cpu_times import CpuShares, cpu_times, shares
from benchmarks.machine.description import calibrated_machine, usable_cpus
from benchmarks.machine.energy import EnergyMeter
from benchmarks.machine.noise import noise_of
from benchmarks.machine.process_usage import CpuMeter
from benchmarks.machine.system_files import SystemFiles
from benchmarks.render.latency_text import as_markdown, as_text, minute_row
from benchmarks.timing.cold_start import measure_cold_start
from benchmarks.timing.duration import duration_s
from benchmarks.timing.frame_timer import FrameTimer
from benchmarks.timing.latency_report import LatencyReport, ModelFile
from benchmarks.timing.scaling import scale, thread_counts
from benchmarks.timing.sustained import Minute, sustain
from runtime import ConfigError, Segmenter, bundled_model
from runtime.base.codec import to_plain
from runtime.base.command import exit_code, make_parser
from runtime.base.files import file_sha256, write_text
from runtime.base.percentiles import FINE_PERCENTS, LatencyLog, percentiles
from runtime.network.session import PROVIDERS, default_threads
from training.streets import Drive

DISTINCT_FRAMES = 16  # rendered beforehand and cycled, so that rendering is not on the clock
FRAMES_A_BLOCK = 20  # then the convolution rate is taken, so that a slow minute slows both alike
SETTLE = 2  # frames after that which do not count, since the convolutions had the caches
SCALING_FRAMES = 100  # a point


@dataclass(frozen=True)
class LatencyConfig:
    """How to measure.

    Attributes:
        frame_size_hw: height and width of the frames in pixels.
        frames: frames that count.
        warmup: frames before them that do not.
        threads: worker threads; None takes the physical cores, at most 4.
        provider: execution provider by short name.
        cold_starts: fresh processes up to their first mask; 0 leaves them out.
        duration_s: seconds that the frames go on afterwards, minute by minute; 0 leaves that out.
        scaling: whether to try other numbers of threads, and batches.
    """

    frame_size_hw: tuple[int, int] = (360, 480)
    frames: int = 1000
    warmup: int = 20
    threads: int | None = None
    provider: str = "cpu"
    cold_starts: int = 5
    duration_s: float = 0.0
    scaling: bool = False

    def __post_init__(self) -> None:
        """Check the numbers."""
        if min(self.frame_size_hw) < 1 or self.frames < 1 or self.warmup < 0:
            raise ConfigError(
                "latency: expected a positive size, at least 1 frame and no negative warm-up, got size "
                f"{self.frame_size_hw}, {self.frames} frames, warm-up {self.warmup}"
            )
        if self.cold_starts < 0 or not self.duration_s >= 0:
            raise ConfigError(
                "latency: expected no negative number of cold starts or duration, got "
                f"{self.cold_starts} and {self.duration_s:g} s"
            )


def measure_latency(
    model: Path, config: LatencyConfig, show: Callable[[Minute], None] = lambda minute: None
) -> LatencyReport:
    """Time a model file.

    Args:
        model: ONNX file with a contract.
        config: how.
        show: gets each minute of the sustained part when it is over.

    Raises:
        EdgesegError: as `Segmenter` and `measure_cold_start`.
    """
    with Segmenter(model, threads=config.threads, provider=config.provider) as segment:
        contract, threads = segment.contract, segment.threads
        machine = calibrated_machine(threads)
        drive = Drive(0, config.frame_size_hw)
        images_bgr = [drive.frame(index).image_bgr for index in range(DISTINCT_FRAMES)]
        cold_start = None
        if config.cold_starts:
            cold_start = measure_cold_start(
                model, images_bgr[0], config.cold_starts, threads=threads, provider=config.provider
            )
        timer, images = FrameTimer(segment), cycle(images_bgr)
        warm = _measure_warm(lambda: timer(next(images)), ConvRate(threads, config.provider), config)
        sustained: tuple[Minute, ...] = ()
        if config.duration_s:
            sustained = sustain(lambda: timer(next(images))["total"], config.duration_s, show)
    scaling = None
    if config.scaling:
        counts = thread_counts(len(usable_cpus()), default_threads())
        scaling = scale(model, counts, threads, images_bgr, SCALING_FRAMES, config.provider)
    latency_ms = warm.log.summary(FINE_PERCENTS)
    conv_gmac_per_s = GMAC / percentiles(warm.conv_ms)["p50"] * 1000
    return LatencyReport(
        latency_ms=latency_ms,
        jitter_ms=percentiles(warm.steps_ms, FINE_PERCENTS) if warm.steps_ms else None,
        fps=config.frames / (warm.cpu.wall_ns / 1e9),
        cpu=warm.cpu.use(config.frames),
        energy=warm.energy.energy(),
        wall_s=warm.cpu.wall_ns / 1e9,
        frame_size_hw=config.frame_size_hw,
        frames=config.frames,
        warmup=config.warmup,
        threads=threads,
        provider=config.provider,
        conv_gmac_per_s=conv_gmac_per_s,
        network_time_gmac=conv_gmac_per_s * latency_ms["network"]["p50"] / 1000,
        noise_meanwhile=noise_of(warm.conv_ms, warm.taken),
        cold_start=cold_start,
        sustained=sustained,
        scaling=scaling,
        model=ModelFile(
            name=contract.name,
            file=model.name,
            sha256=file_sha256(model),
            bytes=model.stat().st_size,
            input_size_hw=contract.input.size_hw,
            quantization=contract.origin.quantization,
        ),
        machine=machine,
    )


@dataclass
class _Warm:
    """Samples of the frames that count."""

    log: LatencyLog = field(default_factory=LatencyLog)
    steps_ms: list[float] = field(default_factory=list)  # from one frame's total to the next one's
    conv_ms: list[float] = field(default_factory=list)
    cpu: CpuMeter = field(default_factory=CpuMeter)
    energy: EnergyMeter = field(default_factory=EnergyMeter)
    taken: CpuShares | None = None


def _measure_warm(frame: Callable[[], dict[str, float]], conv: ConvRate, config: LatencyConfig) -> _Warm:
    """Time frames in blocks, with the yardstick between them."""
    for _ in range(config.warmup):
        frame()
    warm, before = _Warm(), cpu_times(SystemFiles())
    for first in range(0, config.frames, FRAMES_A_BLOCK):
        with warm.energy, warm.cpu:
            block = [frame() for _ in range(min(FRAMES_A_BLOCK, config.frames - first))]
        for sample in block:
            warm.log.add(sample)
        warm.steps_ms += [abs(after["total"] - earlier["total"]) for earlier, after in pairwise(block)]
        conv.run_ms()  # does not count: the frames had the caches
        warm.conv_ms.append(conv.run_ms())
        for _ in range(SETTLE):
            frame()
    warm.taken = shares(before, cpu_times(SystemFiles()))
    return warm


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; see `--help`."""
    defaults = LatencyConfig()
    parser = make_parser("benchmarks.latency", "Time a model stage by stage, in milliseconds.")
    parser.add_argument("--model", help="ONNX file of export.to_onnx; without it the bundled s")
    parser.add_argument(
        "--size",
        nargs=2,
        type=int,
        default=defaults.frame_size_hw,
        metavar=("H", "W"),
        help="height and width of the frames, pixels",
    )
    parser.add_argument("--frames", type=int, default=defaults.frames, help="frames that count")
    parser.add_argument("--warmup", type=int, default=defaults.warmup, help="frames before them that do not")
    parser.add_argument("--threads", type=int, help="worker threads; without it physical cores, at most 4")
    parser.add_argument(
        "--provider", default=defaults.provider, choices=list(PROVIDERS), help="execution provider"
    )
    parser.add_argument(
        "--cold-starts",
        type=int,
        default=defaults.cold_starts,
        help="fresh processes up to their first mask; 0 for none",
    )
    parser.add_argument(
        "--duration",
        type=duration_s,
        help="go on afterwards for so long and show each minute: 90s, 5m, 1h",
    )
    parser.add_argument(
        "--scaling", action="store_true", help="also try other numbers of threads, and batches"
    )
    parser.add_argument("--markdown", metavar="FILE", help="also write the report to this Markdown file")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    args = parser.parse_args(argv)

    def command() -> None:
        height, width = args.size
        config = LatencyConfig(
            frame_size_hw=(height, width),
            frames=args.frames,
            warmup=args.warmup,
            threads=args.threads,
            provider=args.provider,
            cold_starts=args.cold_starts,
            duration_s=args.duration or 0.0,
            scaling=args.scaling,
        )
        model = bundled_model() if args.model is None else Path(args.model)
        report = measure_latency(
            model, config, lambda minute: print(minute_row(minute), file=sys.stderr, flush=True)
        )
        print(json.dumps(to_plain(report)) if args.json else as_text(report))
        if args.markdown:  # after the print, so that a bad path does not lose the measurement
            write_text(Path(args.markdown), as_markdown(report))
        if not args.json:
            print(f"\nnext: python -m benchmarks.stream --model {quote(str(model))}")

    return exit_code(command)


if __name__ == "__main__":
    sys.exit(main())
