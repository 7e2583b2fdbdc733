"""The charts of a report, of a stream, of metres and of trainings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.render.canvas import (
    FRAME,
    GROUND,
    INK,
    MODELS,
    ON,
    RULE,
    SMALL,
    SOFT,
    STAGE_COLORS,
    WIDTH,
    begin,
    chart,
    fitted,
    log_ticks,
    model_color,
    style,
    text_width,
)
from benchmarks.results.results import Results
from benchmarks.results.statistics import Floats, percentile, round_medians
from benchmarks.timing.frames import STAGES
from benchmarks.timing.stream import RateResult
from runtime.base.files import replacing
from runtime.base.percentiles import percentiles

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from benchmarks.subjects.street_ground import DistanceBin

PARTS = tuple(stage for stage in STAGES if stage != "total")
OTHERS = "others"


def _draw_bars(figure: Figure, rows: dict[str, dict[str, float]], colors: dict[str, str]) -> None:
    """Draw a bar a row, cut into parts, with the row's name above it and its sum behind it."""
    shown = [name for name in colors if any(name in parts for parts in rows.values())]
    begin(figure, 46 * len(rows), [(colors[name], name) for name in shown])
    axes = figure.add_subplot()
    longest = max(sum(parts.values()) for parts in rows.values())
    pixels = WIDTH - 70
    axes.set(xlim=(0, longest * WIDTH / pixels), ylim=(len(rows) - 0.7, -0.7))
    axes.axis("off")
    for row, (label, parts) in enumerate(rows.items()):
        axes.text(0, row - 0.26, fitted(figure, label, WIDTH), fontweight="bold", va="bottom")
        so_far_ms = 0.0
        for name in (name for name in shown if name in parts):
            width, number = parts[name], f"{parts[name]:.2f}"
            axes.barh(row, width, 0.4, so_far_ms, color=colors[name], edgecolor=GROUND, linewidth=0.8)
            if width / longest * pixels > text_width(figure, number, SMALL) + 6:
                middle = so_far_ms + width / 2
                style = {"color": ON, "size": SMALL, "weight": "bold", "ha": "center", "va": "center"}
                axes.text(middle, row, number, style)
            so_far_ms += width
        end = so_far_ms, row
        axes.annotate(f"{so_far_ms:.1f} ms", end, (6, 0), textcoords="offset pixels", va="center")


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


@dataclass(frozen=True)
class Curve:
    """Trainings of one kind, one a seed: (number, value) by epoch, in one of the models' colours."""

    name: str
    color: int
    train_loss: Sequence[Sequence[tuple[int, float]]]
    miou: Sequence[Sequence[tuple[int, float]]]
    dashed: bool = False


@chart("median milliseconds of each stage")
def draw_stages(figure: Figure, results: Results) -> None:
    """Draw the medians of the stages; they need not add up to the median of the whole."""
    rows = {
        model.label: {name: percentile(model.stage(name), 50) for name in PARTS if name in model.stages_ms}
        for model in results.models
    }
    _draw_bars(figure, rows, STAGE_COLORS)


def operator_times(results: Results) -> dict[str, dict[str, float]]:
    """Return the sums of the layers' median milliseconds, a model and operator, for the models profiled.

    Operators that take most come first; those beyond the colours are put together.
    """
    times = {model.label: Counter[str]() for model in results.models if model.limits is not None}
    for model in results.models:
        for op in model.limits.ops if model.limits else ():
            times[model.label][op.operator] += op.median_ms  # type: ignore[assignment]
    totals = sum(times.values(), Counter[str]())
    named = [operator for operator, _ in totals.most_common(len(MODELS) - 1)]
    found = {}
    for label, counted in times.items():
        found[label] = {operator: float(counted[operator]) for operator in named if counted[operator]}
        if rest := sum(ms for operator, ms in counted.items() if operator not in named):
            found[label][OTHERS] = float(rest)
    return found


@chart("milliseconds of each kind of operator")
def draw_operators(figure: Figure, results: Results) -> None:
    """Draw the times of the operators that onnxruntime ran, for at least one profiled model."""
    times = operator_times(results)
    named = dict.fromkeys(name for parts in times.values() for name in parts if name != OTHERS)
    _draw_bars(figure, times, dict(zip([*named, OTHERS], [*MODELS[: len(named)], MODELS[-1]], strict=True)))


