"""The settings of a training."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Literal

import torch

from runtime.errors import ConfigError
from training.engine.losses import LOSSES
from training.engine.optimization import OPTIMIZERS, SCHEDULES
from training.engine.transfer import FREEZES
from training.network import SIZES, NetworkSize, ResidualConfig

PRECISIONS = ("fp32", "bf16", "fp16")
AUX_WEIGHT = 0.4
# On --resume, since no bit of a step depends on them.
CHANGEABLE = ("workers", "checkpoint_every_steps", "init_from", "patience", "samples_every")


def check_device(name: str) -> None:
    """Refuse a torch device that this machine does not have.

    Raises:
        ConfigError: an unknown name, or a device on which no tensor can be made.
    """
    try:
        torch.zeros(1, device=name)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ConfigError(
            f"device: expected one that torch has here, got {name!r} ({str(error).splitlines()[0]}); "
            "use --device cpu"
        ) from None


@dataclass(frozen=True)
class TrainConfig:
    """Settings of a training; the only place where their defaults are.

    Attributes:
        network: name of a network and its size.
        depths: residual blocks a stage, from stride 4 to 32; None takes those of the size.
        plain: leaves the skip connections out.
        dropout: share of the channels before the classifier that a step sets to 0.
        drop_path: how often a step leaves out the deepest block, for each image; earlier ones less.
        aux_weight: of the loss of a second classifier at stride 16, that only training has; 0 for none.
            None takes `AUX_WEIGHT` where the network has a place for it, 0 elsewhere.
        teacher: path or bundled name of a checkpoint to learn from, besides the labels.
        distill_weight: of the divergence from the teacher; labels weigh 1.
        size_hw: height and width in pixels of the exported network's input.
        crop_hw: height and width in pixels of the training's crops; None takes `size_hw`.
        color_strength: how far colours, light, noise and blur may go; 0 leaves the images' own.
        style: how often an image takes on some of another's light and colour cast.
        synthetic_share: share of a batch that is rendered streets, for data of the same classes.
        synthetic_scenes: how many different ones.
        epochs: passes over the training split.
        batch_size: images a step, over all processes together.
        optimizer: name of the optimizer.
        learning_rate: its peak.
        weight_decay: of convolution weights.
        schedule: shape of the learning rate's way to 0.
        warmup_epochs: length of the linear rise to the peak.
        loss: name of the loss.
        label_smoothing: share of the labels' certainty that goes to all classes alike.
        loss_stride: 1 takes every pixel of the labels, s one of each s x s.
        average_decay: of the moving average of the weights, a step.
        validate_every: epochs from one validation to the next; the last epoch always validates.
        patience: epochs without a better validation mIoU after which the training ends; 0 runs all epochs.
        samples_every: epochs from one sheet of sample predictions to the next; 0 draws none.
        init_from: path or bundled name of a checkpoint whose weights and normalisation come first.
        freeze: the part of the network that keeps the weights of `init_from`.
        checkpoint_every_steps: steps from one last.pt to the next within an epoch; 0 writes it after epochs.
        precision: "bf16" and "fp16" compute the network in 16 bits where PyTorch finds it safe.
        compile: whether torch.compile makes the network's code.
        workers: threads that prepare images, a process.
        seed: of every random choice.
        device: torch device.
    """

    network: str = "residual-s"
    depths: tuple[int, int, int, int] | None = None
    plain: bool = False
    dropout: float = 0.0
    drop_path: float = 0.0
    aux_weight: float | None = None
    teacher: str | None = None
    distill_weight: float = 1.0
    size_hw: tuple[int, int] = (352, 480)
    crop_hw: tuple[int, int] | None = None
    color_strength: float = 1.0
    style: float = 0.0
    synthetic_share: float = 0.0
    synthetic_scenes: int = 1500
    epochs: int = 100
    batch_size: int = 8
    optimizer: str = "adamw"
    learning_rate: float = 2e-3
    weight_decay: float = 0.01
    schedule: str = "cosine"
    warmup_epochs: int = 2
    loss: str = "boundary"
    label_smoothing: float = 0.0
    loss_stride: int = 1
    average_decay: float = 0.995
    validate_every: int = 1
    patience: int = 0
    samples_every: int = 10
    init_from: str | None = None
    freeze: str = "none"
    checkpoint_every_steps: int = 0
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    compile: bool = False
    workers: int = 1
    seed: int = 0
    device: str = "cpu"

    def __post_init__(self) -> None:
        """Check every setting before anything is loaded."""
        for name, allowed in {
            "network": SIZES,
            "optimizer": OPTIMIZERS,
            "schedule": SCHEDULES,
            "loss": LOSSES,
            "precision": PRECISIONS,
            "freeze": FREEZES,
        }.items():
            if getattr(self, name) not in allowed:
                raise ConfigError(f"{name}: expected one of {list(allowed)}, got {getattr(self, name)!r}")
        for name in ("epochs", "batch_size", "loss_stride", "validate_every", "synthetic_scenes"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}: expected at least 1, got {getattr(self, name)}")
        for name in (
            "warmup_epochs",
            "patience",
            "samples_every",
            "checkpoint_every_steps",
            "workers",
            "weight_decay",
            "seed",
        ):
            if not 0 <= getattr(self, name) < 2**63:
                raise ConfigError(f"{name}: expected at least 0, got {getattr(self, name)}")
        for name in ("aux_weight", "distill_weight", "color_strength"):
            if not 0 <= (getattr(self, name) or 0) < math.inf:
                raise ConfigError(f"{name}: expected at least 0, got {getattr(self, name)}")
        if not (self.learning_rate > 0 and math.isfinite(self.learning_rate)):
            raise ConfigError(f"learning_rate: expected a positive number, got {self.learning_rate}")
        if not 0 <= self.average_decay < 1:
            raise ConfigError(f"average_decay: expected from 0 to below 1, got {self.average_decay}")
        if not 0 <= self.label_smoothing < 1:
            raise ConfigError(f"label_smoothing: expected from 0 to below 1, got {self.label_smoothing}")
        if not 0 <= self.style <= 1:
            raise ConfigError(f"style: expected a probability from 0 to 1, got {self.style}")
        if not 0 <= self.synthetic_share < 1:
            raise ConfigError(f"synthetic_share: expected from 0 to below 1, got {self.synthetic_share}")
        multiple = self.network_size.config.size_multiple
        for name, size_hw in (("size_hw", self.size_hw), ("crop_hw", self.crop_hw or self.size_hw)):
            if min(size_hw) < multiple or any(side % multiple for side in size_hw):
                nearest = tuple(max(1, round(side / multiple)) * multiple for side in size_hw)
                raise ConfigError(
                    f"{name}: {self.network} needs height and width in multiples of {multiple}, "
                    f"got {size_hw}; the nearest is {nearest}"
                )
        if self.freeze != "none" and self.init_from is None:
            raise ConfigError(
                f"freeze: expected weights that are worth keeping, got {self.freeze} without a checkpoint; "
                "give --init-from or --freeze none"
            )
        check_device(self.device)
        if self.precision == "fp16" and torch.device(self.device).type != "cuda":
            raise ConfigError(f"precision: expected fp32 or bf16 on {self.device}, got fp16; it needs a GPU")

    @property
    def second_head_weight(self) -> float:
        """Weight of the second classifier's loss in this training; 0 where there is none."""
        if self.aux_weight is not None:
            return self.aux_weight
        return AUX_WEIGHT if isinstance(SIZES[self.network].config, ResidualConfig) else 0.0

    @property
    def network_size(self) -> NetworkSize:
        """What to build: the named size, with the changes that these settings make to it.

        Raises:
            ConfigError: values that the network cannot have.
        """
        size = SIZES[self.network]
        if isinstance(size.config, ResidualConfig):
            config = dataclasses.replace(
                size.config,
                depths=self.depths or size.config.depths,
                residual=not self.plain,
                dropout=self.dropout,
                drop_path=self.drop_path,
            )
            return NetworkSize(size.kind, config)
        for name in ("depths", "plain", "dropout", "drop_path", "aux_weight"):
            if getattr(self, name):
                raise ConfigError(
                    f"{name}: expected a residual network, got {self.network}, which has no such setting; "
                    "leave it out"
                )
        return size
