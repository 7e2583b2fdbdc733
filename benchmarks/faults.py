"""Strikes recordings and says what they lost: `python -m benchmarks.faults`.

Kills, signals, full disks and clocks that jump, each at random moments; then the age of masks beside a disk
that hangs. Exit code 1 where a recording lost more than its last two seconds, or an earlier file. Ten minutes
and more with the defaults.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.render.document import Table, to_text
from benchmarks.stress.recordings import PROMISED_S, FaultError, FaultsConfig, FaultsReport, measure_faults
from runtime.base.codec import to_plain
from runtime.base.flags import flag, nested, run_command


@dataclass(frozen=True)
class FaultsOptions:
    """What the command line asks for."""

    config: FaultsConfig = nested(FaultsConfig)
    as_json: bool = flag("print one JSON object and nothing else", default=False, name="--json")


def report_text(report: FaultsReport) -> str:
    """Return the report for a terminal."""
    rows = [
        (
            result.fault,
            str(len(result.trials)),
            f"{sorted(trial.lost_s for trial in result.trials)[len(result.trials) // 2]:.2f}",
            f"{result.worst_s:.2f}",
            str(sum(trial.broken for trial in result.trials)),
            "yes" if result.kept else "NO",
        )
        for result in report.results
    ]
    heads = ("fault", "strikes", "lost p50 s", "lost max s", "earlier files broken", "kept")
    text = to_text([Table(heads, rows)])
    if report.stalled is not None:
        stalled = report.stalled
        text += (
            f"\n\nbeside a disk that hangs half of the time, p99 of the mask's age is {stalled.ratio:.3f} of "
            f"that without a recording (median of {len(stalled.with_ms)} turns; {stalled.dropped} frames not "
            "recorded)"
        )
    return f"{text}\n\n{report.machine}"


def command(options: FaultsOptions) -> None:
    """Strike, print, judge."""
    report = measure_faults(options.config, lambda line: print(line, file=sys.stderr, flush=True))
    print(json.dumps(to_plain(report)) if options.as_json else report_text(report))
    failed = [result.fault for result in report.results if not result.kept]
    if failed:
        raise FaultError(
            f"faults: expected at most the last {PROMISED_S:g} s lost and every earlier file whole, got more "
            f"after {', '.join(failed)}; see the table"
        )


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; see `--help`."""
    description = "Strike recordings at random moments and say what they lost."
    return run_command("benchmarks.faults", description, FaultsOptions, command, argv)


if __name__ == "__main__":
    sys.exit(main())
