"""Optimizer, learning-rate schedule and the moving average of the weights."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from runtime.errors import ConfigError
from training.engine.config import OPTIMIZERS, SCHEDULES

POLY_POWER = 0.9


def build_optimizer(
    network: nn.Module, name: str, learning_rate: float, weight_decay: float
) -> torch.optim.Optimizer:
    """Return an optimizer that decays convolution weights only, not biases and batch norms.

    Raises:
        ConfigError: an unknown name.
    """
    decayed = [parameter for parameter in network.parameters() if parameter.ndim > 1]
    plain = [parameter for parameter in network.parameters() if parameter.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]
    if name == "adamw":
        return torch.optim.AdamW(groups, lr=learning_rate)
    if name == "adam":
        return torch.optim.Adam(groups, lr=learning_rate)
    if name == "sgd":
        return torch.optim.SGD(groups, lr=learning_rate, momentum=0.9, nesterov=True)
    raise ConfigError(f"optimizer: expected one of {list(OPTIMIZERS)}, got {name!r}")


def learning_rate_factor(step: int, total_steps: int, warmup_steps: int, schedule: str) -> float:
    """Return what the learning rate is multiplied by at `step`: a linear warm-up, then the schedule to 0.

    >>> [round(learning_rate_factor(step, 10, 2, "cosine"), 2) for step in (0, 1, 2, 6, 9)]
    [0.5, 1.0, 1.0, 0.5, 0.04]
    """
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    progress = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    if schedule == "poly":
        return float((1 - progress) ** POLY_POWER)
    if schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * progress))
    raise ConfigError(f"schedule: expected one of {list(SCHEDULES)}, got {schedule!r}")


class WeightAverage:
    """Exponential moving average of a network's state dict, batch-norm statistics included.

    The decay grows as (1 + n) / (10 + n) up to its final value, so that the random start is forgotten
    soon.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        """Start from the network's present state."""
        self.decay = decay
        self.updates = 0
        self.weights = {name: value.detach().clone() for name, value in network.state_dict().items()}

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Move towards the network's present state."""
        self.updates += 1
        share = 1 - min(self.decay, (1 + self.updates) / (10 + self.updates))
        averaged: list[Tensor] = []
        present: list[Tensor] = []
        for name, value in network.state_dict().items():
            if value.is_floating_point():
                averaged.append(self.weights[name])
                present.append(value)
            else:
                self.weights[name].copy_(value)  # batch norm's step counter
        torch._foreach_lerp_(averaged, present, share)
