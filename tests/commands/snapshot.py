"""Writes what every command's `--help` says into tests/commands/help: `python -m tests.commands.snapshot`.

The page docs/reference/commands.md, which is written too, includes these files.
"""

from __future__ import annotations

import io
import os
import sys
from contextlib import redirect_stdout, suppress
from pathlib import Path

from runtime.__main__ import COMMANDS, main

FOLDER = Path(__file__).parent / "help"
PAGE = Path(__file__).parents[2] / "docs" / "reference" / "commands.md"
COLUMNS = 100


def help_of(name: str) -> str:
    """Return what `edgeseg NAME --help` prints on a terminal of a fixed width; "" lists the commands."""
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = str(COLUMNS)
    printed = io.StringIO()
    try:
        with redirect_stdout(printed), suppress(SystemExit):
            main([name, "--help"] if name else ["--help"])
    finally:
        os.environ.pop("COLUMNS") if before is None else os.environ.update(COLUMNS=before)
    return printed.getvalue()


def reference() -> str:
    """Return the page that lists every command."""
    parts = [
        "# Commands\n\n"
        "Every command is also a module: `edgeseg latency` is `python -m benchmarks.latency`. Exit codes\n"
        "are 0 (done), 1 (a known error, in one line on stderr), 2 (wrong usage), 130 (Ctrl-C), 143\n"
        "(SIGTERM) and 129 (SIGHUP: the terminal was closed).\n\n"
        '```text\n--8<-- "tests/commands/help/edgeseg.txt"\n```\n'
    ]
    for name, command in COMMANDS.items():
        needs = f"`pip install 'edgeseg[{command.extra}]'`" if command.extra else "the base install only"
        parts.append(
            f"## edgeseg {name}\n\n`python -m {command.module}` needs {needs}.\n\n"
            f'```text\n--8<-- "tests/commands/help/{name}.txt"\n```\n'
        )
    return "\n".join(parts)


def snapshots() -> dict[Path, str]:
    """Return the text of every file."""
    helps = {FOLDER / f"{name or 'edgeseg'}.txt": help_of(name) for name in ("", *COMMANDS)}
    return {**helps, PAGE: reference()}


if __name__ == "__main__":
    if sys.version_info[:2] != (3, 11):
        sys.exit("error: argparse writes help differently in each Python; take 3.11, which the test takes")
    FOLDER.mkdir(exist_ok=True)
    for path in FOLDER.glob("*.txt"):
        path.unlink()
    for path, text in snapshots().items():
        path.write_text(text, encoding="utf-8")
        print(path)
