"""Finds the arithmetic between the uint8 image and the first convolution, so that int8 needs none of it.

A camera's pixels are quantized already: scale 1, some zero point z. A graph of edgeseg turns them into floats
and normalises them, x = a * pixel + b with one a and b a channel. That can move into the convolution:

    image ─ Transpose ─ Cast ─ Sub(mean) ─ Conv(w, bias)
    image ─ Transpose ─ DequantizeLinear(1, z) ─ Conv(w * a, bias + sum of w * (a * z + b))

Both give the same sums, except where the zero padding comes in: a padded pixel was as if it had each
channel's own mean, and is now as if it had z in all of them. With z in the middle of the means that is a few
grey levels in the outermost row and column of the stem's output.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from export.graph.view import GraphView, attribute

CHANNELS = 3
_TO_PLANES = [0, 3, 1, 2]


@dataclass(frozen=True)
class ImagePath:
    """How the image reaches the first convolution.

    Attributes:
        image: the graph input's name.
        conv: output name of the convolution.
        removed: output names of the nodes between them.
        scale: float64 (3,), a of each channel.
        offset: float64 (3,), b of each channel.
        zero_point: the pixel value that stands for zero, 0..255.
    """

    image: str
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


def find_image_path(view: GraphView, image: str) -> ImagePath | None:
    """Return the path from a uint8 (1, H, W, 3) input to its convolution.

    Returns:
        None where the image has other readers, or other things happen to it than a transposition, a cast, and
        additions and multiplications with constants; quantizing then leaves that part in float32.
    """
    scale, offset = np.ones(CHANNELS), np.zeros(CHANNELS)
    removed: set[str] = set()
    name, transposed, is_float = image, False, False
    while (node := view.only_reader(name)) is not None:
        if node.op_type == "Conv" and transposed and is_float and attribute(node, "group", 1) == 1:
            if node.input[0] != name or any(item not in view.constants for item in node.input[1:] if item):
                return None
            zero = -offset / scale
            middle = round(float((zero.min() + zero.max()) / 2))
            return ImagePath(
                image, node.output[0], frozenset(removed), scale, offset, int(np.clip(middle, 0, 255))
            )
        if node.op_type == "Transpose" and not transposed and attribute(node, "perm", None) == _TO_PLANES:
            transposed = True
        elif node.op_type == "Cast" and attribute(node, "to", None) == onnx.TensorProto.FLOAT:
            is_float = True
        elif node.op_type in ("Add", "Sub", "Mul", "Div") and is_float:
            constant = _per_channel(view, node, name, transposed)
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
        name = node.output[0]
        removed.add(name)
    return None


def _per_channel(
    view: GraphView, node: onnx.NodeProto, name: str, transposed: bool
) -> NDArray[np.float64] | None:
    """Return the constant operand of an elementwise node as (3,); None if it is not one a channel."""
    left, right = node.input
    if right == name and node.op_type in ("Add", "Mul"):
        left, right = right, left
    if left != name or right not in view.constants:
        return None
    constant = np.asarray(view.constants[right], np.float64)
    shape = (1, CHANNELS, 1, 1) if transposed else (1, 1, 1, CHANNELS)
    if constant.ndim > len(shape) or constant.size not in (1, CHANNELS):
        return None
    try:
        spread = np.broadcast_to(constant, shape)
    except ValueError:
        return None
    return spread.reshape(CHANNELS)
