"""Losses on logits of (N, classes, h, w) and labels of (N, H, W) where `IGNORE` marks void pixels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, distributed

from runtime.errors import ConfigError

IGNORE = 255
LOSSES = ("cross-entropy", "weighted", "class-balanced")


class SegmentationLoss:
    """The training loss: a sum over pixels of cross-entropies, with a weight a class.

    - `cross-entropy`: every labelled pixel weighs the same.
    - `weighted`: a weight a class, for weights from pixel counts (ENet, Paszke et al. 2016).
    - `class-balanced`: the mean over the classes present in the batch of each class's mean, so that a pole
      counts as much as the road.

    The weights sum to 1 over the batch. In a distributed training the batch is that of all processes:
    their losses and gradients add up to those of one process with the whole batch.
    """

    def __init__(self, name: str, class_weights: Tensor | None = None, stride: int = 1) -> None:
        """Choose a loss.

        Args:
            name: one of `LOSSES`.
            class_weights: float (classes,), for `weighted` and for no other.
            stride: 1 takes every pixel of the labels; s one pixel of each s x s, at a place drawn anew for
                each batch from torch's generator. On a CPU, 2 saves more than half of a small network's step.

        Raises:
            ConfigError: an unknown name, weights missing or too many, a stride below 1.
        """
        if name not in LOSSES:
            raise ConfigError(f"loss: expected one of {list(LOSSES)}, got {name!r}")
        if (name == "weighted") != (class_weights is not None):
            raise ConfigError(f"loss {name}: expected class weights for `weighted` and for no other")
        if stride < 1:
            raise ConfigError(f"loss stride: expected at least 1, got {stride}")
        self.name = name
        self.class_weights = class_weights
        self.stride = stride

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of float logits (N, classes, h, w), upsampled to the uint8 labels (N, H, W)."""
        target = self.targets(labels)
        if logits.shape[-2:] != target.shape[-2:]:
            logits = F.interpolate(logits, size=target.shape[-2:], mode="bilinear", align_corners=False)
        weights = self._pixel_weights(pixel_counts(target, logits.shape[1]))
        return F.cross_entropy(logits, target, weights, ignore_index=IGNORE, reduction="sum")

    def targets(self, labels: Tensor) -> Tensor:
        """Return the labels (N, H, W) that count, as int64 (N, H / stride, W / stride).

        The logits stand for the middle of each s x s pixels, the labels for one of them: off by up to
        half a stride in one batch, by nothing on average.
        """
        if self.stride > 1:
            row, column = torch.randint(self.stride, (2,)).tolist()
            labels = labels[:, row :: self.stride, column :: self.stride]
        return labels.long()

    def _pixel_weights(self, counts: Tensor) -> Tensor:
        """Return what a pixel of each class weighs, float32 (classes,), from the batch's counts."""
        present = counts > 0
        if self.name == "class-balanced":
            return present / (counts.clamp(min=1) * present.sum().clamp(min=1))
        weights = torch.ones_like(counts) if self.class_weights is None else self.class_weights
        return weights / (weights * counts).sum().clamp(min=torch.finfo(torch.float32).tiny)


def pixel_counts(target: Tensor, classes: int) -> Tensor:
    """Return the pixels a class in int64 labels of any shape, float32 (classes,), over all processes."""
    counts = torch.bincount(target.flatten(), minlength=IGNORE + 1)[:classes].float()
    if distributed.is_available() and distributed.is_initialized():
        distributed.all_reduce(counts)
    return counts
