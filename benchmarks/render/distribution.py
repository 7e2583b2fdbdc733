"""How a frame's time spreads: every sample, the slowest included, on one logarithmic scale."""

from __future__ import annotations

import numpy as np

from benchmarks.render.axes import Axis
from benchmarks.render.svg import COLORS, Drawing, fitted, text_width
from benchmarks.results.results import Results
from benchmarks.results.statistics import percentile

PERCENTS = (50, 90, 99, 100)
_BINS = 76
_ROW, _HILL = 74.0, 34.0


def draw_distribution(results: Results, width: float = 460) -> Drawing:
    """Draw a hill of samples a model; below it a tick for each sample, and marks at the percentiles."""
    samples = [model.stage(model.whole).ravel() for model in results.models]
    low, high = min(float(one.min()) for one in samples), max(float(one.max()) for one in samples)
    x = Axis(low * 0.93, high * 1.08, 4, width - 4, log=True)
    bottom = _ROW * len(samples)
    drawing = Drawing(width, bottom + 42, "distribution of the milliseconds a frame, logarithmic")
    for tick in x.ticks(8):
        drawing.line((x(tick), 0), (x(tick), bottom), "rule")
        drawing.text(x(tick), bottom + 16, f"{tick:g}", "soft small", "middle")
    drawing.text(width - 4, bottom + 36, "ms, logarithmic; nothing is cut off", "soft", "end")
    edges = np.geomspace(x.low, x.high, _BINS + 1)
    for row, (model, one) in enumerate(zip(results.models, samples, strict=True)):
        color, top = row % COLORS, row * _ROW
        ground = top + 24 + _HILL
        numbers = [percentile(model.stage(model.whole), percent) for percent in PERCENTS]
        named = "  ".join(
            f"{'max' if percent == 100 else f'p{percent}'} {number:.1f}"
            for percent, number in zip(PERCENTS, numbers, strict=True)
        )
        room = width - text_width(named, 11.5) - 8
        drawing.text(0, top + 12, fitted(model.label, room), "strong")
        drawing.text(width, top + 12, named, "soft small", "end")
        counts, _ = np.histogram(one, edges)
        for place in np.flatnonzero(counts).tolist():
            left, right = x(float(edges[place])), x(float(edges[place + 1]))
            high_px = max(1.5, _HILL * counts[place] / counts.max())
            tip = f"{edges[place]:.2f} to {edges[place + 1]:.2f} ms: {counts[place]} of {one.size}"
            drawing.rect((left, ground - high_px), (right - left - 0.6, high_px), f"f{color}", tip)
        drawing.line((0, ground), (width, ground), "frame")
        for number in numbers:
            drawing.line((x(number), ground), (x(number), ground + 7), "mark")
    return drawing
