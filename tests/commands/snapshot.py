"""Writes what every command's `--help` says into tests/commands/help: `python -m tests.commands.snapshot`.

The reference in docs/ includes these files, so a change of a flag shows up in its review twice.
"""

from __future__ import annotations

import io
import os
import sys
from contextlib import redirect_stdout, suppress
from pathlib import Path

from runtime.__main__ import COMMANDS, main

FOLDER = Path(__file__).parent / "help"
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


def snapshots() -> dict[Path, str]:
    """Return the text of every file."""
    return {FOLDER / f"{name or 'edgeseg'}.txt": help_of(name) for name in ("", *COMMANDS)}


if __name__ == "__main__":
    if sys.version_info[:2] != (3, 11):
        sys.exit("error: argparse writes help differently in each Python; take 3.11, which the test takes")
    FOLDER.mkdir(exist_ok=True)
    for path in FOLDER.glob("*.txt"):
        path.unlink()
    for path, text in snapshots().items():
        path.write_text(text, encoding="utf-8")
        print(path)
