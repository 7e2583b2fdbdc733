"""One thread that opens one capture, reads it until it fails or is told to stop, and releases it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol

import cv2

from runtime.errors import FrameError, SourceError
from runtime.frame import Image, check_image
from runtime.sources.source import Capture, announced_frames, stated_fps


class Listener(Protocol):
    """Hears what a reader has to tell, in the reader's thread."""

    def opened(self, reader: Reader, fps: float | None) -> None:
        """The capture is open and states so many frames a second."""

    def grabbed(self, reader: Reader) -> bool:
        """A picture has come; return whether to decode it."""

    def decoded(self, reader: Reader, image_bgr: Image | None) -> None:
        """It was decoded; None where it is empty or damaged."""

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
            self._listener.opened(self, stated_fps(capture))
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
        while not self._stop.is_set():
            if not _grab(capture):
                if self._stop.is_set():
                    return
                announced = announced_frames(capture)
                if announced and count >= announced - max(2, announced // 50):
                    self._listener.ended(self)
                    return
                raise SourceError(
                    f"{self._name}: expected frames until it is closed, but reading failed after {count} "
                    "frames; check the cable or the network, and that no other program uses it"
                )
            count += 1
            if not self._listener.grabbed(self):
                continue
            image_bgr, problem = _decode(capture)
            bad = 0 if image_bgr is not None else bad + 1
            self._listener.decoded(self, image_bgr)
            if bad >= self._bad_in_a_row:
                raise problem or SourceError(
                    f"{self._name}: expected pictures, got {bad} empty or damaged ones in a row; check the "
                    "cable or the network"
                )


def _grab(capture: Capture) -> bool:
    """Wait for the next picture; what OpenCV raises means the same as its False."""
    try:
        return capture.grab()
    except cv2.error:
        return False


def _decode(capture: Capture) -> tuple[Image | None, FrameError | None]:
    """Return the grabbed picture, or None and, where it is a picture of a wrong kind, what is wrong."""
    try:
        delivered, image_bgr = capture.retrieve()
    except cv2.error:
        return None, None
    if not delivered or image_bgr is None or image_bgr.size == 0:
        return None, None
    try:
        return check_image(image_bgr), None
    except FrameError as error:
        return None, error
