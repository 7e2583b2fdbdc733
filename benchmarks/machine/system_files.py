"""Where a Linux tells about itself; what it does not tell is None, never a guess."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class SystemFiles:
    """The two trees of files that the kernel makes up; tests put their own in their place."""

    proc: Path = Path("/proc")
    sys: Path = Path("/sys")


def text_of(path: Path) -> str | None:
    """Return a file's text without blanks and zeros at its ends; None where it is not there for us."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip(" \n\t\0") or None
    except (OSError, ValueError):
        return None


def number_of(path: Path) -> float | None:
    """Return the number that a file consists of; None where it does not."""
    return number(text_of(path))


def number(text: str | None) -> float | None:
    """Return a text's finite number.

    >>> number("42000"), number("<not supported>"), number("nan"), number(None)
    (42000.0, None, None, None)
    """
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None
