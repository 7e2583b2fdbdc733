"""Lets the first convolution read a camera's pixels as integers.

Pixels are quantized already: scale 1, some zero point z. A graph of edgeseg turns them into floats and
normalises them, x = a * pixel + b with one a and b a channel. That can move into the convolution:

    image ─ Transpose ─ Cast ─ Sub(mean) ─ Conv(w, bias)
    image ─ Transpose ─ DequantizeLinear(1, z) ─ Conv(w * a, bias + sum of w * (a * z + b))

Both give the same sums, except where the zero padding comes in: a padded pixel was as if it had each
channel's own mean, and is now as if it had z in all of them. With z in the middle of the means that is a few
grey levels in the outermost row and column of the stem's output.

A stem of 3x3 and stride 2 then reads blocks of 2x2 pixels with 12 channels instead of pixels with 3. An
integer convolution first gathers the bytes under its kernel. Three bytes at a time, that costs more than the
sums: onnxruntime takes 1.17 ms for the bundled networks' stem. The same sums over blocks read 12 bytes at a
time and take 0.49 ms, and 0.30 ms go into making the blocks:

    uint8 (1, H, W, 3) ─ Reshape (1, H/2, 2, W/2, 6) ─┬─ upper rows ─┬─ Concat (1, H/2, W/2, 12)
                                                      └─ lower rows ─┘

Two or four outputs beside each other at once, by a kernel of 3x5 or 3x9 pixels and as many times the
channels, do without blocks and take as long.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from export.graph.edit import array_of, insert_before, is_constant, only_reader

CHANNELS = 3
# Where the three taps of a kernel with stride 2 and padding 1 lie: block 0 or 1, pixel 0 or 1 inside it.
_TAPS = ((0, 1), (1, 0), (1, 1))
_BLOCK_ATTRIBUTES = {"kernel_shape": [2, 2], "strides": [1, 1], "pads": [1, 1, 0, 0]}


@dataclass(frozen=True)
class ImagePath:
    """How the image reaches the first convolution.

    Attributes:
        conv: output name of the convolution.
        removed: output names of the nodes between the two.
        scale: float64 (3,), a of each channel.
        offset: float64 (3,), b of each channel.
        zero_point: the pixel value that stands for zero, 0..255.
    """

    conv: str
    removed: frozenset[str]
    scale: NDArray[np.float64]
    offset: NDArray[np.float64]
    zero_point: int

    @property
    def border_error(self) -> float:
        """Largest difference in grey levels between a padded pixel before and now."""
        return float(np.abs(self.zero_point + self.offset / self.scale).max())

    def fold(
        self, weights: NDArray[np.float32], bias: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return weights (O, 3, kh, kw) and bias (O,) for pixels minus the zero point."""
        weights64 = weights.astype(np.float64)
        at_zero_point = self.scale * self.zero_point + self.offset  # (3,)
        moved = bias + (weights64.sum(axis=(2, 3)) * at_zero_point).sum(axis=1)  # (O,)
        scaled = weights64 * self.scale[:, None, None]
        return scaled.astype(np.float32), moved.astype(np.float32)


