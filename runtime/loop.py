"""The loop from source to sinks, and the account of how it went."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from runtime.errors import ConfigError
from runtime.frame import Frame, Image, Segmentation
from runtime.overlay import Overlay
from runtime.sinks import Sink
from runtime.sources import Source
from runtime.stats import LatencyLog

_CAPTION_MEMORY = 0.9  # weight of the past in the caption's frames a second


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
    """

    frame: Frame
    segmentation: Segmentation
    drawn_bgr: Image | None
    latency_ms: Mapping[str, float]
    finished_ns: int


def run(
    source: Source,
    segment: Callable[[Frame], Segmentation],
    *,
    overlay: Overlay | None = None,
    sinks: Sequence[Sink] = (),
    max_frames: int | None = None,
) -> Iterator[Step]:
    """Segment frame after frame; yield a `Step` after each.

    Ends with the source, after `max_frames`, or when a sink asks to stop. Source, segmenter and sinks
    stay open: they are the caller's.

    Args:
        source: where frames come from.
        segment: a `Segmenter`, or anything else that turns a frame into a segmentation.
        overlay: draws what the sinks get; without one nothing is drawn and sinks get the bare frame.
        sinks: shown or stored frames.
        max_frames: at least 1; None for no limit.

    Raises:
        ConfigError: max_frames below 1.
        EdgesegError: whatever source, segmenter and sinks raise; every frame before it is in the sinks.

    Example:
        with open_source("0") as source, Segmenter() as segment:
            for step in run(source, segment):
                steer(step.segmentation.mask)
    """
    if max_frames is not None and max_frames < 1:
        raise ConfigError(f"max_frames: expected at least 1, got {max_frames}")
    period_s, last_ns = 0.0, 0
    for count, frame in enumerate(source, start=1):
        segmentation = segment(frame)
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
        wants_more = [sink.write(shown_bgr, frame.captured_ns if source.live else None) for sink in sinks]
        finished_ns = time.monotonic_ns()
        latency_ms["total"] = (finished_ns - frame.captured_ns) / 1e6
        yield Step(frame, segmentation, drawn_bgr, latency_ms, finished_ns)
        if not all(wants_more) or count == max_frames:
            return
        if last_ns:
            latest_s = (finished_ns - last_ns) / 1e9
            period_s = _CAPTION_MEMORY * period_s + (1 - _CAPTION_MEMORY) * latest_s if period_s else latest_s
        last_ns = finished_ns


@dataclass(frozen=True)
class Summary:
    """How a run went; `runtime.codec.to_plain` makes it ready for JSON.

    Attributes:
        frames: that were segmented.
        fps: frames a second, from the capture of the first to the end of the last; 0 without frames.
        dropped: frames that the source dropped.
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

    def add(self, step: Step, dropped: int) -> None:
        """Add one step.

        Args:
            step: what the loop yielded.
            dropped: frames that the source dropped so far.
        """
        if self.frames == 0:
            self._first_ns = step.frame.captured_ns
        self._last_ns = step.finished_ns
        self.frames += 1
        self.dropped = dropped
        self._latencies.add(step.latency_ms)

    @property
    def fps(self) -> float:
        """Frames a second so far; 0 without frames."""
        seconds = (self._last_ns - self._first_ns) / 1e9
        return self.frames / seconds if seconds > 0 else 0.0

    def summary(self) -> Summary:
        """Return the account so far."""
        return Summary(self.frames, self.fps, self.dropped, self._latencies.summary())
