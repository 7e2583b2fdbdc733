"""Segments what a camera, a stream, a video or the built-in drive shows.

    python -m runtime.camera --model seg.onnx --source clip.mp4 --save out.mp4

The loop itself is `runtime.loop.run`; this module is its command line.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import cv2

from runtime.cli import exit_code, make_parser
from runtime.codec import to_plain
from runtime.errors import EdgesegError, SourceError
from runtime.loop import RunLog, run
from runtime.overlay import Overlay
from runtime.segmenter import Segmenter, bundled_model
from runtime.session import PROVIDERS
from runtime.sinks import Sink, VideoSink, WindowSink
from runtime.sources import open_source

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
    _silence_opencv()
    log = RunLog()
    with _StopSignals() as signals:
        try:
            _loop(options, log, signals)
            if log.frames == 0:
                raise SourceError(f"{options.source}: expected frames, got none; check the source")
        except _Stopped:
            pass
        except EdgesegError:
            if log.frames:
                _print_summary(options, log)
            raise
    _print_summary(options, log)
    if signals.received == signal.SIGINT:
        raise KeyboardInterrupt
    if not options.as_json:
        model = shlex.quote(str(options.model or bundled_model()))
        print(f"next: python -m benchmarks.latency --model {model}")


def _loop(options: CameraOptions, log: RunLog, signals: _StopSignals) -> None:
    """Open everything, pass the frames through, close everything."""
    with ExitStack() as opened:
        sinks: list[Sink] = [] if options.headless else [opened.enter_context(WindowSink())]
        segment = opened.enter_context(
            Segmenter(options.model, threads=options.threads, provider=options.provider)
        )
        source = opened.enter_context(open_source(options.source))
        if options.save is not None:
            video = VideoSink(options.save, source.fps or _FPS_IF_NONE_STATED)
            sinks.append(opened.enter_context(video))
        overlay = Overlay(segment.contract.classes, options.alpha) if sinks else None
        progress = _Progress()
        opened.callback(progress.finish)
        opened.callback(signals.hold)  # last in, first out: a second Ctrl-C must not cost the video
        for step in run(source, segment, overlay=overlay, sinks=sinks, max_frames=options.max_frames):
            log.add(step, source.dropped)
            progress.show(log)


def _print_summary(options: CameraOptions, log: RunLog) -> None:
    summary = log.summary()
    if options.as_json:
        print(json.dumps(to_plain(summary)))
        return
    print(summary.as_text())
    if options.save is not None and summary.frames:
        print(f"saved {options.save}")


class _Stopped(BaseException):
    """Ctrl-C or SIGTERM came; outside Exception, so that nothing takes it for an error."""


class _StopSignals:
    """Turns Ctrl-C and SIGTERM into `_Stopped` while the block runs, until held."""

    def __init__(self) -> None:
        self.received: int | None = None
        self._is_held = False

    def __enter__(self) -> _StopSignals:
        self._previous = {number: signal.signal(number, self._handle) for number in _STOP_SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def hold(self) -> None:
        """From now on only note signals."""
        self._is_held = True

    def _handle(self, number: int, _: FrameType | None) -> None:
        self.received = number
        if not self._is_held:
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


def _silence_opencv() -> None:
    """Leave stderr to our own one-line errors, unless the user asked OpenCV and its parts to speak."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # FFmpeg's quiet; read at the first video
    os.environ.setdefault("QT_LOGGING_RULES", "*.warning=false")  # of the window; read when it opens
    if "OPENCV_LOG_LEVEL" not in os.environ:
        # OpenCV 5 moved the function.
        set_level = getattr(cv2, "setLogLevel", None) or cv2.utils.logging.setLogLevel
        set_level(0)


if __name__ == "__main__":
    sys.exit(main())
