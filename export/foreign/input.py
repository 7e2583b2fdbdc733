"""What somebody else's network wants: as the caller says, else as the file does, else as most want it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import onnx_ir as ir

from export.foreign.described import IMAGENET_MEAN, IMAGENET_STD, Described
from export.foreign.interface import FLOAT_TYPES, WHOLE_TYPES, Color, ForeignInput, Layout, Triple
from export.foreign.original import HIGHEST_VALUE, LOWEST_SPREAD, peek
from runtime.base.flags import check_fields, flag
from runtime.contract import STRETCH, ImageFit, Resample
from runtime.errors import ConfigError

PRESETS: dict[str, tuple[float, Triple, Triple]] = {
    "imagenet": (255.0, IMAGENET_MEAN, IMAGENET_STD),
    "unit": (255.0, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    "minus-one-one": (255.0, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
}

# What leaves a picture of one colour as it is, but for the borders of a Pad.
_MOVES = (
    "AveragePool",
    "Cast",
    "Clip",
    "Concat",
    "Gather",
    "Identity",
    "Pad",
    "Reshape",
    "Resize",
    "Slice",
    "Split",
    "Squeeze",
    "Transpose",
    "Unsqueeze",
    "Upsample",
)
_AFFINE = ("Add", "BatchNormalization", "Div", "Mul", "Sub")


@dataclass(frozen=True)
class InputOptions:
    """What a caller says of the input: (pixels / scale - mean) / std, with pixels of 0 to 255."""

    preprocess: Literal["imagenet", "unit", "minus-one-one"] | None = flag(
        "scale, mean and std by name, in RGB: ImageNet's, 0 to 1, or -1 to 1", default=None
    )
    color: Color | None = flag(
        "order of the input's channels, of --mean and of --std",
        default=None,
        unset="as the file or what lies beside it says, else rgb",
    )
    layout: Layout | None = flag("order of the input's axes", default=None, unset="as its shape tells")
    scale: float | None = flag(
        "what the pixels of 0 to 255 are divided by first",
        default=None,
        unset="as for --color, else 255",
        above=0,
    )
    mean: Triple | None = flag(
        "what is subtracted next, for each channel", default=None, unset="as for --color, else 0 0 0"
    )
    std: Triple | None = flag(
        "what is divided by last, for each channel", default=None, unset="as for --color, else 1 1 1", above=0
    )
    fit: Literal["stretch", "letterbox", "crop"] | None = flag(
        "how a frame of another shape is brought to the input's size",
        default=None,
        unset="as for --color, else stretch",
    )
    resample: Resample | None = flag(
        "interpolation on the way there", default=None, unset="as for --color, else bilinear"
    )
    fill: tuple[int, int, int] | None = flag(
        "colour of a letterbox's borders, red, green and blue",
        default=None,
        unset="as for --color, else 114 114 114",
        at_least=0,
        at_most=255,
    )

    @property
    def says_numbers(self) -> bool:
        """Whether the caller says how pixels become the network's numbers."""
        return (self.preprocess, self.scale, self.mean, self.std) != (None, None, None, None)

    def __post_init__(self) -> None:
        """Check the numbers, and that a preset stands alone."""
        check_fields(self)
        if self.preprocess is not None and (self.scale, self.mean, self.std) != (None, None, None):
            raise ConfigError(
                "preprocess: expected a name or --scale, --mean and --std, got both; leave one of them out"
            )


def image_input(model: ir.Model) -> tuple[ir.Value, list[int | None]]:
    """Return the one input and its axes, None for those that are free."""
    inputs = [value for value in model.graph.inputs if not value.is_initializer()]
    if len(inputs) != 1:
        raise ConfigError(f"input: expected one image, got {[value.name for value in inputs]}")
    (image,) = inputs
    axes = [axis if isinstance(axis, int) and axis > 0 else None for axis in image.shape or ()]
    if image.dtype not in (*FLOAT_TYPES, *WHOLE_TYPES) or len(axes) != 4:
        raise ConfigError(
            f"input {image.name}: expected a picture's numbers in four axes, got {image.dtype} in {len(axes)}"
        )
    return image, axes


def input_layout(image: ir.Value, axes: list[int | None], wished: Layout | None) -> Layout:
    """Return the order of the input's axes, by where its channels are."""
    places: dict[Layout, int] = {"nchw": 1, "nhwc": 3}
    if wished is None:
        stated = [layout for layout, place in places.items() if axes[place] in (1, 3, 4)]
        if len(stated) == 2:  # a picture of one, three or four pixels, or grey at either end
            stated = [layout for layout in stated if axes[places[layout]] == 3] or stated[:1]
        free = [layout for layout, place in places.items() if axes[place] is None]
        possible = stated or free
        if not possible:
            raise ConfigError(
                f"input {image.name}: expected an image of 1, 3 or 4 channels, got the axes {axes}; give a "
                "network that takes pictures"
            )
        return possible[0]
    if axes[places[wished]] not in (None, 1, 3, 4):
        raise ConfigError(
            f"input {image.name}: expected 1, 3 or 4 channels as {wished.upper()}, got {axes}; check --layout"
        )
    return wished


