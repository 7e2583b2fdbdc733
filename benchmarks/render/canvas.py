"""What all charts share: matplotlib's style, light and dark, and SVG that fits into a page.

matplotlib belongs to the extra `bench` and is loaded by the first chart: measuring, JSON and Markdown work
without it, and `available` tells whether it is there. Colours are written as CSS variables: a page that holds
`THEME` shows all charts in its own light or dark, and a file of its own brings `THEME` along.
"""

from __future__ import annotations

import functools
import importlib.util
import io
import re
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec
from xml.etree import ElementTree

if TYPE_CHECKING:
    from matplotlib.figure import Figure

P = ParamSpec("P")

MISSING = "no figures: matplotlib is not installed; pip install 'edgeseg[bench]'"
WIDTH = 460.0  # pixels; on a phone of 390 a text of 13 is still one of 9.5
SMALL = 11.5  # of a text

# In light and dark. matplotlib draws in the light colours, each of which becomes a variable of its name.
_COLORS = {
    "ground": ("#ffffff", "#171b22"),
    "ink": ("#171a21", "#e9ecf2"),
    "soft": ("#5c6474", "#a0a9b8"),
    "rule": ("#e3e6ec", "#2a303b"),
    "frame": ("#aab1bf", "#5d6779"),
    "on": ("#fefefe", "#14171d"),  # text on a coloured bar
    "model0": ("#2a6fdb", "#6ea3ff"),
    "model1": ("#c9580a", "#ff9d4d"),
    "model2": ("#0e8a66", "#4fcfa5"),
    "model3": ("#ad3a9e", "#e58ad8"),
    "model4": ("#857400", "#d6c552"),
    "model5": ("#c5302d", "#ff8078"),
    "model6": ("#6a55d8", "#aca3ff"),
    "model7": ("#5d6b7a", "#a9b5c4"),
    "resize": ("#a9b4c8", "#6b778d"),
    "network": ("#2b70dc", "#6fa4ff"),
    "mask": ("#12967a", "#50d0a6"),
    "draw": ("#d9a03a", "#d9a94f"),
}
GROUND, INK, SOFT, RULE, FRAME, ON = (light for light, _ in list(_COLORS.values())[:6])
MODELS = tuple(light for name, (light, _) in _COLORS.items() if name.startswith("model"))
STAGE_COLORS = {name: _COLORS[name][0] for name in ("resize", "network", "mask", "draw")}
_VARIABLES = {light: f"var(--{name})" for name, (light, _) in _COLORS.items()}


def _variables(theme: int) -> str:
    return "".join(f" --{name}: {colors[theme]};" for name, colors in _COLORS.items())


THEME = (
    ":root { --font: system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif;"
    f"{_variables(0)} }}\n@media (prefers-color-scheme: dark) {{ :root {{{_variables(1)} }} }}\n"
)

_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text, which can be found and read aloud
    "text.parse_math": False,  # names of files may hold a $
    "font.family": "DejaVu Sans",  # comes with matplotlib, and is wider than what a browser takes for it
    "font.size": 13,
    "figure.dpi": 72,  # so that a point is a pixel of the SVG
    "figure.constrained_layout.w_pad": 2 / 72,
    "figure.constrained_layout.h_pad": 2 / 72,
    "text.color": INK,
    "axes.edgecolor": FRAME,
    "axes.labelcolor": SOFT,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": RULE,
    "grid.linewidth": 1,
    **{f"axes.spines.{side}": False for side in ("top", "right", "left")},
    **{f"{axis}tick.labelcolor": SOFT for axis in "xy"},
    **{f"{axis}tick.labelsize": SMALL for axis in "xy"},
    **{f"{axis}tick.major.size": 0 for axis in "xy"},
}


@dataclass(frozen=True)
class Chart:
    """A picture.

    Attributes:
        title: what a screen reader says.
        width: in pixels.
        height: in pixels.
        elements: the SVG between its outer tags.
    """

    title: str
    width: float
    height: float
    elements: str

    def inline(self) -> str:
        """Return the picture for a page that holds `THEME`."""
        return f"<svg{self._attributes(0)}>{self.elements}</svg>"

    def file(self) -> str:
        """Return the picture as a file of its own, on an opaque ground."""
        ground = '<rect x="-16" y="-16" width="100%" height="100%" rx="8" style="fill: var(--ground)"/>'
        head = f'<svg xmlns="http://www.w3.org/2000/svg"{self._attributes(16)}>'
        return f"{head}\n<style>\n{THEME}</style>\n{ground}\n{self.elements}\n</svg>\n"

    def _attributes(self, margin: int) -> str:
        width, height = round(self.width) + 2 * margin, round(self.height) + 2 * margin
        return (
            f' class="figure" width="{width}" height="{height}"'
            f' viewBox="{-margin} {-margin} {width} {height}"'
            f' style="stroke-linejoin: round" role="img" aria-label="{escape(self.title)}"'
        )


def available() -> bool:
    """Return whether there is a matplotlib to draw with; it is not loaded."""
    return importlib.util.find_spec("matplotlib") is not None


