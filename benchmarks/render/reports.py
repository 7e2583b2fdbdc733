"""What the commands say, as blocks that `benchmarks.render.document` shows."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from benchmarks.layers.limits import LimitsReport, ModelLimits
from benchmarks.layers.op_profile import OpProfile
from benchmarks.machine.description import UNKNOWN, Machine
from benchmarks.render.document import Block, Bullets, Heading, Table
from benchmarks.results.compare import Comparison
from benchmarks.timing.cold_start import STAGES as COLD_STAGES
from benchmarks.timing.frames import STAGES
from benchmarks.timing.latency import LatencyReport
from benchmarks.timing.scaling import Scaling
from benchmarks.timing.soak import Row
from benchmarks.timing.stages import StageReport
from benchmarks.timing.stream import StreamReport
from benchmarks.timing.sustained import Minute, slowdown
from benchmarks.timing.throughput import TARGET, ThroughputReport
from benchmarks.timing.tune import TuneReport

PERCENTILES = ("p50", "p90", "p99", "p99.9", "max")
THOUSANDTH = 1000  # frames from which on p99.9 is not simply the maximum
MINUTE_HEADS = ("until s", "frames", "p50", "p99", "max", "CPU %", "°C", "MHz", "others %", "W")


def latency_blocks(report: LatencyReport) -> list[Block]:
    """Return what `benchmarks.latency` says: the stages first, then what else was measured."""
    rows = [(stage, *_cells(report.latency_ms[stage])) for stage in STAGES]
    if report.jitter_ms:
        rows.append(("jitter", *_cells(report.jitter_ms)))
    blocks: list[Block] = [Heading(f"Latency of {report.model.name}"), Table(("ms", *PERCENTILES), rows)]
    blocks.append(Bullets(_facts(report)))
    if start := report.cold_start:
        rows = [(stage, f"{start.p50_ms(stage):.0f}", f"{start.max_ms(stage):.0f}") for stage in COLD_STAGES]
        title = f"Cold start: {start.runs} fresh processes up to the first mask"
        blocks += [Heading(title), Table(("ms", "p50", "max"), rows)]
    if report.sustained:
        title = f"Sustained for {report.sustained[-1].until_s:.0f} s without a pause, total of a frame in ms"
        worst = slowdown(report.sustained)
        if worst is not None:
            title += f"; the slowest later minute took {100 * (worst - 1):+.1f} % against the first"
        blocks += [Heading(title), Table(MINUTE_HEADS, list(map(minute_cells, report.sustained)))]
    return blocks + (_scaling_blocks(report.scaling) if report.scaling else [])


def _scaling_blocks(scaling: Scaling) -> list[Block]:
    one = scaling.threads[0]
    rows = [
        (
            str(point.threads),
            *_cells(point.total_ms, ("p50", "p99")),
            f"{one.total_ms['p50'] / point.total_ms['p50']:.2f}",
            f"{point.cpu.percent:.0f}",
            f"{point.cpu.ms_a_frame:.1f}",
        )
        for point in scaling.threads
    ]
    heads = ("threads", "p50", "p99", "speed-up", "CPU %", "CPU ms a frame")
    blocks: list[Block] = [Heading("Threads, total of a frame in ms"), Table(heads, rows)]
    if scaling.batches:
        rows = [
            (str(point.batch), *_cells(point.network_ms, ("p50", "p99")), f"{point.ms_an_image:.2f}")
            for point in scaling.batches
        ]
        batches = Table(("images", "p50", "p99", "p50 an image"), rows)
        blocks += [Heading("Batches, network in ms"), batches]
    return blocks


def stage_blocks(report: StageReport) -> list[Block]:
    """Return where frames' time goes, a line a size and a file."""
    rows = [
        (_size(row.frame_size_hw), row.model, *(f"{row.p50_ms[stage]:.2f}" for stage in STAGES))
        for row in report.rows
    ]
    fact = f"{report.frames} frames each, {report.threads} threads; machine: {report.machine}"
    return [Heading("Medians, ms"), Table(("frames", "model", *STAGES), rows), Bullets([fact])]


def machine_blocks(machine: Machine) -> list[Block]:
    """Return everything that is known about the machine."""
    return [Heading("The machine"), Bullets([f"{name}: {fact}" for name, fact in machine.facts().items()])]


