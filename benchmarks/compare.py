"""Says what got slower or worse between two reports, beyond the noise.

`python -m benchmarks.compare old.json new.json --fail-on-regression` reads two results.json of
`benchmarks.report`, of one machine and the same settings.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.render.document import to_text
from benchmarks.render.reports import comparison_blocks
from benchmarks.results.compare import Limits, compare
from benchmarks.results.results import read_results
from runtime.base.codec import to_plain
from runtime.base.flags import flag, nested, run_command
from runtime.errors import EdgesegError


@dataclass(frozen=True)
class CompareOptions:
    """What the command line asks for."""

    old: Path = flag("results.json of benchmarks.report", name="old")
    new: Path = flag("a later one", name="new")
    limits: Limits = nested(Limits)
    fail_on_regression: bool = flag("exit with 1 if there is one", default=False)
    allow_different: bool = flag("compare different machines or settings too", default=False)
    as_json: bool = flag("print one JSON object and nothing else", default=False, name="--json")


def command(options: CompareOptions) -> None:
    """Compare and print."""
    old, new = read_results(options.old), read_results(options.new)
    comparison = compare(old, new, options.limits, allow_different=options.allow_different)
    print(json.dumps(to_plain(comparison)) if options.as_json else to_text(comparison_blocks(comparison)))
    regressions = [change for change in comparison.changes if change.is_regression]
    if regressions and options.fail_on_regression:
        named = ", ".join(f"{change.label} {change.what} {change.verdict}" for change in regressions)
        raise EdgesegError(f"compare: expected nothing slower or worse, got {named}; see the table")


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; see `--help`."""
    description = "Say what changed between two reports, beyond the noise."
    return run_command("benchmarks.compare", description, CompareOptions, command, argv)


if __name__ == "__main__":
    sys.exit(main())
