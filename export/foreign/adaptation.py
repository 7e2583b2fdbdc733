"""Makes any segmentation ONNX file one that the runtime opens, and proves that it gives the same."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from shlex import quote

import numpy as np
import onnx_ir as ir

from export.foreign.described import Described, describe
from export.foreign.input import (
    InputOptions,
    image_input,
    input_layout,
    input_size,
    input_source,
    takes_bytes,
)
from export.foreign.interface import (
    FLOAT_TYPES,
    ForeignInput,
    ForeignOutput,
    Layout,
    OutputKind,
    input_shape,
)
from export.foreign.loading import find_model, load_foreign
from export.foreign.original import Original, compare, seen_range
from export.foreign.output import OutputWishes, find_output
from export.foreign.rewrite import last_operator, rewrite, with_size
from export.graph.finish import onnx_path, replacing_model, tool_versions, write_model
from export.graph.simplify import simplify
from export.proof.parity import Named, proof_frames
from runtime.base.codec import DecodeError, from_plain
from runtime.base.files import file_sha256, read_regular
from runtime.base.flags import check_fields, flag, nested
from runtime.base.progress import tracked
from runtime.base.shown import shown
from runtime.contract import METADATA_KEY, ClassMap, ImageInput, ModelContract, Origin
from runtime.errors import ConfigError, ContractError, ParityError
from runtime.network.resize import fit_image
from training.data.folder import FolderClasses, distinct_palette

_PROBED = 2  # frames that tell what an output is; the proof takes all


@dataclass(frozen=True)
class AdaptOptions:
    """What a file does not say about itself.

    The kind of the output has no flag of its own: a command line says it with switches.
    """

    source: InputOptions = nested(InputOptions)
    kind: OutputKind | None = None
    output_name: str | None = flag(
        "which output, where the model has several", default=None, unset="the one that fits the classes"
    )
    output_layout: Layout | None = flag(
        "order of the output's axes", default=None, unset="as the number of classes tells"
    )
    threshold: float = flag(
        "of one channel: the probability above which a pixel is of the second class",
        default=0.5,
        above=0,
        below=1,
    )
    void_index: int | None = flag(
        "class index that means void, where a network gives class indices", default=None, unset="255"
    )
    size_hw: tuple[int, int] | None = flag(
        "height and width of the input, where the model leaves them free",
        default=None,
        unit="pixels",
        at_least=1,
        name="--imgsz",
        metavar=("H", "W"),
    )
    frames: str | None = flag(
        "images ('proof/*.png') or a video to prove the file on", default=None, unset="16 rendered streets"
    )
    proof_s: float = flag(
        "time that the comparison on these pictures may take; 4 are always compared",
        default=60.0,
        unit="s",
        above=0,
    )
    terms: str = flag("what the weights' licence allows, in words, for the contract", default="")

    def __post_init__(self) -> None:
        """Check the numbers."""
        check_fields(self)


@dataclass(frozen=True)
class AdaptReport:
    """What was written and what was proven about it.

    Attributes:
        path: the ONNX file.
        contract: as stamped into the file.
        output: what the network gave before.
        taken: what the file and its neighbours said, a line each.
        notes: what is assumed, and what they said that is not used, a line each.
        seen: lowest and highest number that the network sees of the proof's pictures.
        nodes: nodes in the file.
        frames: how many were compared.
        difference: largest difference of a logit (of a probability, if the network gave those), as a share
            of the largest; 0 for class indices.
        mask_agreement: share of equal classes.
    """

    path: Path
    contract: ModelContract
    output: ForeignOutput
    taken: tuple[str, ...]
    notes: tuple[str, ...]
    seen: tuple[float, float]
    nodes: int
    frames: int
    difference: float
    mask_agreement: float


def adapt(
    model_path: str | Path,
    classes: ClassMap | None = None,
    output_path: str | Path | None = None,
    options: AdaptOptions = AdaptOptions(),
) -> AdaptReport:
    """Write a network with pre- and post-processing in the graph and a contract, or write nothing.

    Args:
        model_path: an ONNX file with one image input and an output of logits, probabilities or classes, or
            the folder that holds it with what describes it.
        classes: names and colours of its classes, in the order of its output; None takes those that the file
            or what lies beside it names.
        output_path: ends in .onnx; None puts `-edgeseg` behind the model's name.
        options: what the file does not say; goes before what it says.

    Raises:
        ModelLoadError: a file that is missing, unsafe or no ONNX file, or whose weights are not there.
        ConfigError: options that do not fit the file.
        ParityError: the result does not give what the original gives on preprocessing by hand.
    """
    model_path = find_model(Path(model_path))
    if output_path is None:
        output_path = model_path.with_name(f"{model_path.stem}-edgeseg.onnx")
    target = onnx_path(output_path)
    file, model = load_foreign(model_path)
    if METADATA_KEY in file.metadata:
        raise ConfigError(
            f"model {shown(model_path, 150)}: expected somebody else's network, got one that carries "
            "edgeseg's contract already; run it as it is"
        )
    said = describe(model_path, file.metadata)
    if classes is None and said.get("without_background"):
        _put_background_before(said, model)
    classes = _named(classes, said, model_path)
    image, axes = image_input(model)
    layout = input_layout(image, axes, options.source.layout)
    size_hw = input_size(image, axes, layout, options.size_hw, said)
    channels = axes[1 if layout == "nchw" else 3] or 3
    if not options.source.says_numbers:
        fixed = with_size(model, str(image.name), input_shape(layout, axes[0] or 1, channels, size_hw))
        _settle_numbers(said, fixed, is_float=image.dtype in FLOAT_TYPES)
    if channels == 4:
        said.notes.append(
            "its fourth channel gets 255 everywhere, as opaque alpha; depth or infrared it is not"
        )
    source = input_source(options.source, said, layout, axes, image)
    frames = list(tracked(proof_frames(options.frames), "pictures"))
    seen = seen_range(source, frames, size_hw)
    source, fixed, original = _opened(model, model_path, image, source, size_hw, frames)
    raws = [original.run(source.prepare(fit_image(one, size_hw, source.fit))) for _, one in frames[:_PROBED]]
    wishes = OutputWishes(
        options.kind, options.output_name, options.output_layout, options.threshold, options.void_index
    )
    output = find_output(fixed, raws, wishes, len(classes), source.batch, size_hw)
    if output.kind == "logits" and not output.is_single and last_operator(fixed, output.name) == "Sigmoid":
        said.notes.append(
            f"{output.name} gives {len(classes)} probabilities of their own: the highest wins everywhere, "
            "also where none reaches a half; a network of several labels a pixel needs a background class"
        )
    contract = ModelContract(
        name=model_path.stem,
        input=ImageInput(size_hw=size_hw, fit=source.fit),
        output=output.graph_output(size_hw),
        classes=classes,
        normalization=source.normalization,
        origin=Origin(checkpoint_sha256=file_sha256(model_path), tools=tool_versions(), terms=options.terms),
    )
    adapted = rewrite(fixed, source, output, size_hw, len(classes), classes.ignore_index)
    try:
        adapted = simplify(adapted, checks=0)  # what comes of it is compared with the original
    except ParityError as error:
        said.notes.append(f"the graph stays as it is: {shown(error, 150)}")
    with replacing_model(target) as part:
        write_model(adapted, contract, part)
        parity = compare(part, original, source, output, classes, frames, most_s=options.proof_s)
    return AdaptReport(
        path=target,
        contract=contract,
        output=output,
        taken=tuple(said.lines()),
        notes=tuple(said.notes),
        seen=seen,
        nodes=len(adapted.graph),
        frames=len(parity.frames),
        difference=parity.relative,
        mask_agreement=parity.mask_agreement,
    )


def read_classes(path: str | Path) -> ClassMap:
    """Read class names and colours from JSON.

    Args:
        path: a list of names, or an object with `names` and perhaps `palette` and `traversable`, as in a data
            set's folder.

    Raises:
        ConfigError: a file that is missing or says something else.
    """
    try:
        plain = json.loads(read_regular(path).decode("utf-8"))
        described = from_plain(FolderClasses, {"names": plain} if isinstance(plain, list) else plain)
        names = described.names
        palette = distinct_palette(len(names)) if described.palette is None else described.palette
        return ClassMap(names, palette, traversable=described.traversable)
    except OSError as error:
        raise ConfigError(f"classes {path}: cannot read it ({error.strerror}); check --classes") from None
    except (ValueError, RecursionError, DecodeError, ContractError) as error:
        raise ConfigError(
            f'classes {path}: expected JSON such as ["road", "car"] or {{"names": ["road", "car"]}}, got '
            f"something else ({shown(error, 200)}); correct it"
        ) from None


_NUMBERS = ("scale", "mean", "std")


def _settle_numbers(said: Described, fixed: ir.Model, *, is_float: bool) -> None:
    """Find out whether the graph normalises by itself, whatever lies beside it, and tell what is assumed."""
    if not is_float or takes_bytes(fixed):
        is_raw = said.get("scale") == 1 and not any(said.get("mean")) and set(said.get("std")) == {1}
        if not is_raw:
            said.drop("since the graph normalises pixels of 0 to 255 by itself", *_NUMBERS)
        said.put("the graph, which normalises by itself", scale=1.0, mean=(0.0,) * 3, std=(1.0,) * 3)
    elif not any(name in said.facts for name in _NUMBERS):
        said.notes.append(
            "nothing says which numbers it was trained on: RGB / 255 is assumed; with ImageNet's mean and "
            "deviation give --preprocess imagenet"
        )


def _put_background_before(said: Described, model: ir.Model) -> None:
    """Complete labels that are one fewer than the output's channels."""
    names, place = said.facts.get("names", ((), ""))
    axes = {axis for value in model.graph.outputs for axis in value.shape or () if isinstance(axis, int)}
    if names and len(names) not in axes and len(names) + 1 in axes and "background" not in names:
        said.facts["names"] = ("background", *names), place
        said.notes.append(
            f"{place} names {len(names)} of {len(names) + 1} classes: the first is the background"
        )


