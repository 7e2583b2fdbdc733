"""The numbers of a running loop, for the page, and in Prometheus' text format 0.0.4 for monitoring."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from runtime.contract import ModelContract
from runtime.loop import Step
from runtime.masks.areas import class_areas
from runtime.sources import Source
from runtime.sources.source import SourceState

METRICS_CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
HISTORY_S = 60.0
_BUCKET_S = 0.25
_FPS_WINDOW_S = 2.0
_MOST_PERIODS = 4096  # of frames that the window may hold
STALLED_S = 3.0


@dataclass
class _Bucket:
    """The worst of a quarter of a second, and the rate at its end."""

    start_s: float
    age_ms: float = 0.0
    network_ms: float = 0.0
    fps: float = 0.0


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
        now_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """Start without a step.

        Args:
            contract: of the network.
            source: asked for its status.
            source_name: free of passwords.
            now_ns: the clock, on which frames are captured too.
        """
        self._contract = contract
        self._source = source
        self._source_name = source_name
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
            "problem": status.problem,
            "reconnects": status.reconnects,
            "skipped": status.skipped,
            "source": self._source_name,
            "model": self._contract.name,
            "uptime_s": round(now_s, 1),
            "frames": frames,
            "dropped": 0 if step is None else step.dropped,
            "fps": round(fps, 2),
            "frame_id": None,
            "size_hw": None,
            "since_frame_ms": None,
            "age_ms": None,
            "latency_ms": {},
            "classes": [],
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


def metrics_text(gauges: Gauges, viewers: int) -> str:
    """Return the exposition of one scrape.

    Args:
        gauges: the loop's numbers.
        viewers: open streams.
    """
    stats = gauges.stats()
    frames, stage_ms = gauges.totals()
    lines: list[str] = []

    def metric(name: str, kind: str, text: str, *samples: tuple[str, float]) -> None:
        lines.append(f"# HELP edgeseg_{name} {text}")
        lines.append(f"# TYPE edgeseg_{name} {kind}")
        lines.extend(f"edgeseg_{name}{labels} {value:.9g}" for labels, value in samples)

    metric("frames_total", "counter", "Frames that were segmented.", ("", frames))
    metric("dropped_frames_total", "counter", "Frames the source dropped.", ("", stats["dropped"]))
    metric("reconnects_total", "counter", "Times the source was opened again.", ("", stats["reconnects"]))
    metric("fps", "gauge", "Frames a second over the last two seconds.", ("", stats["fps"]))
    metric("viewers", "gauge", "Open video streams of the page.", ("", viewers))
    metric("uptime_seconds", "gauge", "Since the page was opened.", ("", stats["uptime_s"]))
    metric(
        "source_state",
        "gauge",
        "1 for the state that the source is in.",
        *((f'{{state="{state.value}"}}', float(state.value == stats["state"])) for state in SourceState),
    )
    metric(
        "stage_seconds_total",
        "counter",
        "Time spent in each stage; total is from capture to the last output.",
        *((f'{{stage="{_escaped(stage)}"}}', value / 1e3) for stage, value in stage_ms.items()),
    )
    if stats["age_ms"] is not None:
        metric("age_seconds", "gauge", "Age of the last frame when done.", ("", stats["age_ms"] / 1e3))
        metric(
            "since_frame_seconds",
            "gauge",
            "Since the last frame was done.",
            ("", stats["since_frame_ms"] / 1e3),
        )
        metric(
            "class_share",
            "gauge",
            "Share of the last frame that a class covers.",
            *((f'{{class="{_escaped(entry["name"])}"}}', entry["share"]) for entry in stats["classes"]),
        )
    return "\n".join(lines) + "\n"


def _escaped(label: str) -> str:
    """Return a label's value as the format wants it."""
    return label.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
