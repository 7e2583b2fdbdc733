"""Makes any segmentation ONNX file one that the runtime opens, and proves that it gives the same."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

import numpy as np
import onnx
import onnx.inliner
import onnx_ir as ir

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
from export.graph.edit import opset_of
from export.graph.finish import onnx_path, replacing_model, tool_versions, write_model
from export.graph.simplify import simplify
from runtime.base.codec import DecodeError, from_plain
from runtime.base.files import file_sha256
from runtime.base.flags import check_fields, flag, nested
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

    The kind of the output has no flag of its own: a command line says it with two switches.
    """

    source: ForeignInput = nested(ForeignInput)
    kind: OutputKind = "logits"
    output_name: str | None = flag("which output, where the model has several", default=None)
    output_layout: Layout | None = flag(
        "order of the output's axes", default=None, unset="as the number of classes tells"
    )
    size_hw: tuple[int, int] | None = flag(
        "height and width of the input, where the model leaves them free",
        default=None,
        unit="pixels",
        at_least=1,
        name="--imgsz",
        metavar=("H", "W"),
    )
    terms: str = flag("what the weights' licence allows, in words, for the contract", default="")

    def __post_init__(self) -> None:
        """Check the size."""
        check_fields(self)


def adapt(
    model_path: str | Path,
    classes: ClassMap,
    output_path: str | Path | None = None,
    options: AdaptOptions = AdaptOptions(),
) -> AdaptReport:
    """Write a network with pre- and post-processing in the graph and a contract, or write nothing.

    Args:
        model_path: an ONNX file with one image input and an output of logits, probabilities or classes.
        classes: names and colours of its classes, in the order of its output.
        output_path: ends in .onnx; None puts `-edgeseg` behind the model's name.
        options: what the file does not say.

    Raises:
        ModelLoadError: a file that is missing or no ONNX file, or whose weights are not there.
        ConfigError: options that do not fit the file.
        ParityError: the result does not give what the original gives on preprocessing by hand.
    """
    model_path = Path(model_path)
    if output_path is None:
        output_path = model_path.with_name(f"{model_path.stem}-edgeseg.onnx")
    target = onnx_path(output_path)
    model = load_foreign(model_path)
    input_name, size_hw = _image_input(model, options)
    shape = (1, 3, *size_hw) if options.source.layout == "nchw" else (1, *size_hw, 3)
    fixed = with_size(model, input_name, shape)
    original = Original(fixed, model_path)
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
    with replacing_model(target) as part:
        write_model(adapted, contract, part)
        parity = compare(part, original, options.source, output)
    return AdaptReport(
        path=target,
        contract=contract,
        output=output,
        nodes=len(adapted.graph),
        frames=len(parity.frames),
        difference=parity.relative,
        mask_agreement=parity.mask_agreement,
    )


def load_foreign(path: Path) -> ir.Model:
    """Read somebody else's ONNX file; its weights may lie in other files of the same folder.

    Raises:
        ModelLoadError: a file that is missing, no ONNX file, too old, or with weights outside its folder.
    """
    if not path.is_file():
        raise ModelLoadError(f"model {path}: expected an ONNX file, found none; check the path")
    try:
        proto = onnx.load(path)
        model = ir.from_proto(onnx.inliner.inline_local_functions(proto) if proto.functions else proto)
    except Exception as error:  # protobuf and the readers of external data have no common base
        raise ModelLoadError(
            f"model {path}: expected an ONNX file, with weights inside or beside it, got something else "
            f"({' '.join(str(error).split())[:300]}); export it again"
        ) from None
    if opset_of(model) < MIN_OPSET:
        raise ModelLoadError(
            f"model {path}: expected operator set {MIN_OPSET} or later, got {opset_of(model)}; export it "
            "again, or convert it with onnx.version_converter"
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


def _image_input(model: ir.Model, options: AdaptOptions) -> tuple[str, tuple[int, int]]:
    """Return name, height and width of the one input."""
    inputs = [value for value in model.graph.inputs if not value.is_initializer()]
    if len(inputs) != 1:
        raise ConfigError(f"input: expected one image, got {[value.name for value in inputs]}")
    (image,) = inputs
    axes = [axis if isinstance(axis, int) and axis else None for axis in image.shape or ()]  # None: free
    if image.dtype not in FLOAT_TYPES or len(axes) != 4:
        raise ConfigError(
            f"input {image.name}: expected floating-point numbers in four axes, got {image.dtype} in "
            f"{len(axes)}"
        )
    layout = options.source.layout
    batch, channels = axes[0], axes[1 if layout == "nchw" else 3]
    if batch not in (None, 1) or channels not in (None, 3):
        raise ConfigError(
            f"input {image.name}: expected one image of three channels as {layout.upper()}, got {axes}; "
            "check --layout"
        )
    stated = axes[2:] if layout == "nchw" else axes[1:3]
    wanted = options.size_hw or tuple(side for side in stated if side is not None)
    if len(wanted) != 2:
        raise ConfigError(f"input {image.name}: its size is free ({axes}); choose one with --imgsz H W")
    if any(own not in (None, side) for own, side in zip(stated, wanted, strict=True)):
        raise ConfigError(
            f"imgsz: the file takes {stated[0]}x{stated[1]} only, got {wanted[0]}x{wanted[1]}; "
            "leave --imgsz out"
        )
    height, width = wanted
    return str(image.name), (height, width)


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
    shape = original.run(np.zeros(original.shape, np.float32), name).shape
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
