"""The loop as a command runs it: until it ends or a signal ends it, with progress and a summary."""

from __future__ import annotations

import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from runtime.base.command import Stopped, StopSignals
from runtime.base.flags import check_fields, flag, nested
from runtime.base.percentiles import LatencyLog
from runtime.base.service import ServiceManager
from runtime.base.shown import shown
from runtime.deadline import Choice, DeadlineSegmenter, default_choices
from runtime.errors import ConfigError, EdgesegError
from runtime.ground.drawing import GroundSight
from runtime.loop import Step, run
from runtime.network.options import ModelOptions
from runtime.outputs.options import OutputOptions
from runtime.outputs.output import Output, Outputs, Stream, failure_line
from runtime.outputs.page import Page
from runtime.segmenter import Segmenter
from runtime.sources.opening import SourceOptions

_PROGRESS_EVERY_NS = 200_000_000


def _named_value(text: str) -> tuple[str, str]:
    """Parse NAME=VALUE."""
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise ValueError(f"expected NAME=VALUE, got {text!r}")
    return name, value


@dataclass(frozen=True)
class WatchOptions:
    """What to segment, how, and what to make of it."""

    model: ModelOptions = nested(ModelOptions)
    source: SourceOptions = nested(SourceOptions)
    outputs: OutputOptions = nested(OutputOptions, group="outputs")
    size_hw: tuple[int, int] | None = flag(
        "height and width of the network's input, for a file exported with --dynamic",
        default=None,
        at_least=1,
        unit="pixels",
        name="--imgsz",
        metavar=("H", "W"),
    )
    spin: bool = flag("keep the worker threads busy while they wait; see benchmarks.tune", default=False)
    provider_options: tuple[tuple[str, str], ...] = flag(
        "option of the provider by onnxruntime's name, such as device_type=GPU for openvino; may be given "
        "several times",
        default=(),
        name="--provider-option",
        parse=_named_value,
        metavar="NAME=VALUE",
        repeated=True,
    )
    confidence: bool = flag("give each pixel's probability to the outputs that take it", default=False)
    unknown_below: float | None = flag(
        "make pixels unknown (255) whose class is less probable; implies --confidence",
        default=None,
        at_least=0,
        at_most=1,
        metavar="P",
        unset="none",
    )
    steady: bool = flag("steady masks by those of the frames before", default=False)
    target_ms: float | None = flag(
        "choose file, size and threads here so that nine of ten frames take at most this from frame to mask, "
        "and step down and up when that changes",
        default=None,
        above=0,
        unit="milliseconds",
        unset="none",
    )
    steps: tuple[Choice, ...] = flag(
        "with --target-ms: files to choose from, most accurate first, of a --dynamic file also as "
        "FILE:HEIGHTxWIDTH; without it --model at the sizes it takes, or the bundled files",
        default=(),
        parse=Choice.parse,
        metavar="FILE",
    )
    max_frames: int | None = flag("stop after this many frames", default=None, at_least=1, unset="no limit")
    max_age_ms: float | None = flag(
        "drop frames whose capture is longer ago",
        default=None,
        above=0,
        unit="milliseconds",
        unset="no limit",
    )

    def __post_init__(self) -> None:
        """Check the numbers, and that the recording does not replace what is read."""
        check_fields(self)
        if self.steps and self.target_ms is None:
            raise ConfigError("steps: expected --target-ms too, got none; say what they must hold")
        if self.steps and (self.model.model is not None or self.size_hw is not None):
            raise ConfigError("steps: expected neither --model nor --imgsz beside it; name them as steps")
        save = self.outputs.save
        if save is not None and save.resolve() == Path(self.source.source).resolve():
            raise ConfigError(
                f"save: expected another file than --source, which it would replace, got {save}"
            )

    def open_segmenter(self) -> Segmenter | DeadlineSegmenter:
        """Open what segments; what a target makes of it is told on stderr.

        Raises:
            EdgesegError: as `Segmenter`.
        """
        options = dict(self.provider_options)
        if self.target_ms is None:
            return self.model.open(
                size_hw=self.size_hw,
                spin=self.spin,
                provider_options=options,
                confidence=self.confidence,
                unknown_below=self.unknown_below,
                steady=self.steady,
            )
        return DeadlineSegmenter(
            self.target_ms,
            self.steps or default_choices(self.model.model, self.size_hw),
            threads=self.model.threads,
            spin=self.spin,
            provider=self.model.provider,
            provider_options=options,
            confidence=self.confidence,
            unknown_below=self.unknown_below,
            steady=self.steady,
            on_step=lambda line: print(shown(line, 2000), file=sys.stderr, flush=True),
        )


