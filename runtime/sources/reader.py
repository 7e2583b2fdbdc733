"""One thread that reads a capture, and room for the freshest frame that it brings."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

import cv2

from runtime.errors import FrameError, SourceError
from runtime.frame import Frame, Image, check_image, own_image
from runtime.sources.pts import presentation_ns
from runtime.sources.source import Capture, announced_frames, stated_codec, stated_fps

_MEMORY = 4
_MOST_DAMAGED = 10  # pictures in a row
_AT_ONCE_S = 1.0


class FreshestSlot:
    """Holds the freshest frame of a capture until the caller takes it.

    Decoding a picture costs milliseconds that the network could use. A grabbed picture is worth decoding
    only if the caller may take it, which it does not where the next picture comes before the caller is
    back. Both times are foretold from the last few, on the safe side: the longest wait for a picture,
    and the caller's shortest absence. So the caller never waits for a picture that was passed over.

    Not safe for threads on its own; `LiveSource` holds its lock around every call.

    Attributes:
        dropped: frames since the caller first asked that were replaced by a fresher one or passed over.
    """

    def __init__(self) -> None:
        """Start empty."""
        self.dropped = 0
        self._frame: Frame | None = None
        self._is_asked = self._was_asked = False
        self._taken_ns: int | None = None
        self._grabbed_ns: int | None = None
        self._absences_ns: deque[int] = deque(maxlen=_MEMORY)
        self._periods_ns: deque[int] = deque(maxlen=_MEMORY)

    def grabbed(self, now_ns: int) -> bool:
        """Note a picture that came just now; return whether to decode it, else count it as dropped."""
        if self._grabbed_ns is not None:
            self._periods_ns.append(now_ns - self._grabbed_ns)
        self._grabbed_ns = now_ns
        if self._is_asked or self._taken_ns is None:
            return True
        if len(self._absences_ns) < _MEMORY or len(self._periods_ns) < _MEMORY:
            return True
        if now_ns + max(self._periods_ns) < self._taken_ns + min(self._absences_ns):
            self.dropped += 1
            return False
        return True

    def put(self, frame: Frame) -> None:
        """Put a frame in, over one that nobody took."""
        if self._frame is not None and self._was_asked:
            self.dropped += 1
        self._frame = frame

    def take(self, now_ns: int) -> Frame | None:
        """Give the frame to the caller, once; None where there is none, which makes the next one wanted."""
        self._was_asked = True
        if not self._is_asked and self._taken_ns is not None:
            self._absences_ns.append(now_ns - self._taken_ns)
        frame, self._frame = self._frame, None
        self._is_asked = frame is None
        if frame is not None:
            self._taken_ns = now_ns
        return frame

    def forget_pace(self) -> None:
        """Forget how often pictures come: the capture is opened again."""
        self._grabbed_ns = None
        self._periods_ns.clear()


class Listener(Protocol):
    """Hears what a reader has to tell, in the reader's thread."""

    def opened(self, reader: Reader, fps: float | None, codec: str) -> None:
        """The capture is open and states so many frames a second and this four-character code."""

    def grabbed(self, reader: Reader, pts_ns: int | None) -> bool:
        """A picture has come, with this time stamp; return whether to decode it."""

    def decoded(self, reader: Reader, image_bgr: Image | None) -> None:
        """It was decoded; None where it is empty or damaged."""

    def is_end(self, reader: Reader, count: int, announced: int, pts_ns: int | None) -> bool:
        """Whether a stream of limited length is over, after so many pictures and at this time stamp."""

    def ended(self, reader: Reader) -> None:
        """The recording behind the address is over."""

    def failed(self, reader: Reader, error: Exception) -> None:
        """Nothing more comes. A SourceError may pass if it is opened again; anything else will not."""

    def gone(self, reader: Reader) -> None:
        """The capture is released and the thread about to end."""


class Reader:
    """Reads a capture in a thread of its own, since open and read may block for ever.

    Nothing can end a thread that is inside a driver. So a reader that is told to stop is left behind
    where it hangs: it releases its capture if its read ever returns.
    """

    def __init__(
        self, open_capture: Callable[[], Capture], listener: Listener, name: str, bad_in_a_row: int
    ) -> None:
        """Start the thread.

        Args:
            open_capture: returns an opened capture or raises SourceError.
            listener: is told what happens.
            name: what messages call the source.
            bad_in_a_row: pictures without any good one between them after which reading fails.
        """
        self._open_capture = open_capture
        self._listener = listener
        self._name = name
        self._bad_in_a_row = bad_in_a_row
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"read {name}", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Tell the thread to end after the read that it is in."""
        self._stop.set()

    def join(self, timeout_s: float) -> bool:
        """Wait for the thread; return whether it ended."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        capture: Capture | None = None
        try:
            capture = self._open_capture()
            self._listener.opened(self, stated_fps(capture), stated_codec(capture))
            self._read(capture)
        except Exception as error:
            self._listener.failed(self, error)
        finally:
            if capture is not None:
                capture.release()
            self._listener.gone(self)

    def _read(self, capture: Capture) -> None:
        """Read until told to stop, the recording is over, or something fails."""
        count = bad = 0
        pts_ns: int | None = None
        while not self._stop.is_set():
            damaged = _grab(capture, self._stop)
            if damaged is None:
                if self._stop.is_set():
                    return
                announced = announced_frames(capture)
                if announced and self._listener.is_end(self, count, announced, pts_ns):
                    self._listener.ended(self)
                    return
                raise SourceError(
                    f"{self._name}: stream lost after {count} frames; check the cable or the network, and "
                    "that no other program uses it"
                )
            for _ in range(damaged):
                self._listener.decoded(self, None)
            count += 1
            stated_ns = presentation_ns(capture, pts_ns)
            pts_ns = pts_ns if stated_ns is None else stated_ns
            if not self._listener.grabbed(self, stated_ns):
                continue
            image_bgr, problem = _decode(capture)
            bad = 0 if image_bgr is not None else bad + 1
            self._listener.decoded(self, image_bgr)
            del image_bgr  # the caller's alone now
            if bad >= self._bad_in_a_row:
                raise problem or SourceError(
                    f"{self._name}: expected pictures, got {bad} empty or damaged ones in a row; check the "
                    "cable or the network"
                )


def _grab(capture: Capture, stop: threading.Event) -> int | None:
    """Wait for the next picture; return how many before it were damaged, None where the stream is lost.

    OpenCV says no once for each that cannot be decoded, and again and again where there is no stream. What it
    raises means the same.
    """
    for damaged in range(_MOST_DAMAGED):
        started_s = time.monotonic()
        try:
            if capture.grab():
                return damaged
        except cv2.error:
            pass
        if stop.is_set() or time.monotonic() - started_s > _AT_ONCE_S:
            return None  # it waited in vain
    return None


def _decode(capture: Capture) -> tuple[Image | None, FrameError | None]:
    """Return the grabbed picture, or None and, where it is a picture of a wrong kind, what is wrong."""
    try:
        delivered, image_bgr = capture.retrieve()
    except cv2.error:
        return None, None
    if not delivered or image_bgr is None or image_bgr.size == 0:
        return None, None
    try:
        return own_image(check_image(image_bgr)), None
    except FrameError as error:
        return None, error
