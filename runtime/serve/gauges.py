"""The numbers of a running loop, for the page and for monitoring."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from runtime.base.codec import to_plain
from runtime.base.shown import shown
from runtime.contract import ModelContract
from runtime.loop import Step
from runtime.masks.areas import class_areas
from runtime.serve.events import EventLog, output_status
from runtime.sources import Source
from runtime.sources.source import SourceState

if TYPE_CHECKING:
    from runtime.outputs.output import Output

HISTORY_S = 60.0
_BUCKET_S = 0.25
_FPS_WINDOW_S = 2.0
_MOST_PERIODS = 4096  # of frames that the window may hold
STALLED_S = 3.0
OLD_MS = 2000.0  # a picture older than this is not shown as current, unless a run has an age limit


@dataclass
class _Bucket:
    """The worst of a quarter of a second, and the rate at its end."""

    start_s: float
    age_ms: float = 0.0
    network_ms: float = 0.0
    fps: float = 0.0
    count: int = 0


@dataclass
class _Totals:
    """Sums since the start, which only grow."""

    frames: int = 0
    stage_ms: Counter[str] = field(default_factory=Counter)


class Gauges:
    """Takes steps on the loop's thread, tells numbers on any other. Holds the last minute, no more."""

    def __init__(
        self,
        contract: ModelContract,
        source: Source,
        *,
        source_name: str = "",
        outputs: Sequence[Output] = (),
        max_age_ms: float | None = None,
        now_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """Start without a step.

        Args:
            contract: of the network.
            source: asked for its status.
            source_name: free of passwords.
            outputs: asked for their state.
            max_age_ms: from when on a picture is not current; None for 2 s.
            now_ns: the clock, on which frames are captured too.
        """
        self._contract = contract
        self._source = source
        self._source_name = shown(source_name)
        self._outputs = outputs
        self.old_ms = OLD_MS if max_age_ms is None else max_age_ms
        self._events = EventLog(source, outputs, now_ns)
        self._now_ns = now_ns
        self._started_ns = now_ns()
        self._lock = threading.Lock()  # guards what follows
        self._step: Step | None = None
        self._totals = _Totals()
        self._finished_s: deque[float] = deque(maxlen=_MOST_PERIODS)
        self._buckets: deque[_Bucket] = deque(maxlen=round(HISTORY_S / _BUCKET_S))

    def put(self, step: Step) -> None:
        """Take a step; costs microseconds."""
        now_s = self._seconds()
        with self._lock:
            self._step = step
            self._totals.frames += 1
            for stage, value in step.latency_ms.items():
                self._totals.stage_ms[stage] += value  # type: ignore[assignment]
            self._finished_s.append(now_s)
            while self._finished_s[0] <= now_s - _FPS_WINDOW_S:
                self._finished_s.popleft()
            start_s = now_s // _BUCKET_S * _BUCKET_S
            if not self._buckets or self._buckets[-1].start_s != start_s:
                self._buckets.append(_Bucket(start_s))
            bucket = self._buckets[-1]
            bucket.age_ms = max(bucket.age_ms, step.latency_ms["total"])
            bucket.network_ms = max(bucket.network_ms, step.latency_ms.get("network", 0.0))
            bucket.fps = _rate(self._finished_s, now_s)
            is_new = bucket.count == 0
            bucket.count += 1
        if is_new:
            self._events.look()

    @property
    def state(self) -> str:
        """How the source is, see `SourceState`; stalled also where the loop behind it stands still."""
        state = self._source.status.state
        with self._lock:
            last_s = self._finished_s[-1] if self._finished_s else None
        if state is SourceState.RUNNING and last_s is None:
            return SourceState.OPENING.value
        if state is SourceState.RUNNING and self._seconds() - (last_s or 0.0) >= STALLED_S:
            return SourceState.STALLED.value
        return state.value

    @property
    def is_healthy(self) -> bool:
        """Whether frames come."""
        with self._lock:
            last_s = self._finished_s[-1] if self._finished_s else None
        return last_s is not None and self._seconds() - last_s < STALLED_S

    def stats(self) -> dict[str, Any]:
        """Return all numbers, ready for JSON; see the keys."""
        with self._lock:
            step, frames = self._step, self._totals.frames
            now_s = self._seconds()
            fps = _rate(self._finished_s, now_s)
            buckets = [dataclasses.replace(bucket) for bucket in self._buckets]
        status = self._source.status
        stats: dict[str, Any] = {
            "state": self.state,
            "problem": None if status.problem is None else shown(status.problem),
            "reconnects": status.reconnects,
            "skipped": status.skipped,
            "source": self._source_name,
            "model": self._contract.name,
            "setting": "" if step is None else step.segmentation.setting,
            "uptime_s": round(now_s, 1),
            "frames": frames,
            "dropped": 0 if step is None else step.dropped,
            "fps": round(fps, 2),
            "frame_id": None,
            "size_hw": None,
            "picture_age_ms": None,
            "old_ms": self.old_ms,
            "since_frame_ms": None,
            "age_ms": None,
            "latency_ms": {},
            "classes": [],
            "outputs": [
                {"number": number, **output_status(output)} for number, output in enumerate(self._outputs)
            ],
            "events": self._events.recent(),
            "model_facts": self._model_facts,
            "history": {
                "ago_s": [round(bucket.start_s - now_s, 2) for bucket in buckets],
                "age_ms": [round(bucket.age_ms, 2) for bucket in buckets],
                "network_ms": [round(bucket.network_ms, 2) for bucket in buckets],
                "fps": [round(bucket.fps, 2) for bucket in buckets],
            },
        }
        if step is not None:
            mask = step.segmentation.mask
            areas = class_areas(mask, self._contract.classes)
            stats |= {
                "frame_id": step.frame.frame_id,
                "size_hw": list(mask.shape),
                "picture_age_ms": round((self._now_ns() - step.frame.captured_ns) / 1e6, 1),
                "since_frame_ms": round((self._now_ns() - step.finished_ns) / 1e6, 1),
                "age_ms": round(step.latency_ms["total"], 2),
                "latency_ms": {stage: round(value, 3) for stage, value in step.latency_ms.items()},
                "classes": [
                    {"name": name, "rgb": list(rgb), "share": round(areas[name] / mask.size, 5)}
                    for name, rgb in zip(
                        self._contract.classes.names, self._contract.classes.palette_rgb, strict=True
                    )
                ],
            }
        return stats

    @cached_property
    def _model_facts(self) -> dict[str, Any]:
        """What the network's file says of itself, ready for JSON."""
        contract = self._contract
        accuracy = contract.accuracy
        return to_plain(  # type: ignore[no-any-return]
            {
                "name": shown(contract.name),
                "input_hw": contract.input.size_hw,
                "is_dynamic": contract.input.is_dynamic,
                "stride": contract.output.stride,
                "classes": len(contract.classes),
                "weights": shown(contract.origin.quantization),
                "accuracy": None
                if accuracy is None
                else {
                    "miou": accuracy.miou,
                    "dataset": shown(accuracy.dataset),
                    "split": shown(accuracy.split),
                    "frames": accuracy.frames,
                },
                "terms": shown(contract.origin.terms),
            }
        )

    def totals(self) -> tuple[int, dict[str, float]]:
        """Return the number of steps and the milliseconds of each stage, both since the start."""
        with self._lock:
            return self._totals.frames, dict(self._totals.stage_ms)

    def _seconds(self) -> float:
        return (self._now_ns() - self._started_ns) / 1e9


def _rate(finished_s: Sequence[float], now_s: float) -> float:
    """Return steps a second within the window before the last step; 0 where that is over itself."""
    if len(finished_s) < 2 or finished_s[-1] <= now_s - _FPS_WINDOW_S or finished_s[-1] == finished_s[0]:
        return 0.0
    return (len(finished_s) - 1) / (finished_s[-1] - finished_s[0])
