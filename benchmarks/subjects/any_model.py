"""Any ONNX file, ready to be run: ours by its contract, others by the shapes they announce."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from runtime.contract import METADATA_KEY, ModelContract
from runtime.errors import ConfigError, ContractError, ModelLoadError
from runtime.network.onnx_file import GraphValue, read_onnx_file

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
_CHANNELS = (1, 3, 4)  # of an image


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
                f"({error}); choose another size with --foreign-size, or export it again"
            ) from error

    def _run_options(self) -> ort.RunOptions | None:
        """Return the options that `runtime.network.session` runs a file of ours with."""
        if self.contract is None:
            return None
        options = ort.RunOptions()
        options.only_execute_path_to_fetches = self.contract.output.kind == "both"
        return options


def open_any_model(path: str | Path, free_size_hw: tuple[int, int] | None = None) -> AnyModel:
    """Read a file and make its input.

    Args:
        path: any ONNX file with its weights inside.
        free_size_hw: height and width in pixels of images whose size the file leaves free; None takes those
            of a contract. A free batch is 1.

    Raises:
        ModelLoadError: a file that is missing or damaged, or an input that cannot be made up.
        ContractError: a contract that is damaged.
        ConfigError: a free size that is neither given nor known, or that the file does not take.
    """
    path = Path(path)
    file = read_onnx_file(path)
    text = file.metadata.get(METADATA_KEY)
    try:
        contract = None if text is None else ModelContract.from_json(text)
    except ContractError as error:
        raise ContractError(f"model {path}: {error}") from None
    if contract is not None and contract.input.is_dynamic:
        free_size_hw = free_size_hw or contract.input.size_hw
        if not contract.input.accepts(free_size_hw):
            raise ConfigError(
                f"model {path}: expected {contract.input.accepted_sizes}, got {free_size_hw}; choose others"
            )
    random = np.random.default_rng(0)
    inputs = {
        value.name: _noise(value, _shape(value, free_size_hw, path), random, path) for value in file.inputs
    }
    if contract is None:
        fetches = tuple(value.name for value in file.outputs)
    else:
        fetches = (contract.output.name if contract.output.has_logits else contract.output.mask_name,)
    return AnyModel(path, file.content, contract, inputs, fetches)


def _shape(value: GraphValue, free_size_hw: tuple[int, int] | None, path: Path) -> tuple[int, ...]:
    """Return an input's shape with its free axes filled in."""
    if value.shape is None:
        raise ModelLoadError(
            f"model {path}: expected input {value.name!r} to be a tensor with a shape, it announces none; "
            "export it with one"
        )
    shape = value.shape
    filled = [axis if isinstance(axis, int) else 1 for axis in shape]
    free = {place for place, axis in enumerate(shape) if not isinstance(axis, int)} - {0}
    if not free:
        return tuple(filled)
    rows = (
        2
        if len(shape) == 4 and shape[1] in _CHANNELS
        else 1
        if len(shape) == 4 and shape[3] in _CHANNELS
        else 0
    )
    text = f"[{', '.join(map(str, shape))}]"
    if not rows or not free <= {rows, rows + 1}:
        raise ConfigError(
            f"model {path}: expected input {value.name!r} to be an image (N, 3, H, W) or (N, H, W, 3) where "
            f"its sizes are free, got {text}; export it with fixed sizes"
        )
    if free_size_hw is None or min(free_size_hw) < 1:
        raise ConfigError(
            f"model {path}: input {value.name!r} leaves the sizes of {text} free, expected a height and a "
            "width for it; add --foreign-size H W"
        )
    for place in free:
        filled[place] = free_size_hw[place - rows]
    return tuple(filled)


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
