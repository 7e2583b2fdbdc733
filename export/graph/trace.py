"""Traces a network to ONNX with PyTorch's dynamo exporter, quietly."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import onnx_ir as ir
import torch
from onnxscript import opset18
from torch import nn

from runtime.contract import ModelContract
from runtime.errors import ConfigError

# Above any picture in use; torch.export wants an end, since sizes without one might overflow its indices.
LARGEST_SIDE = 65536


def trace(network: nn.Module, contract: ModelContract, opset: int) -> ir.Model:
    """Return the network as an ONNX graph with the input and the logits that its contract promises.

    The graph keeps PyTorch's order of work: the uint8 image is transposed first (a quarter of the bytes
    of a float image), then cast, then the mean is subtracted. Batch norms end up inside convolutions.

    Args:
        network: in eval mode; uint8 (N, H, W, 3) BGR → float32 (N, classes, H / stride, W / stride).
        contract: gives names, input size, and whether it is free.
        opset: ONNX operator set version, 18 or newer.

    Raises:
        ConfigError: torch.export cannot follow the network's code, or only at fixed sizes.
    """
    image = contract.input
    batch = 2 if image.is_dynamic else 1  # torch.export takes a 1 for a fixed size
    example = torch.zeros((batch, *image.size_hw, 3), dtype=torch.uint8)
    with _quiet():
        try:
            captured = torch.export.export(
                network, (example,), dynamic_shapes=(_free_sizes(contract),), strict=False
            )
            program = torch.onnx.export(
                captured,
                dynamo=True,
                verbose=False,
                input_names=[image.name],
                output_names=[contract.output.name],
                opset_version=opset,
                custom_translation_table=_translations(captured),
            )
        except Exception as error:  # torch's errors of tracing have no common base class
            advice = "export it without --dynamic" if image.is_dynamic else "simplify its forward method"
            raise ConfigError(
                f"trace: expected a network that torch.export can follow at {image.accepted_sizes}, got "
                f"{type(error).__name__}: {_first_line(error)}; {advice}"
            ) from error
    assert program is not None
    return program.model


def _free_sizes(contract: ModelContract) -> dict[int, object] | None:
    """Return which axes of the images torch.export must leave open."""
    if not contract.input.is_dynamic:
        return None
    multiple = contract.input.size_multiple
    height, width = (
        torch.export.Dim(name, min=1, max=LARGEST_SIDE // multiple) for name in ("rows", "columns")
    )
    return {0: torch.export.Dim("batch"), 1: multiple * height, 2: multiple * width}


def _translations(
    captured: torch.export.ExportedProgram,
) -> dict[Callable[..., Any], Callable[..., Any]] | None:
    """Return our own translation of pooling to one pixel, if the network does no other adaptive pooling.

    By default it becomes ReduceMean → Reshape → Gather, which leaves onnxruntime's blocked layout.
    """
    pool = torch.ops.aten.adaptive_avg_pool2d.default
    sizes = [list(node.args[1]) for node in captured.graph.nodes if node.target is pool]
    return {pool: _global_average_pool} if all(size == [1, 1] for size in sizes) else None


def _global_average_pool(x, output_size):  # type: ignore[no-untyped-def]  # onnxscript reads annotations
    """(N, C, H, W) → (N, C, 1, 1)."""
    return opset18.GlobalAveragePool(x)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else "no message"


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
