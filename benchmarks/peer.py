"""The predictor of another toolkit, ultralytics, end to end beside ours; an option, no dependency.

It is run as its users run it, `YOLO(file)(frame)` and `plot()`. It says itself how long preparing, the
network and the rest took; drawing and the whole are timed here. Its threads are its own choice.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from runtime.errors import ConfigError, ModelLoadError, SourceError
from runtime.frame import Image
from runtime.sources import open_source

PACKAGE = "ultralytics"
STAGES = ("pre", "network", "post", "draw", "total")
_SPEEDS = {"pre": "preprocess", "network": "inference", "post": "postprocess"}  # as its results name them

# Read by the package when it is imported: a measurement installs nothing, asks no server, keeps stdout clean.
_ENVIRONMENT = {"YOLO_AUTOINSTALL": "false", "YOLO_OFFLINE": "true", "YOLO_VERBOSE": "false"}


def peer_available() -> bool:
    """Return whether the package is installed; it is not imported."""
    return PACKAGE in sys.modules or importlib.util.find_spec(PACKAGE) is not None


class Peer:
    """A file of the peer's, opened by its own predictor."""

    def __init__(self, path: str | Path) -> None:
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
        self.path = Path(path)
        if not self.path.is_file():  # the peer would try to download it
            raise ModelLoadError(
                f"model {path}: expected an ONNX file of the peer's, found none; check the path"
            )
        for name, wanted in _ENVIRONMENT.items():
            os.environ.setdefault(name, wanted)
        package = importlib.import_module(PACKAGE)
        self.version = str(getattr(package, "__version__", "unknown"))
        try:
            self._model: Any = package.YOLO(str(self.path), task="semantic")
        except Exception as error:  # of whatever kind the package raises
            raise self._failed("cannot open it", error) from error

    def time(self, image_bgr: Image) -> dict[str, float]:
        """Segment and draw one frame.

        Args:
            image_bgr: uint8 (H, W, 3).

        Returns:
            Milliseconds of each of `STAGES`.

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
                f"model {self.path}: expected a mask from the peer, got none; export a file for semantic "
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
            f"model {self.path}: {PACKAGE} {self.version} {what} ({type(error).__name__}: "
            f"{text}); try it there"
        )


def run_peer(
    model: str | Path, video: str, *, frames: int = 200, warmup: int = 20
) -> dict[str, tuple[float, ...]]:
    """Run the peer over a video alone; to run it in turn with others, see `Peer`.

    Args:
        model: ONNX file of the peer's.
        video: as `runtime.sources.open_source` takes it; a short one is begun again.
        frames: that count.
        warmup: frames before them that do not.

    Returns:
        Milliseconds of each frame for each of `STAGES`.

    Raises:
        ConfigError: the package is not installed, or no frames.
        ModelLoadError: a file that the peer cannot run.
        SourceError: a video that cannot be read.
    """
    if frames < 1 or warmup < 0:
        raise ConfigError(f"peer: expected at least 1 frame and no negative warm-up, got {frames}, {warmup}")
    peer = Peer(model)
    samples: dict[str, list[float]] = {stage: [] for stage in STAGES}
    for index, image_bgr in enumerate(islice(_images(video), warmup + frames)):
        times_ms = peer.time(image_bgr)
        if index >= warmup:
            for stage, milliseconds in times_ms.items():
                samples[stage].append(milliseconds)
    return {stage: tuple(times_ms) for stage, times_ms in samples.items()}


def _images(video: str) -> Iterator[Image]:
    """Yield the frames of a video over and over."""
    while True:
        is_empty = True
        with open_source(video) as source:
            for frame in source:
                is_empty = False
                yield frame.image_bgr
        if is_empty:
            raise SourceError(f"{video}: expected at least one frame, got none; choose another")
