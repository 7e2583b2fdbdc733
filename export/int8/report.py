"""What quantization found, as Markdown for people and as plain values for scripts."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from export.int8.budget import SearchResult
from export.int8.optimized_graph import OptimizedGraph
from export.int8.paired_speed import PairedSpeed
from runtime.contract import ModelContract


@dataclass(frozen=True)
class QuantizeReport:
    """What was written and how it was found.

    Attributes:
        path: the int8 file.
        contract: as stamped into it.
        measure: what the points are.
        float_points: the float32 file's points of 100.
        float_bytes: the float32 file's size.
        size_bytes: the int8 file's size.
        border_error: grey levels by which a padded pixel differs from before; None when the image is made
            float first.
        search: every candidate.
        speed: the final, longer measurement.
        graph: what onnxruntime runs here.
    """

    path: Path
    contract: ModelContract
    measure: str
    float_points: float
    float_bytes: int
    size_bytes: int
    border_error: float | None
    search: SearchResult
    speed: PairedSpeed
    graph: OptimizedGraph


def as_markdown(report: QuantizeReport) -> str:
    """Return the report with a table of all steps."""
    speed, graph, chosen = report.speed, report.graph, report.search.chosen
    lines = [
        f"{report.path}: {report.contract.name}, {report.contract.origin.quantization}",
        "",
        f"Points are {report.measure}.",
        "",
        "| form | layers in float32 | points | lost | ms | of float32's time | MB |",
        "|---|---|---|---|---|---|---|",
        f"| float32 | all | {report.float_points:.2f} | | {speed.reference_ms:.2f} | 1 | "
        f"{report.float_bytes / 1e6:.2f} |",
    ]
    for step in report.search.steps:
        mark = " ←" if step is chosen else ""
        lines.append(
            f"| {step.form}{mark} | {_names(step.excluded)} | {step.points:.2f} | {step.drop:+.2f} | "
            f"{step.int8_ms:.2f} | {step.ratio:.2f} | {step.size_bytes / 1e6:.2f} |"
        )
    if report.search.ranking:
        worst = ", ".join(f"{error.layer} {error.sqnr_db:.0f} dB" for error in report.search.ranking[:5])
        lines += ["", f"Worst layers (signal to noise of the logits with that layer alone in int8): {worst}"]
    pixels = "reaches the first convolution as it is" if graph.image_stays_integer else "is made float first"
    border = "" if report.border_error is None else f", padding off by {report.border_error:.1f} grey levels"
    lines += [
        "",
        f"- speed: {speed.candidate_ms:.2f} ms against {speed.reference_ms:.2f} ms, "
        f"{1 / speed.ratio:.2f} times as fast (median of {speed.pairs} interleaved pairs)",
        f"- size: {report.size_bytes / 1e6:.2f} MB against {report.float_bytes / 1e6:.2f} MB, "
        f"{report.float_bytes / report.size_bytes:.2f} times as small",
        f"- in onnxruntime here: integer {_counts(graph.integer)}; float32 {_counts(graph.floating)}; "
        f"{graph.quantize} QuantizeLinear and {graph.dequantize} DequantizeLinear left; the image {pixels}"
        f"{border}",
    ]
    return "\n".join(lines)


def as_plain(report: QuantizeReport) -> dict[str, object]:
    """Return the report for `json.dumps`."""
    plain = asdict(report)
    plain.update(path=str(report.path), quantization=report.contract.origin.quantization)
    del plain["contract"]
    return plain


def _names(layers: tuple[str, ...]) -> str:
    return ", ".join(layers) or "none"


def _counts(operators: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(operators.items())) or "none"
