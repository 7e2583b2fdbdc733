"""Traces a network to ONNX with PyTorch's dynamo exporter, quietly."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import onnx
import torch
from onnxscript import opset18

from runtime.contract import ModelContract
from training.network import CameraNetwork


def trace(network: CameraNetwork, contract: ModelContract, opset: int) -> onnx.ModelProto:
    """Return the network as an ONNX graph with the inputs and outputs that its contract promises.

    The graph keeps PyTorch's order of work: the uint8 image is transposed first (a quarter of the bytes
    of a float image), then cast, then the mean is subtracted. Batch norms end up inside convolutions.

    Args:
        network: in eval mode.
        contract: gives input size and names.
        opset: ONNX operator set version, 18 or newer.
    """
    height, width = contract.input.size_hw
    image = torch.zeros((1, height, width, 3), dtype=torch.uint8)
    with _quiet():
        program = torch.onnx.export(
            network,
            (image,),
            dynamo=True,
            verbose=False,
            input_names=[contract.input.name],
            output_names=[contract.output.name],
            opset_version=opset,
            # By default this becomes ReduceMean → Reshape → Gather, which leaves the blocked layout.
            custom_translation_table={torch.ops.aten.adaptive_avg_pool2d.default: _global_average_pool},
        )
    assert program is not None
    return program.model_proto


def _global_average_pool(x, output_size):  # type: ignore[no-untyped-def]  # onnxscript reads annotations
    """(N, C, H, W) → (N, C, 1, 1); networks of edgeseg pool to one pixel only."""
    if list(output_size) != [1, 1]:
        raise ValueError(f"adaptive average pool: expected output size (1, 1), got {output_size}")
    return opset18.GlobalAveragePool(x)


@contextmanager
def _quiet() -> Iterator[None]:
    """Hold back what the exporter says in every run and a user can do nothing about."""
    registration = logging.getLogger("torch.onnx._internal.exporter._registration")
    registration.addFilter(_is_not_about_torchvision)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)` is deprecated", FutureWarning)
        try:
            yield
        finally:
            registration.removeFilter(_is_not_about_torchvision)


def _is_not_about_torchvision(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith("torchvision is not installed")
