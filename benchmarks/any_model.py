"""Any ONNX file, ready to be run: ours by its contract, others by the shapes they announce."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from runtime.contract import METADATA_KEY, ModelContract
from runtime.errors import ConfigError, ContractError, ModelLoadError
from runtime.onnx_file import GraphValue, read_onnx_file

Array = NDArray[np.generic]

_TYPES = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(float16)": np.float16,
    "tensor(uint8)": np.uint8,
    "tensor(int8)": np.int8,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
    "tensor(bool)": np.bool_,
}


@dataclass(frozen=True)
class AnyModel:
    """A file and random input that fits it.

    Attributes:
        path: of the file.
        content: its bytes, checked.
        contract: None in a file that is not edgeseg's.
        inputs: an array for each of the graph's inputs: noise, from 0 to 1 in floats and of all
            values in 8-bit integers; zeros in wider integers, which may be indices.
        fetches: the outputs to compute: those the runtime asks for, of a foreign file all.
    """

    path: Path
    content: bytes
    contract: ModelContract | None
    inputs: dict[str, Array]
    fetches: tuple[str, ...]

    def session(self, options: ort.SessionOptions) -> ort.InferenceSession:
        """Open the file on the processor.

        Raises:
            ModelLoadError: onnxruntime cannot open it.
        """
        try:
            return ort.InferenceSession(
                self.content, options, providers=["CPUExecutionProvider"], enable_fallback=0
            )
        except Exception as error:  # onnxruntime's errors have no common base class
            raise ModelLoadError(
                f"model {self.path}: expected a file for onnxruntime {ort.__version__}, which cannot open it "
                f"({error}); export it again"
            ) from error

    def run(self, session: ort.InferenceSession) -> None:
        """Compute the outputs once and drop them.

        Raises:
            ModelLoadError: a graph that opens but cannot be computed with these inputs.
        """
        try:
            session.run(list(self.fetches), self.inputs, self._run_options())
        except Exception as error:  # onnxruntime's errors have no common base class
            shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in self.inputs.items())
            raise ModelLoadError(
                f"model {self.path}: expected a graph that takes {shapes}, but onnxruntime cannot compute it "
                f"({error}); choose other sizes with --axis, or export it again"
            ) from error

    def _run_options(self) -> ort.RunOptions | None:
        """Return the options that `runtime.session` runs a file of ours with."""
        if self.contract is None:
            return None
        options = ort.RunOptions()
        options.only_execute_path_to_fetches = self.contract.output.kind == "both"
        return options


def open_any_model(path: str | Path, axes: Mapping[str, int] | None = None) -> AnyModel:
    """Read a file and make its input.

    Args:
        path: any ONNX file with its weights inside.
        axes: sizes of axes that the file leaves free, by their name in the file, or as `input:place`
            where they have none. Left out, the first axis of an input, its batch, is 1, and height and width
            of a file of ours are its contract's.

    Raises:
        ModelLoadError: a file that is missing or damaged, or an input that cannot be made up.
        ContractError: a contract that is damaged.
        ConfigError: a free axis without a size, or a size below 1.
    """
    path = Path(path)
    file = read_onnx_file(path)
    text = file.metadata.get(METADATA_KEY)
    try:
        contract = None if text is None else ModelContract.from_json(text)
    except ContractError as error:
        raise ContractError(f"model {path}: {error}") from None
    chosen = _chosen_sizes(file.inputs, contract) | dict(axes or {})
    if any(size < 1 for size in chosen.values()):
        raise ConfigError(f"axes: expected sizes of at least 1, got {chosen}; choose others with --axis")
    random = np.random.default_rng(0)
    inputs = {value.name: _noise(value, _shape(value, chosen, path), random, path) for value in file.inputs}
    if contract is None:
        fetches = tuple(value.name for value in file.outputs)
    else:
        fetches = (contract.output.name if contract.output.has_logits else contract.output.mask_name,)
    return AnyModel(path, file.content, contract, inputs, fetches)


def free_axes(path: str | Path) -> set[str]:
    """Return the names under which `open_any_model` takes a file's free sizes.

    Raises:
        ModelLoadError: a file that is missing or damaged.
    """
    return {
        _axis_name(value, place)
        for value in read_onnx_file(path).inputs
        for place, size in enumerate(value.shape or ())
        if not isinstance(size, int)
    }


def check_axes(paths: Iterable[str | Path], axes: Mapping[str, int]) -> None:
    """Check that each size is meant for one of the files.

    Raises:
        ModelLoadError: a file that is missing or damaged.
        ConfigError: a name that no file knows.
    """
    known = set().union(*(free_axes(path) for path in paths))
    for name in axes:
        if name not in known:
            raise ConfigError(
                f"axis {name}: expected one of {', '.join(sorted(known)) or 'none, all sizes are fixed'}; "
                "leave it out or correct it"
            )


def _chosen_sizes(inputs: Iterable[GraphValue], contract: ModelContract | None) -> dict[str, int]:
    """Return the sizes of free axes that need not be asked for."""
    sizes = {}
    for value in inputs:
        known = (1,) if contract is None else (1, *contract.input.size_hw)
        for place, (axis, size) in enumerate(zip(value.shape or (), known, strict=False)):
            if not isinstance(axis, int):
                sizes[_axis_name(value, place)] = size
    return sizes


def _axis_name(value: GraphValue, place: int) -> str:
    name = (value.shape or ())[place]
    return name if isinstance(name, str) and name else f"{value.name}:{place}"


def _shape(value: GraphValue, sizes: Mapping[str, int], path: Path) -> tuple[int, ...]:
    """Return an input's shape with every free axis filled in."""
    if value.shape is None:
        raise ModelLoadError(
            f"model {path}: expected input {value.name!r} to be a tensor with a shape, it announces none; "
            "export it with one"
        )
    shape = []
    for place, axis in enumerate(value.shape):
        name = _axis_name(value, place)
        if not isinstance(axis, int) and name not in sizes:
            raise ConfigError(
                f"model {path}: input {value.name!r} leaves {name} of {_text(value)} free, expected a size "
                f"for it; add --axis {name}=N"
            )
        shape.append(axis if isinstance(axis, int) else sizes[name])
    return tuple(shape)


def _text(value: GraphValue) -> str:
    return f"[{', '.join(map(str, value.shape or ()))}]"


def _noise(value: GraphValue, shape: tuple[int, ...], random: np.random.Generator, path: Path) -> Array:
    """Return an input of the right type."""
    if value.type not in _TYPES:
        raise ModelLoadError(
            f"model {path}: expected input {value.name!r} to be one of {', '.join(_TYPES)}, got "
            f"{value.type or 'no tensor'}; such a file cannot be fed with noise"
        )
    dtype = np.dtype(_TYPES[value.type])
    if dtype.kind == "f":
        return random.random(shape, np.float32).astype(dtype)
    if dtype.itemsize == 1:
        most = 1 if dtype == np.bool_ else 255
        return random.integers(0, most, shape, np.uint8, endpoint=True).astype(dtype)
    return np.zeros(shape, dtype)