def find_image_path(model: ir.Model) -> ImagePath | None:
    """Return the path from a uint8 (1, H, W, 3) input to its convolution.

    Returns:
        None where the image has other readers, or other things happen to it than a transposition, a cast, and
        additions and multiplications with constants; quantizing then leaves that part in float32.
    """
    scale, offset = np.ones(CHANNELS), np.zeros(CHANNELS)
    removed: set[str] = set()
    value, transposed, is_float = model.graph.inputs[0], False, False
    while (node := only_reader(value)) is not None:
        perm = node.attributes.get_ints("perm")
        if node.op_type == "Conv" and transposed and is_float and node.attributes.get_int("group", 1) == 1:
            if node.inputs[0] is not value or not all(is_constant(item) for item in node.inputs[1:] if item):
                return None
            zero = -offset / scale
            middle = int(np.clip(round(float((zero.min() + zero.max()) / 2)), 0, 255))
            return ImagePath(str(node.outputs[0].name), frozenset(removed), scale, offset, middle)
        if node.op_type == "Transpose" and not transposed and perm == (0, 3, 1, 2):
            transposed = True
        elif node.op_type == "Cast" and node.attributes.get_int("to") == ir.DataType.FLOAT:
            is_float = True
        elif node.op_type in ("Add", "Sub", "Mul", "Div") and is_float:
            constant = _per_channel(node, value, transposed)
            if constant is None or (node.op_type in ("Mul", "Div") and not constant.all()):
                return None
            if node.op_type == "Add":
                offset = offset + constant
            elif node.op_type == "Sub":
                offset = offset - constant
            else:
                factor = constant if node.op_type == "Mul" else 1 / constant
                scale, offset = scale * factor, offset * factor
        else:
            return None
        value = node.outputs[0]
        removed.add(str(value.name))
    return None


def _per_channel(node: ir.Node, value: ir.Value, transposed: bool) -> NDArray[np.float64] | None:
    """Return the constant operand of an elementwise node as (3,); None if it is not one a channel."""
    left, right = node.inputs
    if right is value and node.op_type in ("Add", "Mul"):
        left, right = right, left
    constant = array_of(right)
    if left is not value or constant is None:
        return None
    shape = (1, CHANNELS, 1, 1) if transposed else (1, 1, 1, CHANNELS)
    if constant.ndim > len(shape) or constant.size not in (1, CHANNELS):
        return None
    try:
        spread = np.broadcast_to(constant.astype(np.float64), shape)
    except ValueError:
        return None
    return spread.reshape(CHANNELS)


def read_blocks(
    conv: ir.Node, pixels: ir.Value, weights: NDArray[np.float32], size_hw: tuple[int, int]
) -> tuple[ir.Value, NDArray[np.float32]]:
    """Let a convolution of the image read blocks of pixels, where it can; changes its attributes.

    Args:
        conv: the convolution.
        pixels: 8-bit (1, H, W, 3).
        weights: (O, 3, kh, kw).
        size_hw: the image's height and width; 0 where they are free.

    Returns:
        What the convolution must read, as (1, h, w, C), and its weights (O, C, kh, kw) for that.
    """
    height, width = size_hw
    attributes = conv.attributes
    if (
        not height
        or any(side % 2 for side in size_hw)
        or weights.shape[2:] != (3, 3)
        or attributes.get_ints("strides") != (2, 2)
        or attributes.get_ints("pads") != (1, 1, 1, 1)
        or attributes.get_ints("dilations", (1, 1)) != (1, 1)
        or attributes.get_string("auto_pad", "NOTSET") != "NOTSET"
    ):
        return pixels, weights
    rows = np.array([1, height // 2, 2, width // 2, 6], np.int64)
    pairs = insert_before(conv, "Reshape", [pixels, rows], "image:row_pairs")
    upper = insert_before(conv, "Gather", [pairs, np.array(0, np.int64)], "image:upper", axis=2)
    lower = insert_before(conv, "Gather", [pairs, np.array(1, np.int64)], "image:lower", axis=2)
    for name, numbers in _BLOCK_ATTRIBUTES.items():
        attributes[name] = ir.AttrInt64s(name, numbers)
    return insert_before(conv, "Concat", [upper, lower], "image:blocks", axis=3), block_weights(weights)


def block_weights(weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return weights (O, 3, 3, 3) for pixels as weights (O, 12, 2, 2) for blocks; the sums stay the same."""
    blocks = np.zeros(
        (len(weights), 2, 2, 3, 2, 2), np.float32
    )  # (O, row, column, 3, block row, block column)
    for row, (block_row, inner_row) in enumerate(_TAPS):
        for column, (block_column, inner_column) in enumerate(_TAPS):
            blocks[:, inner_row, inner_column, :, block_row, block_column] = weights[:, :, row, column]
    return blocks.reshape(len(weights), 12, 2, 2)