def _named(classes: ClassMap | None, said: Described, path: Path) -> ClassMap:
    """Return the classes that were given, else those that were found."""
    if classes is not None:
        return classes
    names = said.get("names")
    if names is None:
        raise ConfigError(
            f"model {shown(path, 150)}: neither the file nor what lies beside it names its classes"
            f"{''.join(f' ({note})' for note in said.notes)}; write them in its output's order into JSON "
            'such as ["road", "car"] and give it with --classes'
        )
    palette = said.get("palette")
    if palette is None or len(palette) != len(names):
        palette = distinct_palette(len(names))
    try:
        return ClassMap(names, palette, said.get("ignore_index") or 255)
    except ContractError as error:
        raise ConfigError(f"{error} (from {said.facts['names'][1]}); correct it with --classes") from None


def _opened(
    model: ir.Model,
    path: Path,
    image: ir.Value,
    source: ForeignInput,
    size_hw: tuple[int, int],
    frames: Sequence[Named],
) -> tuple[ForeignInput, ir.Model, Original]:
    """Open the network for one image; where its batch is larger and cannot change, for that many."""

    def opened(batch: int) -> tuple[ir.Model, Original]:
        fixed = with_size(model, str(image.name), input_shape(source.layout, batch, source.channels, size_hw))
        return fixed, Original(fixed, path)

    fixed, original = opened(source.batch)
    if source.batch == 1:
        return source, fixed, original
    picture = fit_image(frames[0][1], size_hw, source.fit)
    one = replace(source, batch=1)
    try:
        alone, alone_original = opened(1)
        given, expected = alone_original.run(one.prepare(picture)), original.run(source.prepare(picture))
        same = all(
            given[name].shape[:1] == (1,)
            and given[name].shape[1:] == expected[name].shape[1:]
            and np.allclose(given[name][0], expected[name][0], rtol=1e-2, atol=1e-2)
            for name in expected
        )
    except Exception:  # a shape inside is made for the batch
        same = False
    return (one, alone, alone_original) if same else (source, fixed, original)


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
    names = contract.classes.names
    meaning = (
        f", class 0 {shown(names[0], 40)}, class 1 {shown(names[1], 40)} above {output.threshold:g}"
        if output.is_single
        else ""
    )
    mean, std = (
        [f"{one:.4g}" for one in of]
        for of in (contract.normalization.mean_bgr, contract.normalization.std_bgr)
    )
    return "\n".join(
        [
            *(f"took    {line}" for line in report.taken),
            *(f"note    {line}" for line in report.notes),
            f"input   image uint8 [1, {height}, {width}, 3] BGR, {contract.input.fit.mode}",
            f"inside  (BGR - ({', '.join(mean)})) / ({', '.join(std)}): the network sees "
            f"{report.seen[0]:.3g} to {report.seen[1]:.3g}",
            f"output  {given} → {now}{meaning}",
            f"proof   {report.frames} frames against the original: largest difference "
            f"{report.difference:.2g} of the largest value, classes agree on {report.mask_agreement:.3%}",
            f"wrote   {report.path} ({report.nodes} nodes, {report.path.stat().st_size / 1e6:.2f} MB)",
            f"next    python -m runtime.camera --model {quote(str(report.path))}",
        ]
    )
