"""Says what got slower or worse between two reports, beyond the noise.

`python -m benchmarks.compare old.json new.json --fail-on-regression` reads two results.json of
`benchmarks.report`, of one machine and the same settings. The machine's own change is taken out by the
yardstick that ran in every round, see `benchmarks.results.steady_change`. The samples of a round depend on
each other, so the intervals come from drawing rounds again, several neighbours at a time.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from benchmarks.results.results import ModelResult, Results, read_results
from benchmarks.results.statistics import Estimate, Floats, miou_points
from benchmarks.results.steady_change import steady_ratio
from runtime.base.codec import to_plain
from runtime.base.command import exit_code, make_parser
from runtime.errors import ConfigError, EdgesegError

CONFIDENCE = 0.99  # more than of a single number, since a comparison looks at several
SLOW_PERCENT = 90  # of the frames of a round
SLOW_FACTOR = 2  # so much more must slow frames change, since they differ more from run to run


@dataclass(frozen=True)
class Limits:
    """What is too little to matter, however sure it is.

    Attributes:
        percent: change of p50; of p90 twice as much. The yardstick takes out most of what a machine does
            between two runs, not all: in five runs on a shared virtual machine, two of them disturbed, the
            same files came out up to 5.5 % apart in p50 and 7 % in p90.
        points: change of an mIoU, of 100.
    """

    percent: float = 6.0
    points: float = 0.1

    def __post_init__(self) -> None:
        """Check the numbers."""
        if not (0 <= self.percent < 1000 and 0 <= self.points <= 100):
            raise ConfigError(
                "limits: expected per cent from 0 to 1000 and points from 0 to 100, got "
                f"{self.percent} and {self.points}"
            )


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


def as_text(comparison: Comparison) -> str:
    """Return the comparison for a terminal."""
    widest = max(len(change.label) for change in comparison.changes)
    rows = [f"{'model':{widest}}  {'':5} {'old':>9} {'new':>9}  change (99 %)"]
    for change in comparison.changes:
        points = change.what == "mIoU"
        old, new = (f"{value:.4f}" if points else f"{value:.2f} ms" for value in (change.old, change.new))
        middle, low, high = change.change.value, change.change.low, change.change.high
        said = (
            f"{middle:+.2f} points ({low:+.2f} to {high:+.2f})"
            if points
            else f"× {middle:.3f} ({low:.3f} to {high:.3f})"
        )
        verdict = "" if change.verdict == "same" else f"  {change.verdict.upper()}"
        rows.append(f"{change.label:{widest}}  {change.what:5} {old:>9} {new:>9}  {said}{verdict}")
    rows.append(
        "\nmilliseconds as measured; from their change what the yardstick says of the machine is taken out"
    )
    return "\n".join([*rows, *comparison.notes])


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; see `--help`."""
    defaults = Limits()
    parser = make_parser("benchmarks.compare", "Say what changed between two reports, beyond the noise.")
    parser.add_argument("old", type=Path, help="results.json of benchmarks.report")
    parser.add_argument("new", type=Path, help="a later one")
    parser.add_argument(
        "--min-percent",
        type=float,
        default=defaults.percent,
        help="smallest change of p50 that matters; of p90 twice as much",
    )
    parser.add_argument(
        "--min-points",
        type=float,
        default=defaults.points,
        help="smallest change of an mIoU that matters, of 100",
    )
    parser.add_argument("--fail-on-regression", action="store_true", help="exit with 1 if there is one")
    parser.add_argument(
        "--allow-different", action="store_true", help="compare different machines or settings too"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    args = parser.parse_args(argv)

    def command() -> None:
        limits = Limits(args.min_percent, args.min_points)
        old, new = read_results(args.old), read_results(args.new)
        comparison = compare(old, new, limits, allow_different=args.allow_different)
        print(json.dumps(to_plain(comparison)) if args.json else as_text(comparison))
        regressions = [change for change in comparison.changes if change.is_regression]
        if regressions and args.fail_on_regression:
            named = ", ".join(f"{change.label} {change.what} {change.verdict}" for change in regressions)
            raise EdgesegError(f"compare: expected nothing slower or worse, got {named}; see the table")

    return exit_code(command)


if __name__ == "__main__":
    sys.exit(main())
