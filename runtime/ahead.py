"""Computes the next item while the caller works on this one."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from queue import SimpleQueue
from typing import Generic, TypeVar

from runtime.base.closing import Closable

_Item = TypeVar("_Item")
_CLOSE_WAIT_S = 0.5


class _End:
    """Nothing more comes; with the error that ended it, if there was one."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error


class Ahead(Closable, Iterator[_Item], Generic[_Item]):
    """The items of an iterable, each computed in a thread of its own while the caller uses the one before.

    Exactly one item is in the making or waits: the thread starts on the next one when the caller takes
    this one, no sooner. So nothing piles up where the caller is slow, and in a chain of them every link
    works on its own item. An error comes after the items before it, where the caller would have met it.

    The waiting is inside C code only, so that a signal handler may raise in a caller who waits.

    >>> with Ahead(number * number for number in range(4)) as squares:
    ...     list(squares)
    [0, 1, 4, 9]
    """

    def __init__(self, items: Iterable[_Item], name: str = "ahead") -> None:
        """Start on the first item.

        Args:
            items: iterated in the thread; the caller must not touch it before `close`.
            name: of the thread.
        """
        self._items = items
        self._wanted: SimpleQueue[None] = SimpleQueue()
        self._made: SimpleQueue[_Item | _End] = SimpleQueue()
        self._is_closed = False
        self._wanted.put(None)
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def __next__(self) -> _Item:
        """Wait for an item and ask for the next; raise what computing it raised."""
        made = self._made.get()
        if isinstance(made, _End):
            self._made.put(_End())  # for whoever asks again
            if made.error is not None:
                raise made.error
            raise StopIteration
        self._wanted.put(None)
        return made

    def close(self) -> None:
        """End the thread, and wait for it half a second.

        A thread that waits for a camera which gives nothing ends when that camera is closed.
        """
        self._is_closed = True
        self._wanted.put(None)
        self._made.put(_End())  # for a link of a chain that waits for this one
        self._thread.join(_CLOSE_WAIT_S)

    def _work(self) -> None:
        end = _End()
        try:
            items = iter(self._items)
            while True:
                self._wanted.get()
                if self._is_closed:
                    break
                try:
                    item = next(items)
                except StopIteration:
                    break
                self._made.put(item)
                del item  # it is the caller's now, who may want its memory back
        except BaseException as error:
            end = _End(error)
        self._made.put(end)
