"""The `with` statement of everything that must be closed: sources, outputs, segmenters."""

from __future__ import annotations

from abc import abstractmethod
from typing import Protocol, TypeVar

_Self = TypeVar("_Self", bound="Closable")


class Closable(Protocol):
    """Has a `close` that may be called twice, and is a context manager that calls it."""

    @abstractmethod
    def close(self) -> None:
        """Free what is held; a second call does nothing."""

    def __enter__(self: _Self) -> _Self:
        """Return the object itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it, however the block ended."""
        self.close()
