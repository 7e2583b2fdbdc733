"""Losses on logits of (N, classes, h, w): from labels (N, H, W), 255 for void, and from a teacher."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor, distributed

from runtime.errors import ConfigError
from training.engine.config import LOSSES
from training.teaching.features import ONE, ZERO

IGNORE = 255
UNWEIGHTED = ("cross-entropy", "class-balanced")
OHEM_CONFIDENCE = 0.7  # of the labelled class; surer pixels are easy
BOUNDARY_FACTOR = 3.0  # how much more a pixel weighs that has another class beside it
# Divides the logits of teacher and pupil, so that the order of the less likely classes counts too; 1 would
# leave little but the winner, which the labels already tell.
TEMPERATURE = 2.0
SOFT_FLOOR = 0.5  # of 255, added to soft labels: a stored 0 may be .001, and has no logarithm


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


class SoftTeaching:
    """The loss of what networks say of a batch: of soft labels from files, of a live teacher, or of both.

    Hinton et al., "Distilling the Knowledge in a Neural Network" (2015), pixel by pixel: the mean KL
    divergence of the student's class probabilities from the teacher's. Both are softened by `TEMPERATURE`,
    whose square multiplies the result, so that the gradient keeps its size (sec. 2). Where both speak, they
    count as one teacher by the sum of their log-probabilities. As in `SegmentationLoss`, the mean is over the
    batch of all processes, whose losses add up.
    """

    def __init__(self, groups: Sequence[Sequence[int]] | None = None, classes: int = 0) -> None:
        """Say what soft labels mean.

        Args:
            groups: the classes whose probabilities each soft label is the sum of; None where there are none.
            classes: how many the student has.
        """
        self.groups = groups
        # Where each class is a group of its own there is nothing to sum, only an order to follow.
        self._order = None
        if groups is not None and all(len(group) == 1 for group in groups):
            order = [group[0] for group in groups]
            self._order = None if order == list(range(classes)) else order
            self._sums = False
        else:
            self._sums = groups is not None

    def __call__(
        self, logits: Tensor, labels: Tensor, live: Tensor | None = None, soft: Tensor | None = None
    ) -> Tensor:
        """Return the loss, 0 where nobody says anything.

        Args:
            logits: float (N, classes, h, w) of the student.
            labels: uint8 (N, H, W), H and W multiples of h and w; augmentation pads them with void.
            live: float (N, classes, any, any) logits of a live teacher, resized to the student's; counts
                where there is a label.
            soft: uint8 (N, h, w, groups) probabilities x 255; a pixel counts as far as its total.
        """
        height, width = logits.shape[-2:]
        weights = torch.zeros((len(logits), height, width), device=logits.device)
        grouped, taught = logits, torch.zeros(())
        if soft is not None:
            grouped = self._grouped(logits)
            scores = soft.permute(0, 3, 1, 2).float()  # (N, groups, h, w)
            weights = (scores.sum(1) / 255).clamp(max=1)
            taught = torch.log((scores + SOFT_FLOOR) / 255)
        if live is not None:
            if live.shape[-2:] != (height, width):
                live = F.interpolate(live, size=(height, width), mode="bilinear", align_corners=False)
            rows, columns = labels.shape[1] // height, labels.shape[2] // width
            target = labels[:, rows // 2 :: rows, columns // 2 :: columns]  # (N, h, w), the middle pixels
            labelled = target != IGNORE
            said = F.log_softmax(live.float(), 1)
            if soft is None:
                taught, weights = said, labelled.float()
            else:
                both = (weights > 0)[:, None]
                taught = torch.where(both, taught + self._grouped(said), self._grouped(said))
                weights = torch.where(labelled, 1.0, weights)
        total = weights.sum()
        if distributed.is_available() and distributed.is_initialized():
            distributed.all_reduce(total)
        divergence = F.kl_div(
            F.log_softmax(grouped / TEMPERATURE, 1),
            F.log_softmax(taught / TEMPERATURE, 1),
            reduction="none",
            log_target=True,
        ).sum(1)  # (N, h, w)
        return (divergence * weights).sum() * TEMPERATURE**2 / total.clamp(min=1)

    def _grouped(self, logits: Tensor) -> Tensor:
        """Return logits (N, classes, h, w) as those of the groups (N, groups, h, w), logs of their sums."""
        if self._sums:
            assert self.groups is not None
            return torch.stack([logits[:, list(group)].logsumexp(1) for group in self.groups], 1)
        return logits if self._order is None else logits[:, self._order]


def feature_loss(said: Sequence[Tensor], soft: Tensor) -> Tensor:
    """Return how far a student's layers are from what those of another network say, 0 where nobody says it.

    The mean smooth L1 distance over the features and over the positions where all of the pixels are told, of
    the batch of all processes, whose losses add up; summed over the layers.

    Args:
        said: of each layer, float (N, F, h, w).
        soft: uint8 (N, h', w', all F of all layers), see `training.teaching.features`; h' and w' multiples
            of each h and w.
    """
    bytes_ = soft.permute(0, 3, 1, 2).float()  # (N, F, h', w')
    total = torch.zeros((), device=soft.device)
    first = 0
    for values in said:
        told = bytes_[:, first : first + values.shape[1]]
        first += values.shape[1]
        known = (told[:, :1] > 0).float()
        size_hw = (values.shape[-2], values.shape[-1])
        target = F.adaptive_avg_pool2d((told - ZERO) / ONE, size_hw)
        whole = (F.adaptive_avg_pool2d(known, size_hw) > 0.99).float()  # (N, 1, h, w)
        count = whole.sum()
        if distributed.is_available() and distributed.is_initialized():
            distributed.all_reduce(count)
        distance = F.smooth_l1_loss(values, target, reduction="none").mean(1, keepdim=True)
        total = total + (distance * whole).sum() / count.clamp(min=1)
    return total


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
