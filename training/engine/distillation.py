"""Distillation: a small network learns from the labels and from a larger one's opinion of every class.

Hinton et al., "Distilling the Knowledge in a Neural Network" (2015), pixel by pixel.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from runtime.base.files import file_sha256
from runtime.contract import ClassMap
from runtime.errors import ConfigError
from training.engine.bundled import checkpoint_file
from training.engine.checkpoint import load_checkpoint
from training.engine.losses import pixel_counts
from training.network import CameraNetwork

# Divides both networks' logits, so that the order of the less likely classes counts too; 1 would leave
# little but the winner, which the labels already tell.
TEMPERATURE = 2.0


@dataclass(frozen=True)
class Teacher:
    """A finished training that another one learns from.

    Attributes:
        network: in eval mode and without gradients.
        name: of the model.
        sha256: of the checkpoint's file.
        terms: what the teacher's training data allows; its pupils hold something of it.
    """

    network: CameraNetwork
    name: str
    sha256: str
    terms: str

    def passed_on(self, terms: str) -> str:
        """Return what the data of a pupil with these `terms` allows, together with the teacher's."""
        if not self.terms or self.terms in terms:
            return terms
        return f"{terms}; " * bool(terms) + f"taught by {self.name}: {self.terms}"


def load_teacher(path: str | Path, classes: ClassMap, size_hw: tuple[int, int]) -> Teacher:
    """Return a checkpoint's network, ready to teach.

    Args:
        path: checkpoint of `training.train`, or name of a bundled one.
        classes: of the network to be taught.
        size_hw: height and width in pixels of the images it will see.

    Raises:
        CheckpointError: a checkpoint that is missing, damaged or unsafe.
        ConfigError: a teacher of other classes, or one that cannot take images of this size.
    """
    file = checkpoint_file(path)
    checkpoint = load_checkpoint(file)
    if checkpoint.contract.classes.names != classes.names:
        raise ConfigError(
            f"teacher {path}: expected the classes {list(classes.names)}, got "
            f"{list(checkpoint.contract.classes.names)}; choose a teacher trained on the same classes"
        )
    multiple = checkpoint.config.size_multiple
    if any(side % multiple for side in size_hw):
        raise ConfigError(
            f"teacher {path}: expected images in multiples of {multiple} pixels, got {size_hw}; "
            "choose another --size or another teacher"
        )
    return Teacher(
        network=checkpoint.build().requires_grad_(False),
        name=checkpoint.contract.name,
        sha256=file_sha256(file),
        terms=checkpoint.contract.origin.terms,
    )


def distillation_loss(logits: Tensor, teacher_logits: Tensor, labels: Tensor) -> Tensor:
    """Return the mean KL divergence of the student's class probabilities from the teacher's.

    Both are softened by `TEMPERATURE`, whose square multiplies the result, so that the gradient keeps its
    size (Hinton et al., sec. 2). Void pixels do not count: augmentation pads with them. As in
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
