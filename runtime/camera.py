"""Segments what a camera, a stream, a video or the built-in drive shows.

    python -m runtime.camera --model seg.onnx --source clip.mp4 --save out.mp4

The loop itself is `runtime.loop.run`; this module is its command line.
"""

from __future__ import annotations

import argparse
import json
import shlex
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from runtime.cli import exit_code, make_parser
from runtime.codec import to_plain
from runtime.errors import EdgesegError
from runtime.frame import Frame
from runtime.loop import RunLog, run
from runtime.overlay import Overlay
from runtime.segmenter import Segmenter, bundled_model
from runtime.session import PROVIDERS
from runtime.sinks import Sink, VideoSink, WindowSink
from runtime.sources import Source, open_source

_FPS_IF_NONE_STATED = 15.0
_PROGRESS_EVERY_NS = 200_000_000
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass(frozen=True)
class CameraOptions:
    """What the command line asks for.

    Attributes:
        model: ONNX file; None for the bundled one.
        source: see `runtime.sources.open_source`.
        save: video file to write; None for none.
        headless: no window.
        max_frames: stop after so many; None for no limit.
        as_json: print the summary as JSON.
        alpha: share of the class colour in a drawn pixel, 0 to 1.
        threads: of onnxruntime; None for its default in `Segmenter`.
        provider: execution provider by short name.
    """

    model: Path | None = None
    source: str = "0"
    save: Path | None = None
    headless: bool = False
    max_frames: int | None = None
    as_json: bool = False
    alpha: float = 0.5
    threads: int | None = None
    provider: str = "cpu"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    parser = make_parser("runtime.camera", "Segment a camera, a stream, a video or images, frame by frame.")
    defaults = CameraOptions()
    parser.add_argument("--model", type=Path, help="ONNX file made by export.to_onnx; without it camvid-s")
    parser.add_argument(
        "--source",
        default=defaults.source,
        help="camera number or device (0, /dev/video0), stream (rtsp://…), video (clip.mp4), "
        "images ('frames/*.png') or synthetic",
    )
    parser.add_argument("--save", type=Path, help="video to record, .mp4 or .avi; without it none")
    parser.add_argument("--headless", action="store_true", help="open no window")
    parser.add_argument(
        "--max-frames", type=_positive, help="frames after which to stop; without it no limit"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    parser.add_argument(
        "--alpha", type=float, default=defaults.alpha, help="share of the class colour in a pixel, 0 to 1"
    )
    parser.add_argument(
        "--threads", type=_positive, help="threads of the network; without it the physical cores, at most 4"
    )
    parser.add_argument(
        "--provider", choices=sorted(PROVIDERS), default=defaults.provider, help="execution provider"
    )
    given = parser.parse_args(argv)
    if given.save is not None and given.save.resolve() == Path(given.source).resolve():
        parser.error("argument --save: expected another file than --source, which it would replace")
    options = CameraOptions(
        model=given.model,
        source=given.source,
        save=given.save,
        headless=given.headless,
        max_frames=given.max_frames,
        as_json=given.json,
        alpha=given.alpha,
        threads=given.threads,
        provider=given.provider,
    )
    return exit_code(lambda: watch(options))


def watch(options: CameraOptions) -> None:
    """Run the loop until it ends or a signal ends it, then print the summary.

    Ctrl-C and SIGTERM both end it in order, SIGTERM as a success. Whatever ends the loop, the video is
    finished first.

    Raises:
        KeyboardInterrupt: after the summary, where Ctrl-C ended the loop.
        EdgesegError: after the summary of the frames before it, where there were any.
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
    if signals.received == signal.SIGINT:
        raise KeyboardInterrupt
    if not options.as_json:
        model = shlex.quote(str(options.model or bundled_model()))
        print(f"next: python -m benchmarks.latency --model {model}")


@dataclass
class _Outcome:
    """What there is to tell of a run, whatever ended it."""

    log: RunLog = field(default_factory=RunLog)
    video: VideoSink | None = None


def _loop(options: CameraOptions, outcome: _Outcome, signals: _StopSignals) -> None:
    """Open everything, pass the frames through, close everything."""
    with ExitStack() as opened:
        opened.callback(signals.hold)
        signals.release()
        sinks: list[Sink] = [] if options.headless else [opened.enter_context(WindowSink())]
        segment = opened.enter_context(
            Segmenter(options.model, threads=options.threads, provider=options.provider)
        )
        source = opened.enter_context(open_source(options.source))
        if options.save is not None:
            outcome.video = VideoSink(options.save, source.fps or _FPS_IF_NONE_STATED)
            sinks.append(opened.enter_context(outcome.video))
        overlay = Overlay(segment.contract.classes, options.alpha)  # also unused it tells of a wrong alpha
        progress = _Progress()
        opened.callback(progress.finish)
        for step in run(
            _StoppableSource(source, signals),
            segment,
            overlay=overlay if sinks else None,
            sinks=sinks,
            max_frames=options.max_frames,
        ):
            outcome.log.add(step, source.dropped)
            progress.show(outcome.log)


def _print_summary(options: CameraOptions, outcome: _Outcome) -> None:
    summary = outcome.log.summary()
    if options.as_json:
        print(json.dumps(to_plain(summary)))
        return
    print(summary.as_text())
    if outcome.video is not None and outcome.video.is_stored:
        print(f"saved {options.save}")


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


class _StoppableSource(Source):
    """A source of which the wait for the next frame, and nothing else, is ended by a signal."""

    def __init__(self, source: Source, signals: _StopSignals) -> None:
        self.fps, self.live, self.dropped = source.fps, source.live, source.dropped
        self._source = source
        self._signals = signals

    def __iter__(self) -> Iterator[Frame]:
        frames = iter(self._source)
        while True:
            try:
                self._signals.release()
                frame = next(frames, None)
            finally:
                self._signals.hold()
            if frame is None:
                return
            self.dropped = self._source.dropped
            yield frame

    def close(self) -> None:
        self._source.close()


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


if __name__ == "__main__":
    sys.exit(main())
