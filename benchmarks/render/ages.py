"""The age of every mask over time, a panel for each rate of the source."""

from __future__ import annotations

import math
from collections.abc import Sequence

from benchmarks.render.axes import Axis
from benchmarks.render.svg import Drawing, text_width
from benchmarks.timing.ages import RateResult
from runtime.base.percentiles import percentiles

COLUMN = 3.0  # pixels; the masks in one are drawn together, from the youngest to the oldest
PANEL, HEAD, FOOT, LEFT = 96.0, 42.0, 24.0, 44.0


def draw_ages(rates: Sequence[RateResult], deadline_ms: float, width: float = 460) -> Drawing:
    """Draw them below each other on one scale, which is logarithmic, so that no outlier hides the rest.

    Args:
        rates: at least one.
        deadline_ms: drawn as a line across each panel.
        width: in pixels.
    """
    ages_ms = [mask.age_ms for rate in rates for mask in rate.masks]
    low, high = min(*ages_ms, deadline_ms) / 1.15, max(*ages_ms, deadline_ms) * 1.15
    drawing = Drawing(width, 0, "age of each mask over time, from capture to mask, a panel for each rate")
    names = [
        ("f0", "youngest to oldest mask"),
        ("f1", "median"),
        ("front", f"late: above {deadline_ms:g} ms"),
    ]
    top = drawing.legend(0, 0, names)
    for rate in rates:
        top += HEAD
        drawing.text(0, top - 19, f"{rate.times_capacity:g}× capacity", "strong")
        drawing.text(
            text_width(f"{rate.times_capacity:g}× capacity  ") + 4,
            top - 19,
            f"{rate.source_fps:.0f} frames/s come, {rate.masks_a_second:.0f} masks/s go",
            "soft",
        )
        drawing.text(0, top - 4, summary(rate), "soft small")
        y = Axis(low, high, top + PANEL, top + 4, log=True)
        _draw_panel(drawing, rate, y, deadline_ms)
        top += PANEL + FOOT
    drawing.text(width - 6, top + 6, "seconds", "soft small", "end")
    drawing.height = top + 10
    return drawing


def summary(rate: RateResult) -> str:
    """Return a panel's numbers in words."""
    age = rate.age_ms
    return (
        f"age p50 {age['p50']:.1f}, p99 {age['p99']:.1f}, max {age['max']:.1f} ms; "
        f"{rate.dropped_percent:.0f} % dropped; {rate.late} of {len(rate.masks)} late"
    )


def _draw_panel(drawing: Drawing, rate: RateResult, y: Axis, deadline_ms: float) -> None:
    right = drawing.width - 6
    x = Axis(0, max(mask.ready_s for mask in rate.masks), LEFT, right)
    for tick in y.ticks(4):
        drawing.line((LEFT, y(tick)), (right, y(tick)), "rule")
        drawing.text(LEFT - 6, y(tick) + 4, f"{tick:g} ms", "soft small", "end")
    for tick in x.ticks(6):
        drawing.text(x(tick), y.start + 13, f"{tick:g}", "soft small", "middle")
    columns: dict[int, list[float]] = {}
    for mask in rate.masks:
        columns.setdefault(math.floor((x(mask.ready_s) - LEFT) / COLUMN), []).append(mask.age_ms)
    medians = []
    for column, ages_ms in sorted(columns.items()):
        middle = LEFT + (column + 0.5) * COLUMN
        youngest, oldest = y(min(ages_ms)) + 0.8, y(max(ages_ms)) - 0.8  # a single one is a dot
        drawing.line((middle, youngest), (middle, oldest), "whisker s0")
        medians.append((middle, y(percentiles(ages_ms)["p50"])))
    drawing.path(medians, "line s1", summary(rate))
    drawing.line((LEFT, y(deadline_ms)), (right, y(deadline_ms)), "front")
