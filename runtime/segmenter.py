"""The embedding: open a model file once, call it with frames."""

from __future__ import annotations

import dataclasses
import platform
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.base.closing import Closable
from runtime.contract import ModelContract
from runtime.errors import ConfigError, ModelLoadError
from runtime.frame import Frame, Image, Segmentation, check_image
from runtime.masks.confidence import winner_confidence, without_the_unsure
from runtime.masks.steadiness import Steadiness
from runtime.network.compiled import settle_of_environment
from runtime.network.mask import WHOLE, Window, class_mask, fit_mask
from runtime.network.resize import fit_image, seen
from runtime.network.session import NetworkSession

# Int8 with 7-bit weights is exact on every x86, and measured to be faster there; ARM was not at hand.
DEFAULT_MODEL = "camvid-s-int8" if platform.machine() in ("x86_64", "AMD64") else "camvid-s"


def bundled_model(name: str = DEFAULT_MODEL) -> Path:
    """Return the path of a model file that comes with edgeseg.

    Args:
        name: "camvid-s" or "camvid-n", with "-int8" for the quantized form; by default s, on x86 in int8.

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


def model_path(model: str | Path | None = None) -> Path:
    """Return the path of a model that is named by its file or, where there is no such file, as bundled.

    Args:
        model: a path, or the name of a bundled model; None takes the default one. A path of nothing comes
            back as it is, for its reader to refuse.

    >>> model_path("camvid-n") == bundled_model("camvid-n"), model_path("no/such.onnx").as_posix()
    (True, 'no/such.onnx')
    """
    if model is None:
        return bundled_model()
    path = Path(model)
    bundled = Path(__file__).parent / "models" / f"{path}.onnx"
    return bundled if path.name == str(path) and not path.exists() and bundled.is_file() else path


@dataclass(frozen=True)
class Fitted:
    """A frame at the network's size, uint8 (h, w, 3), and what `Segmentation` tells of it."""

    image_bgr: Image
    frame_hw: tuple[int, int]
    frame_id: int
    captured_ns: int
    resize_ms: float


@dataclass(frozen=True)
class Inferred:
    """What the network made of it: float32 (1, C, h, w) logits, or a uint8 (1, h, w) mask."""

    output: NDArray[Any]
    fitted: Fitted
    network_ms: float


