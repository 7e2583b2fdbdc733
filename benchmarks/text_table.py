"""A table for people, in columns for a terminal or in Markdown."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Table:
    """Rows of cells under a title; the first cell of a row is its name."""

    title: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def as_text(self) -> str:
        """Return it in columns."""
        lines = [self.heads, *self.rows]
        wide = [max(len(line[place]) for line in lines) for place in range(len(self.heads))]
        return "\n".join(
            " ".join(
                [
                    line[0].ljust(wide[0]),
                    *(cell.rjust(max(8, w)) for cell, w in zip(line[1:], wide[1:], strict=True)),
                ]
            )
            for line in lines
        )

    def as_markdown(self) -> str:
        """Return it as GitHub shows tables."""
        lines = [self.heads, ("---",) * len(self.heads), *self.rows]
        return "\n".join("| " + " | ".join(line) + " |" for line in lines).replace(" --- ", "---")
