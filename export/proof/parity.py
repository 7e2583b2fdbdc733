"""The proof: onnxruntime gives the network's own logits and masks on real pictures."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir
import torch
from numpy.typing import NDArray
from torch import nn

from export.graph.probe import check_file, watch
from export.half.conversion import rounded_everywhere
from runtime.errors import ParityError
from runtime.frame import Image
from runtime.network.mask import class_mask
from runtime.network.resize import fit_image
from runtime.network.session import NetworkSession
from runtime.sources import open_recorded
from training.streets import render_scene

MIN_FRAMES = 16
MAX_FRAMES = 64
FIRST_SCENE_SEED = 3_000_000  # none of the synthetic data set's scenes

Logits = NDArray[np.float32]
Named = tuple[str, Image]


@dataclass(frozen=True)
class Tolerance:
    """What counts as rounding.

    Attributes:
        dtype: element type of weights and arithmetic.
        epsilons: allowed difference of a logit, in the type's epsilons of the frame's largest logit.
        mask_agreement: least share of a frame's pixels with the same class; where two classes tie, a pixel
            may go either way.
        miou: allowed difference of the mIoU, a ratio.
    """

    dtype: str
    epsilons: float
    mask_agreement: float
    miou: float

    @property
    def relative(self) -> float:
        """Allowed difference of a logit, as a share of the frame's largest."""
        return self.epsilons * float(np.finfo(self.dtype).eps)


# Both sides add the same products in another order. Each sum rounds by about one epsilon, and 20 layers of
# it end near 10 epsilons of the largest logit; a thousand is still far below what a wrong weight, padding
# or colour order does.
FLOAT32 = Tolerance("float32", epsilons=1000, mask_agreement=0.999, miou=0.0005)
# Every tensor is rounded to float16, which ends near 4 epsilons in a trained network of 27 convolutions.
FLOAT16 = Tolerance("float16", epsilons=32, mask_agreement=0.99, miou=0.005)


@dataclass(frozen=True)
class FrameParity:
    """How near onnxruntime came to PyTorch on one frame.

    Attributes:
        name: of the frame, and of the way it was run if there are several.
        absolute: largest difference of a logit.
        relative: the same, as a share of the frame's largest logit magnitude.
        mask_agreement: share of the frame's pixels with the same class.
    """

    name: str
    absolute: float
    relative: float
    mask_agreement: float

    def is_within(self, tolerance: Tolerance) -> bool:
        """Whether the differences are rounding."""
        return self.relative <= tolerance.relative and self.mask_agreement >= tolerance.mask_agreement


@dataclass(frozen=True)
class Parity:
    """The comparisons of a passed proof, and what they had to keep to."""

    frames: tuple[FrameParity, ...]
    tolerance: Tolerance = FLOAT32

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


def proof_frames(source: str | None = None) -> Iterator[Named]:
    """Yield name and uint8 (H, W, 3) of the frames to compare on, at least 16.

    Args:
        source: images or a video as `runtime.sources` names them, of which the first 64 frames are taken;
            synthetic scenes fill up what is missing.

    Raises:
        SourceError: a source that cannot be read, or that is live.
    """
    given = 0
    if source is not None:
        with open_recorded(source, "frames") as frames:
            for frame in itertools.islice(frames, MAX_FRAMES):
                given += 1
                yield f"frame {frame.frame_id}", frame.image_bgr
    for seed in range(FIRST_SCENE_SEED, FIRST_SCENE_SEED + MIN_FRAMES - given):
        yield f"scene {seed}", render_scene(seed).image_bgr


