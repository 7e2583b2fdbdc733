"""A trained network on a new road without labels: statistics of its own frames, and a guard against harm."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from runtime.contract import STRETCH, ImageFit
from runtime.errors import ConfigError, TrainingError
from runtime.frame import Image
from runtime.network.resize import fit_image
from training.data.dataset import SegmentationDataset
from training.engine.inference import BATCH_SIZE, Views, evaluate, predictor
from training.network.build import CameraNetwork

# How far the statistics of the new road may replace those of the training; 0 keeps them.
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
COMMON = 0.001  # of the pixels: what a class needs to count as seen


@dataclass(frozen=True)
class Judgement:
    """What the guard found of a network.

    Attributes:
        miou: on labelled images.
        shares: of each class in its masks of the new road, float (classes,).
        confidence: mean over the pixels of the new road, 0..1. Without labels it tells how far to go: on the
            two drives where that could be measured it named the best or second best of `SHARES`.
    """

    miou: float
    shares: NDArray[np.float64]
    confidence: float

    def fault_of(self, other: Judgement, max_loss: float) -> str:
        """Return why another network may not replace this one, "" if it may.

        Args:
            other: what was found of it.
            max_loss: points of mIoU on the labelled images that it may lose.
        """
        lost = 100 * (self.miou - other.miou)
        if lost > max_loss:
            return f"it loses {lost:.1f} points on the labelled images, of at most {max_loss:g}"
        seen, left = (int((one.shares > COMMON).sum()) for one in (self, other))
        if left < max(2, seen / 2):
            return f"it collapses: of {seen} classes that were seen on the new road, {left} are left"
        return ""


def judge(
    network: CameraNetwork,
    size_hw: tuple[int, int],
    labelled: SegmentationDataset,
    frames_bgr: Sequence[Image],
    *,
    fit: ImageFit = STRETCH,
    device: str = "cpu",
) -> Judgement:
    """Measure a network on labelled images, and count its classes on the new road.

    Args:
        network: is left in eval mode.
        size_hw: its input size in pixels.
        labelled: images that it must not forget.
        frames_bgr: of the new road, uint8 (H, W, 3) each.
        fit: how images are brought to the input's size.
        device: where the network is.
    """
    predict = predictor(network, Views((size_hw,), fit=fit), device=device)
    counts, confidences = np.zeros(256, np.int64), []
    for frame_bgr in frames_bgr:
        said = predict(frame_bgr)
        counts += np.bincount(said.mask.ravel(), minlength=256)
        confidences.append(float(said.confidence.mean()))
    shares = counts[: len(labelled.classes)] / max(1, counts.sum())
    miou = evaluate(network, labelled, size_hw, fit=fit, device=device).accuracy.miou
    return Judgement(miou, shares, float(np.mean(confidences)))


def with_norms_of(
    network: CameraNetwork,
    frames_bgr: Sequence[Image],
    size_hw: tuple[int, int],
    share: float,
    *,
    fit: ImageFit = STRETCH,
    device: str = "cpu",
) -> CameraNetwork:
    """Return a copy whose batch norms use the statistics of these frames.

    Li et al., "Adaptive Batch Normalization for practical domain adaptation" (Pattern Recognition, 2018).

    Args:
        network: is left as it is, but for eval mode.
        frames_bgr: uint8 (H, W, 3) each, at least two.
        size_hw: the network's input size in pixels.
        share: of the frames' statistics, 0..1; the rest are those that the network has.
        fit: how frames are brought to the input's size.
        device: where the network is.

    Raises:
        ConfigError: fewer than two frames, or a share out of range.
    """
    if len(frames_bgr) < 2 or not 0 <= share <= 1:
        raise ConfigError(
            f"adaptation: expected at least 2 frames and a share from 0 to 1, got "
            f"{len(frames_bgr)} and {share}"
        )
    adapted = copy.deepcopy(network).eval()
    norms = [module for module in adapted.modules() if isinstance(module, nn.BatchNorm2d)]
    before = [copy.deepcopy(norm) for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean over all batches
        norm.train()
    # Batches of nearly equal size, none of one image: its deepest features may be one pixel.
    batches = np.array_split(np.arange(len(frames_bgr)), max(1, len(frames_bgr) // BATCH_SIZE))
    with torch.no_grad():
        for batch in batches:
            fitted = np.stack([fit_image(frames_bgr[index], size_hw, fit) for index in batch])
            adapted(torch.from_numpy(fitted).to(device))
    for norm, old in zip(norms, before, strict=True):
        norm.momentum = old.momentum
        norm.eval()
        for name in ("running_mean", "running_var"):
            norm.get_buffer(name).lerp_(old.get_buffer(name), 1 - share)
    return adapted


def best_norms(
    network: CameraNetwork,
    before: Judgement,
    size_hw: tuple[int, int],
    labelled: SegmentationDataset,
    frames_bgr: Sequence[Image],
    max_loss: float,
    *,
    fit: ImageFit = STRETCH,
    device: str = "cpu",
) -> tuple[CameraNetwork, float, Judgement]:
    """Return the network with the share of the frames' statistics that makes it surest of them.

    Args:
        network: is left as it is.
        before: what was found of the network that it would replace.
        size_hw: its input size in pixels.
        labelled: images that it must not forget.
        frames_bgr: of the new road.
        max_loss: points of mIoU on the labelled images that it may lose.
        fit: how images are brought to the input's size.
        device: where the network is.

    Returns:
        The network, the share, and what was found of it.

    Raises:
        TrainingError: every share loses more, or collapses.
    """
    found, faults = [], []
    for share in SHARES:
        adapted = with_norms_of(network, frames_bgr, size_hw, share, fit=fit, device=device)
        after = judge(adapted, size_hw, labelled, frames_bgr, fit=fit, device=device)
        if fault := before.fault_of(after, max_loss):
            faults.append(f"with {share:.0%} of the new road's statistics {fault}")
        else:
            found.append((adapted, share, after))
    if not found:
        raise TrainingError(
            f"adaptation: expected a network that keeps what it knows, got none: {faults[0]}; "
            "give other teachers, more labelled images, or a higher --max-loss"
        )
    return max(found, key=lambda one: one[2].confidence)
