"""Finds out what somebody else's network gives, from its graph and from what it says of real pictures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from export.foreign.interface import ForeignOutput, Layout, OutputKind, views
from export.foreign.original import peek
from export.foreign.rewrite import argmax_input, last_operator
from runtime.errors import ConfigError

Raw = dict[str, NDArray[np.generic]]


@dataclass(frozen=True)
class OutputWishes:
    """What a caller, or a file beside the model, says of the output; None where nothing does."""

    kind: OutputKind | None = None
    name: str | None = None
    layout: Layout | None = None
    threshold: float = 0.5
    void: int | None = None


def find_output(
    model: ir.Model, raws: list[Raw], wishes: OutputWishes, classes: int, batch: int, size_hw: tuple[int, int]
) -> ForeignOutput:
    """Return which output holds the classes, and how it is read.

    Args:
        model: of `export.foreign.rewrite.with_size`.
        raws: what it gave for some real pictures.
        wishes: what is known of it.
        classes: how many names there are.
        batch: images at once.
        size_hw: of the input.

    Raises:
        ConfigError: no output fits, or several do.
    """
    names = list(raws[0])
    if wishes.name not in (None, *names):
        raise ConfigError(f"output: expected one of {names}, got {wishes.name}; name it with --output-name")
    found: dict[str, list[ForeignOutput]] = {}
    refused: list[str] = []
    for name in names if wishes.name is None else [wishes.name]:
        try:
            found[name] = _readings(model, name, raws, wishes, classes, batch, size_hw)
        except ConfigError as error:
            refused.append(str(error))
    if not found:
        raise ConfigError(refused[0] if len(refused) == 1 else f"output: none of {names} fits: {refused[0]}")
    if len(found) > 1:
        found = {name: one for name, one in found.items() if "aux" not in name.lower()} or found
    if len(found) > 1:
        first = max(found, key=lambda name: _nodes_before(model, name))
        raise ConfigError(
            f"output: expected one that fits {classes} classes, got {list(found)}; name it with "
            f"--output-name; most of the network is before {first}"
        )
    ((name, readings),) = found.items()
    if len(readings) > 1:
        raise ConfigError(
            f"output {name}: its classes may be the second or the last axis of {list(readings[0].shape)}; "
            "say which with --output-layout"
        )
    return readings[0]


def _readings(
    model: ir.Model,
    name: str,
    raws: list[Raw],
    wishes: OutputWishes,
    classes: int,
    batch: int,
    size_hw: tuple[int, int],
) -> list[ForeignOutput]:
    """Return the ways to read one output."""
    raw = raws[0][name]
    shape = tuple(raw.shape)
    possible = list(views(shape, batch, size_hw))
    if wishes.layout is not None and wishes.kind != "argmax":
        possible = [(layout, view) for layout, view in possible if layout == wishes.layout]
    counted = [(layout, view, view[1 if layout == "nchw" else 3]) for layout, view in possible]
    chooses = argmax_input(model, name)
    is_index = wishes.kind == "argmax" or (
        wishes.kind is None and (raw.dtype.kind in "iub" or chooses is not None)
    )
    wanted = 1 if is_index or wishes.kind == "sigmoid" else classes
    fitting = [(layout, view) for layout, view, count in counted if count == wanted]
    if not fitting and not is_index and classes == 2 and wishes.kind != "softmax":
        fitting = [(layout, view) for layout, view, count in counted if count == 1]
        wanted = 1
    if not fitting:
        raise ConfigError(
            _misfit(name, shape, sorted({count for *_, count in counted}), wanted, classes, is_index)
        )
    if wanted == 1:
        fitting = fitting[:1]  # the axis of one is the same either way
    if is_index:
        return [_indices(model, name, fitting[0], shape, raws, wishes, classes, chooses)]
    kind = wishes.kind or _kind_of(model, name, raws, [view for _, view in fitting], wanted)
    if wanted == 1:
        _check_single(name, raws, kind, classes)
    return [
        ForeignOutput(name, kind, layout, shape, view, threshold=wishes.threshold) for layout, view in fitting
    ]


def _indices(
    model: ir.Model,
    name: str,
    reading: tuple[Layout, tuple[int, int, int, int]],
    shape: tuple[int, ...],
    raws: list[Raw],
    wishes: OutputWishes,
    classes: int,
    chooses: tuple[ir.Value, int] | None,
) -> ForeignOutput:
    """Return how class indices are read, and refuse an ArgMax over another number of classes."""
    count = None if chooses is None else _channels(model, *chooses)
    has_void_behind = count == classes + 1 and wishes.void == classes
    if count is not None and count != classes and not has_void_behind:
        raise ConfigError(
            f"output {name}: its ArgMax chooses among {count} classes, got {classes} names; name all {count} "
            "in its order"
        )
    values = {int(one) for raw in raws for one in np.unique(raw[name])}
    if chooses is None and values == {0, 255} and classes == 2:
        raise ConfigError(
            f"output {name}: expected class indices 0 and 1, got 0 and 255, where 255 means void; "
            "export probabilities or logits, or divide the mask by 255"
        )
    layout, view = reading
    is_whole = count == classes and wishes.void is None
    return ForeignOutput(name, "argmax", layout, shape, view, void=wishes.void, is_argmax=is_whole)


def _channels(model: ir.Model, value: ir.Value, axis: int) -> int | None:
    """Return how many classes an ArgMax chooses among, found by running the network once."""
    found = peek(model, [value], [0])
    return None if found is None else int(found[0][0].shape[axis])


def _nodes_before(model: ir.Model, name: str) -> int:
    """Return how many nodes an output is made by."""
    waiting = [value for value in model.graph.outputs if value.name == name]
    seen: set[ir.Node] = set()
    while waiting:
        node = waiting.pop().producer()
        if node is not None and node not in seen:
            seen.add(node)
            waiting += [value for value in node.inputs if value is not None]
    return len(seen)


def _kind_of(
    model: ir.Model, name: str, raws: list[Raw], fitting: list[tuple[int, int, int, int]], channels: int
) -> OutputKind:
    """Return what an output's numbers are, where nobody said it."""
    operator = last_operator(model, name)
    if channels == 1:
        return "sigmoid" if operator == "Sigmoid" else "logits"
    if operator == "Softmax":
        return "softmax"
    for view in fitting:
        axis = 1 if view[1] == channels else 3
        sums = [raw[name].reshape(view).astype(np.float64).sum(axis) for raw in raws]
        positive = all(float(raw[name].min()) >= 0 for raw in raws)
        if positive and all(np.allclose(one, 1, atol=1e-2) for one in sums):
            return "softmax"
    return "logits"


