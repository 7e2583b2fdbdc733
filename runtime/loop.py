"""The loop from a source to segmented frames; `runtime.outputs` feeds what comes out of it to its takers."""

from __future__ import annotations

import logging
import math
import os
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from itertools import islice
from queue import SimpleQueue
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

from runtime.base.closing import Closable
from runtime.errors import ConfigError
from runtime.frame import Frame, Image, Segmentation, own_image
from runtime.masks.overlay import LazyOverlay
from runtime.sources.source import Source

logger = logging.getLogger(__name__)

_TOO_OLD_IN_A_ROW = 100  # worth a warning: the limit is below what this network needs
_CLOSE_WAIT_S = 0.5
# How much nicer the reading of a recording is. Woken beside the network, a reader of equal right takes its
# core: on two cores 5 bring the loop from .88 of the network's rate to .91, and 10 to .93. Where other
# programs fill the cores, 10 leave the reader so little that the loop may fall to a third; 5 cost nothing.
_NICE = 5

_InWork = tuple[Frame, int, Any]  # a frame, what the source dropped before it, what was made of it so far
_Item = TypeVar("_Item")


@dataclass(frozen=True)
class Step:
    """One frame that went through the loop.

    Attributes:
        frame: what the source gave.
        segmentation: what the network made of it.
        latency_ms: milliseconds a stage: resize, network, mask and total, which is the time from the capture
            until the mask was there. Once outputs have the step: also draw (where drawn) and outputs, and
            total is the time until all of them had it.
        finished_ns: `time.monotonic_ns()` at the end of total.
        dropped: frames so far that were captured and never became a step: replaced by a fresher one, or
            too old.
        overlay: the frame with its mask drawn over it; None in a step that no `Outputs` fed.
    """

    frame: Frame
    segmentation: Segmentation
    latency_ms: Mapping[str, float]
    finished_ns: int
    dropped: int = 0
    overlay: LazyOverlay | None = field(default=None, repr=False, compare=False)

    @property
    def age_ms(self) -> float:
        """Milliseconds since the capture at `finished_ns`."""
        return self.latency_ms["total"]

    @property
    def overlay_bgr(self) -> Image:
        """The frame with class colours, legend and caption, uint8 (H, W, 3); drawn when first asked for.

        Raises:
            ConfigError: a step that `runtime.outputs.Outputs` did not feed.
        """
        if self.overlay is None:
            raise ConfigError(
                "overlay: expected a step that runtime.outputs.Outputs fed, got one of run(); feed it, or "
                "draw with runtime.masks.overlay.Overlay"
            )
        return self.overlay.image_bgr


def run(
    source: Source,
    segment: Callable[[Frame], Segmentation],
    *,
    max_frames: int | None = None,
    max_age_ms: float | None = None,
    overlap: bool = True,
    clock_ns: Callable[[], int] = time.monotonic_ns,
) -> Generator[Step, None, None]:
    """Segment frame after frame; yield a `Step` after each.

    Ends with the source or after `max_frames`. Source and segmenter stay open: they are the caller's. A
    caller who stops before may lose three frames of a recording that were read ahead.

    While the caller's thread makes the mask and does what the caller does with the step, the next frame is
    in the network; and a recording's frame after that is read and resized. A live frame is taken only when
    the network is free, so that none ages in between. Of a recording the network may be two frames ahead,
    unless ages are limited.

    Args:
        source: where frames come from.
        segment: a `Segmenter`, or anything else that turns a frame into a segmentation; in parts where it
            has `InParts`.
        max_frames: at least 1; None for no limit.
        max_age_ms: milliseconds since the capture from which a frame is dropped: before the network, and
            its result before the mask; None for no limit.
        overlap: False does everything in the caller's thread, one after the other.
        clock_ns: the clock of `Frame.captured_ns`.

    Raises:
        ConfigError: max_frames below 1, or max_age_ms that is not positive.
        EdgesegError: whatever source and segmenter raise; every frame before it was yielded.

    Example:
        ```python
        with open_source("0") as source, Segmenter() as segment:
            for step in run(source, segment):
                steer(step.segmentation.mask)
        ```
    """
    if max_frames is not None and max_frames < 1:
        raise ConfigError(f"max_frames: expected at least 1, got {max_frames}")
    if max_age_ms is not None and not (math.isfinite(max_age_ms) and max_age_ms > 0):
        raise ConfigError(f"max_age_ms: expected positive milliseconds, got {max_age_ms}")
    age_limit = _AgeLimit(max_age_ms, clock_ns)
    fit, infer, finish = _parts(segment)
    # Frames beyond the last one would be read for nothing, unless the limit on age may drop some.
    frames = islice(source, max_frames) if max_age_ms is None else iter(source)
    # A recording's frames do not age: with one in reserve the network need not wait until it is woken up.
    most = 2 if max_age_ms is None and not source.live else 1
    count = 0
    with ExitStack() as threads:
        # Ahead of the caller a source must not write into a picture that is still in work.
        kept = (_kept(frame) for frame in frames) if overlap else frames
        fitted: Iterator[_InWork] = ((frame, source.dropped, fit(frame)) for frame in kept)
        if overlap and not source.live:
            fitted = threads.enter_context(Ahead(fitted, "edgeseg read", gives_way=True))
        inferred: Iterator[_InWork] = (
            (frame, dropped, infer(item))
            for frame, dropped, item in fitted
            if not age_limit.is_exceeded_by(frame)
        )
        if overlap:
            inferred = threads.enter_context(Ahead(inferred, "edgeseg network", most))
        for frame, dropped, item in inferred:
            if age_limit.is_exceeded_by(frame):
                continue
            age_limit.start_over()
            count += 1
            segmentation = finish(item)
            finished_ns = clock_ns()
            latency_ms = {**segmentation.latency_ms, "total": (finished_ns - frame.captured_ns) / 1e6}
            yield Step(frame, segmentation, latency_ms, finished_ns, dropped + age_limit.dropped)
            if count == max_frames:
                return


