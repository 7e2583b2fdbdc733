"""Cameras and streams: the freshest frame, through stalls, unplugged cables and restarted servers."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Iterator

from runtime.errors import SourceError
from runtime.frame import Frame, Image
from runtime.sources.policy import Clock, LivePolicy
from runtime.sources.pts import StreamTimes
from runtime.sources.reader import FreshestSlot, Reader
from runtime.sources.source import Capture, Lifecycle, Source, SourceState, SourceStatus

logger = logging.getLogger(__name__)

_CLOSE_WAIT_S = 2.0
_SAME_END_NS = 500_000_000


class LiveSource(Source):
    """The freshest frame of a capture that runs at its own pace.

    A thread grabs all the time and keeps one frame. So the caller is never behind the camera by more
    than the frame it works on. `frame_id` counts captured frames, over reconnections too. What goes wrong
    is handled while the caller waits for a frame: a capture that does not open, fails or falls silent is
    replaced by a new one, with growing waits between the attempts, from the first moment on: a robot may
    start before its camera does. `status` tells of it, and so does the log.

    A frame's `captured_ns` comes from its time stamp, see `runtime.sources.pts`: what waited in a buffer is
    old, and what is older than `max_age_ms` is dropped before it is converted, until the pictures are fresh
    again. Where none gets fresh for `reopen_s`, the capture is opened anew, which leaves the backlog behind.
    """

    live = True

    def __init__(
        self,
        open_capture: Callable[[], Capture],
        name: str,
        policy: LivePolicy | None = None,
        clock: Clock | None = None,
        *,
        times: StreamTimes | None = None,
        max_age_ms: float | None = None,
    ) -> None:
        """Open the capture, in its thread; go on without it where that fails or takes longer than `open_s`.

        Args:
            open_capture: returns an opened capture or raises SourceError; called for each attempt, in the
                thread that also reads and releases it.
            name: what messages call it; free of passwords.
            policy: when to worry, try again and give up.
            clock: for tests.
            times: tells when pictures were captured; by default as for a camera.
            max_age_ms: pictures captured longer ago are dropped; None for no limit.

        Raises:
            Exception: what `open_capture` raises beside SourceError, since trying again would not help.
        """
        self.fps: float | None = None
        self._open_capture = open_capture
        self._name = name
        self._policy = policy or LivePolicy()
        self._clock = clock or Clock()
        self._times = times or StreamTimes()
        self._max_age_ns = None if max_age_ms is None else round(max_age_ms * 1e6)
        self._is_behind = False
        self._end_ns: int | None = None
        self._news = threading.Condition()  # guards what follows
        self._life = Lifecycle(self._clock.now_ns)
        self._slot = FreshestSlot()
        self._reader: Reader | None = None
        self._hanging: set[Reader] = set()
        self._is_open = self._is_closed = self._had_frames = False
        self._stamps_ns: tuple[int, int | None] = (0, None)  # captured, PTS
        self._failure: Exception | None = None
        self._problem: str | None = None
        self._captured = self._skipped = self._reconnects = self._too_old = 0
        self._waits_s = self._policy.backoff.waits_s()
        self._good_since_ns = self._alive_ns = self._frame_ns = self._retry_ns = self._clock.now_ns()
        try:
            self._open_first()
        except BaseException:
            self.close()
            raise

    @property
    def dropped(self) -> int:  # type: ignore[override]
        """Frames so far that were captured, but replaced by a fresher one, or were too old."""
        return self._slot.dropped + self._too_old

    @property
    def status(self) -> SourceStatus:
        """What the source is doing; may be asked from any thread."""
        with self._news:
            return SourceStatus(
                state=self._life.state,
                since_ns=self._life.since_ns,
                captured=self._captured,
                dropped=self.dropped,
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
        """Start the first reader, and wait a while for what its capture states."""
        with self._news:
            self._start_reader()
            wait_s = min(self._policy.open_s, self._policy.give_up_s or math.inf)
            until_ns = self._clock.now_ns() + _ns(wait_s)
            while not self._is_open and self._failure is None and self._reader is not None:
                left_ns = until_ns - self._clock.now_ns()
                if left_ns <= 0:
                    logger.warning("%s: not open after %g s; waiting for it", self._name, wait_s)
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
            doing = "reconnecting" if self._is_open else "waiting for it"
            logger.warning("%s; %s", _named(self._name, problem), doing)
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

    def _is_too_old(self, age_ns: int) -> bool:
        """Whether a picture waited too long; says so at the first of a backlog."""
        is_behind = self._max_age_ns is not None and age_ns >= self._max_age_ns
        if is_behind and not self._is_behind:
            logger.warning(
                "%s: %.1f s behind, frames dropped until it is less than %.1f s",
                self._name,
                age_ns / 1e9,
                (self._max_age_ns or 0) / 1e9,
            )
        self._is_behind = is_behind
        return is_behind

    # What the reader tells, in its thread; one that was left behind is not listened to any more.

    def opened(self, reader: Reader, fps: float | None, codec: str) -> None:
        """Note what the capture states; see `Listener`."""
        with self._news:
            if reader is self._reader:
                self.fps = fps if self.fps is None else self.fps
                self._times.connected(codec)
                self._is_open = True
                self._news.notify_all()

    def grabbed(self, reader: Reader, pts_ns: int | None) -> bool:
        """Count the picture and tell whether to decode it; see `Listener`."""
        with self._news:
            if reader is not self._reader or self._life.is_over:
                reader.stop()
                return False
            self._captured += 1
            now_ns = self._clock.now_ns()
            captured_ns = self._times.captured_ns(pts_ns, now_ns)
            if captured_ns is None or self._is_too_old(now_ns - captured_ns):
                self._too_old += 1
                return False
            self._alive_ns = now_ns
            self._stamps_ns = captured_ns, pts_ns if self._times.has_times else None
            return self._slot.grabbed(now_ns)

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
                    logger.warning("%s: %s", self._name, "reconnected" if self._had_frames else "opened")
                    self._good_since_ns = self._alive_ns
                self._life.enter(SourceState.RUNNING)
            self._frame_ns = self._alive_ns
            self._had_frames = True
            captured_ns, pts_ns = self._stamps_ns
            self._slot.put(Frame(image_bgr, self._captured - 1, captured_ns, pts_ns=pts_ns))
            self._news.notify_all()

    def is_end(self, reader: Reader, count: int, announced: int, pts_ns: int | None) -> bool:
        """Whether a stream of limited length is over; see `Listener`.

        It is where all pictures came. Since the number is an estimate, it is too where the stream had stopped
        at the same place before.
        """
        with self._news:
            before_ns, self._end_ns = self._end_ns, pts_ns
            had_stopped_here = (
                before_ns is not None and pts_ns is not None and abs(pts_ns - before_ns) < _SAME_END_NS
            )
            return had_stopped_here or count >= announced - max(2, announced // 50)

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
            if isinstance(error, SourceError):
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
