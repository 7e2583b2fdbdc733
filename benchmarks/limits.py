"""Says how near networks come to what this machine can do: `python -m benchmarks.limits --model a.onnx`."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

from benchmarks.layers.limits import LimitsConfig, measure_limits
from benchmarks.render.document import to_text
from benchmarks.render.reports import limits_blocks
from runtime.base.codec import to_plain
from runtime.base.flags import flag, nested, run_command
from runtime.segmenter import model_path


@dataclass(frozen=True)
class LimitsOptions:
    """What the command line asks for."""

    config: LimitsConfig = nested(LimitsConfig)
    model: tuple[Path, ...] = flag(
        "any ONNX files, or bundled names; without it the bundled s", default=(), metavar="FILE"
    )
    layers: int = flag("layers shown of each network", default=12, at_least=0)
    as_json: bool = flag("print one JSON object and nothing else", default=False, name="--json")


def command(options: LimitsOptions) -> None:
    """Measure and print."""
    paths = tuple(map(model_path, options.model or (None,)))
    report = measure_limits(paths, options.config)
    if options.as_json:
        print(json.dumps(to_plain(report)))
        return
    print(to_text(limits_blocks(report, options.layers)))
    print(f"\nnext: python -m benchmarks.latency --model {quote(str(paths[0]))}")


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; see `--help`."""
    description = "Hold networks and their layers against what this machine can do at most."
    return run_command("benchmarks.limits", description, LimitsOptions, command, argv)


if __name__ == "__main__":
    sys.exit(main())
