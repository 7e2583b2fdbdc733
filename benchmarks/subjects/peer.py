"""The predictor of another toolkit, ultralytics, end to end beside ours; an option, no dependency.

It is run as its users run it, `YOLO(file)(frame)` and `plot()`. It says itself how long preparing, the
network and the rest took; drawing and the whole are timed here. Its threads are its own choice.
`python -m benchmarks.report --peers FILE` runs it in turn with ours over the same frames.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.results.results import ModelFile
from benchmarks.timing.frames import STAGES
from runtime.base.files import file_sha256
from runtime.base.shown import printable
from runtime.errors import ConfigError, ModelLoadError
from runtime.frame import Image

PACKAGE = "ultralytics"
# Our stages, and what its results call them: all before the network is "resize", all after it "mask".
_SPEEDS = {"resize": "preprocess", "network": "inference", "mask": "postprocess"}

# Read by the package when it is imported: a measurement installs nothing, asks no server, keeps stdout clean.
_ENVIRONMENT = {"YOLO_AUTOINSTALL": "false", "YOLO_OFFLINE": "true", "YOLO_VERBOSE": "false"}


def peer_available() -> bool:
    """Return whether the package is installed; it is not imported."""
    return PACKAGE in sys.modules or importlib.util.find_spec(PACKAGE) is not None


class PeerEntrant:
    """A file of the peer's, from the picture to mask and overlay, by its own predictor."""

    stages: tuple[str, ...] = STAGES

    def __init__(self, path: Path) -> None:
        """Open a file.

        Args:
            path: ONNX file that the peer exported for semantic segmentation (`yolo26n-sem` and the like).

        Raises:
            ConfigError: the package is not installed.
            ModelLoadError: a file that is missing, or that the peer cannot open.
        """
        if not peer_available():
            raise ConfigError(
                f"peer: expected the package {PACKAGE} to be installed, found none; pip install {PACKAGE}"
            )
        self._path = path
        if not path.is_file():  # the peer would try to download it
            raise ModelLoadError(
                f"model {path}: expected an ONNX file of the peer's, found none; check the path"
            )
        for name, wanted in _ENVIRONMENT.items():
            os.environ.setdefault(name, wanted)
        package = importlib.import_module(PACKAGE)
        self._version = str(getattr(package, "__version__", "unknown"))
        try:
            self._model: Any = package.YOLO(str(self._path), task="semantic")
        except Exception as error:  # of whatever kind the package raises
            raise self._failed("cannot open it", error) from error
        self.file = ModelFile(
            label=f"{printable(path.stem)} ({PACKAGE} {self._version})",
            file=path.name,
            sha256=file_sha256(path),
            bytes=path.stat().st_size,
            kind="peer",
            input="its own choice",
            arithmetic="unknown",
        )

    def time(self, image_bgr: Image) -> dict[str, float]:
        """Segment and draw one frame.

        Args:
            image_bgr: uint8 (H, W, 3).

        Returns:
            Milliseconds of each stage.

        Raises:
            ModelLoadError: the peer cannot run the file, or gives no mask.
        """
        started_ns = time.perf_counter_ns()
        try:
            (result,) = self._model(image_bgr, verbose=False, device="cpu")
            drawing_ns = time.perf_counter_ns()
            result.plot()
        except Exception as error:  # of whatever kind the package raises
            raise self._failed("cannot run it", error) from error
        ended_ns = time.perf_counter_ns()
        if getattr(result, "semantic_mask", None) is None:
            raise ModelLoadError(
                f"model {self._path}: expected a mask from the peer, got none; export a file for semantic "
                "segmentation"
            )
        return {
            **{stage: float(result.speed[name]) for stage, name in _SPEEDS.items()},
            "draw": (ended_ns - drawing_ns) / 1e6,
            "total": (ended_ns - started_ns) / 1e6,
        }

    def _failed(self, what: str, error: Exception) -> ModelLoadError:
        text = " ".join(str(error).split())[:300]
        return ModelLoadError(
            f"model {self._path}: {PACKAGE} {self._version} {what} ({type(error).__name__}: "
            f"{text}); try it there"
        )