def watch(options: WatchOptions, report: Callable[[Summary, Sequence[Output]], None]) -> None:
    """Run the loop until it ends or a signal ends it.

    Ctrl-C, SIGTERM and SIGHUP end it in order. Whatever ends the loop, recordings are finished first.

    Args:
        options: what to do.
        report: tells of the frames there were and of the outputs, which are closed by then; not called
            where an error came before the first frame.

    Raises:
        KeyboardInterrupt: after the report, where Ctrl-C ended the loop.
        SystemExit: after the report, with 143 where SIGTERM ended the loop, 129 where SIGHUP did.
        EdgesegError: after the report, where there were frames before it; what an output failed with
            comes after the whole run, if others could go on.
    """
    log, outputs = RunLog(), options.outputs.make()
    with StopSignals() as signals:
        try:
            _loop(options, outputs, log, signals)
        except Stopped:
            pass
        except EdgesegError:
            if log.frames:
                report(log.summary(), outputs)
            raise
        report(log.summary(), outputs)
    if signals.received == signal.SIGINT:
        raise KeyboardInterrupt
    if signals.received is not None:
        raise SystemExit(128 + signals.received)


def _loop(options: WatchOptions, made: Sequence[Output], log: RunLog, signals: StopSignals) -> None:
    """Open everything, pass the frames through, close everything."""
    with ExitStack() as opened:
        opened.callback(signals.hold)
        signals.release()
        segment = options.open_segmenter()
        opened.callback(segment.close)
        source = opened.enter_context(options.source.open(max_age_ms=options.max_age_ms))
        ground = GroundSight.of(options.outputs.ground, source, segment.contract.classes)
        stream = Stream(
            segment.contract,
            source,
            options.source.name,
            options.outputs.alpha,
            max_age_ms=options.max_age_ms,
            ground=ground,
            unknown_below=options.unknown_below,
        )
        outputs = opened.enter_context(
            Outputs(made, stream, required=options.outputs.require, on_failure=_warn)
        )
        for page in (output for output in outputs if isinstance(output, Page)):
            print(f"page: {page.url}", file=sys.stderr, flush=True)
        progress, service = Progress(), ServiceManager()
        opened.callback(progress.finish)
        service.ready()
        opened.callback(service.stopping)
        steps = run(source, segment, max_frames=options.max_frames, max_age_ms=options.max_age_ms)
        opened.callback(steps.close)  # ends its threads before what they use is closed
        for step in outputs.feed(signals.between(steps)):
            log.add(step)
            progress.show(log)
            service.alive()


def _warn(output: Output, failure: EdgesegError, retry_s: float | None) -> None:
    print(f"warning: {shown(failure_line(failure, retry_s))}", file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Summary:
    """How a run went; `runtime.base.codec.to_plain` makes it ready for JSON.

    Attributes:
        frames: that were segmented.
        fps: frames a second, from the capture of the first to the end of the last; 0 without frames.
        dropped: frames that were captured and not segmented, since a fresher one came or they were too old.
        latency_ms: p50, p90, p99 and max of each stage.
        settings: frames that each file, size and number of threads made; empty without a target.
    """

    frames: int
    fps: float
    dropped: int
    latency_ms: dict[str, dict[str, float]]
    settings: dict[str, int]

    def as_text(self) -> str:
        """Return the summary as a small table."""
        lines = [f"{self.frames} frames, {self.fps:.1f} frames/s, {self.dropped} dropped"]
        if self.latency_ms:
            lines.append(f"{'ms':8}" + "".join(f"{name:>9}" for name in next(iter(self.latency_ms.values()))))
        for stage, values in self.latency_ms.items():
            lines.append(f"{stage:8}" + "".join(f"{value:9.2f}" for value in values.values()))
        lines += [f"{frames:8} frames by {setting}" for setting, frames in self.settings.items()]
        return "\n".join(lines)


class RunLog:
    """Collects steps for a `Summary`."""

    def __init__(self) -> None:
        """Start with no steps."""
        self.frames = 0
        self.dropped = 0
        self._latencies = LatencyLog()
        self._settings: Counter[str] = Counter()
        self._first_ns = 0
        self._last_ns = 0

    def add(self, step: Step) -> None:
        """Add what the loop yielded."""
        if self.frames == 0:
            self._first_ns = step.frame.captured_ns
        self._last_ns = step.finished_ns
        self.frames += 1
        self.dropped = step.dropped
        self._latencies.add(step.latency_ms)
        if step.segmentation.setting:
            self._settings[step.segmentation.setting] += 1

    @property
    def fps(self) -> float:
        """Frames a second so far; 0 without frames."""
        seconds = (self._last_ns - self._first_ns) / 1e9
        return self.frames / seconds if seconds > 0 else 0.0

    def summary(self) -> Summary:
        """Return the account so far."""
        return Summary(self.frames, self.fps, self.dropped, self._latencies.summary(), dict(self._settings))


class Progress:
    """One line on stderr that is written over, where stderr is a terminal."""

    def __init__(self) -> None:
        """Look at stderr."""
        self._is_terminal = sys.stderr.isatty()
        self._next_ns = 0

    def show(self, log: RunLog) -> None:
        """Write the line, a few times a second."""
        now_ns = time.monotonic_ns()
        if self._is_terminal and now_ns >= self._next_ns:
            self._next_ns = now_ns + _PROGRESS_EVERY_NS
            line = f"frame {log.frames}  {log.fps:.1f} frames/s  {log.dropped} dropped"
            print(f"\r{line:60}", end="", file=sys.stderr, flush=True)

    def finish(self) -> None:
        """End the line."""
        if self._next_ns:
            print(file=sys.stderr)