@chart("distribution of the milliseconds a frame, logarithmic")
def draw_distribution(figure: Figure, results: Results) -> None:
    """Draw a hill of samples a model, the slowest included, and marks at the percentiles below it."""
    samples = [model.stage(model.whole).ravel() for model in results.models]
    low, high = 0.93 * min(one.min() for one in samples), 1.08 * max(one.max() for one in samples)
    begin(figure, 74 * len(samples) + 36)
    edges = np.geomspace(low, high, 77)
    rows = figure.subplots(len(samples), 1, sharex=True, squeeze=False)[:, 0]
    for index, (model, one, axes) in enumerate(zip(results.models, samples, rows, strict=True)):
        numbers = {f"p{percent}": percentile(one[None], percent) for percent in (50, 90, 99)}
        numbers["max"] = float(one.max())
        said = ", ".join(f"{name} {number:.1f}" for name, number in numbers.items())
        room = WIDTH - text_width(figure, said, SMALL) - 16
        axes.set_title(fitted(figure, model.label, room), loc="left", fontsize=13, fontweight="bold")
        axes.set_title(said, loc="right", fontsize=SMALL, color=SOFT)
        counts = np.histogram(one, edges)[0]
        visible = np.where(counts, np.maximum(counts, 0.05 * counts.max()), 0)  # a single frame too
        axes.stairs(visible, edges, fill=True, color=model_color(index))
        axes.set(xlim=(low, high), xscale="log", yticks=[])
        axes.plot(
            list(numbers.values()),
            [-0.1] * len(numbers),
            "|",
            color=INK,
            markersize=7,
            markeredgewidth=1.5,
            transform=axes.get_xaxis_transform(),
            clip_on=False,
        )
        axes.tick_params(axis="x", pad=11)
        log_ticks(axes.xaxis)
    rows[-1].set_xlabel("ms, logarithmic; nothing is cut off", loc="right")


def relative(rounds_ms: Floats) -> Floats:
    """Return each round's median in per cent above or below that of all rounds."""
    medians = round_medians(rounds_ms)
    return np.asarray(100 * (medians / np.median(medians) - 1))


@chart("per cent above or below the own median, round by round")
def draw_drift(figure: Figure, results: Results) -> None:
    """Draw the medians of all rounds; lines that move together show the machine and not the models."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    lines = {model.label: model.stage(model.whole) for model in results.models}
    entries = [(f"{model_color(index)}-", label) for index, label in enumerate(lines)]
    begin(figure, 210, [*entries, (f"{INK}--", "plain convolutions")])
    axes = figure.add_subplot()
    numbers = range(1, results.settings.rounds + 1)
    for index, rounds_ms in enumerate(lines.values()):
        axes.plot(numbers, relative(rounds_ms), color=model_color(index), linewidth=1.6)
    axes.plot(numbers, relative(results.yardstick), color=INK, linewidth=2.4, linestyle=(0, (1, 1)))
    axes.set_xlim(0.8, results.settings.rounds + 0.2)
    low, high = axes.get_ylim()
    axes.set_ylim(min(low, -4), max(high, 4))
    axes.grid(axis="x", visible=False)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:+g} %" if value else "0 %"))
    axes.set_xlabel("round", loc="right")


@chart("IoU of each class")
def draw_classes(figure: Figure, results: Results) -> None:
    """Draw the IoU of every class, one dot a model, for the models whose accuracy was measured."""
    measured = {
        index: model.accuracy.summary.per_class_iou
        for index, model in enumerate(results.models)
        if model.accuracy is not None
    }
    names = list(next(iter(measured.values())))
    row = max(22.0, 4.0 * len(measured) + 8)  # pixels
    begin(
        figure,
        row * len(names) + 30,
        [(model_color(index), results.models[index].label) for index in measured],
    )
    axes = figure.add_subplot()
    axes.set(xlim=(0, 1), ylim=(len(names) - 0.5, -0.5))
    axes.set_yticks(range(len(names)), names, fontsize=13, color=INK)
    axes.grid(axis="y", visible=False)
    axes.hlines(np.arange(len(names)) + 0.5, 0, 1, color=RULE, linewidth=1)
    for place, name in enumerate(names):
        if all(iou[name] is None for iou in measured.values()):
            axes.text(0.01, place, "does not occur", fontsize=SMALL, color=SOFT, va="center")
    for order, (index, iou) in enumerate(measured.items()):
        aside = (order - (len(measured) - 1) / 2) * 4 / row  # models of the same IoU would hide each other
        known = [(value, place + aside) for place, value in enumerate(iou.values()) if value is not None]
        values, heights = np.array(known).reshape(-1, 2).T
        axes.scatter(values, heights, 49, model_color(index), linewidth=0, clip_on=False)


@chart("age of each mask over time, from capture to mask, a panel for each rate")
def draw_ages(figure: Figure, rates: Sequence[RateResult], deadline_ms: float) -> None:
    """Draw them below each other on one scale, which is logarithmic, so that no outlier hides the rest.

    Args:
        figure: given by the decorator.
        rates: at least one.
        deadline_ms: drawn as a line across each panel.
    """
    late = f"{FRAME}--", f"late: above {deadline_ms:g} ms"
    ranges = (MODELS[0], "youngest to oldest mask"), (f"{MODELS[1]}-", "median")
    begin(figure, 184 * len(rates) + 14, [*ranges, late])
    ages_ms = [mask.age_ms for rate in rates for mask in rate.masks]
    low, high = min(*ages_ms, deadline_ms) / 1.15, max(*ages_ms, deadline_ms) * 1.15
    panels = figure.subplots(len(rates), 1, squeeze=False, gridspec_kw={"hspace": 0.12})[:, 0]
    for rate, axes in zip(rates, panels, strict=True):
        _draw_rate(axes, rate, deadline_ms)
        axes.set(ylim=(low, high), yscale="log")
        log_ticks(axes.yaxis, 4, " ms")
    panels[-1].set_xlabel("seconds", loc="right", fontsize=SMALL)


def rate_summary(rate: RateResult) -> str:
    """Return a panel's numbers in words."""
    age = rate.age_ms
    return (
        f"age p50 {age['p50']:.1f}, p99 {age['p99']:.1f}, max {age['max']:.1f} ms; "
        f"{rate.dropped_percent:.0f} % dropped; {rate.late} of {len(rate.masks)} late"
    )


