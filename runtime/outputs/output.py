"""What an output is, and the one place that opens, feeds and closes outputs."""

from __future__ import annotations

import dataclasses
import errno
import logging
import time
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from pathlib import Path
from typing import Protocol

import cv2

from runtime.base.closing import Closable
from runtime.contract import ModelContract
from runtime.errors import EdgesegError, OutputError
from runtime.loop import Step
from runtime.masks.overlay import LazyOverlay, Overlay
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
    """

    contract: ModelContract
    source: Source
    name: str = ""
    alpha: float = 0.5

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
        return Overlay(self.contract.classes, self.alpha)


class OutputState(str, Enum):
    """What an output is doing; each is its own name in JSON."""

    NEW = "new"
    OPEN = "open"
    DONE = "done"  # it asks the loop to stop: somebody closed the window
    FAILED = "failed"
    CLOSED = "closed"


class Output(Closable, Protocol):
    """Takes every step of a stream. `Outputs` opens it, feeds it, notes its state and closes it.

    Attributes:
        state: kept by `Outputs`; the output itself sets DONE.
        problem: why it failed; None where all went well.
    """

    state: OutputState = OutputState.NEW
    problem: str | None = None

    @property
    def name(self) -> str:
        """What messages call it."""
        return type(self).__name__

    def open(self, stream: Stream) -> None:
        """Get ready for the first step; does nothing where there is nothing to prepare.

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
        """Finish what is written; a second call does nothing.

        Raises:
            OutputError: it cannot be finished.
        """


class Outputs(Closable):
    """Opens outputs, feeds them, and closes them again.

    An output that fails is closed and gets no more steps while the others go on; its error is raised in the
    end, when all are closed. Where the last one fails, its error ends the loop.

    Example:
        with open_source("0") as source, Segmenter() as segment:
            stream = Stream(segment.contract, source)
            with Outputs([Recording("out.mkv"), JsonLines("log.jsonl")], stream) as outputs:
                for step in outputs.feed(run(source, segment)):
                    steer(step.segmentation.mask)
    """

    def __init__(
        self,
        outputs: Iterable[Output],
        stream: Stream,
        *,
        on_failure: Callable[[EdgesegError], object] | None = None,
    ) -> None:
        """Open all, one after the other.

        Args:
            outputs: in the order in which they get each step.
            stream: what they are told of it.
            on_failure: hears at once of an output that failed while others go on; by default it is logged.

        Raises:
            OutputError: one cannot be opened; those before it are closed.
            ConfigError: an alpha outside 0 to 1.
        """
        self._overlay = stream.overlay
        self._on_failure = on_failure or _log_failure
        self._outputs: list[Output] = []
        self._failures: list[EdgesegError] = []
        try:
            for output in outputs:
                self._outputs.append(output)
                output.open(stream)
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
            EdgesegError: whatever the steps raise, and what the last output failed with; every output has the
                step by then.
        """
        pace = _Pace()
        for step in steps:
            working = [output for output in self._outputs if output.state is OutputState.OPEN]
            if not working:
                yield step
                continue
            mask, spent_ms = step.segmentation.mask, sum(step.segmentation.latency_ms.values())
            overlay = LazyOverlay(self._overlay, step.frame.image_bgr, mask, pace.caption(spent_ms))
            shown = dataclasses.replace(step, overlay=overlay)
            started_ns = time.monotonic_ns()
            self._give(shown, working)
            finished_ns = time.monotonic_ns()
            took_ms = (finished_ns - started_ns) / 1e6
            times = {"draw": overlay.draw_ms} if overlay.draw_ms else {}
            times |= {"outputs": took_ms - overlay.draw_ms, "total": step.latency_ms["total"] + took_ms}
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
        for failure in self._close():
            self._on_failure(failure)

    def _give(self, step: Step, working: list[Output]) -> None:
        """Give a step to all, also where one before fails, then part with those that failed."""
        failures: list[tuple[Output, EdgesegError]] = []
        for output in working:
            try:
                output.take(step)
            except EdgesegError as error:
                failures.append((output, error))
            except (OSError, cv2.error) as error:
                failures.append((output, _cannot_take(output, error)))
        for output, failure in failures:
            output.state, output.problem = OutputState.FAILED, str(failure)
            if all(each.state is OutputState.FAILED for each in self._outputs):
                raise failure
            self._failures.append(failure)
            self._on_failure(failure)
            _close_one(output)  # now, while there is room for its end; what it did not store is known

    def _close(self) -> list[EdgesegError]:
        """Close those that are open, the last one first; return what failed."""
        failures = []
        for output in reversed(self._outputs):
            failure = _close_one(output)
            if output.state is OutputState.FAILED:
                continue  # what it did not store is known
            output.state = OutputState.CLOSED
            if failure is not None:
                output.state, output.problem = OutputState.FAILED, str(failure)
                failures.append(failure)
        return failures


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


def _close_one(output: Output) -> EdgesegError | None:
    """Close an output; return what it failed with."""
    try:
        output.close()
    except EdgesegError as error:
        return error
    return None


def _cannot_take(output: Output, error: Exception) -> OutputError:
    """Return the error for what an output let through."""
    reason = error.strerror if isinstance(error, OSError) and error.strerror else error
    return OutputError(
        f"{output.name}: expected to take the frame, but it failed ({reason}); all frames before are stored; "
        "check the free disk space"
    )


def _log_failure(failure: EdgesegError) -> None:
    logger.warning("%s; going on without it", failure)
