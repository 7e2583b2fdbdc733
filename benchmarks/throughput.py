"""Compares the whole loop with the network alone: `python -m benchmarks.throughput --source clip.mp4`.

Frames a second of `run` with an overlay, reading and decoding included, over those of nothing but
`session.run` with the same threads. The rest of the work is hidden as far as there are cores for it. Each
round measures the network alone, the loop, and the loop without overlap, one right after the other, since a
machine's speed drifts; the ratio is the median of the rounds' own ratios.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

from benchmarks.machine.description import Machine, this_machine
from benchmarks.timing.endless import open_endless
from runtime import ConfigError, Segmenter, SourceError, bundled_model
from runtime.base.codec import to_plain
from runtime.base.command import exit_code, make_parser
from runtime.loop import run
from runtime.masks.overlay import Overlay
from runtime.network.resize import fit_image
from runtime.network.session import PROVIDERS, NetworkSession
from runtime.sources import Source, without_secrets

TARGET = 0.95
_WARMUP_RUNS = 10


@dataclass(frozen=True)
class ThroughputConfig:
    """How to measure.

    Attributes:
        frames: of each part of a round.
        rounds: of network alone, loop, and loop without overlap.
        threads: worker threads of the network; None takes the physical cores, at most 4.
        spin: whether these stay busy while they wait.
        provider: execution provider by short name.
    """

    frames: int = 200
    rounds: int = 5
    threads: int | None = None
    spin: bool = False
    provider: str = "cpu"

    def __post_init__(self) -> None:
        """Check the numbers."""
        if self.frames < 2 or self.rounds < 1:
            raise ConfigError(
                f"throughput: expected at least 2 frames and 1 round, got {self.frames} and {self.rounds}"
            )


@dataclass(frozen=True)
class Round:
    """Frames a second, measured one right after the other."""

    network_fps: float
    loop_fps: float
    serial_fps: float


@dataclass(frozen=True)
class ThroughputReport:
    """A measurement.

    Attributes:
        source: what was read, free of passwords.
        model: file name.
        frame_size_hw: height and width of the frames in pixels.
        threads: worker threads of the network.
        rounds: as they came.
        loop_ratio: median of the loop's frames a second over those of the network alone.
        serial_ratio: the same for the loop without overlap.
        machine: the computer and the software.
    """

    source: str
    model: str
    frame_size_hw: tuple[int, int]
    threads: int
    rounds: tuple[Round, ...]
    loop_ratio: float
    serial_ratio: float
    machine: Machine


def measure_throughput(source: Source, name: str, model: Path, config: ThroughputConfig) -> ThroughputReport:
    """Measure on a source that does not end, which is closed at the end.

    Raises:
        EdgesegError: as `Segmenter`, `NetworkSession` and `run`; SourceError where the source ends.
    """
    with (
        source,
        Segmenter(model, threads=config.threads, spin=config.spin, provider=config.provider) as segment,
    ):
        session = NetworkSession(model, threads=config.threads, spin=config.spin, provider=config.provider)
        image_bgr = next(run(source, segment, max_frames=1)).frame.image_bgr
        fitted = fit_image(image_bgr, segment.size_hw)
        infer = session.run if session.contract.output.has_logits else session.run_mask
        for _ in range(_WARMUP_RUNS):
            infer(fitted)

        def network_fps() -> float:
            started_s = time.perf_counter()
            for _ in range(config.frames):
                infer(fitted)
            return config.frames / (time.perf_counter() - started_s)

        def loop_fps(overlap: bool) -> float:
            overlay = Overlay(segment.contract.classes)
            ends_s = []
            for step in run(source, segment, max_frames=config.frames, overlap=overlap):
                overlay.draw(step.frame.image_bgr, step.segmentation.mask, f"{step.age_ms:.1f} ms")
                ends_s.append(time.perf_counter())
            if len(ends_s) < config.frames:
                raise SourceError(f"{name}: expected {config.frames} frames a round, it ended before")
            return (len(ends_s) - 1) / (ends_s[-1] - ends_s[0])

        rounds = tuple(
            Round(network_fps(), loop_fps(overlap=True), loop_fps(overlap=False))
            for _ in range(config.rounds)
        )
        return ThroughputReport(
            source=name,
            model=model.name,
            frame_size_hw=(image_bgr.shape[0], image_bgr.shape[1]),
            threads=segment.threads,
            rounds=rounds,
            loop_ratio=statistics.median(each.loop_fps / each.network_fps for each in rounds),
            serial_ratio=statistics.median(each.serial_fps / each.network_fps for each in rounds),
            machine=this_machine(),
        )


def as_text(report: ThroughputReport) -> str:
    """Return the report for a terminal."""
    rows = [f"{'frames a second':>16} {'network alone':>14} {'loop':>8} {'no overlap':>11}"]
    for number, each in enumerate(report.rounds, 1):
        rows.append(
            f"{f'round {number}':>16} {each.network_fps:14.1f} {each.loop_fps:8.1f} {each.serial_fps:11.1f}"
        )
    height, width = report.frame_size_hw
    return "\n".join(
        [
            *rows,
            "",
            f"loop / network alone: {report.loop_ratio:.3f} (goal {TARGET}); without overlap "
            f"{report.serial_ratio:.3f}; medians of {len(report.rounds)} rounds",
            f"{report.source}, {width}x{height}, {report.model}, {report.threads} threads",
            f"machine: {report.machine}",
        ]
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; see `--help`."""
    defaults = ThroughputConfig()
    parser = make_parser("benchmarks.throughput", "Compare the whole loop's rate with the network's alone.")
    parser.add_argument("--model", type=Path, help="ONNX file of export.to_onnx; without it the bundled s")
    parser.add_argument("--source", default="synthetic", help="as of runtime.camera; a recording")
    parser.add_argument("--frames", type=int, default=defaults.frames, help="frames of each part of a round")
    parser.add_argument("--rounds", type=int, default=defaults.rounds, help="whose median counts")
    parser.add_argument("--threads", type=int, help="threads of the network; without it the physical cores")
    parser.add_argument("--spin", action="store_true", help="keep these threads busy while they wait")
    parser.add_argument(
        "--provider", default=defaults.provider, choices=sorted(PROVIDERS), help="execution provider"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    given = parser.parse_args(argv)

    def command() -> None:
        config = ThroughputConfig(given.frames, given.rounds, given.threads, given.spin, given.provider)
        model, name = given.model or bundled_model(), without_secrets(given.source)
        report = measure_throughput(open_endless(given.source), name, model, config)
        if given.json:
            print(json.dumps(to_plain(report)))
            return
        print(as_text(report))
        print(f"\nnext: python -m benchmarks.tune --model {quote(str(model))}")

    return exit_code(command)


if __name__ == "__main__":
    sys.exit(main())
