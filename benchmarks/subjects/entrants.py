"""What takes part in a comparison: our files and a peer's from frame to overlay, others by network alone."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from benchmarks.results.results import ModelFile
from benchmarks.subjects.any_model import AnyModel, open_any_model
from benchmarks.timing.frames import STAGES, FrameTimer
from runtime.base.files import file_sha256
from runtime.base.shown import printable
from runtime.contract import METADATA_KEY
from runtime.errors import ConfigError
from runtime.frame import Image
from runtime.network.onnx_file import read_onnx_file
from runtime.network.session import session_options
from runtime.segmenter import Segmenter


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

    stages: tuple[str, ...] = ("network",)

    def __init__(self, label: str, model: AnyModel, threads: int) -> None:
        """Open a file and run it once; errors are `AnyModel`'s."""
        self._model = model
        self._session = model.session(session_options(threads))
        model.run(self._session)
        self.file = ModelFile(
            label=label,
            file=model.path.name,
            sha256=file_sha256(model.path),
            bytes=len(model.content),
            kind="foreign",
            input=", ".join("x".join(map(str, array.shape)) for array in model.inputs.values()),
            arithmetic="unknown",
        )

    def time(self, image_bgr: Image) -> dict[str, float]:
        """Return the milliseconds of the network; the frame is not looked at."""
        started_ns = time.perf_counter_ns()
        self._model.run(self._session)
        return {"network": (time.perf_counter_ns() - started_ns) / 1e6}


def open_entrants(
    paths: Sequence[Path], threads: int, provider: str, free_size_hw: tuple[int, int]
) -> list[Entrant]:
    """Open files, ours by their contract and others by the shapes they declare.

    Args:
        paths: at least one, each once.
        threads: worker threads of one run.
        provider: execution provider by short name.
        free_size_hw: for foreign images that leave height and width free.

    Raises:
        ConfigError: no file, one twice, or a foreign one on another provider than the processor.
        EdgesegError: as `Segmenter` and `benchmarks.subjects.any_model.open_any_model`.
    """
    if not paths:
        raise ConfigError("models: expected at least one ONNX file, got none")
    entrants: list[Entrant] = []
    for label, path in zip(labels(paths), paths, strict=True):
        if METADATA_KEY in read_onnx_file(path).metadata:
            entrants.append(OurEntrant(label, path, threads, provider))
        elif provider == "cpu":
            entrants.append(ForeignEntrant(label, open_any_model(path, free_size_hw), threads))
        else:
            raise ConfigError(
                f"model {path}: expected provider cpu for a file without edgeseg's contract, got {provider}; "
                "leave the file or the provider out"
            )
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
                printable(path.name if name in shared else name)
                for name, path in zip(names, paths, strict=True)
            ]  # only a suffix tells a.onnx from a.ort
        depths = deeper
