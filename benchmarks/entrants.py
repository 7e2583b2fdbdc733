"""What takes part in a comparison: our files from frame to overlay, anybody's by their network alone."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import onnxruntime as ort

from benchmarks.frame_timer import STAGES, FrameTimer
from benchmarks.results import ModelFile
from runtime.contract import METADATA_KEY
from runtime.errors import ConfigError, ModelLoadError, ProviderError
from runtime.files import file_sha256
from runtime.frame import Image
from runtime.onnx_file import OnnxFile, read_onnx_file
from runtime.segmenter import Segmenter
from runtime.session import PROVIDERS, session_options

FOREIGN_STAGES = ("network",)
_NUMPY_TYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(uint8)": np.uint8,
    "tensor(int8)": np.int8,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
    "tensor(bool)": np.bool_,
}


class Entrant(Protocol):
    """One file that is measured.

    Attributes:
        file: what it is.
        stages: names of the times it gives.
    """

    file: ModelFile
    stages: tuple[str, ...]

    def time(self, image_bgr: Image) -> dict[str, float]:
        """Return the milliseconds of each stage for one frame."""
        ...


class OurEntrant:
    """A file with a contract, from the picture to mask and overlay."""

    stages: tuple[str, ...] = STAGES

    def __init__(self, label: str, path: Path, threads: int | None, provider: str) -> None:
        """Open the file; errors are `Segmenter`'s."""
        self.segment = Segmenter(path, threads=threads, provider=provider)
        contract = self.segment.contract
        self._timer = FrameTimer(self.segment)
        height, width = contract.input.size_hw
        quantization = contract.origin.quantization
        self.file = ModelFile(
            label=label,
            file=path.name,
            sha256=file_sha256(path),
            bytes=path.stat().st_size,
            kind="edgeseg",
            input=f"{width}x{height}",
            arithmetic="float32" if quantization == "none" else quantization,
        )

    def time(self, image_bgr: Image) -> dict[str, float]:
        """Return the milliseconds of each stage for one frame."""
        return self._timer(image_bgr)


class ForeignEntrant:
    """A file without a contract: random numbers of the shapes it declares, and the network's time alone.

    What such a network needs before and after it is unknown, so no frame is prepared and no mask is made.
    """

    stages: tuple[str, ...] = FOREIGN_STAGES

    def __init__(
        self,
        label: str,
        path: Path,
        content: OnnxFile,
        threads: int,
        provider: str,
        free_size_hw: tuple[int, int],
    ) -> None:
        """Open a file that was read.

        Args:
            label: its name in the report.
            path: of the file.
            content: the file as read.
            threads: worker threads of one run.
            provider: execution provider by short name.
            free_size_hw: height and width in pixels for an image input that leaves them free.

        Raises:
            ModelLoadError: onnxruntime cannot open or run it on such inputs.
            ProviderError: a provider that was not granted.
            ConfigError: an input whose shape cannot be told.
        """
        rng = np.random.default_rng(0)
        try:
            self._session = ort.InferenceSession(
                content.content,
                session_options(threads),
                providers=list(dict.fromkeys([PROVIDERS[provider], PROVIDERS["cpu"]])),
                enable_fallback=0,
            )
        except Exception as error:  # onnxruntime's errors have no common base class
            raise ModelLoadError(
                f"model {path}: onnxruntime cannot open it ({_one_line(error)}); check the file"
            ) from None
        granted = self._session.get_providers()[0]
        if granted != PROVIDERS[provider]:
            raise ProviderError(
                f"provider {provider}: asked onnxruntime for {PROVIDERS[provider]}, got {granted}; install "
                "the provider's own libraries, or choose provider cpu"
            )
        self._inputs = {}
        described = []
        for value in self._session.get_inputs():
            shape = _filled_shape(value.shape, value.name, path, free_size_hw)
            if value.type not in _NUMPY_TYPES:
                raise ConfigError(
                    f"model {path}: expected inputs of {', '.join(_NUMPY_TYPES)}, got {value.name} of "
                    f"{value.type}; such a file cannot be fed with random numbers"
                )
            dtype = np.dtype(_NUMPY_TYPES[value.type])
            random = rng.random(shape) if dtype.kind == "f" else rng.integers(0, 2, shape)
            self._inputs[value.name] = random.astype(dtype)
            described.append("x".join(map(str, shape)))
        try:
            self._session.run(None, self._inputs)
        except Exception as error:
            raise ModelLoadError(
                f"model {path}: onnxruntime cannot run it on random input of shape {', '.join(described)} "
                f"({_one_line(error)}); free sizes are taken from --foreign-size"
            ) from None
        self.file = ModelFile(
            label=label,
            file=path.name,
            sha256=file_sha256(path),
            bytes=path.stat().st_size,
            kind="foreign",
            input=", ".join(described),
            arithmetic="unknown",
        )

    def time(self, image_bgr: Image) -> dict[str, float]:
        """Return the milliseconds of the network; the frame is not looked at."""
        started_ns = time.perf_counter_ns()
        self._session.run(None, self._inputs)
        return {"network": (time.perf_counter_ns() - started_ns) / 1e6}


