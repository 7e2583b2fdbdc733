"""What the machine did meanwhile: each model and the yardstick, round by round, against their own median."""

from __future__ import annotations

import numpy as np

from benchmarks.render.axes import Axis, padded
from benchmarks.render.svg import COLORS, Drawing
from benchmarks.results.results import Results
from benchmarks.results.statistics import Floats, round_medians

YARDSTICK = "plain convolutions"


def draw_drift(results: Results, width: float = 460, height: float = 220) -> Drawing:
    """Draw the medians of all rounds; lines that move together show the machine and not the models."""
    lines = [_relative(model.stage(model.whole)) for model in results.models]
    lines.append(_relative(results.yardstick))
    drawing = Drawing(width, height, "per cent above or below the own median, round by round")
    names = [(f"f{index % COLORS}", model.label) for index, model in enumerate(results.models)]
    top = drawing.legend(0, 0, [*names, ("mark", YARDSTICK)]) + 8
    drawing.height = height + top - 27
    left, right, bottom = 54.0, width - 6, drawing.height - 40
    percents = np.concatenate(lines)
    y = Axis(*padded(float(percents.min()), float(percents.max()), least=8), bottom, top)
    x = Axis(1, results.settings.rounds, left, right)
    for tick in y.ticks(5):
        drawing.line((left, y(tick)), (right, y(tick)), "rule")
        drawing.text(left - 6, y(tick) + 4, f"{tick:+g} %" if tick else "0 %", "soft small", "end")
    for tick in x.ticks(8):
        if tick == int(tick) and tick >= 1:
            drawing.text(x(tick), bottom + 16, f"{tick:g}", "soft small", "middle")
    drawing.text(right, drawing.height - 6, "round", "soft", "end")
    for index, line in enumerate(lines):
        last = index == len(results.models)
        name = YARDSTICK if last else results.models[index].label
        points = [(x(number), y(float(value))) for number, value in enumerate(line, start=1)]
        drawing.path(points, "line yardstick" if last else f"line s{index % COLORS}", name)
    return drawing


def _relative(rounds_ms: Floats) -> Floats:
    """Return each round's median in per cent above or below that of all rounds."""
    medians = round_medians(rounds_ms)
    return np.asarray(100 * (medians / np.median(medians) - 1))
