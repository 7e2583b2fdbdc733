"""Writes an int8 file that keeps its accuracy and is faster here, or none."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import onnx_ir as ir

from export.graph.finish import (
    installed_version,
    onnx_path,
    replacing_model,
    tool_versions,
    write_model,
)
from export.graph.probe import check_file
from export.int8.first_look import Budget, counted, first_look
from export.int8.judge import (
    AgreementJudge,
    Judge,
    LabelJudge,
    OptimizedGraph,
    PairedSpeed,
    dataset_images,
    optimized_graph,
    paired_speed,
    source_images,
    spaced,
)
from export.int8.ranges import METHODS
from export.int8.search import AS_EXPORTED, MAX_RATIO, Int8Builder, SearchResult, Step, search
from export.int8.target import TARGETS, TargetCpu, detect_target
from runtime.base.flags import check_fields, flag, nested
from runtime.contract import ModelContract
from runtime.errors import ConfigError
from runtime.frame import Image
from runtime.network.resize import fit_image
from runtime.network.session import MAX_THREADS, NetworkSession
from training.data.catalog import OptionalData

_STEP_SPEED_S = 60.0  # of timing, where a network is slow


@dataclass(frozen=True)
class QuantizeConfig:
    """How to quantize."""

    calibration: str = flag("how the ranges of activations are chosen", default="percentile", choices=METHODS)
    calibration_frames: int = flag("images to calibrate on, at most", default=64, at_least=1)
    target: str | None = flag("processor preset", default=None, unset="this machine's", choices=TARGETS)
    max_drop: float = flag(
        "points of 100 that may be lost: of mIoU, or of mask agreement where there are no labels",
        default=0.5,
        at_least=0,
        at_most=100,
    )
    threads: int | None = flag(
        "worker threads",
        default=None,
        unset="physical cores, at most 4",
        at_least=1,
        at_most=MAX_THREADS,
    )
    step_pairs: int = flag("interleaved runs of both files for a candidate's speed", default=30, at_least=1)
    final_pairs: int = flag("the same for the verdict", default=100, at_least=1)
    budget_s: float = flag(
        "time that the search may take; then the best so far is the answer", default=1800.0, unit="s", above=0
    )
    force: bool = flag("write the file even if it is not faster here, for another machine", default=False)

    def __post_init__(self) -> None:
        """Check the settings."""
        check_fields(self)


@dataclass(frozen=True)
class Pictures:
    """What an int8 file is calibrated on and judged by: a data set, or pictures without labels."""

    dataset: OptionalData = nested(OptionalData)
    frames: str | None = flag(
        "images ('calib/*.png') or a video without labels, instead of --data: every second one calibrates, "
        "the others judge by mask agreement with float32",
        default=None,
    )
    split: str = flag("part of the data set to calibrate on", default="train")
    judge_split: str = flag("part of the data set to measure mIoU on", default="val")
    limit: int | None = flag("judge by the first so many images", default=None, unset="all", at_least=1)

    def __post_init__(self) -> None:
        """Check the limit."""
        check_fields(self)

    def open(self, model_path: Path, config: QuantizeConfig) -> tuple[Sequence[Image], Judge]:
        """Return the images to calibrate on, and what judges.

        Args:
            model_path: the float32 file, which says at what size.
            config: says how many images, and on how many threads.

        Raises:
            ConfigError: neither a data set nor pictures, or both; or a single picture.
            DatasetError: as `training.data.open_dataset`.
            SourceError: pictures that cannot be read.
        """
        calibrated = self.dataset.open(self.split)
        judged = self.dataset.open(self.judge_split)
        if self.frames is not None and calibrated is None:
            images, others = source_images(self.frames)
            return images, AgreementJudge(model_path, others[: self.limit], config.threads)
        if calibrated is None or judged is None or self.frames is not None:
            got = "neither" if calibrated is None else "both"
            raise ConfigError(f"pictures: expected --data or --frames, got {got}; choose one of them")
        given = NetworkSession(model_path, threads=config.threads).contract.input
        images = dataset_images(calibrated, config.calibration_frames, given)
        return images, LabelJudge(judged, self.limit, config.threads)


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
        border_error: grey levels by which a padded pixel differs from before; None where the image becomes
            float32 first.
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


def quantize_file(
    model_path: str | Path,
    output_path: str | Path | None,
    images_bgr: Sequence[Image],
    judge: Judge,
    config: QuantizeConfig,
) -> QuantizeReport:
    """Write the fastest int8 form of a float32 file that keeps the budget, or write nothing.

    Args:
        model_path: float32 ONNX file with a contract.
        output_path: ends in .onnx; None adds "-int8" to the model's name.
        images_bgr: uint8 (H, W, 3) to calibrate on, of any size; resized as the runtime does.
        judge: measures each candidate.
        config: how.

    Raises:
        ConfigError: paths or a file that cannot work, or an int8 file that is not faster here.
        ModelLoadError: the model cannot be opened.
        ContractError: a model without a contract, or that does not fit it.
        ParityError: no candidate keeps the budget.
    """
    source = Path(model_path)
    output = onnx_path(source.with_name(f"{source.stem}-int8.onnx") if output_path is None else output_path)
    if output.resolve() == source.resolve():
        raise ConfigError(f"{output}: expected another output name than the model's, got it; correct -o")
    target = detect_target() if config.target is None else TARGETS[config.target]
    contract = NetworkSession(source, threads=config.threads).contract
    _check_quantizable(source, contract)
    budget = Budget(config.budget_s)
    model = ir.load(source)
    chosen_frames = spaced(len(images_bgr), config.calibration_frames)
    fitted = [
        fit_image(images_bgr[index], contract.input.size_hw, contract.input.fit) for index in chosen_frames
    ]
    fitted = fitted[
        : first_look(
            source,
            model,
            contract,
            fitted,
            target,
            budget,
            pairs=config.step_pairs,
            threads=config.threads,
            force=config.force,
        )
    ]
    budget.say(f"calibrating on {len(fitted)} frames")
    builder = Int8Builder(model, fitted, config.calibration, target, contract.output.name, budget.is_over)
    budget.say("measuring float32")
    float_points, _ = judge.points(source)

    with tempfile.TemporaryDirectory() as folder:
        candidate = Path(folder) / "candidate.onnx"

        def measure(form: str, excluded: tuple[str, ...]) -> Step:
            built = builder.build(form, frozenset(excluded))
            write_model(built, contract, candidate)
            points, accuracy = judge.points(candidate)
            speed = paired_speed(
                source, candidate, pairs=config.step_pairs, threads=config.threads, most_s=_STEP_SPEED_S
            )
            step = Step(
                form=form,
                excluded=excluded,
                points=points,
                drop=float_points - points,
                float_ms=speed.reference_ms,
                int8_ms=speed.candidate_ms,
                ratio=speed.ratio,
                size_bytes=candidate.stat().st_size,
                accuracy=accuracy,
            )
            budget.say(
                f"{form}, {len(excluded)} of {len(builder.layers)} layers in float32: {step.points:.2f} "
                f"points ({step.drop:+.2f} lost), {step.ratio:.2f} of float32's time"
            )
            return step

        found = search(measure, builder.rank_layers, config.max_drop, budget.is_over)

    chosen = found.chosen
    stamped = _int8_contract(contract, chosen, target, config.calibration)
    built = builder.build(chosen.form, frozenset(chosen.excluded))
    with replacing_model(output) as part:
        write_model(built, stamped, part)
        check_file(part)
        NetworkSession(part)  # what is renamed into place did open
        speed = paired_speed(
            source, part, pairs=config.final_pairs, threads=config.threads, most_s=2 * _STEP_SPEED_S
        )
        if not config.force:
            _refuse_if_slow(speed, target)
        graph = optimized_graph(part)
    return QuantizeReport(
        path=output,
        contract=stamped,
        measure=judge.measure,
        float_points=float_points,
        float_bytes=source.stat().st_size,
        size_bytes=output.stat().st_size,
        border_error=None if builder.image is None else builder.image.border_error,
        search=found,
        speed=speed,
        graph=graph,
    )


def _check_quantizable(source: Path, contract: ModelContract) -> None:
    """Refuse files that are not float32, give no logits, or give more than that."""
    if contract.origin.quantization != "none":
        raise ConfigError(
            f"model {source}: expected a float32 file, got one that is {contract.origin.quantization}; give "
            "the float32 file it was made from"
        )
    if not contract.output.has_logits:
        raise ConfigError(
            f"model {source}: expected a file with logits, got one with a mask only; export it with --output "
            "logits or both"
        )
    if contract.output.features:
        raise ConfigError(
            f"model {source}: expected a file without features, which are there to teach with, got one with "
            f"{len(contract.output.features)} of them; give the file that export.features read"
        )


def _refuse_if_slow(speed: PairedSpeed, target: TargetCpu) -> None:
    """Refuse a file that nobody should run here."""
    if speed.ratio >= MAX_RATIO:
        raise ConfigError(
            f"quantize: expected int8 to take less than {MAX_RATIO:.0%} of float32's time here, got "
            f"{speed.candidate_ms:.2f} ms against {speed.reference_ms:.2f} ms ({speed.ratio:.0%}, median of "
            f"{speed.pairs} interleaved pairs) with preset {target.name}, so no file was written; keep the "
            "float32 file, or write it for another machine with --force"
        )


def _int8_contract(contract: ModelContract, step: Step, target: TargetCpu, method: str) -> ModelContract:
    """Return the contract of the int8 file: its own accuracy where measured, and what was done."""
    repaired = "" if step.form == AS_EXPORTED else f", {step.form}"
    kept = f", {len(step.excluded)} layers in float32" if step.excluded else ""
    described = f"int8 qdq, {target.name}, {method}{repaired}{kept}"
    tools = {
        **contract.origin.tools,
        **tool_versions(),
        "onnxruntime": installed_version("onnxruntime"),
    }
    # A float32 figure would be a false claim, so without labels there is none.
    measured = dataclasses.replace(contract, accuracy=step.accuracy)
    return measured.with_origin(quantization=described, tools=tools)


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
    pixels = (
        "reaches the first convolution as uint8" if graph.image_stays_integer else "becomes float32 first"
    )
    border = "" if report.border_error is None else f", padding off by {report.border_error:.1f} grey levels"
    lines += [
        "",
        f"- speed: {speed.candidate_ms:.2f} ms against {speed.reference_ms:.2f} ms, "
        f"{1 / speed.ratio:.2f} times as fast (median of {speed.pairs} interleaved pairs)",
        f"- size: {report.size_bytes / 1e6:.2f} MB against {report.float_bytes / 1e6:.2f} MB, "
        f"{report.float_bytes / report.size_bytes:.2f} times as small",
        f"- in onnxruntime here: integer {counted(graph.integer)}; float32 {counted(graph.floating)}; "
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