class Segmenter(Closable):
    """Gives every pixel of a frame its class.

    One segmenter may be shared by threads: the network runs for one call at a time, since two at once would
    only share the same cores. Processes must each open their own: in a forked child a call raises
    ConfigError.

    Example:
        ```python
        with Segmenter("seg.onnx") as segment:
            result = segment(frame_bgr)
            result.mask  # uint8 (H, W) class indices at the frame's size
        ```
    """

    def __init__(
        self,
        model: str | Path | None = None,
        *,
        size_hw: tuple[int, int] | None = None,
        threads: int | None = None,
        spin: bool = False,
        provider: str = "cpu",
        provider_options: Mapping[str, str] | None = None,
        confidence: bool = False,
        unknown_below: float | None = None,
        steady: bool = False,
    ) -> None:
        """Open a model.

        Args:
            model: ONNX file written by `python -m export.to_onnx`, or the name of a bundled one, see
                `bundled_model`; None takes camvid-s.
            size_hw: height and width in pixels that frames are resized to for the network; None takes the
                file's own. Another one works only with a file exported with `--dynamic`.
            threads: worker threads of one run; None takes the physical cores, at most 4.
            spin: whether these threads stay busy while they wait for work; `benchmarks.tune` tells whether
                that helps.
            provider: execution provider by short name, see `runtime.network.session.PROVIDERS`.
            provider_options: the provider's own options by onnxruntime's names.
            confidence: whether results hold the probability of each pixel's class.
            unknown_below: probability, 0 to 1, under which a pixel's mask is 255, unknown; None for never.
                Results then hold the confidence, too.
            steady: whether masks are steadied by those before them, see `runtime.masks.steadiness`; for the
                frames of one camera, in order.

        Raises:
            ConfigError: a number of threads outside 1 to 256, a size that the file does not take, a
                probability outside 0 to 1, a confidence or steady masks of a file that gives masks only, or
                an environment that asks for compiled masks (`runtime.network.compiled`) without numba.
            ProviderError: a provider that is unknown, or was not granted as asked for; there is no quiet
                fallback.
            ModelLoadError: a file that is missing or cannot be opened.
            ContractError: a file without edgeseg's contract, or whose graph does not fit it.
        """
        self._settle = settle_of_environment()
        session = NetworkSession(
            model_path(model),
            threads=threads,
            spin=spin,
            provider=provider,
            provider_options=provider_options,
        )
        self._contract = session.contract
        self._size_hw = self._contract.input.size_hw if size_hw is None else size_hw
        if not self._contract.input.accepts(self._size_hw):
            raise ConfigError(
                f"size_hw: expected {self._contract.input.accepted_sizes}, got {self._size_hw}; choose "
                "such a size, or export the model with --dynamic"
            )
        self._sure = confidence or unknown_below is not None
        self._unknown_below = unknown_below
        if unknown_below is not None and not 0 <= unknown_below <= 1:
            raise ConfigError(f"unknown_below: expected a probability from 0 to 1, got {unknown_below}")
        for name, is_asked_for in (("confidence", self._sure), ("steady", steady)):
            if is_asked_for and not self._contract.output.has_logits:
                raise ConfigError(
                    f"{name}: expected a file that gives logits, got one that gives masks only; export it "
                    "with --output logits"
                )
        self._steadiness = Steadiness(self._contract.output.temperature) if steady else None
        self._provider = session.provider
        self._threads = session.threads
        self._session: NetworkSession | None = session
        self._lock = threading.Lock()

    @property
    def contract(self) -> ModelContract:
        """What the model file says about itself: classes, sizes, accuracy, origin."""
        return self._contract

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width in pixels that frames are resized to for the network."""
        return self._size_hw

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
            ContractError: the network gave logits that are not finite, or classes that it does not have.
        """
        return self.finish(self.infer(self.fit(frame)))

    def fit(self, frame: Image | Frame) -> Fitted:
        """Resize a frame for the network; the first of the three parts of a call.

        A loop may run each part in a thread of its own, as `runtime.loop.run` does.

        Raises:
            FrameError: not a uint8 image of shape (H, W, 3).
        """
        started_ns = time.perf_counter_ns()
        image_bgr = check_image(frame.image_bgr if isinstance(frame, Frame) else frame)
        fitted = fit_image(image_bgr, self._size_hw, self._contract.input.fit)
        return Fitted(
            fitted,
            (image_bgr.shape[0], image_bgr.shape[1]),
            frame.frame_id if isinstance(frame, Frame) else 0,
            frame.captured_ns if isinstance(frame, Frame) else 0,
            (time.perf_counter_ns() - started_ns) / 1e6,
        )

    def infer(self, fitted: Fitted) -> Inferred:
        """Run the network; calls wait for each other.

        Raises:
            ConfigError: the segmenter was closed, or opened by the process that this one was forked from.
        """
        if self._session is not None:
            self._session.check_process()  # before the lock, which a forked child may have got locked
        with self._lock:
            if self._session is None:
                raise ConfigError("this Segmenter is closed; open a new one for more frames")
            started_ns = time.perf_counter_ns()
            # Logits where there are any: upsampled to the frame's own size they give finer edges.
            if self._contract.output.has_logits:
                output: NDArray[Any] = self._session.run(fitted.image_bgr)
            else:
                output = self._session.run_mask(fitted.image_bgr)
            return Inferred(output, fitted, (time.perf_counter_ns() - started_ns) / 1e6)

    def features(self, fitted: Fitted) -> tuple[NDArray[np.float32], ...]:
        """Return what layers inside say of a frame, to teach other networks with; none for most files.

        Returns:
            Each float32 (F, h, w) over the whole fitted picture, from fine to coarse.

        Raises:
            ConfigError: as for `infer`.
        """
        if self._session is not None:
            self._session.check_process()
        with self._lock:
            if self._session is None:
                raise ConfigError("this Segmenter is closed; open a new one for more frames")
            return tuple(said[0] for said in self._session.run_features(fitted.image_bgr))

    def finish(self, inferred: Inferred) -> Segmentation:
        """Make the mask at the frame's size.

        Raises:
            ContractError: the network gave logits that are not finite, or classes that it does not have.
        """
        started_ns = time.perf_counter_ns()
        fitted = inferred.fitted
        if self._steadiness is not None:
            logits = self._steadiness(fitted.image_bgr, inferred.output)
            inferred = dataclasses.replace(inferred, output=logits)
        if self._contract.input.fit.mode != "stretch":
            mask, confidence = self._part(inferred)
        else:
            mask, confidence = self._seen(inferred, fitted.frame_hw, WHOLE)
        if self._unknown_below is not None and confidence is not None:
            mask = without_the_unsure(mask, confidence, self._unknown_below)
        return Segmentation(
            mask=mask,
            latency_ms={
                "resize": fitted.resize_ms,
                "network": inferred.network_ms,
                "mask": (time.perf_counter_ns() - started_ns) / 1e6,
            },
            frame_id=fitted.frame_id,
            captured_ns=fitted.captured_ns,
            confidence=confidence,
        )

    def _seen(
        self, inferred: Inferred, size_hw: tuple[int, int], window: Window
    ) -> tuple[Image, Image | None]:
        """Make mask and confidence of what the network saw through a window of its picture."""
        if not self._contract.output.has_logits:
            return fit_mask(inferred.output[0], size_hw, window), None
        mask = class_mask(inferred.output, size_hw, window, self._settle)
        if not self._sure:
            return mask, None
        temperature = self._contract.output.temperature
        return mask, winner_confidence(inferred.output, size_hw, temperature, window)

    def _part(self, inferred: Inferred) -> tuple[Image, Image | None]:
        """Make them of a frame that fills the picture in part, or is seen in part; void elsewhere."""
        frame_hw = inferred.fitted.frame_hw
        part = seen(frame_hw, self._size_hw, self._contract.input.fit)
        found, sure = self._seen(inferred, part.size_hw, part.window)
        mask = part.onto(found, frame_hw, self._contract.classes.ignore_index)
        return mask, None if sure is None else part.onto(sure, frame_hw, 0)

    def begin_anew(self) -> None:
        """Forget the frames before, where masks are steadied."""
        if self._steadiness is not None:
            self._steadiness = Steadiness(self._contract.output.temperature)

    def close(self) -> None:
        """Free the network; a call that is running finishes first. Closing twice is fine."""
        if self._session is not None and self._session.is_forked:
            self._session = None
            return
        with self._lock:
            self._session = None
