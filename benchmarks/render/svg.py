"""Draws SVG, as text and without a library: crisp on every screen, light or dark with its surroundings."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files

COLORS = 8  # of the style sheet; more models than that share
_CHAR = 0.57  # mean width of a character, of the font's size

Point = tuple[float, float]


def figure_css() -> str:
    """Return the style sheet of all figures."""
    return files("benchmarks.render").joinpath("figure.css").read_text(encoding="utf-8")


def text_width(text: str, size: float = 13) -> float:
    """Return about how wide a text will be, in pixels."""
    return _CHAR * size * len(text)


def fitted(text: str, width: float, size: float = 13) -> str:
    """Return a text, its end cut off where it would be wider than so many pixels.

    >>> fitted("a-very-long-name", 60)
    'a-very-…'
    """
    most = max(1, int(width / (_CHAR * size)))
    return text if len(text) <= most else f"{text[: most - 1]}…"


class Drawing:
    """A picture that grows element by element; coordinates in pixels from the top left.

    Every text and tip is escaped here, since names come from files.

    >>> drawing = Drawing(40, 20, "a < b")
    >>> drawing.text(2, 12, "R&D")
    >>> drawing.inline()
    '<svg class="figure" viewBox="0 0 40 20" role="img" aria-label="a &lt; b">\
<text x="2" y="12">R&amp;D</text></svg>'
    """

    def __init__(self, width: float, height: float, title: str) -> None:
        """Start an empty picture; the title is what a screen reader says."""
        self.width, self.height, self.title = width, height, title
        self._elements: list[str] = []

    def text(self, x: float, y: float, text: str, style: str = "", anchor: str = "start") -> None:
        """Write one line; anchor "start", "middle" or "end"."""
        place = "" if anchor == "start" else f' text-anchor="{anchor}"'
        self._add("text", style, f' x="{_n(x)}" y="{_n(y)}"{place}', escape(text))

    def line(self, start: Point, end: Point, style: str) -> None:
        """Draw a straight line."""
        self._add(
            "line", style, f' x1="{_n(start[0])}" y1="{_n(start[1])}" x2="{_n(end[0])}" y2="{_n(end[1])}"'
        )

    def path(self, points: Iterable[Point], style: str, tip: str = "") -> None:
        """Draw a line through points."""
        way = " ".join(f"{'L' if index else 'M'}{_n(x)} {_n(y)}" for index, (x, y) in enumerate(points))
        self._add("path", style, f' d="{way}"', _tip(tip))

    def rect(self, corner: Point, size: Point, style: str, tip: str = "", radius: float = 0) -> None:
        """Draw a filled rectangle."""
        rounded = f' rx="{_n(radius)}"' if radius else ""
        self._add(
            "rect",
            style,
            f' x="{_n(corner[0])}" y="{_n(corner[1])}" width="{_n(max(size[0], 0))}" '
            f'height="{_n(max(size[1], 0))}"{rounded}',
            _tip(tip),
        )

    def circle(self, center: Point, radius: float, style: str, tip: str = "") -> None:
        """Draw a disc."""
        self._add("circle", style, f' cx="{_n(center[0])}" cy="{_n(center[1])}" r="{_n(radius)}"', _tip(tip))

    def legend(self, left: float, top: float, entries: Sequence[tuple[str, str]]) -> float:
        """Write chips and names in as many rows as they need; return where the last row ends.

        Args:
            left: of the first chip.
            top: of the first row.
            entries: style of the chip and name.
        """
        x, y = left, top
        for style, name in entries:
            wide = 16 + text_width(name) + 14
            if x > left and x + wide - 14 > self.width:
                x, y = left, y + 19
            self.rect((x, y + 2), (11, 11), style, radius=2.5)
            self.text(x + 16, y + 12, name, "soft")
            x += wide
        return y + 19

    def inline(self) -> str:
        """Return the picture for a page that holds `figure_css`."""
        return f'<svg class="figure" {self._head()}>{"".join(self._elements)}</svg>'

    def file(self) -> str:
        """Return the picture as a file of its own, on an opaque ground."""
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" class="figure" width="{_n(self.width + 32)}" '
            f'height="{_n(self.height + 32)}" viewBox="-16 -16 {_n(self.width + 32)} {_n(self.height + 32)}" '
            f'role="img" aria-label="{escape(self.title)}">\n<style>\n{figure_css()}</style>\n'
            f'<rect class="ground" x="-16" y="-16" width="100%" height="100%" rx="8"/>\n'
            + "\n".join(self._elements)
            + "\n</svg>\n"
        )

    def _head(self) -> str:
        return (
            f'viewBox="0 0 {_n(self.width)} {_n(self.height)}" role="img" aria-label="{escape(self.title)}"'
        )

    def _add(self, tag: str, style: str, attributes: str, content: str = "") -> None:
        kind = f' class="{style}"' if style else ""
        end = f">{content}</{tag}>" if content else "/>"
        self._elements.append(f"<{tag}{kind}{attributes}{end}")


def _tip(text: str) -> str:
    """Return what a browser shows under the pointer."""
    return f"<title>{escape(text)}</title>" if text else ""


def _n(number: float) -> str:
    """Return a coordinate, to a tenth of a pixel."""
    return f"{number:.1f}".removesuffix(".0")
