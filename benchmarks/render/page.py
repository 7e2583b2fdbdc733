"""What a comparison's report says, from the results alone, and the folder that it makes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from shlex import quote

from benchmarks.machine.yardstick import MachineLimits
from benchmarks.render import canvas, charts
from benchmarks.render.canvas import Chart
from benchmarks.render.charts import PARTS
from benchmarks.render.document import (
    Block,
    Bullets,
    Command,
    Figure,
    Heading,
    Paragraph,
    Table,
    to_html,
    to_markdown,
)
from benchmarks.render.pareto import Candidate, candidates, draw_pareto, pareto_front
from benchmarks.results.results import ModelResult, Results, results_json
from benchmarks.results.statistics import miou_points, paired_ratio, percentile
from runtime.base.files import write_text

TITLE = "edgeseg benchmark report"
NOTHING = "–"
LAYERS = 3  # named of each network


def write_report(out: Path, results: Results) -> None:
    """Write the folder; an earlier report's files are replaced.

    Raises:
        OutputError: a folder that cannot be written.
    """
    blocks = report_blocks(results)
    texts = {
        "results.json": results_json(results),
        "report.md": to_markdown(TITLE, blocks),
        "report.html": to_html(TITLE, blocks),
        "readme.md": to_markdown("", readme_blocks(results)),
        **{f"{block.name}.svg": block.chart.file() for block in blocks if isinstance(block, Figure)},
    }
    if (points := candidates(results)) and canvas.available():
        texts["pareto.svg"] = draw_pareto(points, 640, 400).file()  # alone it has more room
    for name, text in texts.items():
        write_text(out / name, text)


def report_blocks(results: Results) -> list[Block]:
    """Return the whole report; without matplotlib it has no figures and says so."""
    points = candidates(results)
    blocks: list[Block] = _summary(results, points)
    if not canvas.available():
        blocks.append(
            Paragraph(f"This report has {canvas.MISSING}, then run `benchmarks.report --from results.json`.")
        )
    if points:
        blocks += _figure(
            "pareto",
            lambda: draw_pareto(points),
            "Filled dots are on the Pareto front: no other model here is both faster and better. Bars are "
            "95 % intervals of the median time.",
            "Accuracy against latency",
        )
    blocks += [Heading("How to read this", wide=False), Bullets(how_to_read(results))]
    blocks += [Heading("Stages", wide=False), *_stages(results)]
    blocks += _figure(
        "distribution",
        lambda: charts.draw_distribution(results),
        "Every sample that counted. The ticks below each hill are p50, p90, p99 and max.",
        "Distribution",
    )
    blocks += _figure(
        "drift",
        lambda: charts.draw_drift(results),
        "Each model's median of a round against its median of all rounds. All run in every round, in an "
        "order shuffled anew: lines that move together show the machine, and ratios are free of it.",
        "The machine meanwhile",
    )
    if results.machine_limits is not None:
        blocks += [
            Heading("Layers, and the machine's limit", wide=False),
            *_layers(results, results.machine_limits),
        ]
    if any(model.accuracy for model in results.models):
        blocks += [Heading("Accuracy of each class", wide=False), *_classes(results)]
    return [*blocks, *_conditions(results)]


def readme_blocks(results: Results) -> list[Block]:
    """Return what a README shows: the picture, the table, and how to read them."""
    points = candidates(results)
    blocks: list[Block] = []
    if points:
        blocks = _figure("docs/pareto", lambda: draw_pareto(points), f"*{_measured_on(results)}*")
    return [*blocks, main_table(results), Bullets(how_to_read(results))]


def _figure(name: str, draw: Callable[[], Chart], caption: str, heading: str = "") -> list[Block]:
    """Return a figure under its heading; nothing where there is no matplotlib to draw with."""
    if not canvas.available():
        return []
    figure: Block = Figure(name, draw(), caption)
    return [Heading(heading, wide=False), figure] if heading else [figure]


def main_table(results: Results) -> Table:
    """Return a row a model; the ratios refer to the first."""
    first = results.models[0]
    times = ("frame p50", "p99", "max", "frame ×", "network p50", "network ×")
    header = ("model", "mIoU", "points more", *times, "MB")
    points = {point.index: point for point in candidates(results)}
    rows = []
    for index, model in enumerate(results.models):
        point = points.get(index)
        frame = [NOTHING] * 3
        if model.whole == "total":
            total = model.stage("total")
            frame = [f"{percentile(total, percent):.2f}" for percent in (50, 99, 100)]
        rows.append(
            (
                model.label,
                NOTHING if point is None else f"{point.miou:.4f}",
                _points(model, first),
                *frame,
                _ratio(model, first, "total"),
                f"{percentile(model.stage('network'), 50):.2f}",
                _ratio(model, first, "network"),
                f"{model.file.bytes / 1e6:.2f}",
            )
        )
    return Table(header, rows)


def how_to_read(results: Results) -> list[str]:
    """Return five lines."""
    first = results.models[0].label
    return [
        "frame: milliseconds from a picture in memory to its mask and overlay, through the `Segmenter` that "
        "a robot uses. Half of all frames take longer than p50, one in a hundred longer than p99; max is the "
        "slowest of all, nothing is left out.",
        f"×: how many times as long as {first}, by rounds in which both ran on the same frames; in brackets "
        "where the true ratio lies with 95 % confidence. If 1 is inside, the two are not told apart.",
        f"mIoU: of this very file, at the labels' size; points more: by how many of 100 it exceeds {first}'s "
        "on the same images. Its brackets say how far other pieces of the same recordings would move it; "
        "another road or camera moves it more.",
        "Compare numbers of one report only. Between two reports of a machine use `benchmarks.compare`, "
        "which takes out the machine's own change by the yardstick, plain convolutions that ran in every "
        "round.",
        "A file without edgeseg's contract gets random input and only its network's time, since nobody knows "
        "what must come before and after it.",
    ]


def _summary(results: Results, points: list[Candidate]) -> list[Block]:
    settings = results.settings
    blocks: list[Block] = [
        Paragraph(
            f"{results.started[:10]}, {results.machine.cpu}, {settings.threads} threads, "
            f"{settings.provider}. {_measured_on(results)}"
        ),
        main_table(results),
        _verdict_on_noise(results),
    ]
    if front := pareto_front(points):
        names = ", ".join(point.label for point in front)
        blocks.append(Paragraph(f"On the Pareto front of frame time and mIoU, fastest first: {names}."))
    return blocks


def _verdict_on_noise(results: Results) -> Paragraph:
    """Say how noisy the machine was: in the two seconds before, or during the measurement."""
    before, unrest = (
        results.machine.noise,
        f"slow rounds {results.unrest_percent:.0f} % slower than calm ones",
    )
    if results.is_noisy:
        return Paragraph(
            "The machine was noisy during the measurement, so trust ratios and their intervals before "
            f"milliseconds. All models together: {unrest}. Yardstick: {results.noise}.",
            warning=True,
        )
    if before is not None and before.is_noisy:
        return Paragraph(f"The machine was noisy before the measurement. {before}.", warning=True)
    return Paragraph(f"The machine was quiet enough. All models together: {unrest}. {results.noise}.")


def _measured_on(results: Results) -> str:
    settings = results.settings
    height, width = settings.frame_size_hw
    accuracy = f"mIoU on {settings.data}; " if settings.data else ""
    return (
        f"{accuracy}milliseconds of {settings.rounds} rounds of {settings.frames_a_round} frames "
        f"({settings.frames}, {width}x{height}) of each model, in shuffled turns."
    )


def _stages(results: Results) -> list[Block]:
    rows = []
    for model in results.models:
        cells = [
            f"{percentile(model.stage(name), 50):.2f}" if name in model.stages_ms else NOTHING
            for name in (*PARTS, "total")
        ]
        rows.append((model.label, *cells))
    return [
        *_figure("stages", lambda: charts.draw_stages(results), "Medians of the stages, milliseconds."),
        Table(("p50, ms", *PARTS, "total"), rows),
    ]


def _classes(results: Results) -> list[Block]:
    measured = [(model.label, model.accuracy.summary) for model in results.models if model.accuracy]
    rows = []
    for name in measured[0][1].per_class_iou:
        ious = [accuracy.per_class_iou[name] for _, accuracy in measured]
        rows.append((name, *(NOTHING if iou is None else f"{iou:.3f}" for iou in ious)))
    rows.append(("mIoU", *(f"{accuracy.miou:.4f}" for _, accuracy in measured)))
    rows.append(("pixel accuracy", *(f"{accuracy.pixel_accuracy:.4f}" for _, accuracy in measured)))
    return [
        *_figure("classes", lambda: charts.draw_classes(results), f"IoU on {results.settings.data}."),
        Table(("IoU", *(label for label, _ in measured)), rows),
    ]


def _layers(results: Results, machine: MachineLimits) -> list[Block]:
    profiled = [(model.label, model.limits) for model in results.models if model.limits]
    rows = []
    for label, limits in profiled:
        known = limits.limit_ms is not None and limits.ratio is not None
        rows.append(
            (
                label,
                f"{sum(limits.gmacs.values()):.3f}" if known else NOTHING,
                f"{limits.network_ms:.2f}",
                f"{limits.limit_ms:.2f}" if known else NOTHING,
                f"{limits.ratio:.2f}" if known else NOTHING,
            )
        )
    slowest = [
        f"{label} loses most in "
        + "; ".join(
            f"{op.operator} to {'x'.join(map(str, op.output_shape))}, {op.median_ms:.2f} ms and "
            f"{op.limit_ms:.2f} at the limit ({op.reason})"
            for op in limits.slowest(LAYERS)
        )
        for label, limits in profiled
    ]
    return [
        *_figure(
            "operators",
            lambda: charts.draw_operators(results),
            "Medians of onnxruntime's profiler, summed by operator.",
        ),
        Table(("network", "GMAC", "ms", "ms at the limit", "×"), rows),
        Paragraph(
            "The limit is the network's multiply-adds at the rates that plain work reached in the same run: "
            f"3x3 convolutions {machine.conv_gmac_s:.0f} GMAC/s, in int8 {machine.int8_conv_gmac_s:.0f}, "
            f"matrix products {machine.gemm_gmac_s:.0f}; copies {machine.memory_gb_s:.0f} GB/s in memory, "
            f"{machine.cache_gb_s:.0f} in the caches."
        ),
        Bullets(slowest),
    ]


def _conditions(results: Results) -> list[Block]:
    settings = results.settings
    models = [model.file for model in results.models]
    return [
        Heading("Conditions"),
        Bullets(
            [
                f"frames: {settings.frames}, {settings.frame_size_hw[1]}x{settings.frame_size_hw[0]}; "
                f"{settings.settle} frames at the start of each turn do not count; seed {settings.seed}",
                *(f"{name}: {fact}" for name, fact in results.machine.facts().items()),
                f"noise meanwhile: {results.noise}",
                f"started {results.started}; every sample is in `results.json`",
            ]
        ),
        Table(
            ("file", "input", "arithmetic", "bytes", "SHA-256"),
            [
                (file.file, file.input, file.arithmetic, f"{file.bytes}", f"`{file.sha256[:16]}`")
                for file in models
            ],
        ),
        Paragraph("Made by"),
        Command(_command(results)),
    ]


def _command(results: Results) -> str:
    """Return the command that made the report, without the folders of the machine."""
    settings = results.settings
    words = ["python -m benchmarks.report --models"]
    words += [quote(model.file.file) for model in results.models if model.file.kind != "peer"]
    peers = [quote(model.file.file) for model in results.models if model.file.kind == "peer"]
    words += ["--peers", *peers] if peers else []
    if settings.data:
        name, split = settings.data.split()[:2]
        words.append(f"--data {name} --root DIR --split {split}")
    if settings.frames != "synthetic drive":
        words.append(f"--video {quote(settings.frames)}")
    words.append(f"--rounds {settings.rounds} --frames {settings.frames_a_round} --seed {settings.seed}")
    return " ".join([*words, f"--threads {settings.threads} --provider {settings.provider} --out DIR"])


def _points(model: ModelResult, first: ModelResult) -> str:
    if model.accuracy is None or first.accuracy is None:
        return NOTHING
    if model is first:
        return "0"
    points = miou_points(model.accuracy.counts, first.accuracy.counts)
    return f"{points.value:+.1f} ({points.low:+.1f} to {points.high:+.1f})"


def _ratio(model: ModelResult, first: ModelResult, stage: str) -> str:
    if model is first and stage in model.stages_ms:
        return "1"
    if stage not in model.stages_ms or stage not in first.stages_ms:
        return NOTHING
    return str(paired_ratio(model.stage(stage), first.stage(stage)))
