"""Tables for a terminal."""

from __future__ import annotations

from benchmarks.render.document import Table


def as_text(table: Table) -> str:
    """Return a table in columns, the names to the left and the numbers to the right.

    >>> print(as_text(Table(("ms", "p50"), (("network", "3.07"), ("draw", "0.35")))))
    ms        p50
    network  3.07
    draw     0.35
    """
    rows = [table.header, *table.rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(table.header))]
    lines = []
    for name, *cells in rows:
        aligned = (f"{cell:>{width}}" for cell, width in zip(cells, widths[1:], strict=True))
        lines.append(f"{name:<{widths[0]}}  " + "  ".join(aligned))
    return "\n".join(lines)