def style(**others: Any) -> AbstractContextManager[None]:
    """Return a context in which matplotlib draws in the style of all charts."""
    from matplotlib import rc_context

    return rc_context(_STYLE | others)


def chart(title: str) -> Callable[[Callable[Concatenate[Figure, P], None]], Callable[P, Chart]]:
    """Turn a function that fills a matplotlib figure into one that returns the finished chart.

    The function's first argument is the figure, whose size it sets with `begin`.
    """

    def decorate(draw: Callable[Concatenate[Figure, P], None]) -> Callable[P, Chart]:
        @functools.wraps(draw)
        def drawn(*args: P.args, **options: P.kwargs) -> Chart:
            from matplotlib.figure import Figure

            # The salt names clip paths, which must differ between the charts of one page.
            with style(**{"svg.hashsalt": draw.__name__}):
                figure = Figure(figsize=(WIDTH / 72, 1), layout="constrained")
                draw(figure, *args, **options)
                written = io.StringIO()
                nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
                figure.savefig(written, format="svg", transparent=True, metadata=nothing)
            width, height = (72 * figure.get_size_inches()).tolist()
            return Chart(title, width, height, _elements(written.getvalue()))

        return drawn

    return decorate


def _elements(svg: str) -> str:
    """Return what matplotlib drew, in the theme's variables and without rules for the rest of a page."""
    space, link = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}href"
    root = ElementTree.fromstring(svg)
    used = set(re.findall(r"url\(#([\w-]+)\)", svg)) | {each.get(link, "")[1:] for each in root.iter()}
    for definitions in root.findall(f"{space}defs"):
        for style_sheet in definitions.findall(f"{space}style"):
            definitions.remove(style_sheet)  # its rule is for all elements of a page
    for element in root.iter():
        element.tag = element.tag.removeprefix(space)
        element.tail = None
        if element.tag != "text":
            element.text = None
        if element.get("id") not in used:
            element.attrib.pop("id", None)
        if element.get("transform", "").startswith("rotate(-0 "):
            del element.attrib["transform"]
        if link in element.attrib:
            element.set("href", element.attrib.pop(link))
        for name in {"d", "x", "y", "width", "height"} & element.attrib.keys():
            element.set(name, re.sub(r"-?\d+\.\d+", _rounded, " ".join(element.attrib[name].split())))
        style = re.sub("font-family: [^;]*", "font-family: var(--font)", element.get("style", ""))
        if style:
            element.set("style", re.sub("#[0-9a-f]{6}", _variable, style))
    return "".join(ElementTree.tostring(child, encoding="unicode") for child in root)


def _rounded(number: re.Match[str]) -> str:
    return f"{float(number[0]):.1f}".removesuffix(".0")


def _variable(color: re.Match[str]) -> str:
    return _VARIABLES.get(color[0], color[0])


def model_color(index: int) -> str:
    """Return a model's colour; more models than colours share them."""
    return MODELS[index % len(MODELS)]


def text_width(figure: Figure, text: str, size: float = 13, weight: str = "normal") -> float:
    """Return how many pixels a text takes."""
    written = figure.text(0, 0, text, fontsize=size, fontweight=weight)
    width = written.get_window_extent().width
    written.remove()
    return float(width)


def fitted(figure: Figure, text: str, width: float) -> str:
    """Return a bold text, its end cut off where it would be wider than so many pixels."""
    shown = text
    while text_width(figure, shown, weight="bold") > width and len(shown) > 2:
        shown = f"{shown[:-2]}…"
    return shown


def begin(
    figure: Figure, height: float, legend: Iterable[tuple[str, str]] = (), width: float = WIDTH
) -> None:
    """Set a figure's size, with colours and names above it in as many rows as they need.

    Args:
        figure: empty.
        height: in pixels, without the legend.
        legend: a colour and a name each; a colour that ends in "-" or "--" is one of a line.
        width: in pixels.
    """
    from matplotlib.lines import Line2D
    from matplotlib.patches import Rectangle

    x, y, placed = 0.0, 0.0, []
    for color, name in legend:
        shown = fitted(figure, name, width - 20)
        wide = 16 + text_width(figure, shown)
        if x and x + wide > width:
            x, y = 0.0, y + 19
        placed.append((x, y, color, shown))
        x += wide + 14
    high = y + 22 if placed else 0.0
    figure.set_size_inches(width / 72, (height + high) / 72)
    for x, y, color, name in placed:
        bottom = height + high - y - 13
        line = color.lstrip("#0123456789abcdef")
        if line:
            style: Any = "-" if line == "-" else (0, (2, 1))
            ends = [x, x + 11], [bottom + 5.5] * 2
            figure.add_artist(Line2D(*ends, color=color[:7], linestyle=style, linewidth=2, transform=None))
        else:
            figure.add_artist(Rectangle((x, bottom), 11, 11, facecolor=color, transform=None))
        figure.text(x + 16, bottom + 1, name, color=SOFT, transform=None)
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.set(rect=(0, 0, 1, height / (height + high)))  # type: ignore[call-arg]


def log_ticks(axis: Any, most: int = 8, unit: str = "") -> None:
    """Put plain numbers at round places of a logarithmic axis."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=most))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}{unit}"))
