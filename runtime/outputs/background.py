"""An output that works in a thread of its own, so that a slow, stalled or full disk never delays a mask."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from runtime.errors import EdgesegError, OutputError
from runtime.loop import Step
from runtime.outputs.output import Output, Stream, known

logger = logging.getLogger(__name__)

Policy = Literal["drop", "wait"]
QUEUE_BYTES = 64 << 20  # of frames, about a second of 720p
_SHORTEST_QUEUE, _LONGEST_QUEUE = 4, 64
_OPEN_WAIT_S = 10.0
_CLOSE_WAIT_S = 5.0
_LOOK_EVERY_S = 0.1


class Background(Output):
    """Hands each step to another output, in a thread of that output's own.

    Steps wait in a queue of limited size. The policy says what becomes of one that finds it full: of a live
    source it is dropped and counted ("drop": the loop never waits), of a recording the loop waits ("wait":
    every frame counts). What the output fails with is raised at the next step. While it is paused steps are
    left out; the file that was written is finished first, so that it can be played, and the next step begins
    another.

    Attributes:
        inner: the other output.
        policy: "drop" or "wait"; known once open.
        dropped: steps that found the queue full.
    """

    def __init__(self, inner: Output) -> None:
        """Take over an output, not yet open."""
        self.inner = inner
        self.kind = inner.kind
        self.policy: Policy = "wait"
        self.dropped = 0
        self._steps: queue.Queue[Step | None] | None = None
        self._thread: threading.Thread | None = None
        self._hanging: threading.Thread | None = None  # that did not end in time
        self._stop = threading.Event()
        self._opened = threading.Event()
        self._was_open = False
        self._stored_ns = 0
        self._is_resting = False  # closed since paused; used by the thread alone
        self._failure: EdgesegError | None = None

    @property
    def name(self) -> str:
        """The other output's name."""
        return self.inner.name

    @property
    def saved(self) -> tuple[Path, ...]:
        """The other output's files."""
        return self.inner.saved

    def facts(self) -> Mapping[str, int | str]:
        """The other output's facts, what the queue does, and how long ago a step was stored."""
        waiting = 0 if self._steps is None else self._steps.qsize()
        facts = {**self.inner.facts(), "queued": waiting, "dropped": self.dropped}
        if self._stored_ns:
            facts["stored_ms_ago"] = (time.monotonic_ns() - self._stored_ns) // 1_000_000
        return facts

    @property
    def can_reopen(self) -> bool:  # type: ignore[override]
        """Whether the other output can be opened again."""
        return self.inner.can_reopen

    @property
    def can_pause(self) -> bool:
        """Whether the other output can begin another file."""
        return self.inner.can_pause

    def pause(self, paused: bool = True) -> None:
        """Leave out steps from now on, or take them again; see `Output`."""
        if not self.can_pause:
            super().pause(paused)
        self.is_paused = paused

    def open(self, stream: Stream) -> None:
        """Start the thread, which opens the other output.

        The first time this waits until it is open, so that a wrong path is told at once; later it does not,
        since the disk that failed may hang.

        Raises:
            OutputError: it cannot be opened, not within 10 s, or its thread still hangs since it was closed.
        """
        if self._hanging is not None and self._hanging.is_alive():
            raise OutputError(f"{self.name}: expected a disk that answers, it still hangs; check the disk")
        self.policy = "drop" if stream.source.live else "wait"
        self._steps, self._failure = None, None
        self._stop, self._opened = threading.Event(), threading.Event()
        self._thread = threading.Thread(
            target=self._work,
            args=(stream, self._stop, self._opened),
            name=f"output {self.name}",
            daemon=True,
        )
        self._thread.start()
        if self._was_open:
            return
        if not self._opened.wait(_OPEN_WAIT_S):
            self._stop.set()
            raise OutputError(
                f"{self.name}: expected it to open within {_OPEN_WAIT_S:g} s, it has not; check the disk"
            )
        if self._failure is not None:
            self._thread.join()
            self._thread = None
            raise self._failure
        self._was_open = True

    def take(self, step: Step) -> None:
        """Queue a step.

        Raises:
            EdgesegError: what the other output failed with at an earlier step.
        """
        if self._failure is not None:
            raise self._failure
        if self.is_paused:
            return
        if self._steps is None:
            size = max(1, step.frame.image_bgr.nbytes + step.segmentation.mask.nbytes)
            self._steps = queue.Queue(max(_SHORTEST_QUEUE, min(_LONGEST_QUEUE, QUEUE_BYTES // size)))
        while True:
            try:
                self._steps.put(
                    step,
                    timeout=_LOOK_EVERY_S if self.policy == "wait" else None,
                    block=self.policy == "wait",
                )
                return
            except queue.Full:
                if self._failure is not None:
                    raise self._failure from None
                if self.policy == "drop":
                    self.dropped += 1
                    return

    def close(self) -> None:
        """Let the thread store what is queued, and close the other output.

        Of a live source this waits 5 s at most.

        Raises:
            OutputError: what the other output failed with, or steps that the disk did not take in time.
        """
        thread, self._thread = self._thread, None
        if thread is None:
            return
        self._stop.set()
        thread.join(_CLOSE_WAIT_S if self.policy == "drop" else None)
        if thread.is_alive():
            self._hanging = thread
            left = 0 if self._steps is None else self._steps.qsize()
            raise OutputError(
                f"{self.name}: the disk did not take the last {left} frames within {_CLOSE_WAIT_S:g} s; what "
                "was stored before them is kept; check the disk"
            )
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure

    def _work(self, stream: Stream, stop: threading.Event, opened: threading.Event) -> None:
        """Open, take and close the other output; the body of the thread."""
        try:
            with known(self.inner):
                self.inner.open(stream)
            opened.set()
            self._is_resting = True  # nothing is written yet
            while (step := self._next(stop, stream)) is not None:
                with known(self.inner):
                    self.inner.take(step)
                self._is_resting, self._stored_ns = False, time.monotonic_ns()
        except EdgesegError as error:
            self._failure = error
        finally:
            try:
                with known(self.inner):
                    self.inner.close()
            except EdgesegError as error:
                self._failure = self._failure or error
            opened.set()

    def _rest(self, stream: Stream) -> None:
        """Finish what is written, once; a pause leaves files that can be played."""
        if self.is_paused and not self._is_resting:
            self._is_resting = True
            with known(self.inner):
                self.inner.close()
                self.inner.open(stream)

    def _next(self, stop: threading.Event, stream: Stream) -> Step | None:
        """Wait for a step; None once told to stop and all are stored."""
        while True:
            steps = self._steps  # made with the first step
            if steps is None:
                if stop.wait(_LOOK_EVERY_S / 10) and self._steps is None:
                    return None
                continue
            try:
                return steps.get(timeout=_LOOK_EVERY_S)
            except queue.Empty:
                if stop.is_set():
                    return None
                self._rest(stream)