def _draw_rate(axes: Axes, rate: RateResult, deadline_ms: float, columns: int = 140) -> None:
    """Draw one rate; the masks of a column are drawn together, from the youngest to the oldest."""
    axes.set_title(f"{rate.times_capacity:g}× capacity", loc="left", fontsize=13, fontweight="bold", pad=20)
    axes.set_title(
        f"{rate.source_fps:.0f} frames/s in, {rate.masks_a_second:.0f} masks/s out",
        loc="right",
        fontsize=13,
        color=SOFT,
        pad=20,
    )
    axes.text(0, 1.05, rate_summary(rate), fontsize=SMALL, color=SOFT, transform=axes.transAxes)
    until_s = max(mask.ready_s for mask in rate.masks)
    found: dict[int, list[float]] = {}
    for mask in rate.masks:
        found.setdefault(min(int(columns * mask.ready_s / until_s), columns - 1), []).append(mask.age_ms)
    columns_ms = [found[column] for column in sorted(found)]
    middles_s = [(column + 0.5) * until_s / columns for column in sorted(found)]
    axes.vlines(
        middles_s, list(map(min, columns_ms)), list(map(max, columns_ms)), color=MODELS[0], linewidth=2
    )
    axes.plot(middles_s, [percentiles(ages)["p50"] for ages in columns_ms], color=MODELS[1], linewidth=1.6)
    axes.axhline(deadline_ms, color=FRAME, linewidth=1.5, dashes=(4, 3))
    axes.set_xlim(0, until_s)
    axes.grid(axis="x", visible=False)


def draw_curves(path: Path, curves: Sequence[Curve], title: str) -> None:
    """Draw training loss and validation mIoU against the epoch as a PNG: means, and bands over the seeds."""
    with style():
        from matplotlib.figure import Figure

        figure = Figure(figsize=(12, 4.2), layout="constrained")
        loss_axes, miou_axes = figure.subplots(1, 2)
        for curve in curves:
            look: Any = {"color": model_color(curve.color), "linestyle": "--" if curve.dashed else "-"}
            _draw_band(loss_axes, curve.train_loss, look)
            _draw_band(miou_axes, curve.miou, {**look, "marker": ".", "label": curve.name})
        loss_axes.set_title("training loss")
        miou_axes.set_title("validation mIoU")
        miou_axes.set_ylim(bottom=0)
        figure.legend(*miou_axes.get_legend_handles_labels(), loc="outside right center")
        for axes in (loss_axes, miou_axes):
            axes.set_xlabel("epoch")
        figure.suptitle(title)
        with replacing(path) as part:
            figure.savefig(part, dpi=120, format="png")


def _draw_band(axes: Axes, runs: Sequence[Sequence[tuple[int, float]]], look: dict[str, Any]) -> None:
    """Draw the mean of several runs, and a band from the lowest to the highest; runs may differ in length."""
    by_epoch: dict[int, list[float]] = {}
    for number, value in (point for run in runs for point in run):
        by_epoch.setdefault(number, []).append(value)
    epochs = [number for number, values in sorted(by_epoch.items()) if len(values) == len(runs)]
    axes.plot(epochs, [fmean(by_epoch[number]) for number in epochs], **look)
    if len(runs) > 1:
        lowest, highest = ([side(by_epoch[number]) for number in epochs] for side in (min, max))
        axes.fill_between(epochs, lowest, highest, color=look["color"], alpha=0.15, linewidth=0)
