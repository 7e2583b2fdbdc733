"""Losses on logits of (N, classes, H, W) and labels of (N, H, W) where `IGNORE` marks void pixels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from runtime.errors import ConfigError

IGNORE = 255
LOSSES = ("cross-entropy", "weighted", "class-balanced")


class SegmentationLoss:
    """The training loss.

    - `cross-entropy`: mean over the labelled pixels.
    - `weighted`: the same with a weight a class, for weights from pixel counts (ENet, Paszke et al. 2016).
    - `class-balanced`: the mean over the classes present in the batch of each class's mean, so that a pole
      counts as much as the road.
    """

    def __init__(self, name: str, class_weights: Tensor | None = None) -> None:
        """Choose a loss; `weighted` needs weights of shape (classes,).

        Raises:
            ConfigError: an unknown name, or weights missing.
        """
        if name not in LOSSES:
            raise ConfigError(f"loss: expected one of {list(LOSSES)}, got {name!r}")
        if (name == "weighted") != (class_weights is not None):
            raise ConfigError(f"loss {name}: expected class weights for `weighted` and for no other")
        self.name = name
        self.class_weights = class_weights

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of float logits (N, classes, h, w), upsampled to the uint8 labels (N, H, W)."""
        if logits.shape[-2:] != labels.shape[-2:]:
            logits = F.interpolate(logits, size=labels.shape[-2:], mode="bilinear", align_corners=False)
        target = labels.long()
        if self.name == "class-balanced":
            return class_balanced_cross_entropy(logits, target)
        if not (target != IGNORE).any():
            return 0 * logits.sum()  # the mean over no pixels would not be a number
        return F.cross_entropy(logits, target, self.class_weights, ignore_index=IGNORE)


def class_balanced_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Return the mean over the present classes of each class's mean cross-entropy; 0 if all is void."""
    per_pixel = F.cross_entropy(logits, target, ignore_index=IGNORE, reduction="none").flatten()  # (N*H*W,)
    classes = logits.shape[1]
    bins = torch.where(target == IGNORE, classes, target).flatten()  # void gets a bin of its own
    sums = per_pixel.new_zeros(classes + 1).index_add(0, bins, per_pixel)[:classes]
    counts = torch.bincount(bins, minlength=classes + 1)[:classes]
    present = counts > 0
    return (sums / counts.clamp(min=1)).sum() / present.sum().clamp(min=1)
