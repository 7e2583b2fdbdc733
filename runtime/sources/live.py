"""Cameras and streams: the freshest frame, through stalls, unplugged cables and restarted servers."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator

from runtime.errors import SourceError
from runtime.frame import Frame, Image
from runtime.sources.policy import Clock, LivePolicy
from runtime.sources.reader import FreshestSlot, Reader
from runtime.sources.source import Capture, Lifecycle, Source, SourceState, SourceStatus

logger = logging.getLogger(__name__)

_CLOSE_WAIT_S = 2.0


class LiveSource(Source):
    """The freshest frame of a capture that runs at its own pace.

    A thread grabs all the time and keeps one frame. So the caller is never behind the camera by more
    than the frame it works on. `frame_id` counts captured frames, over reconnections too. What goes wrong
    is handled while the caller waits for a frame: a capture that fails or falls silent is replaced by a
    new one, with growing waits between the attempts; `status` tells of it, and so does the log.
    """

    live = True

    def __init__(
        self,
        open_capture: Callable[[], Capture],
        name: str,
        policy: LivePolicy | None = None,
        clock: Clock | None = None,
    ) -> None:
        """Open the capture, in its thread.

        Args:
            open_capture: returns an opened capture or raises SourceError; called for each attempt, in the
                thread that also reads and releases it.
            name: what messages call it; free of passwords.
            policy: when to worry, try again and give up.
            clock: for tests.

        Raises:
            SourceError: it does not open, or not within `open_s` seconds.
        """
        self.fps: float | None = None
        self._open_capture = open_capture
        self._name = name
        self._policy = policy or LivePolicy()
        self._clock = clock or Clock()
        self._news = threading.Condition()  # guards what follows
        self._life = Lifecycle(self._clock.now_ns)
        self._slot = FreshestSlot()
        self._reader: Reader | None = None
        self._hanging: set[Reader] = set()
        self._is_open = self._is_closed = False
        self._failure: Exception | None = None
        self._problem: str | None = None
        self._captured = self._skipped = self._reconnects = 0
        self._waits_s = self._policy.backoff.waits_s()
        self._good_since_ns = self._alive_ns = self._frame_ns = self._retry_ns = self._clock.now_ns()
        try:
            self._open_first()
        except BaseException:
            self.close()
            raise

    @property
    def dropped(self) -> int:  # type: ignore[override]
        """Frames so far that were captured, but replaced by a fresher one before they were taken."""
        return self._slot.dropped

    @property
    def status(self) -> SourceStatus:
        """What the source is doing; may be asked from any thread."""
        with self._news:
            return SourceStatus(
                state=self._life.state,
                since_ns=self._life.since_ns,
                captured=self._captured,
                dropped=self._slot.dropped,
                skipped=self._skipped,
                reconnects=self._reconnects,
                hanging=len(self._hanging),
                problem=self._problem,
            )

    def __iter__(self) -> Iterator[Frame]:
        """Yield the freshest frame each time, waiting for one where there is none.

        Ends when closed, or when the recording behind an address is over.

        Raises:
            SourceError: no frame for `give_up_s` seconds, or `most_hanging` reads that never returned.
            FrameError: the capture delivers pictures that are not uint8 (H, W, 3).
        """
        while (frame := self._take()) is not None:
            yield frame

    def close(self) -> None:
        """Stop the thread and release the capture; waits 2 s at most for a read that hangs."""
        with self._news:
            self._is_closed = True
            self._life.finish(SourceState.ENDED)
            reader = self._reader
            if reader is not None:
                reader.stop()
            self._news.notify_all()
        if reader is not None and not reader.join(_CLOSE_WAIT_S):
            logger.warning("%s: still inside a read; it is released when the read returns", self._name)

    def _open_first(self) -> None:
        """Start the first reader and wait until its capture is open."""
        with self._news:
            self._start_reader()
            until_ns = self._clock.now_ns() + _ns(self._policy.open_s)
            while not self._is_open and self._failure is None and self._reader is not None:
                left_ns = until_ns - self._clock.now_ns()
                if left_ns <= 0:
                    self._fail(
                        SourceError(
                            f"{self._name}: expected it to open within {self._policy.open_s:g} s, it did "
                            "not; check the cable or the network"
                        )
                    )
                    break
                self._clock.wait(self._news, left_ns / 1e9)
            if self._failure is not None and not self._is_open:
                raise self._failure

    def _take(self) -> Frame | None:
        """Wait for a frame, keeping the capture alive meanwhile; None once closed or over."""
        with self._news:
            while True:
                if self._is_closed:
                    return None
                frame = self._slot.take(self._clock.now_ns())
                if frame is not None:
                    return frame
                if self._failure is not None:
                    raise self._failure
                if self._life.is_over:
                    return None
                wait_s = self._look_after()
                if self._failure is None:
                    self._clock.wait(self._news, wait_s)

    def _look_after(self) -> float:
        """Do what is due; return the seconds until something may be due again."""
        now_ns = self._clock.now_ns()
        due_ns: list[int] = []
        if self._policy.give_up_s is not None:
            give_up_ns = self._frame_ns + _ns(self._policy.give_up_s)
            if now_ns >= give_up_ns:
                self._fail(self._given_up())
                return 0.0
            due_ns.append(give_up_ns)
        if self._reader is not None and now_ns >= self._alive_ns + _ns(self._policy.reopen_s):
            self._leave_behind(self._reader)
            if self._failure is not None:
                return 0.0
        if self._reader is not None:
            if self._life.state is SourceState.RUNNING:
                stall_ns = self._alive_ns + _ns(self._policy.stall_s)
                if now_ns >= stall_ns:
                    self._life.enter(SourceState.STALLED)
                else:
                    due_ns.append(stall_ns)
            due_ns.append(self._alive_ns + _ns(self._policy.reopen_s))
        elif now_ns >= self._retry_ns:
            self._reconnects += 1
            self._start_reader()
            due_ns.append(self._alive_ns + _ns(self._policy.reopen_s))
        else:
            due_ns.append(self._retry_ns)
        return max(0, min(due_ns) - now_ns) / 1e9

    def _start_reader(self) -> None:
        self._alive_ns = self._clock.now_ns()
        self._slot.forget_pace()
        self._reader = Reader(self._open_capture, self, self._name, self._policy.bad_in_a_row)

    def _leave_behind(self, reader: Reader) -> None:
        """Give up a reader that hangs, without waiting for it."""
        reader.stop()
        self._hanging.add(reader)
        if len(self._hanging) >= self._policy.most_hanging:
            self._fail(
                SourceError(
                    f"{self._name}: expected reads that return, {len(self._hanging)} never did; the driver "
                    "or the server hangs, so restart it and this program"
                )
            )
            return
        self._reconnect(f"no frame for {self._policy.reopen_s:g} s")

    def _reconnect(self, problem: str) -> None:
        """Plan the next attempt."""
        now_ns = self._clock.now_ns()
        wait_s = next(self._waits_s)
        if self._life.state is not SourceState.RECONNECTING:
            logger.warning("%s; reconnecting", _named(self._name, problem))
            if self._alive_ns - self._good_since_ns >= _ns(self._policy.backoff.cap_s):
                self._waits_s = self._policy.backoff.waits_s()  # it had recovered
                wait_s = next(self._waits_s)
        else:
            logger.info("%s; retry in %.1f s", _named(self._name, problem), wait_s)
        self._problem = problem
        self._reader = None
        self._retry_ns = now_ns + _ns(wait_s)
        self._life.enter(SourceState.RECONNECTING)

    def _fail(self, error: Exception) -> None:
        self._failure = error
        self._problem = str(error)
        self._life.finish(SourceState.FAILED)
        if self._reader is not None:
            self._reader.stop()

    def _given_up(self) -> SourceError:
        latest = f" (latest: {self._problem})" if self._problem else ""
        return SourceError(
            f"{self._name}: gave up after {self._policy.give_up_s:g} s without a frame{latest}; check the "
            "cable or the network"
        )

    # What the reader tells, in its thread; one that was left behind is not listened to any more.

    def opened(self, reader: Reader, fps: float | None) -> None:
        """Note the frames a second that the capture states; see `Listener`."""
        with self._news:
            if reader is self._reader:
                self.fps = fps if self.fps is None else self.fps
                self._is_open = True
                self._news.notify_all()

    def grabbed(self, reader: Reader) -> bool:
        """Count the picture and tell whether to decode it; see `Listener`."""
        with self._news:
            if reader is not self._reader or self._life.is_over:
                reader.stop()
                return False
            self._alive_ns = self._clock.now_ns()
            self._captured += 1
            return self._slot.grabbed(self._alive_ns)

    def decoded(self, reader: Reader, image_bgr: Image | None) -> None:
        """Offer the frame to the caller; see `Listener`."""
        with self._news:
            if reader is not self._reader or self._life.is_over:
                return
            if image_bgr is None:
                self._skipped += 1
                return
            if self._life.state is not SourceState.RUNNING:
                if self._life.state is SourceState.RECONNECTING:
                    logger.warning("%s: reconnected", self._name)
                    self._good_since_ns = self._alive_ns
                self._life.enter(SourceState.RUNNING)
            self._frame_ns = self._alive_ns
            self._slot.put(Frame(image_bgr, self._captured - 1, self._alive_ns))
            self._news.notify_all()

    def ended(self, reader: Reader) -> None:
        """End; see `Listener`."""
        with self._news:
            if reader is self._reader:
                self._life.finish(SourceState.ENDED)
                self._news.notify_all()

    def failed(self, reader: Reader, error: Exception) -> None:
        """Plan to reconnect, or fail where that would not help; see `Listener`."""
        with self._news:
            if reader is not self._reader or self._life.is_over:
                return
            if isinstance(error, SourceError) and self._is_open:
                self._reconnect(str(error))
            else:
                self._fail(error)
            self._news.notify_all()

    def gone(self, reader: Reader) -> None:
        """Count a read that returned after all; see `Listener`."""
        with self._news:
            self._hanging.discard(reader)


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)


def _named(name: str, problem: str) -> str:
    """Return the problem with the source's name in front, once."""
    return problem if problem.startswith(name) else f"{name}: {problem}"
