"""Accuracy against latency, with the models that no other beats in both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.render.canvas import (
    FRAME,
    GROUND,
    SMALL,
    SOFT,
    WIDTH,
    begin,
    chart,
    fitted,
    model_color,
    text_width,
)
from benchmarks.results.results import Results
from benchmarks.results.statistics import Estimate, percentile_estimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.transforms import Bbox


@dataclass(frozen=True)
class Candidate:
    """A model's place: index among the models, mIoU from 0 to 1, milliseconds a frame."""

    index: int
    label: str
    miou: float
    frame_ms: Estimate


def candidates(results: Results) -> list[Candidate]:
    """Return the models of which accuracy and whole frames were measured."""
    return [
        Candidate(
            index, model.label, model.accuracy.summary.miou, percentile_estimate(model.stage("total"), 50)
        )
        for index, model in enumerate(results.models)
        if model.accuracy is not None and model.whole == "total"
    ]


def pareto_front(points: Sequence[Candidate]) -> list[Candidate]:
    """Return those that no other beats: none is faster and at least as good, or better and as fast.

    Returns:
        Fastest first.
    """
    front: list[Candidate] = []
    for point in sorted(points, key=lambda point: (point.frame_ms.value, -point.miou)):
        if not front or point.miou > front[-1].miou:
            front.append(point)
    return front


@chart("mIoU against milliseconds a frame; the Pareto front is dashed")
def draw_pareto(
    figure: Figure, points: Sequence[Candidate], width: float = WIDTH, height: float = 330
) -> None:
    """Draw at least one point, with the interval of its time; those of the front are filled."""
    begin(figure, height, width=width)
    axes = figure.add_subplot()
    mious = [point.miou for point in points]
    room = max(0.3 * (max(mious) - min(mious)), 0.01)
    right = 1.15 * max(max(point.frame_ms.value, point.frame_ms.high) for point in points)
    axes.set(xlim=(0, right), ylim=(min(mious) - room, max(mious) + room))
    axes.locator_params("y", nbins=5)
    axes.grid(axis="x", visible=False)
    axes.set_title("mIoU", loc="left", fontsize=13, color=SOFT)
    axes.set_xlabel("ms from frame to overlay, median: further left is faster", loc="right")
    front = pareto_front(points)
    axes.step(
        [*(point.frame_ms.value for point in front), right],
        [*(point.miou for point in front), front[-1].miou],
        where="post",
        color=FRAME,
        linewidth=1.5,
        dashes=(4, 3),
    )
    for point in points:
        color, beaten = model_color(point.index), point not in front
        axes.hlines(point.miou, point.frame_ms.low, point.frame_ms.high, color=color)
        place = [point.frame_ms.value], [point.miou]
        axes.scatter(
            *place, 121, GROUND if beaten else color, edgecolor=color, linewidth=2.5 * beaten, zorder=3
        )
    _label_points(figure, axes, points, front)


def _label_points(
    figure: Figure, axes: Axes, points: Sequence[Candidate], front: Sequence[Candidate]
) -> None:
    """Write each point's name and numbers where they hide least, of the best places the first."""
    from matplotlib.transforms import Bbox

    figure.draw_without_rendering()  # fixes where the axes lie
    figure.set_layout_engine("none")
    frame = axes.get_window_extent()

    def at(point: tuple[float, float]) -> tuple[float, float]:
        x, y = axes.transData.transform(point)
        return float(x), float(y)

    def around(start: tuple[float, float], end: tuple[float, float], room: float) -> Bbox:
        (left, right), (low, high) = sorted((start[0], end[0])), sorted((start[1], end[1]))
        return Bbox([[left - room, low - room], [right + room, high + room]])

    centers = [at((point.frame_ms.value, point.miou)) for point in points]
    taken = [around(center, center, 7) for center in centers]
    lines = [around(at((p.frame_ms.low, p.miou)), at((p.frame_ms.high, p.miou)), 1) for p in points]
    for before, after in pairwise([at((point.frame_ms.value, point.miou)) for point in front]):
        corner = after[0], before[1]
        lines += [around(before, corner, 1), around(corner, after, 1)]
    for point, (x, y) in zip(points, centers, strict=True):
        numbers = f"{point.frame_ms.value:.1f} ms, {point.miou:.3f}"
        label = fitted(figure, point.label, 0.6 * frame.width)
        wide = max(text_width(figure, label, weight="bold"), text_width(figure, numbers, SMALL))
        high, gap = 32.0, 10.0
        levels = (4, -high - 4, gap, -high - gap, -high / 2, high, -2 * high, 2 * high, -3 * high)
        places = [
            Bbox.from_bounds(left, y + level, wide, high)
            for level in levels
            for left in (x + gap, x - gap - wide, x - wide / 2)
            if left != x - wide / 2 or not -high < level < gap  # not over its own point
        ]
        inside = [place for place in places if frame.contains(*place.min) and frame.contains(*place.max)]
        place = min(
            inside or places,
            key=lambda place: 10 * sum(_shared(place, one) for one in taken) + place.count_overlaps(lines),
        )
        taken.append(place)
        end = np.clip((x, y), place.min, place.max)
        if np.hypot(*(end - (x, y))) > 20:  # so that the eye finds the way from a label to its point
            axes.plot(*zip((x, y), end, strict=True), color=FRAME, linewidth=1, transform=None, zorder=2)
        figure.text(place.x0, place.y0 + 19, label, fontweight="bold", transform=None)
        figure.text(place.x0, place.y0 + 4, numbers, fontsize=SMALL, color=SOFT, transform=None)


def _shared(one: Bbox, other: Bbox) -> float:
    """Return the area that two boxes share."""
    width, height = np.minimum(one.max, other.max) - np.maximum(one.min, other.min)
    return float(max(width, 0) * max(height, 0))
