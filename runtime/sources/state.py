"""What a source is doing, as data: six states, the legal steps between them, and a status to show.

    opening ──▶ running ◀──▶ stalled
                 │  ▲           │
                 ▼  │           │
             reconnecting ◀─────┘

From each of these a source may end or fail, and after that nothing follows.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum


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
