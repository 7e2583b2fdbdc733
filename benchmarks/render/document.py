"""One text, three forms: columns for a terminal, Markdown for a repository, HTML for a browser."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from itertools import groupby
from typing import TextIO

from benchmarks.render.canvas import THEME, Chart
from runtime.base.shown import printable


@dataclass(frozen=True)
class Heading:
    """Begins a section; one that is not wide may stand beside another where there is room."""

    text: str
    wide: bool = True


@dataclass(frozen=True)
class Paragraph:
    """Plain text; `code` between backticks. A warning stands out."""

    text: str
    warning: bool = False


@dataclass(frozen=True)
class Bullets:
    """A list of plain texts."""

    items: Sequence[str]


@dataclass(frozen=True)
class Command:
    """A command to paste."""

    text: str


@dataclass(frozen=True)
class Table:
    """Rows of plain texts: the first column names the row, the others are numbers.

    Attributes:
        header: names of the columns.
        rows: as many texts each.
        has_notes: whether the last column is text, too.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    has_notes: bool = False


@dataclass(frozen=True)
class Figure:
    """A picture, also a file `name`.svg beside the page."""

    name: str
    chart: Chart
    caption: str


_CODE_OR_TAG = re.compile(r"(`[^`]*`)|<(?=[\w!?/])")

Block = Heading | Paragraph | Bullets | Command | Table | Figure


def to_text(blocks: Iterable[Block]) -> str:
    """Return the text for a terminal, without figures.

    >>> print(to_text([Heading("Stages"), Table(("ms", "p50"), (("network", "3.07"), ("draw", "0.35")))]))
    Stages
    ms        p50
    network  3.07
    draw     0.35
    """
    parts: list[str] = []
    for block in blocks:
        match block:
            case Heading() | Paragraph():
                parts.append(block.text)
            case Bullets():
                parts.append("\n".join(block.items))
            case Command():
                parts.append(f"    {block.text}")
            case Table():
                parts.append("\n".join(_lines(block)))
        if not isinstance(block, Figure | Heading):
            parts.append("")
    return "\n".join(parts).rstrip("\n")


def _lines(table: Table) -> list[str]:
    """Return a table in columns, texts to the left and numbers to the right."""
    rows = [table.header, *table.rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    texts = {0, len(widths) - 1} if table.has_notes else {0}
    return [
        "  ".join(
            cell.ljust(width) if column in texts else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


class LiveTable:
    """Prints a table whose rows come one by one, so that its columns cannot be fitted to them."""

    def __init__(self, header: Sequence[str], out: TextIO, width: int = 8) -> None:
        """Print the header; columns are so wide at least."""
        self._widths = [max(len(name), width) for name in header]
        self._out = out
        self.row(header)

    def row(self, cells: Sequence[str]) -> None:
        """Print one row."""
        aligned = (cell.rjust(width) for cell, width in zip(cells, self._widths, strict=True))
        print(" ".join(aligned), file=self._out, flush=True)


def to_markdown(title: str, blocks: Sequence[Block]) -> str:
    """Return the text as Markdown; figures are files beside it."""
    parts = [f"# {_inert(title)}"] if title else []
    for block in blocks:
        match block:
            case Heading():
                parts.append(f"## {_inert(block.text)}")
            case Paragraph():
                text = _inert(block.text)
                parts.append(f"**{text}**" if block.warning else text)
            case Bullets():
                parts.append("\n".join(f"- {_inert(item)}" for item in block.items))
            case Command():
                parts.append("\n".join(f"    {line}" for line in block.text.splitlines()))
            case Table():
                rule = ["---", *("---:" for _ in block.header[1:])]
                if block.has_notes:
                    rule[-1] = "---"
                rows = [block.header, rule, *block.rows]
                parts.append("\n".join(f"| {' | '.join(map(_cell, row))} |" for row in rows))
            case Figure():
                parts.append(f"![{_inert(block.chart.title)}]({block.name}.svg)\n\n{_inert(block.caption)}")
    return "\n\n".join(parts) + "\n"


def to_html(title: str, blocks: Sequence[Block]) -> str:
    """Return the text as a page that needs nothing but itself: no script, no other file, no network."""
    css = THEME + files("benchmarks.render").joinpath("page.css").read_text(encoding="utf-8")
    body = "\n".join(_group(wide, sections) for wide, sections in groupby(_sections(blocks), _is_wide))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        '<link rel="icon" href="data:,">\n'
        f"<title>{escape(title)}</title>\n<style>\n{css}</style>\n</head>\n<body>\n<main>\n"
        f"<h1>{escape(title)}</h1>\n{body}\n</main>\n</body>\n</html>\n"
    )


def _sections(blocks: Sequence[Block]) -> list[list[Block]]:
    """Cut a text at its headings."""
    sections: list[list[Block]] = [[]]
    for block in blocks:
        if isinstance(block, Heading):
            sections.append([])
        sections[-1].append(block)
    return [section for section in sections if section]


def _is_wide(section: Sequence[Block]) -> bool:
    return not isinstance(section[0], Heading) or section[0].wide


def _group(wide: bool, sections: Iterable[Sequence[Block]]) -> str:
    """Return neighbouring sections, in columns if they are narrow."""
    texts = ["<section>\n" + "\n".join(map(_html, section)) + "\n</section>" for section in sections]
    text = "\n".join(texts)
    return text if wide else f'<div class="columns">\n{text}\n</div>'


def _html(block: Block) -> str:
    match block:
        case Heading():
            return f"<h2>{_inline(block.text)}</h2>"
        case Paragraph():
            return f"<p{' class=warning' if block.warning else ''}>{_inline(block.text)}</p>"
        case Bullets():
            return "<ul>" + "".join(f"<li>{_inline(item)}</li>" for item in block.items) + "</ul>"
        case Command():
            return f"<pre><code>{escape(block.text)}</code></pre>"
        case Table():
            head = "".join(f'<th scope="col">{_inline(name)}</th>' for name in block.header)
            rows = "".join(
                f'<tr><th scope="row">{_inline(row[0])}</th>'
                + "".join(f"<td>{_inline(cell)}</td>" for cell in row[1:])
                + "</tr>"
                for row in block.rows
            )
            table = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
            return f'<div class="table" tabindex="0">{table}</div>'
        case Figure():
            return f"<figure>{block.chart.inline()}<figcaption>{_inline(block.caption)}</figcaption></figure>"


def _inline(text: str) -> str:
    """Return text as HTML, with what is between backticks as code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))


def _cell(text: str) -> str:
    """Return text for a Markdown table, where a bar would begin a new cell and a line's end a new row."""
    return _inert(printable(text)).replace("|", "\\|")


def _inert(text: str) -> str:
    """Return text for Markdown, where a tag outside of code would be HTML."""
    return _CODE_OR_TAG.sub(lambda found: found[1] or "&lt;", text)
