"""What went wrong and right again within the last hour: of the source and of every output."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runtime.base.shown import shown
from runtime.sources import Source
from runtime.sources.source import SourceState

if TYPE_CHECKING:
    from runtime.outputs.output import Output

MOST_EVENTS = 200
KEPT_S = 3600.0
_TOGETHER_S = 60.0  # what happens again within this time is one event with a count
_TROUBLE = (SourceState.STALLED, SourceState.RECONNECTING, SourceState.FAILED)


@dataclass
class _Event:
    key: str
    text: str
    is_problem: bool
    at_ns: int
    count: int  # how often, for a text that does not say so
    total: int


class EventLog:
    """Compares source and outputs with what they were, and notes what changed. May be asked from any thread.

    Bounded in number and in time. What changes and changes back between two looks is seen by its counters.
    """

    def __init__(
        self,
        source: Source,
        outputs: Sequence[Output] = (),
        now_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """Note how all are now.

        Args:
            source: asked for its status.
            outputs: asked for their state.
            now_ns: the clock, that of the source's status too.
        """
        self._source, self._outputs, self._now_ns = source, outputs, now_ns
        self._lock = threading.Lock()  # guards what follows
        self._events: deque[_Event] = deque(maxlen=MOST_EVENTS)
        self._status = source.status
        self._seen = [output_status(output) for output in outputs]

    def look(self) -> None:
        """Note what changed since the last look; costs microseconds where nothing did."""
        with self._lock:
            self._look_at_source()
            for number, output in enumerate(self._outputs):
                before, self._seen[number] = self._seen[number], output_status(output)
                self._compare(f"{number}", before, self._seen[number])

    def recent(self) -> list[dict[str, Any]]:
        """Return the events of the last hour, the latest first, ready for JSON."""
        self.look()
        now_ns = self._now_ns()
        with self._lock:
            return [
                {
                    "ago_s": round((now_ns - event.at_ns) / 1e9, 1),
                    "text": event.text,
                    "count": event.count,
                    "is_problem": event.is_problem,
                }
                for event in reversed(self._events)
                if now_ns - event.at_ns <= KEPT_S * 1e9
            ]

    def _look_at_source(self) -> None:
        before, self._status = self._status, self._source.status
        now = self._status
        because = f": {now.problem}" if now.problem else ""
        if now.state is not before.state and now.state in _TROUBLE:
            text = f"source {now.state.value}{because}"
            self._note(f"source {now.state.value}", text, True, at_ns=now.since_ns or None)
        elif now.state is not before.state and now.state is SourceState.ENDED:
            self._note("source ended", "source ended", False)
        elif now.state is SourceState.RUNNING and (
            before.state in _TROUBLE or now.reconnects > before.reconnects
        ):
            tries = now.reconnects - before.reconnects
            self._note("source running", "source running again" + (" (reconnected)" if tries else ""), False)

    def _compare(self, key: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
        """Note what changed of one output."""
        name = now["name"]
        if now["failures"] > before["failures"] or now["state"] == "failed" != before["state"]:
            self._note(f"{key} failed", now["problem"] or f"{name}: failed", True)
        elif now["state"] == "open" and before["state"] in ("retrying", "failed"):
            missed = f", missed {now['missed']} frames" if now["missed"] else ""
            self._note(f"{key} open", f"{name}: opened again{missed}", False)
        if now["is_paused"] != before["is_paused"]:
            self._note(f"{key} pause", f"{name}: {'paused' if now['is_paused'] else 'resumed'}", False)
        for fact, text, is_problem in (
            ("removed", "old files removed by retention", False),
            ("dropped", "frames not stored, the disk is too slow", True),
        ):
            more = now["facts"].get(fact, 0) - before["facts"].get(fact, 0)
            if more > 0:
                self._note(f"{key} {fact}", name, is_problem, count=more, counted=text)

    def _note(
        self,
        key: str,
        text: str,
        is_problem: bool,
        *,
        at_ns: int | None = None,
        count: int = 1,
        counted: str = "",
    ) -> None:
        """Add an event, or count it to the same one shortly before."""
        now_ns = self._now_ns()
        at_ns = now_ns if at_ns is None else min(at_ns, now_ns)
        for event in reversed(self._events):
            if now_ns - event.at_ns > _TOGETHER_S * 1e9:
                break
            if event.key == key:
                self._events.remove(event)
                count += event.total
                break
        said = f"{text}: {count} {counted}" if counted else text
        self._events.append(_Event(key, shown(said), is_problem, at_ns, 1 if counted else count, count))


def output_status(output: Output) -> dict[str, Any]:
    """Return what there is to tell of an output, ready for JSON."""
    return {
        "kind": output.kind,
        "name": shown(output.name),
        "state": output.state.value,
        "problem": None if output.problem is None else shown(output.problem),
        "failures": output.failures,
        "missed": output.missed,
        "can_pause": output.can_pause,
        "is_paused": output.is_paused,
        "facts": {
            name: shown(fact) if isinstance(fact, str) else fact for name, fact in output.facts().items()
        },
    }
