"""Accuracy against latency, with the models that no other beats in both."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from benchmarks.render.axes import Axis, padded
from benchmarks.render.svg import COLORS, Drawing, Point, text_width
from benchmarks.results.results import Results
from benchmarks.results.statistics import Estimate, percentile_estimate

_RADIUS = 6.0


@dataclass(frozen=True)
class Candidate:
    """A model's place: index among the models, mIoU from 0 to 1, milliseconds a frame."""

    index: int
    label: str
    miou: float
    frame_ms: Estimate


def candidates(results: Results) -> list[Candidate]:
    """Return the models of which accuracy and whole frames were measured."""
    found = []
    for index, model in enumerate(results.models):
        if model.accuracy is None or model.whole != "total":
            continue
        frame_ms = percentile_estimate(model.stage("total"), 50)
        found.append(Candidate(index, model.label, model.accuracy.summary.miou, frame_ms))
    return found


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


def draw_pareto(points: Sequence[Candidate], width: float = 460, height: float = 330) -> Drawing:
    """Draw at least one point, with the interval of its time; those of the front are filled."""
    drawing = Drawing(width, height, "mIoU against milliseconds a frame; the Pareto front is dashed")
    left, right, top, bottom = 46.0, width - 10, 26.0, height - 44
    mious = [point.miou for point in points]
    times = [value for point in points for value in (point.frame_ms.value, point.frame_ms.high)]
    y = Axis(*padded(min(mious), max(mious), 0.25, least=0.02), bottom, top)
    x = Axis(0, max(times) * 1.15, left, right)
    for tick in y.ticks(5):
        drawing.line((left, y(tick)), (right, y(tick)), "rule")
        drawing.text(left - 7, y(tick) + 4, f"{tick:g}", "soft small", "end")
    for tick in x.ticks(7):
        drawing.line((x(tick), bottom), (x(tick), bottom + 4), "frame")
        drawing.text(x(tick), bottom + 18, f"{tick:g}", "soft small", "middle")
    drawing.line((left, bottom), (right, bottom), "frame")
    drawing.text(0, 12, "mIoU", "soft")
    drawing.text(right, height - 6, "ms from frame to overlay, median: further left is faster", "soft", "end")
    front = pareto_front(points)
    way = _steps(front, x, y, right)
    drawing.path(way, "front")
    lines = [_around(*ends) for ends in pairwise(way)]
    taken: list[_Box] = []
    on_front = {point.index for point in front}
    for point in points:
        color = point.index % COLORS
        center = x(point.frame_ms.value), y(point.miou)
        sure = x(point.frame_ms.low), x(point.frame_ms.high)
        drawing.line((sure[0], center[1]), (sure[1], center[1]), f"whisker s{color}")
        lines.append(_around((sure[0], center[1]), (sure[1], center[1])))
        style = f"halo f{color}" if point.index in on_front else f"hollow s{color}"
        tip = f"{point.label}: mIoU {point.miou:.4f}, {point.frame_ms} ms"
        drawing.circle(center, _RADIUS, style, tip)
        taken.append(_around(center, center, _RADIUS))
    for point in points:
        center = x(point.frame_ms.value), y(point.miou)
        numbers = f"{point.frame_ms.value:.1f} ms, {point.miou:.3f}"
        wide = max(1.08 * text_width(point.label), text_width(numbers, 11.5))
        place = _free_place(center, wide, taken, lines, (left, top, right, bottom))
        taken.append(place)
        end = _nearest(place, center)
        away = math.dist(end, center)
        if away > _LEADER_FROM:  # so that the eye finds the way from a label to its point
            start = tuple(at + (to - at) * (_RADIUS + 2) / away for at, to in zip(center, end, strict=True))
            drawing.line((start[0], start[1]), end, "frame")
        drawing.text(place[0], place[1] + 12, point.label, "strong")
        drawing.text(place[0], place[1] + 27, numbers, "soft small")
    return drawing


_LEADER_FROM = 20.0  # pixels between a label and its point
_Box = tuple[float, float, float, float]  # left, top, right, bottom


def _steps(front: Sequence[Candidate], x: Axis, y: Axis, right: float) -> list[Point]:
    """Return the border of what the front beats: level until the next better model, then up."""
    way: list[Point] = []
    for point in front:
        place = x(point.frame_ms.value), y(point.miou)
        if way:
            way.append((place[0], way[-1][1]))
        way.append(place)
    return [*way, (right, way[-1][1])]


def _around(start: Point, end: Point, room: float = 1.0) -> _Box:
    """Return the box around a level or upright line."""
    (left, right), (top, bottom) = sorted((start[0], end[0])), sorted((start[1], end[1]))
    return left - room, top - room, right + room, bottom + room


def _free_place(
    center: Point, wide: float, taken: Sequence[_Box], lines: Sequence[_Box], bounds: _Box
) -> _Box:
    """Return the place around a point where a label of two lines hides least: of the best ones the first."""
    x, y = center
    high, gap = 32.0, 11.0
    sides = (x + gap, x - gap - wide, x - wide / 2)
    levels = (-high - 2, 4, -high - gap, gap, -high / 2, -2 * high, high, -3 * high, 2 * high)
    boxes = [
        (left, y + level, left + wide, y + level + high)
        for level in levels
        for left in sides
        if left != sides[2] or not -high < level < gap  # not over its own point
    ]
    inside = [
        box
        for box in boxes
        if box[0] >= bounds[0] and box[2] <= bounds[2] and box[1] >= bounds[1] - 8 and box[3] <= bounds[3]
    ]
    return min(
        inside or boxes,
        key=lambda box: 10 * sum(_overlap(box, other) for other in taken) + sum(_crossed(box, lines)),
    )


def _nearest(box: _Box, point: Point) -> Point:
    return min(max(point[0], box[0]), box[2]), min(max(point[1], box[1]), box[3])


def _crossed(box: _Box, lines: Sequence[_Box]) -> list[bool]:
    return [_overlap(box, line) > 0 for line in lines]


def _overlap(one: _Box, other: _Box) -> float:
    """Return the area that two boxes share."""
    wide = min(one[2], other[2]) - max(one[0], other[0])
    high = min(one[3], other[3]) - max(one[1], other[1])
    return max(wide, 0.0) * max(high, 0.0)
