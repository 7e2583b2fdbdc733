"""The proof: onnxruntime gives the network's own logits and masks on real pictures."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch

from runtime.errors import ParityError
from runtime.frame import Image
from runtime.mask import class_mask
from runtime.preprocess import fit_image
from runtime.session import NetworkSession
from runtime.sources import open_source
from runtime.streets import render_scene
from training.network import CameraNetwork

SCENES = 16
MAX_FRAMES = 64
FIRST_SCENE_SEED = 3_000_000  # none of the synthetic data set's scenes

# Both sides add the same float32 products in another order. Each sum rounds by about one epsilon, and
# 20 layers of it end near 10 epsilons of the largest logit; a thousand is still far below what a wrong
# weight, padding or colour order does.
ALLOWED_EPSILONS = 1000
MIN_MASK_AGREEMENT = 0.999  # pixels whose two best classes tie may go either way


@dataclass(frozen=True)
class FrameParity:
    """How near onnxruntime came to PyTorch on one frame.

    Attributes:
        name: of the frame.
        absolute: largest difference of a logit.
        relative: the same, as a share of the frame's largest logit magnitude.
        mask_agreement: share of the frame's pixels with the same class.
    """

    name: str
    absolute: float
    relative: float
    mask_agreement: float

    @property
    def is_within_tolerance(self) -> bool:
        """Whether the differences are rounding."""
        return self.relative <= logit_tolerance() and self.mask_agreement >= MIN_MASK_AGREEMENT


@dataclass(frozen=True)
class Parity:
    """The frames of a passed proof."""

    frames: tuple[FrameParity, ...]

    @property
    def absolute(self) -> float:
        """Largest difference of a logit over all frames."""
        return max(frame.absolute for frame in self.frames)

    @property
    def relative(self) -> float:
        """Largest relative difference of a logit over all frames."""
        return max(frame.relative for frame in self.frames)

    @property
    def mask_agreement(self) -> float:
        """Mean share of pixels with the same class."""
        return math.fsum(frame.mask_agreement for frame in self.frames) / len(self.frames)


def logit_tolerance() -> float:
    """Return the allowed relative difference of a float32 logit."""
    return ALLOWED_EPSILONS * float(np.finfo(np.float32).eps)


def proof_frames(source: str | None = None) -> Iterator[tuple[str, Image]]:
    """Yield name and uint8 (H, W, 3) of the frames to compare on.

    Args:
        source: images or a video as `runtime.sources` names them, of which the first 64 frames are taken;
            None renders 16 synthetic scenes.

    Raises:
        SourceError: a source that cannot be read.
    """
    if source is None:
        for seed in range(FIRST_SCENE_SEED, FIRST_SCENE_SEED + SCENES):
            yield f"scene {seed}", render_scene(seed).image_bgr
        return
    with open_source(source) as frames:
        for frame in itertools.islice(frames, MAX_FRAMES):
            yield f"frame {frame.frame_id}", frame.image_bgr


def prove(path: Path, network: CameraNetwork, frames: Iterable[tuple[str, Image]]) -> Parity:
    """Check a file with onnx.checker, then open it as the runtime does and compare it with its network.

    Args:
        path: ONNX file with a contract.
        network: what it was made from, before any rewriting; in eval mode.
        frames: names and uint8 (H, W, 3) images of any size; at least one.

    Raises:
        ParityError: an invalid graph, or frames on which the two differ by more than rounding.
        ModelLoadError: onnxruntime cannot open the file.
        ContractError: the graph does not fit its contract.
    """
    try:
        onnx.checker.check_model(str(path), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ParityError(f"proof: expected a valid ONNX graph, onnx.checker says: {error}") from error
    session = NetworkSession(path)
    compared = tuple(_compare(name, image, network, session) for name, image in frames)
    failed = [frame for frame in compared if not frame.is_within_tolerance]
    if failed:
        listed = "; ".join(
            f"{frame.name}: logits differ by {frame.absolute:.3g} ({frame.relative:.2g} of the largest), "
            f"masks agree on {frame.mask_agreement:.3%}"
            for frame in failed
        )
        raise ParityError(
            f"proof: {len(failed)} of {len(compared)} frames differ between PyTorch and onnxruntime by more "
            f"than rounding (allowed {logit_tolerance():.2g} and {MIN_MASK_AGREEMENT:.1%}), so no file was "
            f"written; export with the pinned package versions, and report it if that fails too: {listed}"
        )
    return Parity(compared)


def _compare(name: str, image_bgr: Image, network: CameraNetwork, session: NetworkSession) -> FrameParity:
    """Run one frame through both."""
    fitted = fit_image(image_bgr, session.contract.input.size_hw)
    with torch.inference_mode():
        expected = network(torch.from_numpy(fitted[None])).numpy()  # (1, C, h, w)
    found = session.run(fitted)  # (1, C, h, w)
    if not (np.isfinite(expected).all() and np.isfinite(found).all()):
        return FrameParity(name, math.inf, math.inf, 0.0)
    absolute = float(np.abs(found - expected).max())
    largest = max(float(np.abs(expected).max()), float(np.finfo(np.float32).tiny))
    size_hw = (image_bgr.shape[0], image_bgr.shape[1])
    same = class_mask(found, size_hw) == class_mask(expected, size_hw)
    return FrameParity(name, absolute, absolute / largest, float(same.mean()))