def minute_cells(minute: Minute) -> tuple[str, ...]:
    """Return a row of the sustained table."""
    joules = sum(minute.energy.joules.values()) if minute.energy.joules else None
    return (
        f"{minute.until_s:.0f}",
        str(minute.frames),
        *_cells(minute.total_ms, ("p50", "p99", "max")),
        f"{minute.cpu.percent:.0f}",
        UNKNOWN if minute.temperature is None else f"{minute.temperature.celsius:.1f}",
        UNKNOWN if minute.clock_mhz is None else f"{minute.clock_mhz:.0f}",
        UNKNOWN if minute.others is None else f"{minute.others.others_percent:.0f}",
        UNKNOWN if joules is None else f"{joules / minute.wall_s:.1f}",
    )


def _facts(report: LatencyReport) -> list[str]:
    """Return what must be known beside the table, a line each."""
    model, start, energy = report.model, report.cold_start, report.energy
    facts = [
        f"{report.fps:.1f} frames/s over {report.frames} frames of {_size(report.frame_size_hw)} after "
        f"{report.warmup} warm-up frames; {report.threads} threads, provider {report.provider}",
        "jitter: difference between the totals of consecutive frames",
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
        memory = [UNKNOWN if mb is None else f"{mb:.0f} MB" for mb in (start.memory_mb, start.peak_mb)]
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


def limits_blocks(report: LimitsReport, layers: int) -> list[Block]:
    """Return what `benchmarks.limits` says, with so many layers of each network."""
    limits = report.limits
    heads = ("network", "GMAC", "ms", "limit", "ratio", "layers", "limit", "profiled")
    rows = []
    for model in report.models:
        known = model.limit_ms is not None and model.ratio is not None
        rows.append(
            (
                Path(model.file).name,
                f"{sum(model.gmacs.values()):.3f}",
                f"{model.network_ms:.2f}",
                f"{model.limit_ms:.2f}" if known else "unknown",
                f"{model.ratio:.2f}" if known else "",
                f"{model.layers_ms:.2f}",
                f"{model.layers_limit_ms:.2f}",
                f"{model.profiled_ms:.2f}",
            )
        )
    facts = [
        f"this machine, {limits.threads} threads, medians: 3x3 convolutions {limits.conv_gmac_s:.0f} GMAC/s, "
        f"in int8 {limits.int8_conv_gmac_s:.0f}, GEMM {limits.gemm_gmac_s:.0f}; copies, read + written, "
        f"{limits.memory_gb_s:.0f} GB/s in memory, {limits.cache_gb_s:.0f} in the caches",
        f"machine: {report.machine}",
        "limit: the multiply-adds at these rates; layers: the sum of their medians, and of their limits with "
        "memory counted; profiled: a whole run while layers are timed",
    ]
    blocks: list[Block] = [Bullets(facts), Table(heads, rows)]
    for model in report.models:
        blocks += _slowest_layers(model, layers) + _float_layers(model)
    return blocks


def _slowest_layers(model: ModelLimits, count: int) -> list[Block]:
    slowest = model.slowest(count)
    lost_ms = sum(op.lost_ms for op in model.ops if op.lost_ms > 0)
    heads = ("operator and output", "ms", "limit", "ratio", "GMAC/s", "MB", "why, layer")
    rows = [
        (
            f"{op.operator} {'x'.join(map(str, op.output_shape))}",
            f"{op.median_ms:.3f}",
            f"{op.limit_ms:.3f}",
            "" if op.ratio is None else f"{op.ratio:.1f}",
            "" if op.gmac_s is None else f"{op.gmac_s:.0f}",
            f"{op.bytes_moved / 1e6:.2f}",
            f"{op.reason} ({op.name})",
        )
        for op in slowest
    ]
    title = (
        f"{Path(model.file).name}: the {len(slowest)} of {len(model.ops)} layers that lose most, "
        f"{sum(op.lost_ms for op in slowest):.2f} of {lost_ms:.2f} ms"
    )
    return [Heading(title), Table(heads, rows, has_notes=True)]


def _float_layers(model: ModelLimits) -> list[Block]:
    """Return what of an int8 file onnxruntime computes in float32 nevertheless, by operator."""
    if "int8" not in model.gmacs:
        return []
    layers: dict[str, list[OpProfile]] = {}
    for op in model.ops:
        if op.element_type == "float" or op.operator == "QuantizeLinear":
            layers.setdefault(op.operator, []).append(op)
    rows = [
        (operator, str(len(ops)), f"{sum(op.median_ms for op in ops):.3f}", ops[0].reason)
        for operator, ops in layers.items()
    ]
    title = f"{Path(model.file).name}: the layers of {len(model.ops)} that stay float32"
    return [Heading(title), Table(("operator", "layers", "ms", "why"), rows)]


def comparison_blocks(comparison: Comparison) -> list[Block]:
    """Return what `benchmarks.compare` says."""
    rows = []
    for change in comparison.changes:
        is_miou = change.what == "mIoU"
        old, new = (f"{value:.4f}" if is_miou else f"{value:.2f} ms" for value in (change.old, change.new))
        middle, low, high = change.change.value, change.change.low, change.change.high
        said = (
            f"{middle:+.2f} points ({low:+.2f} to {high:+.2f})"
            if is_miou
            else f"× {middle:.3f} ({low:.3f} to {high:.3f})"
        )
        verdict = "" if change.verdict == "same" else change.verdict.upper()
        rows.append((change.label, change.what, old, new, said, verdict))
    heads = ("model", "", "old", "new", "change (99 %)", "")
    note = "milliseconds as measured; from their change what the yardstick says of the machine is taken out"
    return [Table(heads, rows, has_notes=True), Bullets([note, *comparison.notes])]


def stream_blocks(report: StreamReport) -> list[Block]:
    """Return what `benchmarks.stream` says."""
    heads = ("source", "frames/s", "masks/s", "dropped", "age p50", "p99", "max", "gap p99", "late", "CPU %")
    rows = [
        (
            f"{rate.times_capacity:g}x",
            f"{rate.source_fps:.1f}",
            f"{rate.masks_a_second:.1f}",
            f"{rate.dropped_percent:.1f} %",
            *_cells(rate.age_ms, ("p50", "p99", "max")),
            "" if rate.gap_ms is None else f"{rate.gap_ms['p99']:.2f}",
            f"{rate.late} of {len(rate.masks)}",
            f"{rate.cpu.percent:.0f}",
        )
        for rate in report.rates
    ]
    facts = [
        "age: ms from the moment a frame is due at the camera until its mask is ready; gap: ms from one mask "
        "to the next",
        f"late: older than {report.deadline_ms:g} ms; CPU %: of one hardware thread, the camera's thread "
        "included",
        f"capacity: {report.capacity_fps:.1f} masks/s before, {report.capacity_after_fps:.1f} after; frames: "
        f"{report.frames}, {_size(report.frame_size_hw)}; {report.threads} threads, provider "
        f"{report.provider}",
        f"model: {report.model}, sha256 {report.sha256[:16]}",
        f"machine: {report.machine}",
    ]
    return [Table(heads, rows), Bullets(facts)]


def throughput_blocks(report: ThroughputReport) -> list[Block]:
    """Return what `benchmarks.throughput` says."""
    rows = [
        (str(number), f"{each.network_fps:.1f}", f"{each.loop_fps:.1f}", f"{each.serial_fps:.1f}")
        for number, each in enumerate(report.rounds, 1)
    ]
    facts = [
        f"loop / network alone: {report.loop_ratio:.3f} (goal {TARGET}); without overlap "
        f"{report.serial_ratio:.3f}; medians of {len(report.rounds)} rounds",
        f"{report.source}, {_size(report.frame_size_hw)}, {report.model}, {report.threads} threads",
        f"machine: {report.machine}",
    ]
    return [Table(("round", "network alone, frames/s", "loop", "no overlap"), rows), Bullets(facts)]


def tune_blocks(report: TuneReport) -> list[Block]:
    """Return what `benchmarks.tune` says."""
    rows = [
        (
            trial.setting.model.stem,
            "{}x{}".format(*trial.setting.size_hw),
            *(() if trial.miou is None else (f"{trial.miou:.4f}",)),
            str(trial.setting.threads),
            "yes" if trial.setting.spin else "no",
            *_cells(trial.total_ms, ("p50", "p90", "p99")),
            f"{trial.processor_ms:.2f}",
            "best" if trial is report.best else "",
        )
        for trial in report.trials
    ]
    facts = [f"machine: {report.machine}"]
    if len({trial.setting.size_hw for trial in report.trials}) == 1:
        facts.insert(0, "one resolution: export the model with --dynamic to compare several")
    measured = () if report.trials[0].miou is None else ("mIoU",)
    heads = ("file", "input HxW", *measured, "threads", "spin", "p50 ms", "p90 ms", "p99 ms", "cpu ms", "")
    return [Table(heads, rows, has_notes=True), Bullets(facts)]


SOAK_HEADS = ("s", "frames", "fps", "p50 ms", "p99 ms", "max ms", "RSS MB", "threads", "files")


def soak_cells(row: Row) -> tuple[str, ...]:
    """Return a row of the table of `benchmarks.soak`."""
    return (
        f"{row.until_s:.0f}",
        str(row.frames),
        f"{row.fps:.1f}",
        *(f"{row.total_ms[name]:.1f}" for name in ("p50", "p99", "max")),
        f"{row.footprint.memory_mb:.1f}",
        str(row.footprint.threads),
        str(row.footprint.files),
    )