def prove_parity(
    path: Path, network: nn.Module, frames: Sequence[Named], tolerance: Tolerance = FLOAT32
) -> Parity:
    """Check a file with onnx.checker, then open it as the runtime does and compare it with its network.

    Logits are compared even if the file gives a mask only: the graph computes them all the same. A float16
    file is compared twice, as onnxruntime runs it here and with every tensor rounded to float16. A file that
    takes any size also runs a batch of two at a larger one.

    Args:
        path: ONNX file with a contract.
        network: what it was made from, before any rewriting; in eval mode.
        frames: names and uint8 (H, W, 3) images of any size; at least one.
        tolerance: what counts as rounding.

    Raises:
        ParityError: an invalid graph, or frames on which the two differ by more than rounding.
        ModelLoadError: onnxruntime cannot open the file.
        ContractError: the graph does not fit its contract.
    """
    check_file(path)
    session = NetworkSession(path)
    image, output = session.contract.input, session.contract.output
    ways = {"": session.run if output.has_logits else _inner_logits(ir.load(path), output.name)}
    if tolerance.dtype == "float16":
        ways[", rounded to float16"] = _inner_logits(rounded_everywhere(ir.load(path)), output.name)
    batches = [(name, [image_bgr], image.size_hw) for name, image_bgr in frames]
    if image.is_dynamic:  # at a size that was never traced, too
        height, width = (side + image.size_multiple for side in image.size_hw)
        two = [image_bgr for _, image_bgr in itertools.islice(itertools.cycle(frames), 2)]
        batches.append((f"2 frames at {height}x{width}", two, (height, width)))
    compared = []
    for name, images_bgr, size_hw in batches:
        fitted = np.stack([fit_image(image_bgr, size_hw) for image_bgr in images_bgr])  # (N, H, W, 3)
        with torch.inference_mode():
            expected = network(torch.from_numpy(fitted)).numpy()  # (N, C, h, w)
        masks = session.run_mask(fitted) if output.has_mask else ()  # (N, H, W)
        for way, run in ways.items():
            compared.append(_difference(f"{name}{way}", images_bgr, expected, run(fitted), masks))
    return passed(
        compared,
        tolerance,
        between="PyTorch and onnxruntime",
        advice="export with the pinned package versions, and report it if that fails too",
    )


def passed(compared: Sequence[FrameParity], tolerance: Tolerance, *, between: str, advice: str) -> Parity:
    """Return the comparisons of a proof that passed.

    Raises:
        ParityError: lists the frames that differ by more than rounding.
    """
    failed = [frame for frame in compared if not frame.is_within(tolerance)]
    if failed:
        listed = "; ".join(
            f"{frame.name}: logits differ by {frame.absolute:.3g} ({frame.relative:.2g} of the largest), "
            f"masks agree on {frame.mask_agreement:.3%}"
            for frame in failed
        )
        raise ParityError(
            f"proof: {len(failed)} of {len(compared)} frames differ between {between} by more than rounding "
            f"in {tolerance.dtype} (allowed {tolerance.relative:.2g} and {tolerance.mask_agreement:.1%}), so "
            f"no file was written; {advice}: {listed}"
        )
    return Parity(tuple(compared), tolerance)


def _inner_logits(model: ir.Model, name: str) -> Callable[[Image], Logits]:
    """Return how to get the logits of a graph in memory, whether they are an output or not."""
    run = watch(model, [name])
    return lambda images_bgr: run(images_bgr)[name]


def _difference(
    name: str, images_bgr: Sequence[Image], expected: Logits, found: Logits, masks: Iterable[Image]
) -> FrameParity:
    """Compare two batches of logits, the masks that come of them, and those that the file made itself."""
    if found.shape != expected.shape or not (np.isfinite(expected).all() and np.isfinite(found).all()):
        return FrameParity(name, math.inf, math.inf, 0.0)
    absolute = float(np.abs(found - expected).max())
    largest = max(float(np.abs(expected).max()), float(np.finfo(np.float32).tiny))
    upsampled = [
        class_mask(logits[None], (image.shape[0], image.shape[1]))
        for logits, image in zip(found, images_bgr, strict=True)
    ]
    agreements = [
        float((mask == class_mask(logits[None], (mask.shape[0], mask.shape[1]))).mean())
        for made in (upsampled, masks)
        for mask, logits in zip(made, expected, strict=False)
    ]
    return FrameParity(name, absolute, absolute / largest, min(agreements))
