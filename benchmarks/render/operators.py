"""Where a network's time goes: one bar a model, one part a kind of operator."""

from __future__ import annotations

from collections import Counter

from benchmarks.render.axes import Axis
from benchmarks.render.svg import COLORS, Drawing, fitted, text_width
from benchmarks.results.results import Results

OTHERS = "others"
_ROW = 46.0


def operator_times(results: Results) -> dict[str, dict[str, float]]:
    """Return the sums of the layers' median milliseconds, a model and operator, for the models profiled.

    Operators that take most come first; those beyond the colours are put together.
    """
    totals: Counter[str] = Counter()
    times: dict[str, Counter[str]] = {}
    for model in results.models:
        if model.limits is not None:
            times[model.label] = Counter()
            for op in model.limits.ops:
                times[model.label][op.operator] += op.median_ms  # type: ignore[assignment]
            totals.update(times[model.label])
    named = [operator for operator, _ in totals.most_common(COLORS - 1)]
    found = {}
    for label, counted in times.items():
        found[label] = {operator: float(counted[operator]) for operator in named if counted[operator]}
        if rest := sum(counted.values()) - sum(found[label].values()):
            found[label][OTHERS] = rest
    return found


def draw_operators(results: Results, width: float = 460) -> Drawing:
    """Draw the times of the operators that onnxruntime ran, for at least one profiled model."""
    times = operator_times(results)
    named = list(
        dict.fromkeys(operator for parts in times.values() for operator in parts if operator != OTHERS)
    )
    styles = {operator: f"f{place}" for place, operator in enumerate(named)} | {OTHERS: f"f{COLORS - 1}"}
    shown = [operator for operator in styles if any(operator in parts for parts in times.values())]
    drawing = Drawing(width, 0, "milliseconds of each kind of operator")
    top = drawing.legend(0, 0, [(styles[operator], operator) for operator in shown]) + 6
    drawing.height = top + _ROW * len(times)
    x = Axis(0, max(sum(parts.values()) for parts in times.values()), 0, width - 62)
    for row, (label, parts) in enumerate(times.items()):
        line = top + row * _ROW
        drawing.text(0, line + 12, fitted(label, width), "strong")
        so_far_ms = 0.0
        for operator in (operator for operator in shown if operator in parts):
            left, right = x(so_far_ms), x(so_far_ms + parts[operator])
            so_far_ms += parts[operator]
            number = f"{parts[operator]:.2f}"
            size = max(right - left - 1, 0.5), 18.0
            drawing.rect((left, line + 18), size, styles[operator], f"{operator}: {number} ms", 2)
            if right - left > text_width(number, 11.5) + 6:
                drawing.text((left + right) / 2, line + 31, number, "on", "middle")
        drawing.text(x(so_far_ms) + 6, line + 32, f"{so_far_ms:.1f} ms")
    return drawing
