"""Lets a graph also give what two of its layers say, in few numbers that others can learn.

    layer at stride 8  ── Conv 1x1 ──▶ features_8   float32 (1, 32, H / 8, W / 8)
    layer at stride 16 ── Conv 1x1 ──▶ features_16  float32 (1, 32, H / 16, W / 16)

The 1x1 convolution projects on the principal components of the layer on some pictures, takes away their
means and divides each by the root of its deviation, so that the first ones count more, though less than
they vary; all together have deviation 1. It travels in the file: whatever the file is asked about later is
answered in the same components. To imitate a teacher's inner layers beside the labels is FitNets' idea
(Romero et al., "FitNets: Hints for Thin Deep Nets", ICLR 2015).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from export.graph.edit import append, typed_copy, value_named
from export.graph.finish import onnx_path, replacing_model, write_model
from export.graph.probe import check_file, watch
from runtime.base.files import file_sha256
from runtime.base.progress import tracked
from runtime.contract import FeatureMap, ModelContract
from runtime.errors import ConfigError, ParityError
from runtime.frame import Image
from runtime.network.resize import fit_image
from runtime.network.session import NetworkSession

STRIDES = (8, 16)  # of the layers; a pupil has such layers too
COMPONENTS = 32
_POSITIONS = 1024  # of a layer on a picture that its components are taken from; neighbours say the same


@dataclass(frozen=True)
class Layer:
    """A layer that speaks.

    Attributes:
        name: of its tensor.
        shape: (channels, h, w).
        explained: share of its variance on the pictures that the components hold.
    """

    name: str
    shape: tuple[int, int, int]
    explained: float


def add_features(
    model_path: Path, output_path: Path | None, images_bgr: Sequence[Image], layers: Sequence[str] = ()
) -> tuple[Path, tuple[Layer, ...]]:
    """Write a file that also gives features.

    Args:
        model_path: ONNX file with a contract and one size.
        output_path: ends in .onnx; None adds "-features" to the model's name.
        images_bgr: uint8 (H, W, 3) of any size, from which the components are taken; at least 8.
        layers: names of the tensors at stride 8 and 16; none for the last one of the widest at each.

    Returns:
        The file's path, and the layers.

    Raises:
        ConfigError: a file or layers that cannot work, too few pictures.
        EdgesegError: a file that the runtime does not open.
        ParityError: layers that say the same everywhere, or numbers that are not finite.
    """
    stem = model_path.stem
    output = onnx_path(model_path.with_name(f"{stem}-features.onnx") if output_path is None else output_path)
    if output.resolve() == model_path.resolve():
        raise ConfigError(f"{output}: expected another output name than the model's, got it; correct -o")
    if len(images_bgr) < 8:
        raise ConfigError(f"features: expected at least 8 pictures, got {len(images_bgr)}; give more")
    contract = NetworkSession(model_path).contract
    if contract.input.is_dynamic or contract.output.features:
        found = "one that takes any size" if contract.input.is_dynamic else "one that has features already"
        raise ConfigError(
            f"{model_path}: expected a file of one size without features, got {found}; give the file that "
            "export.to_onnx or export.adapt wrote"
        )
    fitted = [fit_image(image, contract.input.size_hw, contract.input.fit) for image in images_bgr]
    model = ir.load(model_path)
    chosen = _chosen(model, contract, layers)
    projections = _projections(model, list(chosen), fitted)
    maps, said = [], []
    for stride, (name, shape) in zip(STRIDES, chosen.items(), strict=True):
        weights, bias, explained = projections[name]
        value = append(
            model.graph, "Conv", [value_named(model, name), weights, bias], f"features_{stride}"
        )  # (1, F, h, w)
        maps.append(FeatureMap(str(value.name), (len(weights), *shape[1:])))
        value.type, value.shape = ir.TensorType(ir.DataType.FLOAT), ir.Shape([1, *maps[-1].shape])
        model.graph.outputs.append(value)
        said.append(Layer(name, shape, explained))
    stamped = contract.with_output(features=tuple(maps)).with_origin(
        checkpoint_sha256=contract.origin.checkpoint_sha256 or file_sha256(model_path)
    )
    with replacing_model(output) as part:
        write_model(model, stamped, part)
        check_file(part)
        _prove(model_path, part, fitted)
    return output, tuple(said)


def _chosen(
    model: ir.Model, contract: ModelContract, layers: Sequence[str]
) -> dict[str, tuple[int, int, int]]:
    """Return the layers by name, each with its shape (channels, h, w), fine to coarse."""
    typed = typed_copy(model, strict=False)
    found: dict[str, tuple[int, int, int]] = {}
    for value in (value for node in typed.graph for value in node.outputs):
        shape = () if value.shape is None else tuple(value.shape)
        if value.dtype == ir.DataType.FLOAT and len(shape) == 4 and shape[0] == 1:
            channels, rows, columns = shape[1:]
            if isinstance(channels, int) and isinstance(rows, int) and isinstance(columns, int):
                found[str(value.name)] = (channels, rows, columns)
    height, width = contract.input.size_hw
    if layers:
        wrong = [name for name in layers if name not in found]
        heights = [found[name][1] for name in layers if name in found]
        if wrong or len(set(layers)) != len(STRIDES) or len(layers) > len(STRIDES) or heights[0] < heights[1]:
            raise ConfigError(
                f"layer: expected {len(STRIDES)} float32 tensors (1, channels, h, w), fine to coarse, got "
                f"{', '.join(wrong or layers)}; look their names up with a viewer such as Netron"
            )
        return {name: found[name] for name in layers}
    chosen = {}
    for stride in STRIDES:
        size_hw = (-(-height // stride), -(-width // stride))
        there = [name for name, shape in found.items() if shape[1:] == size_hw and shape[0] >= COMPONENTS]
        if not there:
            raise ConfigError(
                f"features: expected float32 layers of at least {COMPONENTS} channels at stride {stride}, "
                f"{size_hw[0]}x{size_hw[1]}, found none; name two layers with --layer"
            )
        widest = max(found[name][0] for name in there)
        last = [name for name in there if found[name][0] == widest][-1]
        chosen[last] = found[last]
    return chosen


def _projections(
    model: ir.Model, names: Sequence[str], images_bgr: Sequence[Image]
) -> dict[str, tuple[NDArray[np.float32], NDArray[np.float32], float]]:
    """Return weights (F, C, 1, 1) and bias (F,) on scaled components, and the variance they explain."""
    run = watch(model, names)
    moments: dict[str, tuple[NDArray[np.float64], NDArray[np.float64], int]] = {}
    for image in tracked(images_bgr, "components"):
        for name, values in run(image[None]).items():
            step = max(1, round(math.sqrt(values[0, 0].size / _POSITIONS)))
            x = values[0, :, ::step, ::step].reshape(values.shape[1], -1).astype(np.float64)
            if not np.isfinite(x).all():
                raise ParityError(f"features: expected finite numbers in layer {name}, got others")
            squares, total, count = moments.get(name, (0, 0, 0))
            moments[name] = (squares + x @ x.T, total + x.sum(axis=1), count + x.shape[1])
    projections = {}
    for name, (squares, total, count) in moments.items():
        mean = total / count
        variances, directions = np.linalg.eigh(squares / count - np.outer(mean, mean))  # rising
        variances, directions = variances[::-1][:COMPONENTS], directions[:, ::-1][:, :COMPONENTS]
        if variances[-1] <= 1e-9 * max(variances[0], np.finfo(np.float64).tiny):
            raise ParityError(
                f"features: expected a layer that says {len(variances)} different things, {name} says fewer; "
                "give more pictures, or name another with --layer"
            )
        weights = (directions * variances**-0.25).T / np.sqrt(np.sqrt(variances).mean())  # (F, C)
        bias = -(weights @ mean)
        whole = np.trace(squares / count - np.outer(mean, mean))
        projections[name] = (
            weights[:, :, None, None].astype(np.float32),
            bias.astype(np.float32),
            float(variances.sum() / whole),
        )
    return projections


def _prove(before: Path, after: Path, images_bgr: Sequence[Image]) -> None:
    """Refuse a file that gives other masks than before, or no features of deviation 1.

    Raises:
        ParityError: it does.
    """
    old, new = NetworkSession(before), NetworkSession(after)
    kind = old.contract.output
    for image in images_bgr[:4]:
        first, second = (one.run(image) if kind.has_logits else one.run_mask(image) for one in (old, new))
        if not np.array_equal(first, second):
            raise ParityError(
                "proof: expected the outputs of the file before, got others; report it with the model"
            )
    for features in zip(*(new.run_features(image) for image in images_bgr), strict=True):
        deviation = float(np.std(features))
        if not 0.5 <= deviation <= 2:
            raise ParityError(
                f"proof: expected features of deviation 1 on the pictures given, got {deviation:.2g}; report "
                "it with the model"
            )
