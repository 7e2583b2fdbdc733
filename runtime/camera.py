"""Segments what a camera, a stream, a video or the built-in drive shows.

    python -m runtime.camera --model seg.onnx --source clip.mp4 --save out.mp4

The loop itself is `runtime.loop.run`; this module is its command line.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shlex
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from runtime.base.codec import to_plain
from runtime.base.command import exit_code, make_parser
from runtime.base.shown import without_secrets
from runtime.errors import EdgesegError
from runtime.loop import RunLog, Step, run
from runtime.masks.overlay import Overlay
from runtime.network.session import PROVIDERS
from runtime.outputs import Output, Recording, feed
from runtime.outputs.opening import OutputOptions, add_output_flags, open_outputs, output_options
from runtime.segmenter import Segmenter, bundled_model
from runtime.sinks import Sink, WindowSink
from runtime.sources import LivePolicy, open_source

_PROGRESS_EVERY_NS = 200_000_000
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass(frozen=True)
class CameraOptions:
    """What the command line asks for.

    Attributes:
        model: ONNX file; None for the bundled one.
        source: see `runtime.sources.open_source`.
        outputs: what is made of the steps.
        headless: no window.
        max_frames: stop after so many; None for no limit.
        as_json: print the summary as JSON.
        size_hw: height and width in pixels that frames get for the network; None for the file's own.
        threads: of onnxruntime; None for its default in `Segmenter`.
        spin: whether these threads stay busy while they wait for work.
        provider: execution provider by short name.
        provider_options: the provider's own options.
        realtime: play a video or the drive at its own pace, leaving out what the network is too slow for.
        max_age_ms: milliseconds since the capture from which a frame is dropped; None for no limit.
        give_up_s: seconds without a frame after which a camera or stream fails; None for never.
    """

    model: Path | None = None
    source: str = "0"
    outputs: OutputOptions = field(default_factory=OutputOptions)
    headless: bool = False
    max_frames: int | None = None
    as_json: bool = False
    size_hw: tuple[int, int] | None = None
    threads: int | None = None
    spin: bool = False
    provider: str = "cpu"
    provider_options: Mapping[str, str] = field(default_factory=dict)
    realtime: bool = False
    max_age_ms: float | None = None
    give_up_s: float | None = None


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    parser = make_parser("runtime.camera", "Segment a camera, a stream, a video or images, frame by frame.")
    defaults = CameraOptions()
    parser.add_argument(
        "--model", type=Path, help="ONNX file made by export.to_onnx; without it the bundled s"
    )
    parser.add_argument(
        "--source",
        default=defaults.source,
        help="camera number or device (0, /dev/video0), stream (rtsp://…), video (clip.mp4), "
        "images ('frames/*.png') or synthetic",
    )
    parser.add_argument("--headless", action="store_true", help="open no window")
    parser.add_argument(
        "--max-frames", type=_positive, help="frames after which to stop; without it no limit"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    parser.add_argument(
        "--imgsz",
        nargs=2,
        type=_positive,
        metavar=("H", "W"),
        help="height and width of the network's input, pixels, for a file exported with --dynamic",
    )
    parser.add_argument(
        "--threads", type=_positive, help="threads of the network; without it the physical cores, at most 4"
    )
    parser.add_argument(
        "--spin", action="store_true", help="keep these threads busy while they wait; see benchmarks.tune"
    )
    parser.add_argument(
        "--provider", choices=sorted(PROVIDERS), default=defaults.provider, help="execution provider"
    )
    parser.add_argument(
        "--provider-option",
        type=_named_value,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="option of the provider by onnxruntime's name, such as device_type=GPU for openvino; may be "
        "given several times",
    )
    add_output_flags(parser)
    parser.add_argument(
        "--realtime",
        action="store_true",
        help="play a video at its own pace and leave out what the network is too slow for, as with a camera",
    )
    parser.add_argument(
        "--max-age-ms",
        type=_positive_number,
        help="drop frames that are older than this many milliseconds; without it none",
    )
    parser.add_argument(
        "--give-up-s",
        type=_positive_number,
        help="fail after this many seconds without a frame of a camera; without it try again for ever",
    )
    given = parser.parse_args(argv)
    if given.save is not None and given.save.resolve() == Path(given.source).resolve():
        parser.error("argument --save: expected another file than --source, which it would replace")
    options = CameraOptions(
        model=given.model,
        source=given.source,
        outputs=output_options(parser, given, os.environ.get("EDGESEG_TOKEN")),
        headless=given.headless or given.serve is not None,
        max_frames=given.max_frames,
        as_json=given.json,
        size_hw=None if given.imgsz is None else (given.imgsz[0], given.imgsz[1]),
        threads=given.threads,
        spin=given.spin,
        provider=given.provider,
        provider_options=dict(given.provider_option),
        realtime=given.realtime,
        max_age_ms=given.max_age_ms,
        give_up_s=given.give_up_s,
    )
    return exit_code(lambda: watch(options))


def watch(options: CameraOptions) -> None:
    """Run the loop until it ends or a signal ends it, then print the summary.

    Ctrl-C and SIGTERM both end it in order, SIGTERM as a success. Whatever ends the loop, the video is
    finished first.

    Raises:
        KeyboardInterrupt: after the summary, where Ctrl-C ended the loop.
        EdgesegError: after the summary of the frames before it, where there were any; or after the whole
            run, where an output failed and others went on.
    """
    outcome = _Outcome()
    with _StopSignals() as signals:
        try:
            _loop(options, outcome, signals)
        except _Stopped:
            pass
        except EdgesegError:
            if outcome.log.frames:
                _print_summary(options, outcome)
            raise
        _print_summary(options, outcome)
    if outcome.failure is not None:
        raise outcome.failure
    if signals.received == signal.SIGINT:
        raise KeyboardInterrupt
    if not options.as_json:
        model = shlex.quote(str(options.model or bundled_model()))
        print(f"next: python -m benchmarks.latency --model {model}")


@dataclass
class _Outcome:
    """What there is to tell of a run, whatever ended it."""

    log: RunLog = field(default_factory=RunLog)
    recording: Recording | None = None
    failure: EdgesegError | None = None
    outputs: int = 0

    def lose(self, output: object, error: EdgesegError) -> None:
        """Go on without an output, such as a recording whose disk is full, while there is another one.

        Raises:
            EdgesegError: the error, where it was the last.
        """
        self.outputs -= 1
        if not self.outputs:
            raise error
        self.failure = self.failure or error
        print(f"warning: {error}; going on without it", file=sys.stderr, flush=True)
        if isinstance(output, Output):
            with suppress(EdgesegError):  # what it did not store is known
                output.close()  # now, while there is room for its end


def _loop(options: CameraOptions, outcome: _Outcome, signals: _StopSignals) -> None:
    """Open everything, pass the frames through, close everything."""
    with ExitStack() as opened:
        opened.callback(signals.hold)
        signals.release()
        sinks: list[Sink] = [] if options.headless else [opened.enter_context(WindowSink())]
        segment = opened.enter_context(
            Segmenter(
                options.model,
                size_hw=options.size_hw,
                threads=options.threads,
                spin=options.spin,
                provider=options.provider,
                provider_options=options.provider_options,
            )
        )
        source = opened.enter_context(
            open_source(
                options.source, realtime=options.realtime, policy=LivePolicy(give_up_s=options.give_up_s)
            )
        )
        wanted = options.outputs
        overlay = Overlay(segment.contract.classes, wanted.alpha)  # also unused it tells of a wrong alpha
        made = open_outputs(
            wanted, segment.contract, source, opened, source_name=without_secrets(options.source)
        )
        outcome.recording, outcome.outputs = made.recording, len(sinks) + len(made.outputs)
        if made.page is not None:
            print(f"page: {made.page.url}", file=sys.stderr, flush=True)
        progress = _Progress()
        opened.callback(progress.finish)
        steps = run(
            source,
            segment,
            overlay=overlay if sinks or wanted.needs_overlay else None,
            sinks=sinks,
            max_frames=options.max_frames,
            max_age_ms=options.max_age_ms,
        )
        opened.callback(steps.close)  # ends its threads before what they use is closed
        for step in feed(signals.between(steps), made.outputs, on_failure=outcome.lose):
            outcome.log.add(step)
            progress.show(outcome.log)


def _print_summary(options: CameraOptions, outcome: _Outcome) -> None:
    summary = outcome.log.summary()
    if options.as_json:
        print(json.dumps(to_plain(summary)))
        return
    print(summary.as_text())
    if outcome.recording is not None and outcome.recording.video.is_stored:
        print(f"saved {options.outputs.save}")


class _Stopped(BaseException):
    """Ctrl-C or SIGTERM came; outside Exception, so that nothing takes it for an error."""


class _StopSignals:
    """Notes Ctrl-C and SIGTERM while the block runs, and raises `_Stopped` where that costs nothing.

    That is while everything is opened and while the loop waits for a frame, and only once: never while a
    frame is on its way into the video, or while the video is finished.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._raises = False

    def __enter__(self) -> _StopSignals:
        self._previous = {number: signal.signal(number, self._handle) for number in _STOP_SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def between(self, steps: Iterator[Step]) -> Iterator[Step]:
        """Yield the steps; a signal ends the wait for the next one, and nothing else."""
        while True:
            try:
                self.release()
                step = next(steps, None)
            finally:
                self.hold()
            if step is None:
                return
            yield step

    def hold(self) -> None:
        """From now on only note signals."""
        self._raises = False

    def release(self) -> None:
        """From now on raise, also for a signal that was noted before."""
        self._raises = True
        if self.received is not None:
            self._stop()

    def _handle(self, number: int, _: FrameType | None) -> None:
        self.received = number
        if self._raises:
            self._stop()

    def _stop(self) -> None:
        self._raises = False  # a second signal must not cut the closing short
        raise _Stopped


class _Progress:
    """One line on stderr that is written over, where stderr is a terminal."""

    def __init__(self) -> None:
        self._is_terminal = sys.stderr.isatty()
        self._next_ns = 0

    def show(self, log: RunLog) -> None:
        now_ns = time.monotonic_ns()
        if self._is_terminal and now_ns >= self._next_ns:
            self._next_ns = now_ns + _PROGRESS_EVERY_NS
            line = f"frame {log.frames}  {log.fps:.1f} frames a second  {log.dropped} dropped"
            print(f"\r{line:60}", end="", file=sys.stderr, flush=True)

    def finish(self) -> None:
        if self._next_ns:
            print(file=sys.stderr)


def _positive(text: str) -> int:
    """Parse a whole number of at least 1."""
    if not (text.isascii() and text.isdecimal() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text!r}")
    return int(text)


def _named_value(text: str) -> tuple[str, str]:
    """Parse NAME=VALUE."""
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise argparse.ArgumentTypeError(f"expected NAME=VALUE, got {text!r}")
    return name, value


def _positive_number(text: str) -> float:
    """Parse a number above 0."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not (math.isfinite(number) and number > 0):
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text!r}")
    return number


if __name__ == "__main__":
    sys.exit(main())
