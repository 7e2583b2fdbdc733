"""Runs the loop for hours and tells whether it stays as it was: `python -m benchmarks.soak --duration 1h`.

A row a minute shows memory, threads, open files and latency. It ends with exit code 1 where memory grew by
more than 5 MB after the warm-up, where there are more threads or open files than then, or where the p99 grew.
Memory is the least of a minute, without what the heaps keep free. Needs the extra `bench`.

Outputs are those of `runtime.camera`: with `--save out.mkv --jsonl log.jsonl --out run.mcap --serve --camera
camera.yaml` a robot's whole loop soaks.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from shlex import quote

from benchmarks.render.document import LiveTable
from benchmarks.render.reports import SOAK_HEADS, soak_cells
from benchmarks.timing.soak import SoakConfig, SoakError, soak
from runtime.base.codec import to_plain
from runtime.base.flags import flag, nested, run_command
from runtime.base.memory import share_one_heap


@dataclass(frozen=True)
class SoakOptions:
    """What the command line asks for."""

    config: SoakConfig = nested(SoakConfig)
    as_json: bool = flag("print one JSON object instead of a table", default=False, name="--json")


def command(options: SoakOptions) -> None:
    """Run, print row by row, and judge."""
    share_one_heap()  # as `runtime.camera` does
    table = LiveTable(SOAK_HEADS, sys.stderr if options.as_json else sys.stdout)
    report = soak(options.config, lambda row: table.row(soak_cells(row)))
    print(json.dumps(to_plain(report)) if options.as_json else report.machine)
    if report.problems:
        raise SoakError(f"{report.source}: {'; '.join(report.problems)}")
    if not options.as_json:
        flat = "" if report.p99_ratio is None else f"p99 x{report.p99_ratio:.2f}, "
        seen = f"{report.looks} pictures looked at on the page, " if report.looks else ""
        print(
            f"since the warm-up: memory {report.growth_mb:+.1f} MB, threads "
            f"{report.more_threads:+d}, open files {report.more_files:+d}; {flat}{seen}no leak found"
        )
        print(f"next: python -m benchmarks.latency --model {quote(str(options.config.model.file))}")


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; see `--help`."""
    description = "Run the loop for long; fail where memory or threads grow."
    return run_command("benchmarks.soak", description, SoakOptions, command, argv)


if __name__ == "__main__":
    sys.exit(main())