def input_source(
    wished: InputOptions, said: Described, layout: Layout, axes: list[int | None], image: ir.Value
) -> ForeignInput:
    """Return what the network wants: as the caller says, else as the file, else what most networks want."""
    whole = image.dtype in WHOLE_TYPES
    scale, mean, std = PRESETS["unit"]
    if whole:
        scale = 1.0
    if any(said.get(name) is not None for name in ("scale", "mean", "std")):
        scale, mean, std = said.get("scale") or 1.0, said.get("mean"), said.get("std")
    if wished.preprocess is not None:
        scale, mean, std = PRESETS[wished.preprocess]
    scale = scale if wished.scale is None else wished.scale
    mean = mean if wished.mean is None else wished.mean
    std = std if wished.std is None else wished.std
    if whole and (scale != 1 or any(mean) or any(one != 1 for one in std)):
        if wished.says_numbers:
            raise ConfigError(
                f"input {image.name}: takes {image.dtype}, so it normalises by itself, got --scale, --mean, "
                "--std or --preprocess; leave them out"
            )
        scale, mean, std = 1.0, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    fit: ImageFit = said.get("fit") or STRETCH
    if wished.fit is not None:
        fit = replace(fit, mode=wished.fit)
    if wished.resample is not None:
        fit = replace(fit, resample=wished.resample)
    if wished.fill is not None:
        fit = replace(fit, fill_bgr=(wished.fill[2], wished.fill[1], wished.fill[0]))
    channels = axes[1 if layout == "nchw" else 3] or 3
    color: Color = wished.color or said.get("color") or "rgb"
    return ForeignInput(color, layout, scale, mean, std, channels, axes[0] or 1, fit)


def takes_bytes(model: ir.Model) -> bool:
    """Whether a network of floats normalises pixels of 0 to 255 by itself, as its first arithmetic shows.

    Keras' Rescaling and a batch norm right behind the input do. That arithmetic is the same for all pixels
    of a channel, so a picture of zeros and one of ones tell what becomes of any range.

    Args:
        model: of `export.foreign.rewrite.with_size`.
    """
    first = _after_first_arithmetic(model)
    found = peek(model, first, [0, 1]) if first else None
    if found is None:
        return False
    zero, one = (np.concatenate([np.ravel(part).astype(np.float64) for part in parts]) for parts in found)

    def is_normal(most: float) -> bool:
        far = zero + most * (one - zero)
        low, high = float(np.minimum(zero, far).min()), float(np.maximum(zero, far).max())
        spread = float(np.abs(far - zero).max())
        around_zero = low - spread <= 0 <= high + spread
        return spread >= LOWEST_SPREAD and max(-low, high) <= HIGHEST_VALUE and around_zero

    return not is_normal(1) and is_normal(255)


def _after_first_arithmetic(model: ir.Model) -> list[ir.Value]:
    """Return what the first nodes that do more than move, shift and scale the image's numbers read of it."""
    (image,) = model.graph.inputs
    made, read = {image}, dict[ir.Value, None]()
    for node in model.graph:
        of_image = [value for value in node.inputs if value in made]
        if not of_image or node.op_type == "Shape":
            continue
        # Both sides of a product, or what is divided by, may not be the image.
        alone = len(of_image) == 1 and (node.op_type != "Div" or node.inputs[0] in made)
        if node.op_type in _MOVES or (node.op_type in _AFFINE and alone):
            made.update(node.outputs)
        else:
            read.update(dict.fromkeys(of_image))
    return [value for value in read if value is not image]


def input_size(
    image: ir.Value,
    axes: list[int | None],
    layout: Layout,
    wished: tuple[int, int] | None,
    said: Described,
) -> tuple[int, int]:
    """Return the input's size: the graph's own, else the caller's, else what is written beside it."""
    stated = axes[2:] if layout == "nchw" else axes[1:3]
    found = wished or said.get("size_hw")
    if (
        found is not None
        and wished is None
        and any(own not in (None, side) for own, side in zip(stated, found, strict=True))
    ):
        found = None  # the graph knows better than what lies beside it
    chosen = [own or (found[place] if found else None) for place, own in enumerate(stated)]
    if any(side is None for side in chosen):
        raise ConfigError(f"input {image.name}: its size is free ({axes}); choose one with --imgsz H W")
    if wished is not None and list(wished) != chosen:
        raise ConfigError(
            f"imgsz: the file takes {chosen[0]}x{chosen[1]} only, got {wished[0]}x{wished[1]}; leave --imgsz "
            "out"
        )
    height, width = (int(side or 0) for side in chosen)
    return height, width