def open_entrants(
    paths: Sequence[Path], threads: int, provider: str, free_size_hw: tuple[int, int]
) -> list[OurEntrant | ForeignEntrant]:
    """Open files, ours by their contract and others by the shapes they declare.

    Args:
        paths: at least one, each once.
        threads: worker threads of one run.
        provider: execution provider by short name.
        free_size_hw: for foreign image inputs that leave height and width free.

    Raises:
        ConfigError: no file, or one twice.
        EdgesegError: as `Segmenter` and `ForeignEntrant`.
    """
    if not paths:
        raise ConfigError("models: expected at least one ONNX file, got none")
    entrants: list[OurEntrant | ForeignEntrant] = []
    for label, path in zip(labels(paths), paths, strict=True):
        content = read_onnx_file(path)
        if METADATA_KEY in content.metadata:
            entrants.append(OurEntrant(label, path, threads, provider))
        else:
            entrants.append(ForeignEntrant(label, path, content, threads, provider, free_size_hw))
    return entrants


def labels(paths: Sequence[Path]) -> list[str]:
    """Return a short name for each file: its own, with as many folders as tell it from the others.

    Raises:
        ConfigError: a file that is named twice.

    >>> labels([Path("a/best.onnx"), Path("b/best.onnx"), Path("b/n.onnx")])
    ['a/best', 'b/best', 'n']
    """
    wholes = [path.resolve().with_suffix("") for path in paths]
    for path, count in Counter(path.resolve() for path in paths).items():
        if count > 1:
            raise ConfigError(f"models: expected each file once, got {path.name} {count} times; name it once")
    depths = [1] * len(wholes)
    while True:
        names = ["/".join(whole.parts[-depth:]) for whole, depth in zip(wholes, depths, strict=True)]
        shared = {name for name, count in Counter(names).items() if count > 1}
        deeper = [
            min(depth + (name in shared), len(whole.parts))
            for name, depth, whole in zip(names, depths, wholes, strict=True)
        ]
        if deeper == depths:
            return [
                path.name if name in shared else name for name, path in zip(names, paths, strict=True)
            ]  # only a suffix tells a.onnx from a.ort
        depths = deeper


def _filled_shape(
    shape: Sequence[int | str | None], name: str, path: Path, free_size_hw: tuple[int, int]
) -> list[int]:
    """Return an input's shape with its free axes filled: one image, and the given height and width."""
    free = [index for index, axis in enumerate(shape) if not isinstance(axis, int)]
    filled = [axis if isinstance(axis, int) else 1 for axis in shape]
    spatial = [index for index in free if index != 0]
    if not spatial:
        return filled
    if len(shape) == 4 and set(spatial) <= {2, 3} and shape[1] in (1, 3, 4):
        places = (2, 3)
    elif len(shape) == 4 and set(spatial) <= {1, 2} and shape[3] in (1, 3, 4):
        places = (1, 2)
    else:
        raise ConfigError(
            f"model {path}: expected input {name} to be one image (N, 3, H, W) or (N, H, W, 3) where its "
            f"sizes are free, got {list(shape)}; export it with fixed sizes"
        )
    for place, side in zip(places, free_size_hw, strict=True):
        if place in spatial:
            filled[place] = side
    return filled


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
