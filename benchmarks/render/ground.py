"""The chart of `benchmarks.ground`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from benchmarks.render.canvas import MODELS, SMALL, begin, chart
from benchmarks.subjects.street_ground import DistanceBin

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@chart("wrong cells by distance: called free though they are not, and the other way round")
def draw_wrong_cells(figure: Figure, bins: Sequence[DistanceBin]) -> None:
    """Draw the shares of wrong cells against their distance.

    Args:
        figure: given by the decorator.
        bins: at least one.
    """
    lines = {
        "not free, called free": [each.false_free for each in bins],
        "free, called occupied": [each.false_occupied for each in bins],
        "free, not called free": [each.lost for each in bins],
    }
    colors = (MODELS[5], MODELS[0], MODELS[7])
    begin(figure, 240, [(f"{color}-", name) for color, name in zip(colors, lines, strict=True)])
    axes = figure.add_subplot()
    middles_m = [(each.from_m + each.to_m) / 2 for each in bins]
    for color, shares in zip(colors, lines.values(), strict=True):
        percent = [100 * share for share in shares]
        axes.plot(middles_m, percent, color=color, linewidth=2, marker="o", markersize=5, clip_on=False)
    axes.set(xlim=(bins[0].from_m, bins[-1].to_m))
    axes.set_ylim(0, max(1.0, *axes.get_ylim()))
    axes.set_xlabel("metres from the camera", loc="right", fontsize=SMALL)
    axes.set_ylabel("% of such cells", loc="top", fontsize=SMALL)
