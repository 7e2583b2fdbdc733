"""Says what an ONNX file is: `python -m export.inspect seg.onnx`."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from export.foreign.isolation import Limits, within
from export.graph.inspection import inspect, report_text, try_once
from runtime.base.codec import to_plain
from runtime.base.flags import flag, nested, run_command


@dataclass(frozen=True)
class CommandOptions:
    """What the command line asks for."""

    model: Path = flag("ONNX file", name="model")
    isolated: bool = flag("also run it once, in a process with limits of memory and time", default=False)
    limits: Limits = nested(Limits, without=("isolated",))
    as_json: bool = flag("print one JSON object and nothing else", default=False, name="--json")


def command(options: CommandOptions) -> None:
    """Inspect a file and print what was found."""
    inspection = inspect(options.model)
    trial = within(options.limits, options.model, try_once, options.model) if options.isolated else None
    if options.as_json:
        tried = {} if trial is None else {"trial": to_plain(trial)}
        print(json.dumps({**to_plain(inspection), **tried}, indent=1))
        return
    *lines, following = report_text(inspection).splitlines()
    print("\n".join([*lines, *(trial.lines() if trial is not None else ()), following]))


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; see `--help`."""
    description = "Say what an ONNX file is, without running it unless asked to."
    return run_command("export.inspect", description, CommandOptions, command, argv)


if __name__ == "__main__":
    sys.exit(main())