def _kept(frame: Frame) -> Frame:
    """Return a frame whose picture stays as it is: a copy where its source holds on to it."""
    image_bgr = own_image(frame.image_bgr)
    return frame if image_bgr is frame.image_bgr else replace(frame, image_bgr=image_bgr)


@runtime_checkable
class InParts(Protocol):
    """What can be called in three parts, each in a thread of its own; `Segmenter` says what they do."""

    def fit(self, frame: Frame) -> Any: ...  # noqa: D102
    def infer(self, fitted: Any) -> Any: ...  # noqa: D102
    def finish(self, inferred: Any) -> Segmentation: ...  # noqa: D102


def _parts(
    segment: Callable[[Frame], Segmentation],
) -> tuple[Callable[[Frame], Any], Callable[[Any], Any], Callable[[Any], Segmentation]]:
    """Return what comes before the network, the network, and what comes after it."""
    if isinstance(segment, InParts):
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


class _End:
    """Nothing more comes; with the error that ended it, if there was one."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error


class Ahead(Closable, Iterator[_Item], Generic[_Item]):
    """The items of an iterable, each computed in a thread of its own while the caller uses the one before.

    By default one item is in the making or waits: the thread starts on the next one when the caller takes
    this one, no sooner; with `most`, so many. So nothing piles up where the caller is slow, and in a chain
    of them every link works on its own item. An error comes after the items before it, where the caller
    would have met it.

    The waiting is inside C code only, so that a signal handler may raise in a caller who waits.

    >>> with Ahead(number * number for number in range(4)) as squares:
    ...     list(squares)
    [0, 1, 4, 9]
    """

    def __init__(
        self, items: Iterable[_Item], name: str = "ahead", most: int = 1, *, gives_way: bool = False
    ) -> None:
        """Start on the first item.

        Args:
            items: iterated in the thread; the caller must not touch it before `close`.
            name: of the thread.
            most: items that are in the making or wait, at least 1.
            gives_way: whether other threads come first where cores are few; Linux only.
        """
        self._items = items
        self._gives_way = gives_way
        self._wanted: SimpleQueue[None] = SimpleQueue()
        self._made: SimpleQueue[_Item | _End] = SimpleQueue()
        self._is_closed = False
        for _ in range(most):
            self._wanted.put(None)
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def __next__(self) -> _Item:
        """Wait for an item and ask for the next; raise what computing it raised."""
        made = self._made.get()
        if isinstance(made, _End):
            self._made.put(_End())  # for whoever asks again
            if made.error is not None:
                raise made.error
            raise StopIteration
        self._wanted.put(None)
        return made

    def close(self) -> None:
        """End the thread, and wait for it half a second.

        A thread that waits for a camera which gives nothing ends when that camera is closed.
        """
        self._is_closed = True
        self._wanted.put(None)
        self._made.put(_End())  # for a link of a chain that waits for this one
        self._thread.join(_CLOSE_WAIT_S)

    def _work(self) -> None:
        end = _End()
        if self._gives_way:
            _give_way()
        try:
            items = iter(self._items)
            while True:
                self._wanted.get()
                if self._is_closed:
                    break
                try:
                    item = next(items)
                except StopIteration:
                    break
                self._made.put(item)
                del item  # it is the caller's now, who may want its memory back
        except BaseException as error:
            end = _End(error)
        self._made.put(end)


def _give_way() -> None:
    """Make the calling thread nicer, where the system knows that of single threads."""
    if sys.platform == "linux":
        thread = threading.get_native_id()
        with suppress(OSError):  # a sandbox that forbids it
            os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + _NICE)
