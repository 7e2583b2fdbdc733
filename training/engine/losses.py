"""Losses on logits of (N, classes, h, w): from labels (N, H, W), 255 for void, and from a teacher."""

from __future__ import annotations

from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor, distributed

from runtime.errors import ConfigError
from training.engine.config import LOSSES

IGNORE = 255
UNWEIGHTED = ("cross-entropy", "class-balanced")
OHEM_CONFIDENCE = 0.7  # of the labelled class; surer pixels are easy
BOUNDARY_FACTOR = 3.0  # how much more a pixel weighs that has another class beside it
# Divides the logits of teacher and pupil, so that the order of the less likely classes counts too; 1 would
# leave little but the winner, which the labels already tell.
TEMPERATURE = 2.0


class SegmentationLoss:
    """The training loss: a sum over pixels of cross-entropies, with a weight a class.

    - `cross-entropy`: every labelled pixel weighs the same.
    - `weighted`: a weight a class, for weights from pixel counts (ENet, Paszke et al. 2016).
    - `class-balanced`: the mean over the classes present in the batch of each class's mean, so that a pole
      counts as much as the road.
    - `ohem`: `weighted` over the hard pixels only, those whose own class gets less than `OHEM_CONFIDENCE`
      (Shrivastava et al., CVPR 2016, as RegSeg and DDRNet use it).
    - `boundary`: `weighted`, with `BOUNDARY_FACTOR` for pixels within two of another class.

    The weights sum to 1 over the batch. In a distributed training the batch is that of all processes:
    their losses and gradients add up to those of one process with the whole batch.
    """

    def __init__(
        self, name: str, class_weights: Tensor | None = None, stride: int = 1, smoothing: float = 0.0
    ) -> None:
        """Choose a loss.

        Args:
            name: one of `LOSSES`.
            class_weights: float (classes,), for all but `UNWEIGHTED`.
            stride: 1 takes every pixel of the labels; s one pixel of each s x s, at a place drawn anew for
                each batch from torch's generator. On a CPU, 2 saves more than half of a small network's step.
            smoothing: share of the labels' certainty that goes to all classes (Szegedy et al., CVPR 2016).

        Raises:
            ConfigError: an unknown name, weights missing or too many, a stride below 1.
        """
        if name not in LOSSES:
            raise ConfigError(f"loss: expected one of {list(LOSSES)}, got {name!r}")
        if (name in UNWEIGHTED) != (class_weights is None):
            raise ConfigError(f"loss {name}: expected class weights for all but {', '.join(UNWEIGHTED)}")
        if stride < 1:
            raise ConfigError(f"loss stride: expected at least 1, got {stride}")
        self.name = name
        self.class_weights = class_weights
        self.stride = stride
        self.smoothing = smoothing

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of float logits (N, classes, h, w), upsampled to the uint8 labels (N, H, W)."""
        target = self.targets(labels)
        if logits.shape[-2:] != target.shape[-2:]:
            logits = F.interpolate(logits, size=target.shape[-2:], mode="bilinear", align_corners=False)
        if self.name == "boundary":
            return self._boundary_loss(logits, target)
        if self.name == "ohem":
            target = torch.where(_confidence(logits, target) < OHEM_CONFIDENCE, target, IGNORE)
        weights = self._pixel_weights(pixel_counts(target, logits.shape[1]))
        return F.cross_entropy(
            logits, target, weights, ignore_index=IGNORE, reduction="sum", label_smoothing=self.smoothing
        )

    def targets(self, labels: Tensor) -> Tensor:
        """Return the labels (N, H, W) that count, as int64 (N, H / stride, W / stride).

        The logits stand for the middle of each s x s pixels, the labels for one of them: off by up to
        half a stride in one batch, by nothing on average.
        """
        if self.stride > 1:
            row, column = torch.randint(self.stride, (2,)).tolist()
            labels = labels[:, row :: self.stride, column :: self.stride]
        return labels.long()

    def _boundary_loss(self, logits: Tensor, target: Tensor) -> Tensor:
        assert self.class_weights is not None  # seen to in __init__
        labelled = target != IGNORE
        weights = torch.where(_near_boundary(target), BOUNDARY_FACTOR, 1.0)  # (N, h, w)
        weights = weights * self.class_weights[torch.where(labelled, target, 0)] * labelled
        total = weights.sum()
        if distributed.is_available() and distributed.is_initialized():
            distributed.all_reduce(total)
        losses = F.cross_entropy(
            logits, target, ignore_index=IGNORE, reduction="none", label_smoothing=self.smoothing
        )
        return (losses * weights).sum() / total.clamp(min=torch.finfo(torch.float32).tiny)

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


def distillation_loss(logits: Tensor, teacher_logits: Tensor, labels: Tensor) -> Tensor:
    """Return the mean KL divergence of the student's class probabilities from the teacher's.

    Hinton et al., "Distilling the Knowledge in a Neural Network" (2015), pixel by pixel. Both are
    softened by `TEMPERATURE`, whose square multiplies the result, so that the gradient keeps its size
    (sec. 2). Void pixels do not count: augmentation pads with them. As in
    `SegmentationLoss`, the mean is over the batch of all processes, whose losses add up.

    Args:
        logits: float (N, classes, h, w) of the student.
        teacher_logits: float (N, classes, any, any), resized to the student's.
        labels: uint8 (N, H, W), H and W multiples of h and w.
    """
    height, width = logits.shape[-2:]
    if teacher_logits.shape[-2:] != (height, width):
        teacher_logits = F.interpolate(
            teacher_logits, size=(height, width), mode="bilinear", align_corners=False
        )
    rows, columns = labels.shape[1] // height, labels.shape[2] // width
    target = labels[:, rows // 2 :: rows, columns // 2 :: columns].long()  # (N, h, w), the middle pixels
    labelled = pixel_counts(target, logits.shape[1]).sum().clamp(min=1)
    divergence = F.kl_div(
        F.log_softmax(logits / TEMPERATURE, 1),
        F.log_softmax(teacher_logits / TEMPERATURE, 1),
        reduction="none",
        log_target=True,
    ).sum(1)  # (N, h, w)
    total = torch.where(target < logits.shape[1], divergence, 0.0).sum()
    return total * TEMPERATURE**2 / labelled


def _confidence(logits: Tensor, target: Tensor) -> Tensor:
    """Return the probability of each pixel's own class (N, h, w); void pixels get class 0's."""
    with torch.no_grad():
        own = torch.where(target == IGNORE, 0, target)
        return logits.float().softmax(1).gather(1, own[:, None])[:, 0]


def _near_boundary(target: Tensor) -> Tensor:
    """Return which pixels (N, h, w) have another class within two pixels; void counts as one.

    The range of each 5x5 window by shifted bytes, rows before columns: a max pooling of floats takes far
    longer on a CPU.
    """
    values = target.to(torch.uint8)[:, None].float()
    high = low = F.pad(values, (2, 2, 2, 2), mode="replicate")[:, 0].to(torch.uint8)
    for dim in (1, 2):
        size = target.shape[dim]
        high_parts, low_parts = ([x.narrow(dim, i, size) for i in range(5)] for x in (high, low))
        high, low = reduce(torch.maximum, high_parts), reduce(torch.minimum, low_parts)
    return high != low
