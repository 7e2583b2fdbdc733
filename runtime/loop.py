"""The loop from source to sinks, and the account of how it went."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from typing import Any

import cv2

from runtime.ahead import Ahead
from runtime.base.percentiles import LatencyLog
from runtime.errors import ConfigError, EdgesegError, OutputError
from runtime.frame import Frame, Image, Segmentation
from runtime.masks.overlay import Overlay
from runtime.segmenter import Segmenter
from runtime.sinks import Sink
from runtime.sources import Source

logger = logging.getLogger(__name__)

_TOO_OLD_IN_A_ROW = 100  # worth a warning: the limit is below what this network needs
_CAPTION_MEMORY = 0.9  # weight of the past in the caption's frames a second

_InWork = tuple[Frame, int, Any]  # a frame, what the source dropped before it, what was made of it so far


@dataclass(frozen=True)
class Step:
    """One frame that went through the loop.

    Attributes:
        frame: what the source gave.
        segmentation: what the network made of it.
        drawn_bgr: uint8 (H, W, 3) with the overlay; None where nothing was drawn.
        latency_ms: milliseconds a stage: resize, network, mask, draw (where drawn) and total, which is
            the time from the capture until every sink had the frame.
        finished_ns: `time.monotonic_ns()` at the end of total.
        dropped: frames so far that were captured and never became a step: replaced by a fresher one, or
            too old.
    """

    frame: Frame
    segmentation: Segmentation
    drawn_bgr: Image | None
    latency_ms: Mapping[str, float]
    finished_ns: int
    dropped: int = 0

    @property
    def age_ms(self) -> float:
        """Milliseconds since the capture when every sink had the frame."""
        return self.latency_ms["total"]


def run(
    source: Source,
    segment: Callable[[Frame], Segmentation],
    *,
    overlay: Overlay | None = None,
    sinks: Sequence[Sink] = (),
    max_frames: int | None = None,
    max_age_ms: float | None = None,
    overlap: bool = True,
    clock_ns: Callable[[], int] = time.monotonic_ns,
) -> Generator[Step, None, None]:
    """Segment frame after frame; yield a `Step` after each.

    Ends with the source, after `max_frames`, or when a sink asks to stop. Source, segmenter and sinks
    stay open: they are the caller's. A caller who stops before may lose two frames of a recording that were
    read ahead.

    While the caller's thread makes mask and overlay, feeds the sinks and does what the caller does with the
    step, the next frame is in the network; and a recording's frame after that is read and resized. A live
    frame is taken only when the network is free, so that none ages in between.

    Args:
        source: where frames come from.
        segment: a `Segmenter`, or anything else that turns a frame into a segmentation.
        overlay: draws what the sinks get; without one nothing is drawn and sinks get the bare frame.
        sinks: shown or stored frames.
        max_frames: at least 1; None for no limit.
        max_age_ms: milliseconds since the capture from which a frame is dropped: before the network, and
            its result before it is drawn; None for no limit.
        overlap: False does everything in the caller's thread, one after the other.
        clock_ns: the clock of `Frame.captured_ns`.

    Raises:
        ConfigError: max_frames below 1, or max_age_ms that is not positive.
        OutputError: a sink could not take a frame; the other sinks have it.
        EdgesegError: whatever source, segmenter and sinks raise; every frame before it is in the sinks.

    Example:
        with open_source("0") as source, Segmenter() as segment:
            for step in run(source, segment):
                steer(step.segmentation.mask)
    """
    if max_frames is not None and max_frames < 1:
        raise ConfigError(f"max_frames: expected at least 1, got {max_frames}")
    if max_age_ms is not None and not (math.isfinite(max_age_ms) and max_age_ms > 0):
        raise ConfigError(f"max_age_ms: expected positive milliseconds, got {max_age_ms}")
    age_limit = _AgeLimit(max_age_ms, clock_ns)
    fit, infer, finish = _parts(segment)
    # Frames beyond the last one would be read for nothing, unless the limit on age may drop some.
    frames = islice(source, max_frames) if max_age_ms is None else iter(source)
    period_s, last_ns, count = 0.0, 0, 0
    with ExitStack() as threads:
        fitted: Iterator[_InWork] = ((frame, source.dropped, fit(frame)) for frame in frames)
        if overlap and not source.live:
            fitted = threads.enter_context(Ahead(fitted, "edgeseg read"))
        inferred: Iterator[_InWork] = (
            (frame, dropped, infer(item))
            for frame, dropped, item in fitted
            if not age_limit.is_exceeded_by(frame)
        )
        if overlap:
            inferred = threads.enter_context(Ahead(inferred, "edgeseg network"))
        for frame, dropped, item in inferred:
            if age_limit.is_exceeded_by(frame):
                continue
            age_limit.start_over()
            count += 1
            segmentation = finish(item)
            latency_ms = dict(segmentation.latency_ms)
            drawn_bgr: Image | None = None
            if overlay is not None:
                caption = f"{sum(latency_ms.values()):.1f} ms"
                if period_s:
                    caption += f"  {1 / period_s:.1f} fps"
                started_ns = time.perf_counter_ns()
                drawn_bgr = overlay.draw(frame.image_bgr, segmentation.mask, caption)
                latency_ms["draw"] = (time.perf_counter_ns() - started_ns) / 1e6
            shown_bgr = frame.image_bgr if drawn_bgr is None else drawn_bgr
            wants_more = _deliver(shown_bgr, frame.captured_ns if source.live else None, sinks)
            finished_ns = clock_ns()
            latency_ms["total"] = (finished_ns - frame.captured_ns) / 1e6
            dropped += age_limit.dropped
            yield Step(frame, segmentation, drawn_bgr, latency_ms, finished_ns, dropped)
            if not wants_more or count == max_frames:
                return
            if last_ns:
                latest_s = (finished_ns - last_ns) / 1e9
                share = _CAPTION_MEMORY if period_s else 0.0
                period_s = share * period_s + (1 - share) * latest_s
            last_ns = finished_ns


def _parts(
    segment: Callable[[Frame], Segmentation],
) -> tuple[Callable[[Frame], Any], Callable[[Any], Any], Callable[[Any], Segmentation]]:
    """Return what comes before the network, the network, and what comes after it."""
    if isinstance(segment, Segmenter):
        return segment.fit, segment.infer, segment.finish
    return (lambda frame: frame), segment, (lambda segmentation: segmentation)


class _AgeLimit:
    """Counts the frames that are too old."""

    def __init__(self, max_age_ms: float | None, clock_ns: Callable[[], int]) -> None:
        self.dropped = 0
        self._max_age_ms = max_age_ms
        self._clock_ns = clock_ns
        self._in_a_row = 0
        self._lock = threading.Lock()  # asked before the network and after it, at the same time

    def is_exceeded_by(self, frame: Frame) -> bool:
        if self._max_age_ms is None:
            return False
        age_ms = (self._clock_ns() - frame.captured_ns) / 1e6
        if age_ms < self._max_age_ms:
            return False
        with self._lock:
            self.dropped += 1
            self._in_a_row += 1
            is_time_to_warn = self._in_a_row == _TOO_OLD_IN_A_ROW
        if is_time_to_warn:
            logger.warning(
                "%d frames in a row were too old: expected less than %g ms, the latest was %.0f ms old; "
                "allow more or use a faster network",
                _TOO_OLD_IN_A_ROW,
                self._max_age_ms,
                age_ms,
            )
        return True

    def start_over(self) -> None:
        """Count those in a row anew: one came through."""
        with self._lock:
            self._in_a_row = 0


def _deliver(shown_bgr: Image, captured_ns: int | None, sinks: Sequence[Sink]) -> bool:
    """Give a frame to every sink, also where one before fails; return whether all want more."""
    wants_more = True
    failure: EdgesegError | None = None
    for sink in sinks:
        try:
            wants_more = sink.write(shown_bgr, captured_ns) and wants_more
        except EdgesegError as error:
            failure = failure or error
        except (OSError, cv2.error) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else error
            failure = failure or OutputError(
                f"{type(sink).__name__}: expected to take the frame, but it failed ({reason}); all frames "
                "before are stored; check the free disk space"
            )
    if failure is not None:
        raise failure
    return wants_more


@dataclass(frozen=True)
class Summary:
    """How a run went; `runtime.base.codec.to_plain` makes it ready for JSON.

    Attributes:
        frames: that were segmented.
        fps: frames a second, from the capture of the first to the end of the last; 0 without frames.
        dropped: frames that were captured and not segmented, since a fresher one came or they were too old.
        latency_ms: p50, p90, p99 and max of each stage.
    """

    frames: int
    fps: float
    dropped: int
    latency_ms: dict[str, dict[str, float]]

    def as_text(self) -> str:
        """Return the summary as a small table."""
        lines = [f"{self.frames} frames, {self.fps:.1f} frames a second, {self.dropped} dropped"]
        if self.latency_ms:
            lines.append(f"{'ms':8}" + "".join(f"{name:>9}" for name in next(iter(self.latency_ms.values()))))
        for stage, values in self.latency_ms.items():
            lines.append(f"{stage:8}" + "".join(f"{value:9.2f}" for value in values.values()))
        return "\n".join(lines)


class RunLog:
    """Collects steps for a `Summary`."""

    def __init__(self) -> None:
        """Start with no steps."""
        self.frames = 0
        self.dropped = 0
        self._latencies = LatencyLog()
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

    @property
    def fps(self) -> float:
        """Frames a second so far; 0 without frames."""
        seconds = (self._last_ns - self._first_ns) / 1e9
        return self.frames / seconds if seconds > 0 else 0.0

    def summary(self) -> Summary:
        """Return the account so far."""
        return Summary(self.frames, self.fps, self.dropped, self._latencies.summary())
