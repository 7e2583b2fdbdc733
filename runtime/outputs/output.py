"""What an output is, and the one place that opens, feeds and closes outputs."""

from __future__ import annotations

import dataclasses
import errno
import logging
import time
from abc import abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from pathlib import Path
from typing import Protocol

import cv2

from runtime.base.closing import Closable
from runtime.contract import ModelContract
from runtime.errors import EdgesegError, OutputError
from runtime.ground.drawing import GroundSight
from runtime.loop import Step
from runtime.masks.overlay import LazyOverlay, Overlay
from runtime.sources.policy import Backoff
from runtime.sources.source import Source

logger = logging.getLogger(__name__)

_FPS_IF_NONE_STATED = 15.0
_CAPTION_MEMORY = 0.9  # weight of the past in the caption's frames a second


@dataclass(frozen=True)
class Stream:
    """What is known of a stream before its first step.

    Attributes:
        contract: of the network: its classes and its name.
        source: where the frames come from; may be asked for its status.
        name: what to call the source; free of passwords.
        alpha: share of the class colour in a drawn pixel, 0 to 1.
        max_age_ms: from when on a picture is not shown as current; None for 2 s.
        unknown_below: probability under which a pixel is unknown; None for never.
        outputs: all that take its steps; filled in by `Outputs`.
        ground: what a camera over the ground adds to pictures; None without one.
    """

    contract: ModelContract
    source: Source
    name: str = ""
    alpha: float = 0.5
    max_age_ms: float | None = None
    unknown_below: float | None = None
    outputs: tuple[Output, ...] = ()
    ground: GroundSight | None = None

    @property
    def fps(self) -> float:
        """Frames a second that the source states, 15 where it states none."""
        return self.source.fps or _FPS_IF_NONE_STATED

    @cached_property
    def overlay(self) -> Overlay:
        """Draws the masks of this stream.

        Raises:
            ConfigError: alpha outside 0 to 1.
        """
        marks = self.ground.stamp if self.ground is not None and self.ground.draws_grid else None
        return Overlay(self.contract.classes, self.alpha, marks)


class OutputState(str, Enum):
    """What an output is doing; each is its own name in JSON."""

    NEW = "new"
    OPEN = "open"
    RETRYING = "retrying"  # it failed and is opened again after a while
    DONE = "done"  # it asks the loop to stop: somebody closed the window
    FAILED = "failed"
    CLOSED = "closed"


class Output(Closable, Protocol):
    """Takes every step of a stream. `Outputs` opens it, feeds it, notes its state and closes it.

    Attributes:
        kind: what flags call it, such as "save".
        can_reopen: whether opening it again may help where it failed.
        state: kept by `Outputs`; the output itself sets DONE.
        problem: what it failed with last; None where all went well.
        failures: how often it failed; kept by `Outputs`.
        missed: steps that it did not get since it had failed; kept by `Outputs`.
        is_paused: whether somebody paused it, see `pause`.
    """

    kind: str = ""
    can_reopen: bool = True
    state: OutputState = OutputState.NEW
    problem: str | None = None
    failures: int = 0
    missed: int = 0
    is_paused: bool = False

    @property
    def name(self) -> str:
        """What messages call it."""
        return type(self).__name__

    @property
    def saved(self) -> tuple[Path, ...]:
        """The files that are complete, oldest first."""
        return ()

    def facts(self) -> Mapping[str, int | str]:
        """What there is to tell of it by name, for the page and for monitoring; from any thread."""
        return {}

    @property
    def can_pause(self) -> bool:
        """Whether it takes `pause`."""
        return False

    def pause(self, paused: bool = True) -> None:
        """Take no steps from now on, or take them again; from any thread. What is stored is complete.

        Raises:
            OutputError: it cannot pause.
        """
        raise OutputError(f"{self.name}: expected an output that can pause, this one cannot")

    def open(self, stream: Stream) -> None:
        """Get ready for the first step, or for the next one after a failure.

        Raises:
            OutputError: it cannot be opened.
        """
        return

    @abstractmethod
    def take(self, step: Step) -> None:
        """Take one step, in the loop's thread: what takes long holds up the loop.

        Raises:
            OutputError: it cannot be shown or stored; what was stored before stays readable.
        """

    @abstractmethod
    def close(self) -> None:
        """Finish what is written; a second call does nothing, and `open` may follow.

        Raises:
            OutputError: it cannot be finished.
        """


