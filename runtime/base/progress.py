"""A progress bar on stderr where someone watches: tqdm's, where the extra with it is installed."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")


def tracked(
    items: Iterable[Item],
    what: str,
    total: int | None = None,
    amount: Callable[[Item], int] | None = None,
) -> Iterator[Item]:
    """Yield the items and show how far they are; shows nothing where stderr is no terminal.

    Args:
        items: what to go through.
        what: stands before the bar.
        total: number of items where they do not tell it themselves.
        amount: how much of the total an item is; None for one each.

    >>> list(tracked("ab", "letters"))
    ['a', 'b']
    """
    if sys.stderr.isatty():
        try:
            from tqdm import tqdm
        except ImportError:  # not in the base install
            pass
        else:
            if amount is not None:
                with tqdm(desc=what, total=total, leave=False, file=sys.stderr) as bar:
                    for item in items:
                        bar.update(amount(item))
                        yield item
                return
            items = tqdm(items, what, total, leave=False, file=sys.stderr)
    yield from items
