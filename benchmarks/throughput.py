"""Compares the whole loop with the network alone: `python -m benchmarks.throughput --source clip.mp4`."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from shlex import quote

from benchmarks.render.document import to_text
from benchmarks.render.reports import throughput_blocks
from benchmarks.timing.throughput import ThroughputConfig, measure_throughput
from runtime.base.codec import to_plain
from runtime.base.flags import flag, nested, run_command


@dataclass(frozen=True)
class ThroughputOptions:
    """What the command line asks for."""

    config: ThroughputConfig = nested(ThroughputConfig)
    as_json: bool = flag("print one JSON object and nothing else", default=False, name="--json")


def command(options: ThroughputOptions) -> None:
    """Measure and print."""
    report = measure_throughput(options.config)
    if options.as_json:
        print(json.dumps(to_plain(report)))
        return
    print(to_text(throughput_blocks(report)))
    print(f"\nnext: python -m benchmarks.tune --model {quote(str(options.config.model.file))}")


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; see `--help`."""
    description = "Compare the whole loop's rate with the network's alone."
    return run_command("benchmarks.throughput", description, ThroughputOptions, command, argv)


if __name__ == "__main__":
    sys.exit(main())