class Outputs(Closable):
    """Opens outputs, feeds them, and closes them again.

    An output that fails is closed while the others go on. Of a live source it is opened again after a wait
    that grows, again and again; of a recording it gets no more steps, and where the last one fails, its error
    ends the loop. What any output failed with is raised in the end, when all are closed, also where it works
    again by then.

    Example:
        ```python
        with open_source("0") as source, Segmenter() as segment:
            stream = Stream(segment.contract, source)
            with Outputs([Recording("out.mkv"), JsonLines("log.jsonl")], stream) as outputs:
                for step in outputs.feed(run(source, segment)):
                    steer(step.segmentation.mask)
        ```
    """

    def __init__(
        self,
        outputs: Iterable[Output],
        stream: Stream,
        *,
        required: Collection[str] = (),
        backoff: Backoff = Backoff(),  # noqa: B008  # frozen
        on_failure: Callable[[Output, EdgesegError, float | None], object] | None = None,
    ) -> None:
        """Open all, one after the other.

        Args:
            outputs: in the order in which they get each step.
            stream: what they are told of it.
            required: kinds whose failure ends the loop.
            backoff: waits before an output that failed is opened again.
            on_failure: hears at once of an output that failed while others go on, what with, and in how many
                seconds it is opened again (None for never); by default it is logged.

        Raises:
            OutputError: one cannot be opened; those before it are closed.
            ConfigError: an alpha outside 0 to 1, or a file or folder that another run writes.
        """
        made = tuple(outputs)
        self._stream = dataclasses.replace(stream, outputs=made)
        self._overlay = self._stream.overlay
        self._required = frozenset(required)
        self._backoff = backoff
        self._on_failure = on_failure or _log_failure
        self._outputs: list[Output] = []
        self._failures: list[EdgesegError] = []
        self._retries: dict[Output, _Retry] = {}
        try:
            for output in made:
                self._outputs.append(output)
                output.open(self._stream)
                output.state = OutputState.OPEN
        except BaseException as error:
            self.__exit__(type(error), error)
            raise

    def __iter__(self) -> Iterator[Output]:
        """Yield the outputs, also those that failed."""
        return iter(self._outputs)

    def feed(self, steps: Iterable[Step]) -> Iterator[Step]:
        """Give every step to every output, then yield it; end where an output asks to stop.

        Args:
            steps: such as `runtime.loop.run` gives.

        Yields:
            The steps with the milliseconds of "outputs", and of "draw" where an overlay was drawn; "total"
            counts both.

        Raises:
            EdgesegError: whatever the steps raise, and what a required or the last output failed with; every
                output has the step by then.
        """
        pace = _Pace()
        for step in steps:
            self._retry_what_is_due()
            working = [output for output in self._outputs if output.state is OutputState.OPEN]
            if not working:
                yield step
                continue
            mask, spent_ms = step.segmentation.mask, sum(step.segmentation.latency_ms.values())
            overlay = LazyOverlay(
                self._overlay,
                step.frame.image_bgr,
                mask,
                pace.caption(spent_ms),
                hatch_unknown=step.segmentation.confidence is not None,
            )
            shown = dataclasses.replace(step, overlay=overlay)
            started_ns = time.monotonic_ns()
            self._give(shown, working)
            finished_ns = time.monotonic_ns()
            took_ms, drawn_ms = (finished_ns - started_ns) / 1e6, overlay.draw_ms
            times = {"draw": drawn_ms} if drawn_ms else {}
            times |= {"outputs": max(0.0, took_ms - drawn_ms), "total": step.latency_ms["total"] + took_ms}
            earlier = {stage: value for stage, value in step.latency_ms.items() if stage != "total"}
            yield dataclasses.replace(shown, latency_ms={**earlier, **times}, finished_ns=finished_ns)
            if any(output.state is OutputState.DONE for output in working):
                return
            pace.add(finished_ns)

    def close(self) -> None:
        """Close all.

        Raises:
            OutputError: what an output failed with, now or before; the others are closed all the same.
        """
        failures, self._failures = [*self._failures, *self._close()], []
        if failures:
            raise failures[0]

    def __exit__(self, kind: object = None, error: object = None, *_: object) -> None:
        """Close all; where the block ended with a known error, what fails now is only told."""
        if not isinstance(error, EdgesegError):
            self.close()
            return
        for output, failure in self._close_each():
            self._on_failure(output, failure, None)

    def _give(self, step: Step, working: list[Output]) -> None:
        """Give a step to all, also where one before fails, then part with those that failed."""
        failures: list[tuple[Output, EdgesegError]] = []
        for output in working:
            try:
                with known(output):
                    output.take(step)
            except EdgesegError as error:
                failures.append((output, error))
        for output, failure in failures:
            self._part_with(output, failure)

    def _part_with(self, output: Output, failure: EdgesegError) -> None:
        """Close an output that failed, now, while there is room for its end, and plan what comes next."""
        output.problem, output.failures = str(failure), output.failures + 1
        is_fatal = output.kind in self._required
        may_help = self._stream.source.live and output.can_reopen and not is_fatal
        output.state = OutputState.RETRYING if may_help else OutputState.FAILED
        if is_fatal or all(each.state is OutputState.FAILED for each in self._outputs):
            raise failure
        if not any(str(failure) == str(each) for each in self._failures):
            self._failures.append(failure)
        wait_s = None
        if output.state is OutputState.RETRYING:
            retry = self._retries.setdefault(output, _Retry(self._backoff.waits_s()))
            wait_s = retry.plan(time.monotonic_ns())
        self._on_failure(output, failure, wait_s)
        _close_one(output)  # what it did not store is known

    def _retry_what_is_due(self) -> None:
        """Open the outputs again whose wait is over, and count the step that the others miss."""
        for output in self._outputs:
            if output.state is not OutputState.RETRYING:
                continue
            retry = self._retries[output]
            if time.monotonic_ns() < retry.due_ns:
                output.missed += 1
                continue
            try:
                with known(output):
                    output.open(self._stream)
            except EdgesegError as error:
                output.missed += 1
                self._part_with(output, error)
                continue
            output.state = OutputState.OPEN
            logger.warning("%s: opened again, missed %d frames so far", output.name, output.missed)

    def _close(self) -> list[EdgesegError]:
        """Close those that are open; return what failed."""
        return [failure for _, failure in self._close_each()]

    def _close_each(self) -> list[tuple[Output, EdgesegError]]:
        """Close those that are open, the last one first; return what failed."""
        failures = []
        for output in reversed(self._outputs):
            failure = _close_one(output)
            if output.state in (OutputState.FAILED, OutputState.RETRYING):
                output.state = OutputState.FAILED
                continue  # what it did not store is known
            output.state = OutputState.CLOSED
            if failure is not None:
                output.state, output.problem = OutputState.FAILED, str(failure)
                failures.append((output, failure))
        return failures


