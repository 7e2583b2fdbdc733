"""Times a model stage by stage: `python -m benchmarks.latency --model seg.onnx`.

Frames of a synthetic drive go through the very `Segmenter` and `Overlay` that the camera uses. Every sample
after the warm-up counts; the result is percentiles, never a mean.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from shlex import quote

from benchmarks.conv_rate import GMAC, ConvRate
from benchmarks.machine import Machine, this_machine
from runtime import ConfigError, Segmenter, SinkError, bundled_model
from runtime.cli import exit_code, make_parser
from runtime.files import file_sha256, replacing
from runtime.overlay import Overlay
from runtime.session import PROVIDERS
from runtime.stats import LatencyLog, percentiles
from runtime.streets import Drive

STAGES = ("resize", "network", "mask", "draw", "total")
DISTINCT_FRAMES = 16  # rendered beforehand and cycled, so that rendering is not on the clock
FRAMES_A_CONV_RUN = 5  # interleaved, so that a slow minute of the machine slows both alike


@dataclass(frozen=True)
class LatencyConfig:
    """How to measure.

    Attributes:
        frame_size_hw: height and width of the frames in pixels.
        frames: frames that count.
        warmup: frames before them that do not.
        threads: worker threads; None takes the physical cores, at most 4.
        provider: execution provider by short name.
    """

    frame_size_hw: tuple[int, int] = (360, 480)
    frames: int = 200
    warmup: int = 20
    threads: int | None = None
    provider: str = "cpu"

    def __post_init__(self) -> None:
        """Check the numbers."""
        if min(self.frame_size_hw) < 1 or self.frames < 1 or self.warmup < 0:
            raise ConfigError(
                "latency: expected a positive size, at least 1 frame and no negative warm-up, got size "
                f"{self.frame_size_hw}, {self.frames} frames, warm-up {self.warmup}"
            )


@dataclass(frozen=True)
class ModelFile:
    """The file that was measured; `input_size_hw` in pixels, `quantization` "none" for float32."""

    name: str
    file: str
    sha256: str
    bytes: int
    input_size_hw: tuple[int, int]
    quantization: str


@dataclass(frozen=True)
class LatencyReport:
    """A measurement.

    Attributes:
        latency_ms: p50, p90, p99 and max in milliseconds, for each of `STAGES`.
        fps: frames a second of the whole loop, all frames counted.
        frame_size_hw: height and width of the frames in pixels.
        frames: frames that were counted.
        warmup: frames before them that were not.
        threads: worker threads of the network.
        provider: execution provider by short name.
        conv_gmac_per_s: what plain 3x3 convolutions reach here and now, see `benchmarks.conv_rate`.
        network_time_gmac: what they would have computed in the network's median time.
        model: the file.
        machine: the computer and the software.
    """

    latency_ms: dict[str, dict[str, float]]
    fps: float
    frame_size_hw: tuple[int, int]
    frames: int
    warmup: int
    threads: int
    provider: str
    conv_gmac_per_s: float
    network_time_gmac: float
    model: ModelFile
    machine: Machine


def measure_latency(model: Path, config: LatencyConfig) -> LatencyReport:
    """Time a model file.

    Raises:
        EdgesegError: as `Segmenter`.
    """
    with Segmenter(model, threads=config.threads, provider=config.provider) as segment:
        contract = segment.contract
        overlay = Overlay(contract.classes)
        drive = Drive(0, config.frame_size_hw)
        images_bgr = [drive.frame(index).image_bgr for index in range(DISTINCT_FRAMES)]
        conv = ConvRate(segment.threads, config.provider)
        conv.run_ms()  # its own warm-up

        log = LatencyLog()
        conv_ms: list[float] = []
        counted_ns = 0
        for index in range(config.warmup + config.frames):
            image_bgr = images_bgr[index % DISTINCT_FRAMES]
            started_ns = time.perf_counter_ns()
            result = segment(image_bgr)
            drawing_ns = time.perf_counter_ns()
            overlay.draw(image_bgr, result.mask, f"{result.latency_ms['network']:.1f} ms")
            ended_ns = time.perf_counter_ns()
            if index < config.warmup:
                continue
            draw_ms, total_ms = (ended_ns - drawing_ns) / 1e6, (ended_ns - started_ns) / 1e6
            log.add({**result.latency_ms, "draw": draw_ms, "total": total_ms})
            counted_ns += ended_ns - started_ns
            if (index - config.warmup) % FRAMES_A_CONV_RUN == 0:
                conv_ms.append(conv.run_ms())

        latency_ms = log.summary()
        conv_gmac_per_s = GMAC / percentiles(conv_ms)["p50"] * 1000
        return LatencyReport(
            latency_ms=latency_ms,
            fps=config.frames / (counted_ns / 1e9),
            frame_size_hw=config.frame_size_hw,
            frames=config.frames,
            warmup=config.warmup,
            threads=segment.threads,
            provider=segment.provider,
            conv_gmac_per_s=conv_gmac_per_s,
            network_time_gmac=conv_gmac_per_s * latency_ms["network"]["p50"] / 1000,
            model=ModelFile(
                name=contract.name,
                file=model.name,
                sha256=file_sha256(model),
                bytes=model.stat().st_size,
                input_size_hw=contract.input.size_hw,
                quantization=contract.origin.quantization,
            ),
            machine=this_machine(),
        )


def as_text(report: LatencyReport) -> str:
    """Return the report for a terminal."""
    rows = [f"{'ms':8} {'p50':>8} {'p90':>8} {'p99':>8} {'max':>8}"]
    for stage in STAGES:
        row = report.latency_ms[stage]
        rows.append(f"{stage:8} " + " ".join(f"{row[key]:8.2f}" for key in ("p50", "p90", "p99", "max")))
    return "\n".join([*rows, "", *_facts(report)])


def as_markdown(report: LatencyReport) -> str:
    """Return the report as a Markdown section."""
    rows = [
        f"## Latency of {report.model.name}",
        "",
        "| ms | p50 | p90 | p99 | max |",
        "|---|---|---|---|---|",
    ]
    for stage in STAGES:
        row = report.latency_ms[stage]
        rows.append(
            f"| {stage} | " + " | ".join(f"{row[key]:.2f}" for key in ("p50", "p90", "p99", "max")) + " |"
        )
    return "\n".join([*rows, "", *(f"- {fact}" for fact in _facts(report))]) + "\n"


def _facts(report: LatencyReport) -> list[str]:
    """Return what must be known beside the table, a line each."""
    model = report.model
    return [
        f"{report.fps:.1f} frames/s over {report.frames} frames of {_size(report.frame_size_hw)} after "
        f"{report.warmup} to warm up; {report.threads} threads, provider {report.provider}",
        f"network time × convolution rate: {report.network_time_gmac:.2f} GMAC "
        f"(3x3 convolutions, 64 channels: {report.conv_gmac_per_s:.1f} GMAC/s)",
        f"model: {model.file} ({model.name}, input {_size(model.input_size_hw)}, quantization "
        f"{model.quantization}), {model.bytes / 1e6:.2f} MB, sha256 {model.sha256[:16]}",
        f"machine: {report.machine}",
    ]


def _size(size_hw: tuple[int, int]) -> str:
    """Return a size as people write it, width first."""
    return f"{size_hw[1]}x{size_hw[0]}"


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
    parser.add_argument("--markdown", metavar="FILE", help="also write the report to this Markdown file")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    args = parser.parse_args(argv)

    def command() -> None:
        height, width = args.size
        config = LatencyConfig((height, width), args.frames, args.warmup, args.threads, args.provider)
        model = bundled_model() if args.model is None else Path(args.model)
        report = measure_latency(model, config)
        print(json.dumps(asdict(report)) if args.json else as_text(report))
        if args.markdown:  # after the print, so that a bad path does not lose the measurement
            _write(Path(args.markdown), as_markdown(report))
        if not args.json:
            print(f"\nnext: python -m benchmarks.accuracy --model {quote(str(model))} --data synthetic")

    return exit_code(command)


def _write(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    try:
        with replacing(path) as part:
            part.write_text(text, encoding="utf-8")
    except OSError as error:
        raise SinkError(
            f"{path}: expected a file that can be written, got {error}; choose another"
        ) from error


if __name__ == "__main__":
    sys.exit(main())
