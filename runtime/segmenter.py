"""The embedding: open a model file once, call it with frames."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from runtime.closing import Closable
from runtime.contract import ModelContract
from runtime.errors import ConfigError, ModelLoadError
from runtime.frame import Frame, Image, Segmentation, check_image
from runtime.mask import class_mask
from runtime.preprocess import fit_image
from runtime.session import NetworkSession

DEFAULT_MODEL = "camvid-s"


def bundled_model(name: str = DEFAULT_MODEL) -> Path:
    """Return the path of a model file that comes with edgeseg.

    Raises:
        ModelLoadError: no such file in this installation.
    """
    folder = Path(__file__).parent / "models"
    path = folder / f"{name}.onnx"
    if not path.is_file():
        found = sorted(model.stem for model in folder.glob("*.onnx"))
        raise ModelLoadError(
            f"bundled model {name!r}: expected one of {found}; name one of these or the path of an ONNX file"
        )
    return path


class Segmenter(Closable):
    """Gives every pixel of a frame its class.

    One segmenter may be shared by threads: calls wait for each other, since two at once would only share
    the same cores. Processes must each open their own.

    Example:
        with Segmenter("seg.onnx") as segment:
            result = segment(frame_bgr)
            result.mask  # uint8 (H, W) class indices at the frame's size
    """

    def __init__(
        self, model: str | Path | None = None, *, threads: int | None = None, provider: str = "cpu"
    ) -> None:
        """Open a model.

        Args:
            model: ONNX file written by `python -m export.to_onnx`; None takes the bundled camvid-s.
            threads: worker threads of one run; None takes the physical cores, at most 4.
            provider: execution provider by short name, see `runtime.session.PROVIDERS`.

        Raises:
            ConfigError: a number of threads outside 1 to 256.
            ProviderError: a provider that is unknown or was not granted; there is no quiet fallback.
            ModelLoadError: a file that is missing or cannot be opened.
            ContractError: a file without edgeseg's contract, or whose graph does not fit it.
        """
        self._session: NetworkSession | None = NetworkSession(
            bundled_model() if model is None else model, threads=threads, provider=provider
        )
        self._contract = self._session.contract
        self._provider = self._session.provider
        self._threads = self._session.threads
        self._lock = threading.Lock()

    @property
    def contract(self) -> ModelContract:
        """What the model file says about itself: classes, sizes, accuracy, origin."""
        return self._contract

    @property
    def provider(self) -> str:
        """Short name of the execution provider in use."""
        return self._provider

    @property
    def threads(self) -> int:
        """Worker threads of one run."""
        return self._threads

    def __call__(self, frame: Image | Frame) -> Segmentation:
        """Segment one frame.

        Args:
            frame: uint8 (H, W, 3) BGR of any size, or a `Frame` that holds one.

        Returns:
            A `Segmentation` that owns its mask, with `latency_ms` of resize, network and mask.

        Raises:
            FrameError: not a uint8 image of shape (H, W, 3).
            ConfigError: the segmenter was closed.
            ContractError: the network gave logits that are not finite.
        """
        image_bgr = check_image(frame.image_bgr if isinstance(frame, Frame) else frame)
        with self._lock:
            if self._session is None:
                raise ConfigError("this Segmenter is closed; open a new one for more frames")
            started_ns = time.perf_counter_ns()
            fitted = fit_image(image_bgr, self._contract.input.size_hw)
            resized_ns = time.perf_counter_ns()
            logits = self._session.run(fitted)
            network_ns = time.perf_counter_ns()
            mask = class_mask(logits, (image_bgr.shape[0], image_bgr.shape[1]))
            masked_ns = time.perf_counter_ns()
        return Segmentation(
            mask=mask,
            latency_ms={
                "resize": (resized_ns - started_ns) / 1e6,
                "network": (network_ns - resized_ns) / 1e6,
                "mask": (masked_ns - network_ns) / 1e6,
            },
            frame_id=frame.frame_id if isinstance(frame, Frame) else 0,
            captured_ns=frame.captured_ns if isinstance(frame, Frame) else 0,
        )

    def close(self) -> None:
        """Free the network; a call that is running finishes first. Closing twice is fine."""
        with self._lock:
            self._session = None
