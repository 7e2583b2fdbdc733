"""Runs a stranger's network once: what it gives, how long it takes, how much memory."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort

from runtime.base.shown import shown
from runtime.errors import ModelLoadError
from runtime.network.onnx_file import read_onnx_file
from runtime.network.session import default_threads, session_options

FREE_SIDE = 256  # pixels, where a file leaves its size free
_TYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(uint8)": np.uint8,
    "tensor(int8)": np.int8,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
    "tensor(bool)": np.bool_,
}


@dataclass(frozen=True)
class Trial:
    """How one run went.

    Attributes:
        open_ms: milliseconds to open the file.
        run_ms: milliseconds of the one run, with all that the first run prepares.
        peak_mb: the most memory that the process held; None where the system does not tell.
        outputs: name, type and shape of each output, and between which numbers it lies.
    """

    open_ms: float
    run_ms: float
    peak_mb: float | None
    outputs: tuple[str, ...]

    def lines(self) -> list[str]:
        """Return the trial as printed."""
        memory = "" if self.peak_mb is None else f", {self.peak_mb:.0f} MB at most"
        return [
            f"trial      opened in {self.open_ms:.0f} ms, ran in {self.run_ms:.0f} ms{memory}",
            *(f"gave       {line}" for line in self.outputs),
        ]


def try_once(path: Path) -> Trial:
    """Open a file and run it on noise; for a process of its own, see `export.foreign.isolation.within`.

    Raises:
        ModelLoadError: onnxruntime cannot open or run it.
    """
    file = read_onnx_file(path, beside=True)
    started = time.perf_counter()
    try:
        # By its path where weights lie beside it: onnxruntime looks for them there.
        session = ort.InferenceSession(
            str(path) if file.beside else file.content,
            session_options(default_threads()),
            providers=["CPUExecutionProvider"],
        )
        opened = time.perf_counter()
        found = session.run(None, {one.name: _noise(one) for one in session.get_inputs()})
    except Exception as error:  # onnxruntime's errors have no common base class
        raise ModelLoadError(
            f"model {shown(path, 150)}: onnxruntime cannot open or run it ({shown(error, 250)})"
        ) from None
    ran = time.perf_counter()
    outputs = tuple(
        f"{shown(one.name, 80)} {_described(value)}"
        for one, value in zip(session.get_outputs(), found, strict=True)
    )
    return Trial((opened - started) * 1e3, (ran - opened) * 1e3, _peak_mb(), outputs)


def _noise(value: ort.NodeArg) -> np.ndarray:
    """Return random numbers for an input, one image where its batch is free."""
    sides = [
        side if isinstance(side, int) and side > 0 else 1 if place == 0 else 3 if place == 1 else FREE_SIDE
        for place, side in enumerate(value.shape)
    ]
    kind = _TYPES.get(value.type, np.float32)
    numbers = np.random.default_rng(0).random(sides)
    return (numbers * 255).astype(kind) if kind is np.uint8 else numbers.astype(kind)


def _described(value: object) -> str:
    if not isinstance(value, np.ndarray):
        return type(value).__name__
    if not value.size or value.dtype.kind not in "fiub":
        return f"{value.dtype} {list(value.shape)}"
    return f"{value.dtype} {list(value.shape)}, {value.min():.4g} to {value.max():.4g}"


def _peak_mb() -> float | None:
    try:
        import resource
    except ImportError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
