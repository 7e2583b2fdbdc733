"""The whole path on built-in data: `python -m benchmarks.demo` trains, exports, runs and measures."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

from benchmarks.render.document import to_text
from benchmarks.subjects.demo import result_table, run_demo
from runtime.base.flags import flag, run_command


@dataclass(frozen=True)
class DemoOptions:
    """What the command line asks for."""

    out: Path = flag("folder; an earlier demo's files are replaced", default=Path("runs/demo"))


def command(options: DemoOptions) -> None:
    """Run the demo and print what it measured."""
    result = run_demo(options.out)
    print(f"\n{to_text([result_table(result)])}\n")
    print(f"look at   {options.out / 'contact_sheet.png'}   {options.out / 'overlay.mp4'}\n")
    model = quote(str(result.export.path))
    print(f"next: python -m runtime.camera --model {model} --source 0")
    print(f"      python -m runtime.camera --model {model} --source synthetic --headless --max-frames 300")
    print(f"      python -m benchmarks.latency --model {model}")
    print("      python -m training.train --data camvid --root DIR --out runs/camvid")


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; see `--help`."""
    description = (
        "Train, export, run and measure a small network on built-in street scenes, in two to four minutes."
    )
    return run_command("benchmarks.demo", description, DemoOptions, command, argv)


if __name__ == "__main__":
    sys.exit(main())
