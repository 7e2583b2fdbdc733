"""Durations as people write them."""

from __future__ import annotations

import argparse
import re

_UNITS_S = {"s": 1, "m": 60, "h": 3600}


def duration_s(text: str) -> float:
    """Return the seconds of a duration such as 90s, 10m or 1h.

    >>> duration_s("1.5h")
    5400.0
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text)
    if not found or float(found[1]) == 0:
        raise argparse.ArgumentTypeError(f"expected a duration such as 90s, 10m or 1h, got {text!r}")
    return float(found[1]) * _UNITS_S[found[2]]
