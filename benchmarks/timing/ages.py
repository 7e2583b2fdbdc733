"""How old masks are when they are ready, and what became of the frames that have none.

The age of a mask is the time from the moment its frame was due at the camera until the mask is there: the
wait for the network, the hand-over between threads and the segmentation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from benchmarks.machine.process_usage import CpuUse
from runtime.base.percentiles import FINE_PERCENTS, percentiles
from runtime.frame import Frame
from runtime.loop import Step


@dataclass(frozen=True)
class Mask:
    """One mask.

    Attributes:
        ready_s: seconds since the first frame was due, when it was ready.
        age_ms: milliseconds since its own frame was due.
    """

    ready_s: float
    age_ms: float


@dataclass(frozen=True)
class RateResult:
    """What came of a source at one rate.

    Attributes:
        times_capacity: the rate in units of what the network can do.
        source_fps: the rate in frames a second.
        frames: that came, up to the one of the last mask.
        dropped: of these, replaced by a fresher one.
        late: masks that were older than the deadline.
        masks_a_second: over the whole time.
        age_ms: p50, p90, p99, p99.9 and max.
        gap_ms: the same of the time between one mask and the next, None where there is only one mask.
        cpu: processor time of this process, the source's thread included.
        masks: every one of them.
    """

    times_capacity: float
    source_fps: float
    frames: int
    dropped: int
    late: int
    masks_a_second: float
    age_ms: dict[str, float]
    gap_ms: dict[str, float] | None
    cpu: CpuUse
    masks: tuple[Mask, ...]

    @property
    def late_percent(self) -> float:
        """Share of the masks that were late."""
        return 100 * self.late / len(self.masks)

    @property
    def dropped_percent(self) -> float:
        """Share of the frames that were dropped."""
        return 100 * self.dropped / self.frames


def take_masks(
    steps: Iterable[Step], seconds: float, due_ns: Callable[[Frame], int]
) -> tuple[tuple[Mask, ...], int]:
    """Run a loop for some time.

    Args:
        steps: of `runtime.loop.run`.
        seconds: from the first frame on.
        due_ns: when a frame was due at the camera, on the clock of the steps.

    Returns:
        The masks, at least one, and how many frames were dropped between them.
    """
    masks: list[Mask] = []
    first_ns, dropped = 0, 0
    for step in steps:
        due = due_ns(step.frame)
        if not masks:
            first_ns, dropped_before = due, step.dropped
        dropped = step.dropped - dropped_before
        ready_s = (step.finished_ns - first_ns) / 1e9
        masks.append(Mask(ready_s, (step.finished_ns - due) / 1e6))
        if ready_s >= seconds:
            break
    return tuple(masks), dropped


def judge(
    masks: Sequence[Mask],
    dropped: int,
    cpu: CpuUse,
    *,
    deadline_ms: float,
    times_capacity: float,
    source_fps: float,
) -> RateResult:
    """Sum up masks; every one counts."""
    ages_ms = [mask.age_ms for mask in masks]
    gaps_ms = [1000 * (after.ready_s - before.ready_s) for before, after in pairwise(masks)]
    return RateResult(
        times_capacity=times_capacity,
        source_fps=source_fps,
        frames=len(masks) + dropped,
        dropped=dropped,
        late=sum(age_ms > deadline_ms for age_ms in ages_ms),
        masks_a_second=len(masks) / masks[-1].ready_s,
        age_ms=percentiles(ages_ms, FINE_PERCENTS),
        gap_ms=percentiles(gaps_ms, FINE_PERCENTS) if gaps_ms else None,
        cpu=cpu,
        masks=tuple(masks),
    )
