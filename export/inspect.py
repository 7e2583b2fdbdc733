"""Says what an ONNX file is: `python -m export.inspect seg.onnx`."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from export.graph.inspection import inspect, report_text
from runtime.base.codec import to_plain
from runtime.base.flags import flag, run_command


@dataclass(frozen=True)
class CommandOptions:
    """What the command line asks for."""

    model: Path = flag("ONNX file", name="model")
    as_json: bool = flag("print one JSON object and nothing else", default=False, name="--json")


def command(options: CommandOptions) -> None:
    """Inspect a file and print what was found."""
    inspection = inspect(options.model)
    print(json.dumps(to_plain(inspection), indent=1) if options.as_json else report_text(inspection))


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; see `--help`."""
    description = "Say what an ONNX file is, without running it."
    return run_command("export.inspect", description, CommandOptions, command, argv)


if __name__ == "__main__":
    sys.exit(main())
