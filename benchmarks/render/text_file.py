"""Writes what a benchmark leaves as text."""

from __future__ import annotations

from pathlib import Path

from runtime import OutputError
from runtime.base.files import replacing


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all.

    Raises:
        OutputError: a file that cannot be written.
    """
    try:
        with replacing(path) as part:
            part.write_text(text, encoding="utf-8")
    except OSError as error:
        raise OutputError(
            f"{path}: expected a file that can be written, got {error}; choose another"
        ) from error
