"""A model file in words: what it holds, how well it does and what it may be used for."""

from __future__ import annotations

from typing import Protocol

from runtime.contract import ModelContract
from runtime.network.onnx_file import GraphValue


class GraphFacts(Protocol):
    """What a file declares of itself; `OnnxFile` is one."""

    @property
    def is_sealed(self) -> bool: ...  # noqa: D102
    @property
    def inputs(self) -> tuple[GraphValue, ...]: ...  # noqa: D102
    @property
    def outputs(self) -> tuple[GraphValue, ...]: ...  # noqa: D102


def file_lines(file: GraphFacts) -> list[str]:
    """Return whether the file carries a checksum, and its inputs and outputs, a line each."""
    return [
        f"checksum   {'inside, and it matches' if file.is_sealed else 'none inside'}",
        *(f"input      {_value_text(value)}" for value in file.inputs),
        *(f"output     {_value_text(value)}" for value in file.outputs),
    ]


def contract_lines(contract: ModelContract | None) -> list[str]:
    """Return what a contract says, a line for each part."""
    if contract is None:
        return ["contract   none: not a file of edgeseg"]
    height, width = contract.input.size_hw
    normalization, accuracy, origin = contract.normalization, contract.accuracy, contract.origin
    numbers = {
        name: ", ".join(f"{value:.4g}" for value in values)
        for name, values in {"mean": normalization.mean_bgr, "std": normalization.std_bgr}.items()
    }
    measured = (
        "not measured"
        if accuracy is None
        else f"mIoU {accuracy.miou:.4f} on {accuracy.frames} frames of {accuracy.dataset} {accuracy.split}"
    )
    free = ", free" if contract.input.is_dynamic else ""
    return [
        f"contract   {contract.name}, schema {contract.schema}: {height}x{width}{free}, "
        f"{contract.output.kind} at stride {contract.output.stride}",
        f"classes    {', '.join(contract.classes.names)}",
        f"free       {_ground_text(contract)}",
        f"inside     (BGR - ({numbers['mean']})) / ({numbers['std']})",
        f"accuracy   {measured}",
        f"arithmetic {'float32' if origin.quantization == 'none' else origin.quantization}",
        f"origin     {origin.checkpoint_sha256[:12] or 'unknown'}; "
        + ", ".join(f"{tool} {version}" for tool, version in origin.tools.items()),
        f"terms      {origin.terms or 'none stated; ask whoever trained it'}",
    ]


def _ground_text(contract: ModelContract) -> str:
    traversable = contract.classes.traversable
    if traversable is None:
        return "not stated; name the classes that may be driven on with --free"
    return f"{', '.join(traversable)}: may be driven on" if traversable else "none of them may be driven on"


def _value_text(value: GraphValue) -> str:
    axes = "of unknown shape" if value.shape is None else f"[{', '.join(str(axis) for axis in value.shape)}]"
    return f"{value.name} {value.type} {axes}"
