"""A progress bar on stderr where someone watches: tqdm's, where the extra with it is installed."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")


def tracked(items: Iterable[Item], what: str, total: int | None = None) -> Iterator[Item]:
    """Yield the items and show how far they are; shows nothing where stderr is no terminal.

    Args:
        items: what to go through.
        what: stands before the bar.
        total: number of items where they do not tell it themselves.

    >>> list(tracked("ab", "letters"))
    ['a', 'b']
    """
    if sys.stderr.isatty():
        try:
            from tqdm import tqdm
        except ImportError:  # not in the base install
            pass
        else:
            items = tqdm(items, what, total, leave=False, file=sys.stderr)
    yield from items
