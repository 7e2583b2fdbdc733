"""What somebody else's network wants and gives, in numbers: what its rewriting and its proof agree on."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from onnx_ir import DataType

from runtime.contract import STRETCH, GraphOutput, ImageFit, Normalization
from runtime.errors import ConfigError

Layout = Literal["nchw", "nhwc"]
Color = Literal["rgb", "bgr"]
OutputKind = Literal["logits", "softmax", "sigmoid", "argmax"]
Triple = tuple[float, float, float]
MIN_OPSET = 11  # the first whose Resize can say where a pixel's centre is
FLOAT_TYPES = (DataType.FLOAT, DataType.FLOAT16, DataType.DOUBLE, DataType.BFLOAT16)
WHOLE_TYPES = (DataType.UINT8, DataType.INT32, DataType.INT64)
SMALLEST_PROBABILITY = 1e-30  # 0 has no logarithm
# Of ITU-R BT.601 (0.114, 0.587, 0.299) in OpenCV's 15 bits, so that sums are exact in float32.
GREY_WEIGHTS_BGR = (3735 / 32768, 19235 / 32768, 9798 / 32768)
MAX_STRIDE = 64


@dataclass(frozen=True)
class ForeignInput:
    """What the network wants: (pixels / scale - mean) / std, with pixels of 0 to 255.

    Attributes:
        color: order of the channels, of mean and of std.
        layout: order of the axes.
        scale: what the pixels are divided by first.
        mean: what is subtracted next, for each channel.
        std: what is divided by last, for each channel.
        channels: 3, 1 for grey, 4 with a last one that is opaque.
        batch: how many images it takes at once; all are the same one.
        fit: how a frame is brought to its size.
    """

    color: Color = "rgb"
    layout: Layout = "nchw"
    scale: float = 255.0
    mean: Triple = (0.0, 0.0, 0.0)
    std: Triple = (1.0, 1.0, 1.0)
    channels: int = 3
    batch: int = 1
    fit: ImageFit = STRETCH

    def __post_init__(self) -> None:
        """Check the numbers."""
        if not (math.isfinite(self.scale) and self.scale > 0):
            raise ConfigError(f"scale: expected a number above 0, got {self.scale}; correct it")
        if not all(math.isfinite(value) and value > 0 for value in self.std):
            raise ConfigError(f"std: expected numbers above 0, got {self.std}; correct it")
        if not all(map(math.isfinite, self.mean)):
            raise ConfigError(f"mean: expected finite numbers, got {self.mean}; correct it")
        if self.channels == 1 and (len(set(self.mean)) > 1 or len(set(self.std)) > 1):
            raise ConfigError(
                f"mean: expected one number for a network that takes grey pictures, got {self.mean} and "
                f"{self.std}; give the same number three times"
            )

    @property
    def normalization(self) -> Normalization:
        """The same arithmetic in the contract's words: in units of 0..255, channels as B, G, R."""
        step = -1 if self.color == "rgb" else 1
        mean = [value * self.scale for value in self.mean[::step]]
        std = [value * self.scale for value in self.std[::step]]
        return Normalization((mean[0], mean[1], mean[2]), (std[0], std[1], std[2]))

    def in_pixels(self, step: int) -> Iterator[tuple[float, ...]]:
        """Yield mean and std of each of the network's channels, in units of 0..255."""
        mean, std = self.normalization.mean_bgr[::step], self.normalization.std_bgr[::step]
        if self.channels == 1:
            mean, std = mean[:1], std[:1]
        elif self.channels == 4:
            mean, std = (*mean, 0.0), (*std, self.scale)
        yield from (mean, std)

    def prepare(self, image_bgr: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Do the preprocessing by hand: uint8 (H, W, 3) BGR → float32 (N, C, H, W) or (N, H, W, C)."""
        image: NDArray[np.uint8] = image_bgr[..., ::-1] if self.color == "rgb" else image_bgr
        mean, std = np.array(self.mean), np.array(self.std)
        if self.channels == 1:
            grey = cv2.cvtColor(image_bgr, cv2.COLOR_BGR2GRAY)
            image, mean, std = np.asarray(grey, np.uint8)[..., None], mean[:1], std[:1]
        elif self.channels == 4:
            image = np.concatenate((image, np.full_like(image[..., :1], 255)), axis=2)
            mean, std = np.append(mean, 0.0), np.append(std, 1.0)
        scaled = (image / np.float64(self.scale) - mean) / std  # (H, W, C)
        ordered = scaled if self.layout == "nhwc" else scaled.transpose(2, 0, 1)
        return np.repeat(ordered[None].astype(np.float32), self.batch, axis=0)


@dataclass(frozen=True)
class ForeignOutput:
    """What the network gives.

    Attributes:
        name: of the graph's output.
        kind: what its numbers are.
        layout: order of the axes of `view`.
        shape: its shape at the input's size.
        view: the same numbers in four axes, with batch and channels.
        threshold: of one channel: the probability from which a pixel is of the second class.
        void: the class index that stands for void, beside the contract's own.
        is_argmax: whether an ArgMax over all classes makes the indices, so that they need no check.
    """

    name: str
    kind: OutputKind
    layout: Layout
    shape: tuple[int, ...]
    view: tuple[int, int, int, int]
    threshold: float = 0.5
    void: int | None = None
    is_argmax: bool = False

    @property
    def channels(self) -> int:
        """How many numbers a pixel has."""
        return self.view[1 if self.layout == "nchw" else 3]

    @property
    def is_single(self) -> bool:
        """Whether one channel tells two classes apart."""
        return self.kind != "argmax" and self.channels == 1

    @property
    def is_probability(self) -> bool:
        """Whether the numbers are probabilities."""
        return self.kind in ("softmax", "sigmoid")

    @property
    def last_operators(self) -> tuple[str, ...]:
        """The operators before which such probabilities are logits."""
        return ("Sigmoid",) if self.kind == "sigmoid" else ("Softmax", "LogSoftmax")

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width of the output."""
        first = 2 if self.layout == "nchw" else 1
        return self.view[first], self.view[first + 1]

    def with_kind(self, kind: OutputKind) -> ForeignOutput:
        """Return the same output with numbers of another kind."""
        return replace(self, kind=kind)

    def stride(self, size_hw: tuple[int, int]) -> int | None:
        """Return the input pixels of one output pixel; None if that is not one whole number."""
        stride = size_hw[0] // self.size_hw[0]
        fits = stride >= 1 and size_hw == (self.size_hw[0] * stride, self.size_hw[1] * stride)
        return stride if fits else None

    def graph_output(self, size_hw: tuple[int, int]) -> GraphOutput:
        """Return what the rewritten graph gives for an input of this size."""
        if self.kind == "argmax":
            return GraphOutput(stride=1, kind="mask")
        return GraphOutput(stride=self.stride(size_hw) or 1)

    def planes(self, raw: NDArray[np.generic]) -> NDArray[np.float64]:
        """Return the first image's numbers as (C, h, w)."""
        image: NDArray[np.float64] = raw.reshape(self.view)[0].astype(np.float64)
        return image.transpose(2, 0, 1) if self.layout == "nhwc" else image


def input_shape(
    layout: Layout, batch: int, channels: int, size_hw: tuple[int, int]
) -> tuple[int, int, int, int]:
    """Return an input's four axes."""
    height, width = size_hw
    return (batch, channels, height, width) if layout == "nchw" else (batch, height, width, channels)


def views(
    shape: tuple[int, ...], batch: int, size_hw: tuple[int, int]
) -> Iterator[tuple[Layout, tuple[int, int, int, int]]]:
    """Yield how an output may be read as four axes that fit a picture of this size."""
    if len(shape) == 4:
        candidates: list[tuple[Layout, tuple[int, ...]]] = [("nchw", shape), ("nhwc", shape)]
    elif len(shape) == 3:
        n, a, b = shape
        candidates = [("nchw", (n, 1, a, b))] if n == batch else []
        if n == batch:
            candidates += [("nhwc", (n, *side, b)) for side in _factors(a, size_hw)]
            candidates += [("nchw", (n, a, *side)) for side in _factors(b, size_hw)]
        if batch == 1:
            candidates += [("nchw", (1, *shape)), ("nhwc", (1, *shape))]
    elif len(shape) == 2:
        a, b = shape
        candidates = [("nchw", (1, 1, a, b))]
        candidates += [("nhwc", (1, *side, b)) for side in _factors(a, size_hw)]
        candidates += [("nchw", (1, a, *side)) for side in _factors(b, size_hw)]
    else:
        candidates = []
    seen = set()
    for layout, view in candidates:
        first = 2 if layout == "nchw" else 1
        one = (layout, (view[0], view[1], view[2], view[3]))
        if view[0] == batch and _fits((view[first], view[first + 1]), size_hw) and one not in seen:
            seen.add(one)
            yield one


def _fits(output_hw: tuple[int, int], size_hw: tuple[int, int]) -> bool:
    """Whether an output covers the picture: as many pixels to one of its own along both axes, nearly."""
    steps = [side / max(own, 1) for own, side in zip(output_hw, size_hw, strict=True)]
    # A convolution without padding leaves out some rows and columns.
    return min(steps) >= 0.2 and max(steps) <= MAX_STRIDE * 1.5 and max(steps) <= 1.6 * min(steps)


def _factors(pixels: int, size_hw: tuple[int, int]) -> list[tuple[int, int]]:
    """Return the height and width that so many flattened pixels have."""
    sides = (tuple(math.ceil(side / stride) for side in size_hw) for stride in range(1, MAX_STRIDE + 1))
    return [(height, width) for height, width in sides if height * width == pixels][:1]
