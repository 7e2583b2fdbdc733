"""Cameras and streams: a thread reads every frame, the caller gets the freshest."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator

from runtime.errors import SourceError
from runtime.frame import Frame, check_image
from runtime.sources.source import Capture, Source, stated_fps

logger = logging.getLogger(__name__)

_CLOSE_WAIT_S = 2.0


class LiveSource(Source):
    """The freshest frame of a capture that runs at its own pace.

    A thread starts with the first iteration, reads all the time and keeps one frame; a frame that nobody
    took before the next one came is counted in `dropped`. So the caller is never behind the camera by
    more than the frame it works on. `frame_id` counts captured frames. The thread owns the capture: it
    is the one that releases it.
    """

    live = True

    def __init__(self, capture: Capture, name: str, *, stall_s: float = 10.0) -> None:
        """Take over an opened capture.

        Args:
            capture: released by `close`.
            name: what messages call it; free of passwords.
            stall_s: seconds without any frame after which iterating raises SourceError.
        """
        self.fps = stated_fps(capture)
        self.dropped = 0
        self._capture = capture
        self._name = name
        self._stall_s = stall_s
        self._stop = threading.Event()
        self._news = threading.Condition()  # guards what follows
        self._freshest: Frame | None = None
        self._failure: Exception | None = None
        self._thread: threading.Thread | None = None

    def __iter__(self) -> Iterator[Frame]:
        """Yield the freshest frame each time, waiting for one where there is none; end when closed.

        Raises:
            SourceError: a read failed, or no frame came for `stall_s` seconds.
            FrameError: the capture delivers pictures that are not uint8 (H, W, 3).
        """
        if self._thread is None and not self._stop.is_set():
            self._thread = threading.Thread(target=self._read_frames, name=f"read {self._name}", daemon=True)
            self._thread.start()
        while (frame := self._take()) is not None:
            yield frame

    def close(self) -> None:
        """Stop the thread and release the capture; waits 2 s at most for a read that hangs."""
        self._stop.set()
        with self._news:
            self._news.notify_all()
        if self._thread is None:
            self._capture.release()
            return
        self._thread.join(_CLOSE_WAIT_S)
        if self._thread.is_alive():
            logger.warning("%s: still inside a read; it is released when the read returns", self._name)

    def _take(self) -> Frame | None:
        """Wait for a frame and empty the slot; None once closed."""
        with self._news:
            told = self._news.wait_for(
                lambda: self._freshest is not None or self._failure is not None or self._stop.is_set(),
                self._stall_s,
            )
            if self._stop.is_set():
                return None
            frame, self._freshest = self._freshest, None
            if frame is None and self._failure is not None:
                raise self._failure
        if not told:
            raise SourceError(
                f"{self._name}: expected frames, got none for {self._stall_s:g} s; "
                "check the cable or the network"
            )
        return frame

    def _read_frames(self) -> None:
        """Read until told to stop; the thread's body."""
        count = 0
        try:
            while not self._stop.is_set():
                delivered, image_bgr = self._capture.read()
                captured_ns = time.monotonic_ns()
                if not delivered:
                    raise SourceError(
                        f"{self._name}: expected frames until it is closed, but reading failed after {count} "
                        "frames; check the cable or the network, and that no other program uses it"
                    )
                self._offer(Frame(check_image(image_bgr), count, captured_ns))
                count += 1
        except Exception as error:
            with self._news:
                self._failure = error
                self._news.notify_all()
        finally:
            self._capture.release()

    def _offer(self, frame: Frame) -> None:
        """Put a frame into the slot, over one that nobody took."""
        with self._news:
            self.dropped += self._freshest is not None
            self._freshest = frame
            self._news.notify_all()
