"""Makes any segmentation ONNX file one that the runtime opens: `python -m export.adapt model.onnx …`."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from shlex import quote

import numpy as np
import onnx
from onnx import TensorProto

from export.foreign.original import Original, compare
from export.foreign.rewrite import (
    FLOAT_TYPES,
    MIN_OPSET,
    ForeignInput,
    ForeignOutput,
    Layout,
    OutputKind,
    rewrite,
    with_size,
)
from export.graph.simplify import simplify
from export.graph.stamp import stamp, tool_versions
from runtime.base.codec import DecodeError, from_plain
from runtime.base.command import exit_code, make_parser
from runtime.base.files import file_sha256, replacing
from runtime.contract import ClassMap, ImageInput, ModelContract, Origin
from runtime.errors import ConfigError, ContractError, ModelLoadError
from training.data.folder import FolderClasses, distinct_palette


@dataclass(frozen=True)
class AdaptReport:
    """What was written and what was proven about it.

    Attributes:
        path: the ONNX file.
        contract: as stamped into the file.
        output: what the network gave before.
        nodes: nodes in the file.
        frames: how many were compared.
        difference: largest difference of a logit (of a probability, if the network gave those), as a share
            of the largest; 0 for class indices.
        mask_agreement: share of equal classes.
    """

    path: Path
    contract: ModelContract
    output: ForeignOutput
    nodes: int
    frames: int
    difference: float
    mask_agreement: float


@dataclass(frozen=True)
class AdaptOptions:
    """What a file does not say about itself.

    Attributes:
        source: what its input is.
        kind: what its output is.
        output_name: which of its outputs; None if it has one.
        output_layout: order of its output's axes; None finds the axis with one entry a class.
        size_hw: height and width of the input; None if the file says it.
        terms: what the weights' licence allows, in words, for the contract.
    """

    source: ForeignInput = field(default_factory=ForeignInput)
    kind: OutputKind = "logits"
    output_name: str | None = None
    output_layout: Layout | None = None
    size_hw: tuple[int, int] | None = None
    terms: str = ""


def adapt(
    model_path: str | Path,
    classes: ClassMap,
    output_path: str | Path | None = None,
    options: AdaptOptions | None = None,
) -> AdaptReport:
    """Write a network with pre- and post-processing in the graph and a contract, or write nothing.

    Args:
        model_path: an ONNX file with one image input and an output of logits, probabilities or classes.
        classes: names and colours of its classes, in the order of its output.
        output_path: ends in .onnx; None puts `-edgeseg` behind the model's name.
        options: what the file does not say; None takes the defaults.

    Raises:
        ModelLoadError: a file that is missing or no ONNX file, or whose weights are not there.
        ConfigError: options that do not fit the file.
        ParityError: the result does not give what the original gives on preprocessing by hand.
    """
    options = AdaptOptions() if options is None else options
    model_path = Path(model_path)
    if output_path is None:
        output_path = model_path.with_name(f"{model_path.stem}-edgeseg.onnx")
    target = Path(output_path)
    if target.suffix != ".onnx":
        raise ConfigError(f"{target}: expected an output name that ends in .onnx; correct -o")
    model = load_foreign(model_path)
    input_name, size_hw = _image_input(model, options)
    shape = (1, 3, *size_hw) if options.source.layout == "nchw" else (1, *size_hw, 3)
    fixed = with_size(model, input_name, shape)
    original = Original(fixed, input_name, model_path)
    output = _find_output(original, options, len(classes), size_hw)
    contract = ModelContract(
        name=model_path.stem,
        input=ImageInput(size_hw=size_hw),
        output=output.graph_output(size_hw),
        classes=classes,
        normalization=options.source.normalization,
        origin=Origin(checkpoint_sha256=file_sha256(model_path), tools=tool_versions(), terms=options.terms),
    )
    adapted = simplify(rewrite(fixed, options.source, output, size_hw, len(classes)))
    stamp(adapted, contract)
    try:
        with replacing(target) as part:
            onnx.save(adapted, part)
            frames, difference, agreement = compare(part, original, options.source, output)
    except OSError as error:
        raise ConfigError(
            f"{target}: cannot write it ({error.strerror or error}); choose another place with -o"
        ) from None
    return AdaptReport(target, contract, output, len(adapted.graph.node), frames, difference, agreement)


def load_foreign(path: Path) -> onnx.ModelProto:
    """Read somebody else's ONNX file; its weights may lie in other files of the same folder.

    Raises:
        ModelLoadError: a file that is missing, no ONNX file, too old, or with weights outside its folder.
    """
    if not path.is_file():
        raise ModelLoadError(f"model {path}: expected an ONNX file, found none; check the path")
    try:
        model = onnx.load(path)
    except Exception as error:  # protobuf and the readers of external data have no common base
        raise ModelLoadError(
            f"model {path}: expected an ONNX file, with weights inside or beside it, got something else "
            f"({' '.join(str(error).split())[:300]}); export it again"
        ) from None
    opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)
    if opset < MIN_OPSET:
        raise ModelLoadError(
            f"model {path}: expected operator set {MIN_OPSET} or later, got {opset}; export it again, or "
            "convert it with onnx.version_converter"
        )
    return model


def read_classes(path: str | Path) -> ClassMap:
    """Read class names and colours from JSON.

    Args:
        path: a list of names, or an object with `names` and perhaps `palette`, as in a data set's folder.

    Raises:
        ConfigError: a file that is missing or says something else.
    """
    try:
        plain = json.loads(Path(path).read_text(encoding="utf-8"))
        described = from_plain(FolderClasses, {"names": plain} if isinstance(plain, list) else plain)
        names = described.names
        return ClassMap(
            names, distinct_palette(len(names)) if described.palette is None else described.palette
        )
    except OSError as error:
        raise ConfigError(f"classes {path}: cannot read it ({error.strerror}); check --classes") from None
    except (ValueError, RecursionError, DecodeError, ContractError) as error:
        raise ConfigError(
            f'classes {path}: expected JSON such as ["road", "car"] or {{"names": ["road", "car"]}}, got '
            f"something else ({error}); correct it"
        ) from None


def _image_input(model: onnx.ModelProto, options: AdaptOptions) -> tuple[str, tuple[int, int]]:
    """Return name, height and width of the one input."""
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in constants]
    if len(inputs) != 1:
        raise ConfigError(f"input: expected one image, got {[value.name for value in inputs]}")
    tensor = inputs[0].type.tensor_type
    axes = [axis.dim_value or None for axis in tensor.shape.dim]  # None where free
    if tensor.elem_type not in FLOAT_TYPES or len(axes) != 4:
        kind = TensorProto.DataType.Name(tensor.elem_type)
        raise ConfigError(
            f"input {inputs[0].name}: expected floating-point numbers in four axes, got {kind} in {len(axes)}"
        )
    layout = options.source.layout
    batch, channels = axes[0], axes[1 if layout == "nchw" else 3]
    if batch not in (None, 1) or channels not in (None, 3):
        raise ConfigError(
            f"input {inputs[0].name}: expected one image of three channels as {layout.upper()}, got {axes}; "
            "check --layout"
        )
    stated = axes[2:] if layout == "nchw" else axes[1:3]
    wanted = options.size_hw or tuple(side for side in stated if side is not None)
    if len(wanted) != 2:
        raise ConfigError(f"input {inputs[0].name}: its size is free ({axes}); choose one with --imgsz H W")
    if any(own not in (None, side) for own, side in zip(stated, wanted, strict=True)):
        raise ConfigError(
            f"imgsz: the file takes {stated[0]}x{stated[1]} only, got {wanted[0]}x{wanted[1]}; "
            "leave --imgsz out"
        )
    height, width = wanted
    return inputs[0].name, (height, width)


def _find_output(
    original: Original, options: AdaptOptions, classes: int, size_hw: tuple[int, int]
) -> ForeignOutput:
    """Run the network once and say what its output is."""
    if options.output_name not in (None, *original.names) or (
        options.output_name is None and len(original.names) > 1
    ):
        raise ConfigError(
            f"output: expected one of {original.names}, got {options.output_name}; name it with --output-name"
        )
    name = options.output_name or original.names[0]
    shape = original.run(np.zeros(original.shape, np.float32), name)[0].shape
    if options.kind == "argmax":
        if len(shape) == 3 and shape[0] == 1:
            return ForeignOutput(name, "argmax", "nhwc", shape)
        if len(shape) == 4 and shape[0] == 1 and 1 in (shape[1], shape[3]):
            return ForeignOutput(name, "argmax", "nchw" if shape[1] == 1 else "nhwc", shape)
        raise ConfigError(f"output {name}: expected one class a pixel, got the shape {list(shape)}")
    places: dict[Layout, int] = {"nchw": 1, "nhwc": 3}
    fitting = [layout for layout, axis in places.items() if len(shape) == 4 and shape[axis] == classes]
    if options.output_layout is not None:
        fitting = [layout for layout in fitting if layout == options.output_layout]
    if not fitting:
        raise ConfigError(
            f"output {name}: expected an axis of {classes} classes, second or last of four, got the shape "
            f"{list(shape)}; check --classes, --output-layout and --argmax-output"
        )
    if len(fitting) > 1:
        raise ConfigError(
            f"output {name}: its classes may be the second or the last axis of {list(shape)}; say which with "
            "--output-layout"
        )
    return ForeignOutput(name, options.kind, fitting[0], shape)


def report_text(report: AdaptReport) -> str:
    """Return the report as printed, with the command to run next."""
    contract, output = report.contract, report.output
    height, width = contract.input.size_hw
    given = f"{output.kind} {list(output.shape)} {output.layout.upper()}"
    now = (
        f"mask uint8 [1, {height}, {width}]"
        if contract.output.kind == "mask"
        else f"logits float32 {list(contract.logits_shape)}"
    )
    return "\n".join(
        [
            f"input   image uint8 [1, {height}, {width}, 3] BGR",
            f"output  {given} → {now}",
            f"proof   {report.frames} frames against the original: largest difference "
            f"{report.difference:.2g} of the largest value, classes agree on {report.mask_agreement:.3%}",
            f"wrote   {report.path} ({report.nodes} nodes, {report.path.stat().st_size / 1e6:.2f} MB)",
            f"next    python -m runtime.camera --model {quote(str(report.path))}",
        ]
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = make_parser(
        "export.adapt",
        "Put camera pixels, class scores and a contract around any segmentation ONNX file, and prove it.",
    )
    default = ForeignInput()
    parser.add_argument("model", help="ONNX file")
    parser.add_argument(
        "--classes", required=True, help='JSON: ["road", "car"] or {"names": [...], "palette": [...]}'
    )
    parser.add_argument(
        "-o", "--output", help="file to write; by default MODEL-edgeseg.onnx beside the model"
    )
    parser.add_argument("--color", choices=("rgb", "bgr"), default=default.color, help="its channels' order")
    parser.add_argument("--layout", choices=("nchw", "nhwc"), default=default.layout, help="its input's axes")
    parser.add_argument(
        "--scale", type=float, default=default.scale, help="divides the pixels of 0 to 255 first"
    )
    parser.add_argument(
        "--mean", type=float, nargs=3, default=default.mean, help="subtracted next, in --color order"
    )
    parser.add_argument(
        "--std", type=float, nargs=3, default=default.std, help="divides last, in --color order"
    )
    parser.add_argument(
        "--imgsz", type=int, nargs=2, metavar=("H", "W"), help="input size, where the file leaves it free"
    )
    parser.add_argument("--output-name", help="which output, where the file has several")
    parser.add_argument("--output-layout", choices=("nchw", "nhwc"), help="its output's axes, where both fit")
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument(
        "--softmax-output", dest="kind", action="store_const", const="softmax", help="it gives probabilities"
    )
    kind.add_argument(
        "--argmax-output", dest="kind", action="store_const", const="argmax", help="it gives class indices"
    )
    parser.add_argument("--terms", default="", help="what its licence allows, in words, for the contract")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    arguments = parser.parse_args(argv)

    def command() -> None:
        options = AdaptOptions(
            source=ForeignInput(
                arguments.color,
                arguments.layout,
                arguments.scale,
                tuple(arguments.mean),
                tuple(arguments.std),
            ),
            kind=arguments.kind or "logits",
            output_name=arguments.output_name,
            output_layout=arguments.output_layout,
            size_hw=_size(arguments),
            terms=arguments.terms,
        )
        report = adapt(arguments.model, read_classes(arguments.classes), arguments.output, options)
        if arguments.json:
            plain = {**dataclasses.asdict(report), "path": str(report.path)}
            print(json.dumps(plain, indent=1))
        else:
            print(report_text(report))

    return exit_code(command)


def _size(arguments: argparse.Namespace) -> tuple[int, int] | None:
    """Return the size that the user chose, if any."""
    if arguments.imgsz is None:
        return None
    height, width = arguments.imgsz
    if min(height, width) < 1:
        raise ConfigError(f"imgsz: expected positive numbers, got {height} {width}; correct --imgsz")
    return height, width


if __name__ == "__main__":
    sys.exit(main())