def _check_single(name: str, raws: list[Raw], kind: OutputKind, classes: int) -> None:
    """Refuse one channel without two names, and numbers that are not of its kind."""
    if classes != 2:
        raise ConfigError(
            f"output {name}: one channel tells two classes apart, got {classes} names; give two, the "
            'background first, such as ["background", "road"]'
        )
    low, high = (float(of([of(raw[name]) for raw in raws])) for of in (np.min, np.max))
    if kind == "sigmoid" and (low < 0 or high > 1):
        raise ConfigError(
            f"output {name}: expected probabilities of 0 to 1 for --sigmoid-output, got {low:.4g} to "
            f"{high:.4g}; leave the flag out if these are logits"
        )
    if kind == "logits" and low >= 0 and high <= 1:
        raise ConfigError(
            f"output {name}: its one channel gives {low:.4g} to {high:.4g}, which look like probabilities; "
            "say --sigmoid-output (with --threshold, if it is not 0.5), or --argmax-output for class indices"
        )


def _misfit(
    name: str, shape: tuple[int, ...], counts: list[int], wanted: int, classes: int, is_index: bool
) -> str:
    """Return why an output fits in no way."""
    if is_index:
        return f"output {name}: expected one class a pixel, got the shape {list(shape)}"
    if counts and wanted != 1:
        listed = " or ".join(map(str, counts))
        return (
            f"output {name}: expected an axis of {classes} classes, second or last of four, got the shape "
            f"{list(shape)} with {listed} channels; check --classes, --output-layout and --argmax-output"
        )
    return (
        f"output {name}: expected an axis of {wanted} classes, second or last of four, and a height and "
        f"width of the picture's shape, got the shape {list(shape)}; check --classes, --output-layout and "
        "--argmax-output"
    )
