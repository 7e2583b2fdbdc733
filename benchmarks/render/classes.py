"""Accuracy a class: one row a class, one dot a model."""

from __future__ import annotations

from benchmarks.render.axes import Axis
from benchmarks.render.svg import COLORS, Drawing, text_width
from benchmarks.results.results import Results

_DODGE = 4.0  # below each other, since models of the same IoU would hide each other


def draw_classes(results: Results, width: float = 460) -> Drawing:
    """Draw the IoU of every class that occurs, for the models whose accuracy was measured."""
    measured = {
        index: model.accuracy.summary.per_class_iou
        for index, model in enumerate(results.models)
        if model.accuracy is not None
    }
    names = list(next(iter(measured.values())))
    drawing = Drawing(width, 0, "IoU of each class")
    top = (
        drawing.legend(0, 0, [(f"f{index % COLORS}", results.models[index].label) for index in measured]) + 6
    )
    left = max(text_width(name) for name in names) + 8
    high = max(22.0, _DODGE * len(measured) + 8)  # of a row
    bottom = top + high * len(names)
    drawing.height = bottom + 24
    x = Axis(0, 1, left, width - 12)
    for tick in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0):
        drawing.line((x(tick), top), (x(tick), bottom), "rule")
        drawing.text(x(tick), bottom + 16, f"{tick:g}", "soft small", "middle")
    for row, name in enumerate(names):
        middle = top + (row + 0.5) * high
        drawing.text(left - 10, middle + 4, name, "", "end")
        found = [(index, iou[name]) for index, iou in measured.items()]
        known = [(index, iou) for index, iou in found if iou is not None]
        if not known:
            drawing.text(left, middle + 4, "does not occur", "soft small")
            continue
        drawing.line((left, middle + high / 2), (width - 12, middle + high / 2), "rule")
        for place, (index, iou) in enumerate(known):
            at = x(iou), middle + (place - (len(known) - 1) / 2) * _DODGE
            label = results.models[index].label
            drawing.circle(at, 3.5, f"f{index % COLORS}", f"{label}: {name} {iou:.3f}")
    return drawing
