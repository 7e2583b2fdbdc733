"""Where the time of a frame goes: one bar a model, one part a stage."""

from __future__ import annotations

from benchmarks.render.axes import Axis
from benchmarks.render.svg import Drawing, text_width
from benchmarks.results.results import Results
from benchmarks.results.statistics import percentile
from benchmarks.timing.frame_timer import STAGES

PARTS = [stage for stage in STAGES if stage != "total"]
_STYLES = {"resize": "resize", "network": "network", "mask": "stage-mask", "draw": "draw"}
_ROW = 46.0


def draw_stages(results: Results, width: float = 460) -> Drawing:
    """Draw the medians of the stages; they need not add up to the median of the whole."""
    medians = [
        {name: percentile(model.stage(name), 50) for name in PARTS if name in model.stages_ms}
        for model in results.models
    ]
    drawing = Drawing(width, 28 + _ROW * len(medians), "median milliseconds of each stage")
    top = drawing.legend(0, 0, [(_STYLES[name], name) for name in PARTS]) + 6
    longest = max(sum(parts.values()) for parts in medians)
    x = Axis(0, longest, 0, width - 62)
    for row, (model, parts) in enumerate(zip(results.models, medians, strict=True)):
        line = top + row * _ROW
        drawing.text(0, line + 12, model.label, "strong")
        so_far_ms = 0.0
        for name, milliseconds in parts.items():
            left, right = x(so_far_ms), x(so_far_ms + milliseconds)
            so_far_ms += milliseconds
            number = f"{milliseconds:.2f}"
            drawing.rect(
                (left, line + 18), (max(right - left - 1, 0.5), 18), _STYLES[name], f"{name}: {number} ms", 2
            )
            if right - left > text_width(number, 11.5) + 6:
                drawing.text((left + right) / 2, line + 31, number, "on", "middle")
        drawing.text(x(so_far_ms) + 6, line + 32, f"{so_far_ms:.1f} ms")
    return drawing
