"""A progress bar on stderr, without a package for it."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")
CELLS = 20


def tracked(items: Iterable[T], total: int, what: str) -> Iterator[T]:
    """Yield the items and draw how far they are; draws nothing where stderr is not a terminal.

    >>> list(tracked("ab", 2, "letters"))
    ['a', 'b']
    """
    drawn = sys.stderr.isatty()
    for done, item in enumerate(items):
        if drawn:
            _draw(done, total, what)
        yield item
    if drawn:
        sys.stderr.write("\r\033[K")
        sys.stderr.flush()


def _draw(done: int, total: int, what: str) -> None:
    filled = CELLS * done // max(total, 1)
    sys.stderr.write(f"\r\033[K{what} [{'#' * filled}{' ' * (CELLS - filled)}] {done}/{total}")
    sys.stderr.flush()
