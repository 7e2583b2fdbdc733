"""What every source offers, and the part of `cv2.VideoCapture` that sources are built on."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import Protocol

import cv2
import numpy as np

from runtime.base.closing import Closable
from runtime.frame import Frame
from runtime.sources.state import SourceState, SourceStatus

_HIGHEST_FPS = 1000.0
_MOST_FRAMES = 1e12  # FFmpeg makes a huge number of a length that it does not know


class Source(Closable, Protocol):
    """Frames, one after the other; a context manager that frees the device or file.

    Anything of this shape will do; a class that inherits from it gets the `with` statement.

    Attributes:
        fps: frames a second that the device or file states; None where it states none.
        live: True where frames come at their own pace and only the freshest is kept; False: every frame.
        dropped: frames so far that were captured, but replaced by a fresher one before they were taken.
    """

    fps: float | None
    live: bool
    dropped: int

    @property
    def status(self) -> SourceStatus:
        """What the source is doing; may be asked from any thread."""
        return SourceStatus(SourceState.RUNNING, dropped=self.dropped)

    @abstractmethod
    def __iter__(self) -> Iterator[Frame]:
        """Yield frames until the source ends; iterating again goes on where the last iteration stopped.

        Raises:
            SourceError: the source broke.
            FrameError: it delivered a picture that is not uint8 (H, W, 3).
        """


class Capture(Protocol):
    """The part of `cv2.VideoCapture` that sources use, so that tests can script one."""

    def isOpened(self) -> bool:
        """Tell whether the device or file is open."""

    def grab(self) -> bool:
        """Wait for the next picture; return whether there was one."""

    def retrieve(self) -> tuple[bool, np.ndarray | None]:
        """Decode the picture that was grabbed last; return whether that worked, and the picture."""

    def read(self) -> tuple[bool, np.ndarray | None]:
        """Grab and retrieve."""

    def get(self, propId: int, /) -> float:
        """Return a property by its `cv2.CAP_PROP_…` number."""

    def release(self) -> None:
        """Close the device or file."""


def stated_fps(capture: Capture) -> float | None:
    """Return a capture's frames a second, or None where it gives no usable number."""
    fps = capture.get(cv2.CAP_PROP_FPS)
    return fps if 0.0 < fps <= _HIGHEST_FPS else None


def announced_frames(capture: Capture) -> int:
    """Return the number of frames that a recording announces; 0 for what is no recording."""
    announced = capture.get(cv2.CAP_PROP_FRAME_COUNT)
    return int(announced) if 0 < announced < _MOST_FRAMES else 0