class _Retry:
    """When an output that failed is opened again."""

    def __init__(self, waits_s: Iterator[float]) -> None:
        self._waits_s = waits_s
        self.due_ns = 0

    def plan(self, now_ns: int) -> float:
        """Plan the next attempt; return the seconds until then."""
        wait_s = next(self._waits_s)
        self.due_ns = now_ns + round(wait_s * 1e9)
        return wait_s


class _Pace:
    """Frames a second, smoothed for the eye."""

    def __init__(self) -> None:
        self._period_s, self._last_ns = 0.0, 0

    def caption(self, spent_ms: float) -> str:
        """Return the line that is drawn over a frame."""
        rate = f"  {1 / self._period_s:.1f} fps" if self._period_s else ""
        return f"{spent_ms:.1f} ms{rate}"

    def add(self, finished_ns: int) -> None:
        if self._last_ns:
            latest_s = (finished_ns - self._last_ns) / 1e9
            share = _CAPTION_MEMORY if self._period_s else 0.0
            self._period_s = share * self._period_s + (1 - share) * latest_s
        self._last_ns = finished_ns


def cannot_write(path: Path, error: OSError) -> OutputError:
    """Return the error to raise where the system refuses to make or write a file."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    advice = "free some space; what was written before is whole" if full else "choose another place"
    return OutputError(f"{path}: cannot write it ({error.strerror or error}); {advice}")


@contextmanager
def known(output: Output) -> Iterator[None]:
    """Make errors of the system and of OpenCV, which an output let through, known ones."""
    try:
        yield
    except OSError as error:
        raise _cannot_take(output, error.strerror or error) from error
    except cv2.error as error:
        raise _cannot_take(output, error) from error


def _close_one(output: Output) -> EdgesegError | None:
    """Close an output; return what it failed with."""
    try:
        with known(output):
            output.close()
    except EdgesegError as error:
        return error
    return None


def _cannot_take(output: Output, reason: object) -> OutputError:
    """Return the error for what an output let through."""
    return OutputError(
        f"{output.name}: expected to take the frame, but it failed ({reason}); all frames before are stored; "
        "check the free disk space"
    )


def _log_failure(output: Output, failure: EdgesegError, retry_s: float | None) -> None:
    logger.warning("%s", failure_line(failure, retry_s))


def failure_line(failure: EdgesegError, retry_s: float | None) -> str:
    """Return what to tell of an output that failed while others go on."""
    return f"{failure}; going on without it" if retry_s is None else f"{failure}; retry in {retry_s:.1f} s"
