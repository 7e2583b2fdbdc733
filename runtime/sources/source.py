"""What every source offers, what it is doing, and the part of `cv2.VideoCapture` that sources are built on.

A source is in one of six states:

    opening ──▶ running ◀──▶ stalled
                 │  ▲           │
                 ▼  │           │
             reconnecting ◀─────┘

From each of these it may end or fail, and after that nothing follows.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

import cv2
import numpy as np

from runtime.base.closing import Closable
from runtime.base.images import check_pixels
from runtime.frame import Frame


class SourceState(str, Enum):
    """What a source is doing; each is its own name in JSON."""

    OPENING = "opening"
    RUNNING = "running"
    STALLED = "stalled"
    RECONNECTING = "reconnecting"
    ENDED = "ended"
    FAILED = "failed"


_LAST = frozenset({SourceState.ENDED, SourceState.FAILED})
TRANSITIONS: Mapping[SourceState, frozenset[SourceState]] = {
    SourceState.OPENING: _LAST | {SourceState.RUNNING, SourceState.RECONNECTING},
    SourceState.RUNNING: _LAST | {SourceState.STALLED, SourceState.RECONNECTING},
    SourceState.STALLED: _LAST | {SourceState.RUNNING, SourceState.RECONNECTING},
    SourceState.RECONNECTING: _LAST | {SourceState.RUNNING},
    SourceState.ENDED: frozenset(),
    SourceState.FAILED: frozenset(),
}


@dataclass(frozen=True)
class SourceStatus:
    """One look at a source; `runtime.base.codec.to_plain` makes it ready for JSON.

    Attributes:
        state: what it is doing.
        since_ns: `time.monotonic_ns()` at which it began to.
        captured: frames that came from it, used or not.
        dropped: of these, replaced by a fresher one before they were taken.
        skipped: of these, empty or damaged.
        reconnects: times that it was opened again.
        hanging: reads given up that have not returned yet; each holds one thread.
        problem: the latest reason to reconnect or fail, free of passwords; None where all went well.
    """

    state: SourceState
    since_ns: int = 0
    captured: int = 0
    dropped: int = 0
    skipped: int = 0
    reconnects: int = 0
    hanging: int = 0
    problem: str | None = None


class Lifecycle:
    """The state of one source; only steps in `TRANSITIONS` are taken.

    >>> life = Lifecycle()
    >>> life.enter(SourceState.RUNNING)
    >>> life.state.value
    'running'
    """

    def __init__(self, clock_ns: Callable[[], int] = time.monotonic_ns) -> None:
        """Start with opening."""
        self._clock_ns = clock_ns
        self.state = SourceState.OPENING
        self.since_ns = clock_ns()

    @property
    def is_over(self) -> bool:
        """Whether nothing can follow."""
        return not TRANSITIONS[self.state]

    def enter(self, state: SourceState) -> None:
        """Go to a state; staying in one changes nothing.

        Raises:
            RuntimeError: a step that is not legal, which is a defect of the source.
        """
        if state is self.state:
            return
        if state not in TRANSITIONS[self.state]:
            raise RuntimeError(f"a source cannot go from {self.state.value} to {state.value}")
        self.state = state
        self.since_ns = self._clock_ns()

    def finish(self, state: SourceState) -> None:
        """Enter a last state, unless one was entered before."""
        if not self.is_over:
            self.enter(state)


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


def opened(capture: Capture, name: str) -> bool:
    """Whether a capture is open; one that is not is released.

    Args:
        capture: just made.
        name: what messages call it, fit to be shown.

    Raises:
        SourceError: pictures of more pixels than `EDGESEG_MAX_IMAGE_PIXELS` allows.
        ConfigError: that variable is no number.
    """
    if not capture.isOpened():
        capture.release()
        return False
    try:
        width, height = capture.get(cv2.CAP_PROP_FRAME_WIDTH), capture.get(cv2.CAP_PROP_FRAME_HEIGHT)
        check_pixels(name, "pictures", int(width), int(height))
    except BaseException:
        capture.release()
        raise
    return True


def stated_fps(capture: Capture) -> float | None:
    """Return a capture's frames a second, or None where it gives no usable number."""
    fps = capture.get(cv2.CAP_PROP_FPS)
    return fps if 0.0 < fps <= _HIGHEST_FPS else None


def stated_codec(capture: Capture) -> str:
    """Return a capture's four-character code, such as "h264" or "MJPG"; "" where it states none."""
    code = capture.get(cv2.CAP_PROP_FOURCC)
    if not 0 < code < 1 << 32:
        return ""
    return int(code).to_bytes(4, "little").decode("latin-1").strip("\0 ")


def announced_frames(capture: Capture) -> int:
    """Return the number of frames that a recording announces; 0 for what is no recording."""
    announced = capture.get(cv2.CAP_PROP_FRAME_COUNT)
    return int(announced) if 0 < announced < _MOST_FRAMES else 0
