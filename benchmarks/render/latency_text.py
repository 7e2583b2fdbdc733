"""A latency report for people: the same tables and facts for a terminal and in Markdown."""

from __future__ import annotations

from collections.abc import Iterable

from benchmarks.machine.description import NOT_TOLD
from benchmarks.render.document import Block, Bullets, Heading, Table, to_markdown, to_text
from benchmarks.timing.cold_start import STAGES as COLD_STAGES
from benchmarks.timing.cold_start import ColdStart
from benchmarks.timing.frame_timer import STAGES
from benchmarks.timing.latency_report import LatencyReport
from benchmarks.timing.scaling import Scaling
from benchmarks.timing.sustained import Minute, slowdown

PERCENTILES = ("p50", "p90", "p99", "p99.9", "max")
THOUSANDTH = 1000  # frames from which on p99.9 is not simply the maximum
_MINUTE_HEADS = ("until s", "frames", "p50", "p99", "max", "CPU %", "°C", "MHz", "others %", "W")


def as_text(report: LatencyReport) -> str:
    """Return the report for a terminal."""
    (_, stages), *others = _sections(report)
    parts = [to_text([stages]), "\n".join(_facts(report))]
    return "\n\n".join([*parts, *(f"{title}\n{to_text([table])}" for title, table in others)])


def as_markdown(report: LatencyReport) -> str:
    """Return the report as Markdown sections."""
    blocks: list[Block] = []
    for title, table in _sections(report):
        blocks += [Heading(title), table]
        if len(blocks) == 2:
            blocks.append(Bullets(_facts(report)))
    machine = [f"{name}: {fact}" for name, fact in report.machine.facts().items()]
    return to_markdown("", [*blocks, Heading("The machine"), Bullets(machine)])


def minute_row(minute: Minute) -> str:
    """Return one minute for the progress of a long run."""
    return "  ".join(
        f"{head} {cell}" for head, cell in zip(_MINUTE_HEADS, _minute_cells(minute), strict=True)
    )


def _sections(report: LatencyReport) -> list[tuple[str, Table]]:
    """Return titles and tables: the stages first, then what else was measured."""
    rows = [(stage, *_cells(report.latency_ms[stage])) for stage in STAGES]
    if report.jitter_ms:
        rows.append(("jitter", *_cells(report.jitter_ms)))
    sections = [(f"Latency of {report.model.name}", Table(("ms", *PERCENTILES), rows))]
    if report.cold_start:
        sections.append(_cold_start(report.cold_start))
    if report.sustained:
        sections.append(_sustained(report.sustained))
    if report.scaling:
        sections.append(_threads(report.scaling))
        if report.scaling.batches:
            sections.append(_batches(report.scaling))
    return sections


def _cold_start(start: ColdStart) -> tuple[str, Table]:
    rows = [(stage, f"{start.p50_ms(stage):.0f}", f"{start.max_ms(stage):.0f}") for stage in COLD_STAGES]
    return f"Cold start: {start.runs} fresh processes up to the first mask", Table(("ms", "p50", "max"), rows)


def _sustained(minutes: tuple[Minute, ...]) -> tuple[str, Table]:
    worst = slowdown(minutes)
    title = f"Sustained for {minutes[-1].until_s:.0f} s without a pause, total of a frame in ms"
    if worst is not None:
        title += f"; the slowest later minute took {100 * (worst - 1):+.1f} % against the first"
    return title, Table(_MINUTE_HEADS, [_minute_cells(minute) for minute in minutes])


def _threads(scaling: Scaling) -> tuple[str, Table]:
    points = scaling.threads
    rows = [
        (
            str(point.threads),
            *_cells(point.total_ms, ("p50", "p99")),
            f"{points[0].total_ms['p50'] / point.total_ms['p50']:.2f}",
            f"{point.cpu.percent:.0f}",
            f"{point.cpu.ms_a_frame:.1f}",
        )
        for point in points
    ]
    heads = ("threads", "p50", "p99", "speed-up", "CPU %", "CPU ms a frame")
    return "Threads, total of a frame in ms", Table(heads, rows)


def _batches(scaling: Scaling) -> tuple[str, Table]:
    rows = [
        (str(point.batch), *_cells(point.network_ms, ("p50", "p99")), f"{point.ms_an_image:.2f}")
        for point in scaling.batches
    ]
    return "Batches, network in ms", Table(("images", "p50", "p99", "p50 an image"), rows)


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
