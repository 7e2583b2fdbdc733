"""Writes an int8 file that keeps its accuracy and is faster here, or none.

python -m export.quantize seg.onnx --data camvid --root DIR
"""

from __future__ import annotations

import dataclasses
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

import onnx

from export.graph.stamp import installed_version, stamp, tool_versions
from export.int8.budget import MAX_RATIO, Step, search
from export.int8.builder import AS_EXPORTED, Int8Builder
from export.int8.frames import AgreementJudge, Judge, LabelJudge, dataset_images, source_images, spaced
from export.int8.optimized_graph import optimized_graph
from export.int8.paired_speed import PairedSpeed, paired_speed
from export.int8.ranges import METHODS
from export.int8.report import QuantizeReport, as_markdown, as_plain
from export.int8.target import TARGETS, TargetCpu, detect_target
from runtime.base.command import exit_code, make_parser
from runtime.base.files import replacing
from runtime.contract import ModelContract
from runtime.errors import ConfigError, OutputError, ParityError
from runtime.frame import Image
from runtime.network.resize import fit_image
from runtime.network.session import NetworkSession
from training.data import DATASETS, SegmentationDataset, open_dataset


@dataclass(frozen=True)
class QuantizeConfig:
    """How to quantize.

    Attributes:
        calibration: one of `export.int8.ranges.METHODS`. Percentile agreed best with float32 on the
            bundled networks.
        calibration_frames: pictures to calibrate on, at most.
        target: name in `export.int8.target.TARGETS`; None detects this machine's.
        max_drop: points of 100 that may be lost.
        threads: worker threads of the measurements; None takes the physical cores, at most 4.
        step_pairs: interleaved runs of each file for a candidate's speed.
        final_pairs: the same for the verdict.
        force: write the file even if it is not faster here, since it is for another machine.
    """

    calibration: str = "percentile"
    calibration_frames: int = 64
    target: str | None = None
    max_drop: float = 0.5
    threads: int | None = None
    step_pairs: int = 30
    final_pairs: int = 100
    force: bool = False

    def __post_init__(self) -> None:
        """Check the settings."""
        if self.calibration not in METHODS:
            raise ConfigError(
                f"calibration: expected one of {', '.join(METHODS)}, got {self.calibration!r}; choose one"
            )
        if self.target is not None and self.target not in TARGETS:
            raise ConfigError(
                f"target: expected one of {', '.join(TARGETS)}, got {self.target!r}; choose one"
            )
        if min(self.calibration_frames, self.step_pairs, self.final_pairs) < 1:
            raise ConfigError(
                "quantize: expected at least 1 calibration frame and 1 pair of runs, got "
                f"{self.calibration_frames}, {self.step_pairs} and {self.final_pairs}; give more"
            )
        if not 0 <= self.max_drop <= 100:
            raise ConfigError(f"max_drop: expected 0 to 100 points, got {self.max_drop}; correct it")


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
    output = source.with_name(f"{source.stem}-int8.onnx") if output_path is None else Path(output_path)
    if output.suffix != ".onnx" or output.resolve() == source.resolve():
        raise ConfigError(
            f"{output}: expected an output name that ends in .onnx and is not the model's; correct -o"
        )
    target = detect_target() if config.target is None else TARGETS[config.target]
    contract = NetworkSession(source, threads=config.threads).contract
    _check_quantizable(source, contract)
    model = onnx.load(str(source))
    fitted = [fit_image(image, contract.input.size_hw) for image in images_bgr]
    fitted = [fitted[index] for index in spaced(len(fitted), config.calibration_frames)]
    builder = Int8Builder(model, fitted, config.calibration, target, contract.output.name)
    float_points, _ = judge.points(source)

    with tempfile.TemporaryDirectory() as folder:
        candidate = Path(folder) / "candidate.onnx"

        def measure(form: str, excluded: tuple[str, ...]) -> Step:
            built = builder.build(form, frozenset(excluded))
            stamp(built, contract)
            onnx.save(built, str(candidate))
            points, accuracy = judge.points(candidate)
            speed = paired_speed(source, candidate, pairs=config.step_pairs, threads=config.threads)
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
            print(
                f"{form}, {len(excluded)} of {len(builder.layers)} layers in float32: {step.points:.2f} "
                f"points ({step.drop:+.2f} lost), {step.ratio:.2f} of float32's time",
                file=sys.stderr,
            )
            return step

        found = search(measure, builder.rank_layers, config.max_drop)

    chosen = found.chosen
    stamped = _int8_contract(contract, chosen, target, config.calibration)
    built = builder.build(chosen.form, frozenset(chosen.excluded))
    stamp(built, stamped)
    try:
        with replacing(output) as part:
            onnx.save(built, str(part))
            _check(part)
            speed = paired_speed(source, part, pairs=config.final_pairs, threads=config.threads)
            if not config.force:
                _refuse_if_slow(speed, target)
            graph = optimized_graph(part)
    except OSError as error:
        raise ConfigError(
            f"{output}: cannot write it ({error.strerror or error}); choose another place with -o"
        ) from None
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


