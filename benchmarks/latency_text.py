"""A latency report for people: the same tables and facts for a terminal and in Markdown."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from benchmarks import cold_start
from benchmarks.frame_timer import STAGES
from benchmarks.latency_report import LatencyReport
from benchmarks.machine import NOT_TOLD
from benchmarks.sustained import Minute, slowdown

PERCENTILES = ("p50", "p90", "p99", "p99.9", "max")
THOUSANDTH = 1000  # frames from which on p99.9 is not simply the maximum
_MINUTE_HEADS = ("until s", "frames", "p50", "p99", "max", "CPU %", "°C", "MHz", "others %", "W")


@dataclass(frozen=True)
class Table:
    """Rows of cells under a title; the first cell of a row is its name."""

    title: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def as_text(self) -> str:
        """Return it in columns."""
        lines = [self.heads, *self.rows]
        wide = [max(len(line[place]) for line in lines) for place in range(len(self.heads))]
        return "\n".join(
            " ".join(
                [
                    line[0].ljust(wide[0]),
                    *(cell.rjust(max(8, w)) for cell, w in zip(line[1:], wide[1:], strict=True)),
                ]
            )
            for line in lines
        )

    def as_markdown(self) -> str:
        """Return it as GitHub shows tables."""
        lines = [self.heads, ("---",) * len(self.heads), *self.rows]
        return "\n".join("| " + " | ".join(line) + " |" for line in lines).replace(" --- ", "---")


def as_text(report: LatencyReport) -> str:
    """Return the report for a terminal."""
    stages, *others = _tables(report)
    parts = [stages.as_text(), "\n".join(_facts(report))]
    return "\n\n".join([*parts, *(f"{table.title}\n{table.as_text()}" for table in others)])


def as_markdown(report: LatencyReport) -> str:
    """Return the report as a Markdown section."""
    stages, *others = _tables(report)
    machine = "\n".join(f"- {name}: {fact}" for name, fact in report.machine.facts().items())
    parts = [
        f"## {stages.title}",
        stages.as_markdown(),
        "\n".join(f"- {fact}" for fact in _facts(report)),
        *(f"### {table.title}\n\n{table.as_markdown()}" for table in others),
        f"### The machine\n\n{machine}",
    ]
    return "\n\n".join(parts) + "\n"


def minute_row(minute: Minute) -> str:
    """Return one minute for the progress of a long run."""
    return "  ".join(
        f"{head} {cell}" for head, cell in zip(_MINUTE_HEADS, _minute_cells(minute), strict=True)
    )


def _tables(report: LatencyReport) -> list[Table]:
    """Return the table of stages and those of what else was measured."""
    rows = [(stage, *_cells(report.latency_ms[stage])) for stage in STAGES]
    if report.jitter_ms:
        rows.append(("jitter", *_cells(report.jitter_ms)))
    tables = [Table(f"Latency of {report.model.name}", ("ms", *PERCENTILES), tuple(rows))]
    if report.cold_start:
        start = report.cold_start
        tables.append(
            Table(
                f"Cold start: {start.runs} fresh processes up to the first mask",
                ("ms", "p50", "max"),
                tuple(
                    (stage, f"{start.p50_ms(stage):.0f}", f"{start.max_ms(stage):.0f}")
                    for stage in cold_start.STAGES
                ),
            )
        )
    if report.sustained:
        worst = slowdown(report.sustained)
        title = f"Sustained for {report.sustained[-1].until_s:.0f} s without a pause, total of a frame in ms"
        if worst is not None:
            title += f"; the slowest later minute took {100 * (worst - 1):+.1f} % against the first"
        rows = [_minute_cells(minute) for minute in report.sustained]
        tables.append(Table(title, _MINUTE_HEADS, tuple(rows)))
    if report.scaling:
        points = report.scaling.threads
        tables.append(
            Table(
                "Threads, total of a frame in ms",
                ("threads", "p50", "p99", "speed-up", "CPU %", "CPU ms a frame"),
                tuple(
                    (
                        str(point.threads),
                        *_cells(point.total_ms, ("p50", "p99")),
                        f"{points[0].total_ms['p50'] / point.total_ms['p50']:.2f}",
                        f"{point.cpu.percent:.0f}",
                        f"{point.cpu.ms_a_frame:.1f}",
                    )
                    for point in points
                ),
            )
        )
        if report.scaling.batches:
            tables.append(
                Table(
                    "Batches, network in ms",
                    ("images", "p50", "p99", "p50 an image"),
                    tuple(
                        (
                            str(point.batch),
                            *_cells(point.network_ms, ("p50", "p99")),
                            f"{point.ms_an_image:.2f}",
                        )
                        for point in report.scaling.batches
                    ),
                )
            )
    return tables


def _minute_cells(minute: Minute) -> tuple[str, ...]:
    """Return a row of the sustained table."""
    joules = sum(minute.energy.joules.values()) if minute.energy.joules else None
    return (
        f"{minute.until_s:.0f}",
        str(minute.frames),
        *_cells(minute.total_ms, ("p50", "p99", "max")),
        f"{minute.cpu.percent:.0f}",
        NOT_TOLD if minute.temperature is None else f"{minute.temperature.celsius:.1f}",
        NOT_TOLD if minute.clock_mhz is None else f"{minute.clock_mhz:.0f}",
        NOT_TOLD if minute.others is None else f"{minute.others.others_percent:.0f}",
        NOT_TOLD if joules is None else f"{joules / minute.wall_s:.1f}",
    )


def _facts(report: LatencyReport) -> list[str]:
    """Return what must be known beside the table, a line each."""
    model, start, energy = report.model, report.cold_start, report.energy
    facts = [
        f"{report.fps:.1f} frames/s over {report.frames} frames of {_size(report.frame_size_hw)} after "
        f"{report.warmup} to warm up; {report.threads} threads, provider {report.provider}",
        "jitter: difference between the totals of two frames in a row",
        f"processor: {report.cpu.ms_a_frame:.1f} ms a frame, at full rate {report.cpu.percent:.0f} % of one "
        "hardware thread",
        f"energy: {energy.words(report.frames, report.wall_s)}",
        f"network time × convolution rate: {report.network_time_gmac:.2f} GMAC "
        f"(3x3 convolutions, 64 channels: {report.conv_gmac_per_s:.1f} GMAC/s)",
        f"model: {model.file} ({model.name}, input {_size(model.input_size_hw)}, quantization "
        f"{model.quantization}), {model.bytes / 1e6:.2f} MB, sha256 {model.sha256[:16]}",
        f"machine: {report.machine}",
        f"between the frames: {report.noise_meanwhile}",
    ]
    if start:
        memory = [NOT_TOLD if mb is None else f"{mb:.0f} MB" for mb in (start.memory_mb, start.peak_mb)]
        facts.append(
            f"memory of a fresh process after its first mask: {memory[0]} resident, {memory[1]} at its peak"
        )
    if report.scaling and report.scaling.why_no_batches:
        facts.append(f"batches: not measured, {report.scaling.why_no_batches}")
    if report.frames < THOUSANDTH:
        facts.insert(
            1, f"p99.9 of fewer than {THOUSANDTH} frames is their maximum; take --frames {THOUSANDTH}"
        )
    return facts


def _cells(values_ms: dict[str, float], names: Iterable[str] = PERCENTILES) -> tuple[str, ...]:
    return tuple(f"{values_ms[name]:.2f}" for name in names)


def _size(size_hw: tuple[int, int]) -> str:
    """Return a size as people write it, width first."""
    return f"{size_hw[1]}x{size_hw[0]}"
