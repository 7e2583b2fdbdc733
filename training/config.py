"""The settings of a training."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch

from runtime.errors import ConfigError
from training.losses import LOSSES
from training.network import SIZES
from training.optimization import OPTIMIZERS, SCHEDULES


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
        size_hw: height and width in pixels of the training crops and of the exported network's input.
        epochs: passes over the training split.
        batch_size: images a step.
        optimizer: name of the optimizer.
        learning_rate: its peak.
        weight_decay: of convolution weights.
        schedule: shape of the learning rate's way to 0.
        warmup_epochs: length of the linear rise to the peak.
        loss: name of the loss.
        average_decay: of the moving average of the weights, a step.
        validate_every: epochs from one validation to the next; the last epoch always validates.
        precision: "bf16" computes the network in bfloat16 where PyTorch finds it safe.
        workers: threads that prepare images.
        seed: of every random choice.
        device: torch device.
    """

    network: str = "residual-s"
    size_hw: tuple[int, int] = (352, 480)
    epochs: int = 100
    batch_size: int = 8
    optimizer: str = "adamw"
    learning_rate: float = 2e-3
    weight_decay: float = 0.01
    schedule: str = "cosine"
    warmup_epochs: int = 2
    loss: str = "weighted"
    average_decay: float = 0.995
    validate_every: int = 1
    precision: Literal["fp32", "bf16"] = "fp32"
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
            "precision": ("fp32", "bf16"),
        }.items():
            if getattr(self, name) not in allowed:
                raise ConfigError(f"{name}: expected one of {list(allowed)}, got {getattr(self, name)!r}")
        for name in ("epochs", "batch_size", "validate_every"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}: expected at least 1, got {getattr(self, name)}")
        for name in ("warmup_epochs", "workers", "weight_decay", "seed"):
            if not 0 <= getattr(self, name) < 2**63:
                raise ConfigError(f"{name}: expected at least 0, got {getattr(self, name)}")
        if not (self.learning_rate > 0 and math.isfinite(self.learning_rate)):
            raise ConfigError(f"learning_rate: expected a positive number, got {self.learning_rate}")
        if not 0 <= self.average_decay < 1:
            raise ConfigError(f"average_decay: expected from 0 to below 1, got {self.average_decay}")
        multiple = SIZES[self.network].config.size_multiple
        if min(self.size_hw) < multiple or any(side % multiple for side in self.size_hw):
            nearest = tuple(max(1, round(side / multiple)) * multiple for side in self.size_hw)
            raise ConfigError(
                f"size_hw: {self.network} needs height and width in multiples of {multiple}, "
                f"got {self.size_hw}; the nearest is {nearest}"
            )
        check_device(self.device)
