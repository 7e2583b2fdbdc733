"""Runs the loop for hours and tells whether it stays as it was: `python -m benchmarks.soak --duration 1h`.

The frames of a source go through the `Segmenter`, the `Overlay` and `run`, at full rate. A table a minute
shows memory, threads, open files and latency. It ends with exit code 1 where memory grew by more than 5 MB
after the warm-up, or where threads or open files were left over.
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from shlex import quote

from benchmarks.machine.description import Machine, this_machine
from benchmarks.machine.process_usage import Footprint, footprint
from benchmarks.timing.duration import duration_s
from benchmarks.timing.endless import open_endless
from runtime import ConfigError, EdgesegError, Segmenter, bundled_model
from runtime.base.codec import to_plain
from runtime.base.command import exit_code, make_parser
from runtime.base.percentiles import LatencyLog
from runtime.loop import Step, run
from runtime.network.session import PROVIDERS
from runtime.outputs import Output, Outputs, Stream
from runtime.sources import Source, without_secrets

_ROW = "{:>8} {:>8} {:>7} {:>9} {:>9} {:>9} {:>9} {:>8} {:>7}"


class SoakError(EdgesegError):
    """The loop did not stay as it was."""


@dataclass(frozen=True)
class SoakConfig:
    """How to run.

    Attributes:
        duration_s: seconds in all.
        every_s: seconds a row of the table.
        warmup_s: seconds at the start, after which memory must stay flat; whole rows.
        growth_mb: megabytes by which memory may grow after that.
        realtime: play a recording at its own pace.
        threads: worker threads of the network; None takes the physical cores, at most 4.
        provider: execution provider by short name.
    """

    duration_s: float = 3600.0
    every_s: float = 60.0
    warmup_s: float = 120.0
    growth_mb: float = 5.0
    realtime: bool = False
    threads: int | None = None
    provider: str = "cpu"

    def __post_init__(self) -> None:
        """Check the numbers."""
        numbers = (self.duration_s, self.every_s, self.warmup_s, self.growth_mb)
        if not all(number > 0 for number in numbers) or self.duration_s < self.warmup_s + self.every_s:
            raise ConfigError(
                "soak: expected positive numbers and a duration of at least the warm-up and one row, got "
                f"{self.duration_s:g} s, warm-up {self.warmup_s:g} s, rows of {self.every_s:g} s and "
                f"{self.growth_mb:g} MB"
            )


@dataclass(frozen=True)
class Row:
    """One stretch of the run.

    Attributes:
        until_s: seconds since the start at its end.
        frames: of this row.
        fps: frames a second of this row.
        dropped: frames so far that were captured and not segmented.
        total_ms: p50, p90, p99 and max milliseconds from capture to sink in this row.
        footprint: at its end.
    """

    until_s: float
    frames: int
    fps: float
    dropped: int
    total_ms: dict[str, float]
    footprint: Footprint


@dataclass(frozen=True)
class SoakReport:
    """A run.

    Attributes:
        source: what was read, free of passwords.
        rows: one stretch after the other.
        growth_mb: most memory of a row after the warm-up, less that at its end.
        more_threads: threads after the last row, less those at the end of the warm-up.
        more_files: open files likewise.
        left_threads: names of the Python threads that outlived the loop.
        problems: what did not stay as it was; empty where all did.
        machine: the computer and the software.
    """

    source: str
    rows: tuple[Row, ...]
    growth_mb: float
    more_threads: int
    more_files: int
    left_threads: tuple[str, ...]
    problems: tuple[str, ...]
    machine: Machine


def soak(
    source: Source,
    name: str,
    model: Path,
    config: SoakConfig,
    show: Callable[[Row], None] = lambda row: None,
) -> SoakReport:
    """Run the loop on a source, which is closed at the end.

    Raises:
        EdgesegError: as `Segmenter` and `run`; SoakError where the source ends before the warm-up does.
    """
    threads_before = set(threading.enumerate())
    rows: list[Row] = []
    with source, Segmenter(model, threads=config.threads, provider=config.provider) as segment:
        started_s = time.monotonic()
        part = _Stretch(started_s)
        outputs = Outputs([_Looking()], Stream(segment.contract, source))
        for step in outputs.feed(run(source, segment)):
            part.add(step)
            now_s = time.monotonic()
            if now_s - part.started_s >= config.every_s:
                rows.append(part.row(started_s, now_s))
                show(rows[-1])
                part = _Stretch(now_s)
                if now_s - started_s >= config.duration_s and len(_after_warmup(rows, config)) > 1:
                    break
    left = [thread for thread in threading.enumerate() if thread not in threads_before and thread.is_alive()]
    return _judge(rows, tuple(sorted(thread.name for thread in left)), name, config)


class _Looking(Output):
    """Has every overlay drawn, as a window has."""

    def take(self, step: Step) -> None:
        assert step.overlay_bgr.size

    def close(self) -> None:
        pass


@dataclass
class _Stretch:
    """Collects the steps of one row."""

    started_s: float
    frames: int = 0
    dropped: int = 0
    latencies: LatencyLog = field(default_factory=LatencyLog)

    def add(self, step: Step) -> None:
        self.frames += 1
        self.dropped = step.dropped
        self.latencies.add({"total": step.age_ms})

    def row(self, started_s: float, now_s: float) -> Row:
        return Row(
            until_s=now_s - started_s,
            frames=self.frames,
            fps=self.frames / (now_s - self.started_s),
            dropped=self.dropped,
            total_ms=self.latencies.summary()["total"],
            footprint=_look(),
        )


def _look() -> Footprint:
    """Look at this process.

    Raises:
        SoakError: a system without /proc.
    """
    found = footprint()
    if found is None:
        raise SoakError("soak: expected a Linux with /proc to look at memory, found none")
    return found


def _after_warmup(rows: Sequence[Row], config: SoakConfig) -> list[Row]:
    return [row for row in rows if row.until_s >= config.warmup_s]


def _judge(rows: Sequence[Row], left: tuple[str, ...], name: str, config: SoakConfig) -> SoakReport:
    """Compare what came after the warm-up with its end."""
    warm = _after_warmup(rows, config)
    if len(warm) < 2:
        raise SoakError(
            f"{name}: expected frames for {config.warmup_s + config.every_s:g} s and more, the source ended "
            "before; take a longer one, or synthetic"
        )
    base, last = warm[0].footprint, warm[-1].footprint
    growth_mb = max(row.footprint.memory_mb for row in warm) - base.memory_mb
    more_threads, more_files = last.threads - base.threads, last.files - base.files
    problems = []
    if growth_mb > config.growth_mb:
        problems.append(f"memory grew by {growth_mb:.1f} MB, expected at most {config.growth_mb:g} MB")
    if more_threads > 0:
        problems.append(f"{more_threads} more threads than after the warm-up")
    if more_files > 0:
        problems.append(f"{more_files} more open files than after the warm-up")
    if left:
        problems.append(f"threads outlived the loop: {', '.join(left)}")
    return SoakReport(
        source=name,
        rows=tuple(rows),
        growth_mb=growth_mb,
        more_threads=more_threads,
        more_files=more_files,
        left_threads=left,
        problems=tuple(problems),
        machine=this_machine(),
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    parser = make_parser("benchmarks.soak", "Run the loop for long; fail where memory or threads grow.")
    defaults = SoakConfig()
    parser.add_argument(
        "--model", type=Path, help="ONNX file made by export.to_onnx; without it the bundled s"
    )
    parser.add_argument(
        "--source", default="synthetic", help="as of runtime.camera; a recording starts anew at its end"
    )
    parser.add_argument(
        "--duration", type=duration_s, default=f"{defaults.duration_s:g}s", help="how long: 90s, 10m, 1h"
    )
    parser.add_argument(
        "--every", type=duration_s, default=f"{defaults.every_s:g}s", help="time a row of the table"
    )
    parser.add_argument(
        "--warmup",
        type=duration_s,
        default=f"{defaults.warmup_s:g}s",
        help="time after which memory must stay",
    )
    parser.add_argument(
        "--growth-mb", type=float, default=defaults.growth_mb, help="megabytes by which memory may grow"
    )
    parser.add_argument("--realtime", action="store_true", help="play a recording at its own pace")
    parser.add_argument("--threads", type=int, help="threads of the network; without it the physical cores")
    parser.add_argument(
        "--provider", choices=sorted(PROVIDERS), default=defaults.provider, help="execution provider"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    given = parser.parse_args(argv)
    return exit_code(lambda: _command(given))


def _command(given: argparse.Namespace) -> None:
    config = SoakConfig(
        duration_s=given.duration,
        every_s=given.every,
        warmup_s=given.warmup,
        growth_mb=given.growth_mb,
        realtime=given.realtime,
        threads=given.threads,
        provider=given.provider,
    )
    model, name = given.model or bundled_model(), without_secrets(given.source)
    heads = ("s", "frames", "fps", "p50 ms", "p99 ms", "max ms", "RSS MB", "threads", "files")
    out = sys.stderr if given.json else sys.stdout
    print(_ROW.format(*heads), file=out, flush=True)

    def show(row: Row) -> None:
        ms = (f"{row.total_ms[name]:.1f}" for name in ("p50", "p99", "max"))
        held = row.footprint
        cells = (f"{row.until_s:.0f}", row.frames, f"{row.fps:.1f}", *ms, f"{held.memory_mb:.1f}")
        print(_ROW.format(*cells, held.threads, held.files), file=out, flush=True)

    source = open_endless(given.source, realtime=config.realtime)
    report = soak(source, name, model, config, show)
    if given.json:
        print(json.dumps(to_plain(report)))
    else:
        print(f"{report.machine}")
    if report.problems:
        raise SoakError(f"{name}: {'; '.join(report.problems)}")
    if not given.json:
        print(
            f"after the warm-up: memory {report.growth_mb:+.1f} MB at most, {report.more_threads:+d} threads "
            f"and {report.more_files:+d} open files; nothing was left over"
        )
        print(f"next: python -m benchmarks.latency --model {quote(str(model))}")


if __name__ == "__main__":
    sys.exit(main())
