"""A source that follows a script, for the tests of programs that are built on sources."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from runtime.frame import Frame, Image, check_image
from runtime.sources.source import Source, SourceState, SourceStatus


@dataclass(frozen=True)
class Drop:
    """In a script: so many frames are dropped here."""

    frames: int = 1


@dataclass(frozen=True)
class Late:
    """In a script: the next frame is handed over so many milliseconds after its capture."""

    age_ms: float


class FakeSource(Source):
    """Gives the pictures of a script, and raises the errors in it, without a camera, a thread or a wait.

    >>> import numpy as np
    >>> from runtime.errors import SourceError
    >>> picture_bgr = np.zeros((48, 64, 3), np.uint8)
    >>> source = FakeSource([picture_bgr, Drop(2), picture_bgr, SourceError("camera 0: unplugged")])
    >>> frames = iter(source)
    >>> [next(frames).frame_id, next(frames).frame_id], source.dropped
    ([0, 3], 2)
    >>> next(frames)
    Traceback (most recent call last):
    ...
    runtime.errors.SourceError: camera 0: unplugged
    >>> source.status.state.value
    'failed'
    """

    def __init__(
        self,
        script: Iterable[Image | Drop | Late | Exception],
        *,
        fps: float | None = None,
        live: bool = True,
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """Take a script, which may be endless.

        Args:
            script: uint8 (H, W, 3) pictures in BGR order, `Drop`, `Late`, and errors to raise.
            fps: frames a second that it states.
            live: whether it counts as a camera.
            clock_ns: the time of capture.
        """
        self.fps = fps
        self.live = live
        self.dropped = 0
        self.is_closed = False
        self._script = iter(script)
        self._clock_ns = clock_ns
        self._count = 0
        self._state = SourceState.OPENING

    @property
    def status(self) -> SourceStatus:
        """What the script has come to."""
        return SourceStatus(self._state, captured=self._count, dropped=self.dropped)

    def __iter__(self) -> Iterator[Frame]:
        """Follow the script.

        Raises:
            FrameError: a picture in it that is not uint8 (H, W, 3).
            Exception: whatever it holds.
        """
        age_ns = 0
        for item in self._script:
            if self.is_closed:
                break
            if isinstance(item, Drop):
                self.dropped += item.frames
                self._count += item.frames
            elif isinstance(item, Late):
                age_ns = round(item.age_ms * 1e6)
            elif isinstance(item, Exception):
                self._state = SourceState.FAILED
                raise item
            else:
                self._state = SourceState.RUNNING
                self._count += 1
                yield Frame(check_image(item), self._count - 1, self._clock_ns() - age_ns)
                age_ns = 0
        self._state = SourceState.ENDED

    def close(self) -> None:
        """End; what is left of the script is not given."""
        self.is_closed = True
        if self._state is not SourceState.FAILED:
            self._state = SourceState.ENDED
