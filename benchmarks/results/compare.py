"""What got slower or worse between two reports of one machine and the same settings, beyond the noise.

The machine's own change is taken out by the yardstick that ran in every round, see
`benchmarks.results.statistics.steady_ratio`. The samples of a round depend on each other, so the intervals
come from drawing rounds again, several neighbours at a time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from benchmarks.results.results import ModelResult, Results
from benchmarks.results.statistics import Estimate, Floats, miou_points, steady_ratio
from runtime.base.flags import check_fields, flag
from runtime.errors import ConfigError

CONFIDENCE = 0.99  # more than of a single number, since a comparison looks at several
SLOW_PERCENT = 90  # of the frames of a round
SLOW_FACTOR = 2  # so much more must slow frames change, since they differ more from run to run


@dataclass(frozen=True)
class Limits:
    """What is too little to matter, however sure it is.

    The yardstick takes out most of what a machine does between two runs, not all: in five runs on a shared
    virtual machine, two of them disturbed, the same files came out up to 5.5 % apart in p50 and 7 % in p90.
    """

    percent: float = flag(
        "smallest change of p50 that matters, in per cent; of p90 twice as much",
        default=6.0,
        at_least=0,
        below=1000,
        name="--min-percent",
    )
    points: float = flag(
        "smallest change of an mIoU that matters, of 100",
        default=0.1,
        at_least=0,
        at_most=100,
        name="--min-points",
    )

    def __post_init__(self) -> None:
        """Check the numbers."""
        check_fields(self)


@dataclass(frozen=True)
class Change:
    """One number, before and after.

    Attributes:
        label: the model.
        what: "p50" or "p90" of the frames of a round, or "mIoU".
        old: milliseconds as measured, or mIoU from 0 to 1.
        new: the same, now.
        change: of times new / old, without the machine's own; of mIoU new - old in points of 100.
        verdict: beyond the noise and the limits, or "same".
    """

    label: str
    what: str
    old: float
    new: float
    change: Estimate
    verdict: Literal["slower", "faster", "worse", "better", "same"]

    @property
    def is_regression(self) -> bool:
        """Whether the new one is to be worried about."""
        return self.verdict in ("slower", "worse")


@dataclass(frozen=True)
class Comparison:
    """All changes, and what must be known beside them."""

    changes: tuple[Change, ...]
    notes: tuple[str, ...]


def compare(
    old: Results, new: Results, limits: Limits | None = None, *, allow_different: bool = False
) -> Comparison:
    """Compare the models that both reports measured, by their labels.

    Args:
        old: earlier results.
        new: later results.
        limits: what is too little to matter.
        allow_different: compare results of different machines or settings too.

    Raises:
        ConfigError: different machines or settings, or no model in common.
    """
    limits = limits or Limits()
    different = differences(old, new)
    if different and not allow_different:
        raise ConfigError(
            "compare: expected two reports of one machine and the same settings, got "
            f"{'; '.join(different)}; measure again, or say --allow-different"
        )
    before = {model.label: model for model in old.models}
    after = {model.label: model for model in new.models}
    common = [label for label in before if label in after]
    if not common:
        raise ConfigError(
            f"compare: expected a model in both reports, got {list(before)} and {list(after)}; models are "
            "told by their file names"
        )
    changes: list[Change] = []
    for label in common:
        changes += _time_changes(before[label], after[label], old.yardstick, new.yardstick, limits)
        if old.settings.data == new.settings.data:
            changes += _accuracy_change(before[label], after[label], limits)
    notes = [f"different: {difference}" for difference in different]
    notes += [
        f"the {name} report's machine was noisy: slow rounds {results.unrest_percent:.0f} % slower than calm "
        f"ones; yardstick {results.noise}"
        for name, results in (("old", old), ("new", new))
        if results.is_noisy
    ]
    notes += [f"only in the old report: {label}" for label in before if label not in after]
    notes += [f"only in the new report: {label}" for label in after if label not in before]
    notes += [
        f"{label} is another file now"
        for label in common
        if before[label].file.sha256 != after[label].file.sha256
    ]
    notes += [
        f"{name}: {old.machine.versions.get(name, 'none')} → {new.machine.versions.get(name, 'none')}"
        for name in {**old.machine.versions, **new.machine.versions}
        if old.machine.versions.get(name) != new.machine.versions.get(name)
    ]
    return Comparison(tuple(changes), tuple(notes))


def differences(old: Results, new: Results) -> list[str]:
    """Return what makes two reports incomparable, in words; versions and files may differ."""
    pairs = {
        "processor": (old.machine.cpu, new.machine.cpu),
        "CPUs": (old.machine.cpus, new.machine.cpus),
        "architecture": (old.machine.system.split()[-1], new.machine.system.split()[-1]),
        "frames": (old.settings.frames, new.settings.frames),
        "pixels of the frames": (old.settings.frames_sha256[:12], new.settings.frames_sha256[:12]),
        "frame size": (old.settings.frame_size_hw, new.settings.frame_size_hw),
        "frames a round": (old.settings.frames_a_round, new.settings.frames_a_round),
        "frames to settle": (old.settings.settle, new.settings.settle),
        "threads": (old.settings.threads, new.settings.threads),
        "provider": (old.settings.provider, new.settings.provider),
        "data": (old.settings.data, new.settings.data),
    }
    return [f"{name} {before} and {after}" for name, (before, after) in pairs.items() if before != after]


def _time_changes(
    old: ModelResult, new: ModelResult, old_yardstick: Floats, new_yardstick: Floats, limits: Limits
) -> list[Change]:
    """Compare the middle and the slow frames of the rounds."""
    if old.whole != new.whole:
        return []  # one had a contract and the other has none
    before, after = old.stage(old.whole), new.stage(new.whole)
    changes = []
    for percent, least in ((50, limits.percent), (SLOW_PERCENT, SLOW_FACTOR * limits.percent)):
        change = steady_ratio(
            before, old_yardstick, after, new_yardstick, percent=percent, confidence=CONFIDENCE
        )
        factor = 1 + least / 100
        slower = change.low > 1 and change.value > factor
        faster = change.high < 1 and change.value < 1 / factor
        changes.append(
            Change(
                label=old.label,
                what=f"p{percent}",
                old=float(np.median(np.percentile(before, percent, axis=1))),
                new=float(np.median(np.percentile(after, percent, axis=1))),
                change=change,
                verdict="slower" if slower else "faster" if faster else "same",
            )
        )
    return changes


def _accuracy_change(old: ModelResult, new: ModelResult, limits: Limits) -> list[Change]:
    """Compare what both files make of the same images, image by image."""
    if old.accuracy is None or new.accuracy is None:
        return []
    change = miou_points(new.accuracy.counts, old.accuracy.counts, CONFIDENCE)
    worse = change.high < 0 and change.value < -limits.points
    better = change.low > 0 and change.value > limits.points
    return [
        Change(
            label=old.label,
            what="mIoU",
            old=old.accuracy.summary.miou,
            new=new.accuracy.summary.miou,
            change=change,
            verdict="worse" if worse else "better" if better else "same",
        )
    ]