def labelled_pictures(
    model_path: str | Path,
    calibrated: SegmentationDataset,
    judged: SegmentationDataset,
    config: QuantizeConfig,
    *,
    limit: int | None = None,
) -> tuple[Sequence[Image], Judge]:
    """Return what to calibrate on, and a judge that measures mIoU on the first `limit` images of `judged`."""
    size_hw = NetworkSession(model_path, threads=config.threads).contract.input.size_hw
    images = dataset_images(calibrated, config.calibration_frames, size_hw)
    return images, LabelJudge(judged, limit, config.threads)


def unlabelled_pictures(
    model_path: str | Path, frames: str, config: QuantizeConfig, *, limit: int | None = None
) -> tuple[Sequence[Image], Judge]:
    """Return every second picture to calibrate on, and a judge that compares masks on the others."""
    images, others = source_images(frames)
    return images, AgreementJudge(Path(model_path), others[:limit], config.threads)


def _check_quantizable(source: Path, contract: ModelContract) -> None:
    """Refuse files that are not float32 or give no logits."""
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


def _check(path: Path) -> None:
    """Prove that a written graph is valid and opens as the runtime opens it."""
    try:
        onnx.checker.check_model(str(path), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ParityError(
            f"quantize: expected a valid ONNX graph, onnx.checker says: {error}; report it with the model"
        ) from error
    NetworkSession(path)


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
    kept = f", {len(step.excluded)} layers in fp32" if step.excluded else ""
    described = f"int8 qdq, {target.name}, {method}{repaired}{kept}"
    tools = {
        **contract.origin.tools,
        **tool_versions(),
        "onnxruntime": installed_version("onnxruntime"),
    }
    # A float32 figure would be a false claim, so without labels there is none.
    measured = dataclasses.replace(contract, accuracy=step.accuracy)
    return measured.with_origin(quantization=described, tools=tools)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; see `--help`."""
    defaults = QuantizeConfig()
    parser = make_parser("export.quantize", "Quantize a float32 ONNX file to int8, if that pays.")
    parser.add_argument("model", help="float32 ONNX file of export.to_onnx")
    parser.add_argument("-o", "--output", help="int8 file; without it the model's name with -int8")
    pictures = parser.add_mutually_exclusive_group(required=True)
    pictures.add_argument("--data", choices=DATASETS, help="calibrate on and measure with this data set")
    pictures.add_argument(
        "--frames",
        help="images ('calib/*.png') or a video without labels: every second one calibrates, the others "
        "judge by mask agreement with float32",
    )
    parser.add_argument("--root", help="the data set's folder; not needed for synthetic")
    parser.add_argument("--split", default="train", help="part of the data set to calibrate on")
    parser.add_argument("--judge-split", default="val", help="part of the data set to measure mIoU on")
    parser.add_argument("--limit", type=int, help="measure on the first so many images; without it on all")
    parser.add_argument("--calibration", choices=METHODS, default=defaults.calibration, help="kind of ranges")
    parser.add_argument(
        "--calibration-frames", type=int, default=defaults.calibration_frames, help="at most so many pictures"
    )
    parser.add_argument("--target", choices=list(TARGETS), help="preset; without it this machine's")
    parser.add_argument(
        "--max-drop",
        type=float,
        default=defaults.max_drop,
        help="points of mIoU that may be lost, or of mask agreement when there are no labels",
    )
    parser.add_argument("--threads", type=int, help="worker threads; without it physical cores, at most 4")
    parser.add_argument(
        "--force", action="store_true", help="write it even if it is not faster here: for another machine"
    )
    parser.add_argument("--report", metavar="FILE", help="also write the report to this Markdown file")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    args = parser.parse_args(argv)

    def command() -> None:
        config = QuantizeConfig(
            calibration=args.calibration,
            calibration_frames=args.calibration_frames,
            target=args.target,
            max_drop=args.max_drop,
            threads=args.threads,
            force=args.force,
        )
        if args.frames is None:
            calibrated = open_dataset(args.data, args.root, args.split)
            judged = open_dataset(args.data, args.root, args.judge_split)
            images, judge = labelled_pictures(args.model, calibrated, judged, config, limit=args.limit)
        else:
            images, judge = unlabelled_pictures(args.model, args.frames, config, limit=args.limit)
        report = quantize_file(args.model, args.output, images, judge, config)
        text = as_markdown(report)
        print(json.dumps(as_plain(report)) if args.json else text)
        if args.report:  # after the print, so that a bad path does not lose the result
            _write(Path(args.report), text)
        if not args.json:
            print(f"\nnext: python -m benchmarks.latency --model {quote(str(report.path))}")

    return exit_code(command)


def _write(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    try:
        with replacing(path) as part:
            part.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise OutputError(
            f"{path}: expected a file that can be written, got {error}; choose another"
        ) from error


if __name__ == "__main__":
    sys.exit(main())
