"""Optimizer, learning-rate schedule and the moving average of the weights."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from runtime.errors import ConfigError
from training.engine.config import OPTIMIZERS, SCHEDULES

POLY_POWER = 0.9
MOMENTUM = 0.95  # of Muon
ADAM_SIZE = 0.2  # root mean square of AdamW's steps, as a share of the learning rate
FEWEST_FEATURES = 16  # of both sides of a convolution that Muon changes


class Muon(torch.optim.AdamW):
    """AdamW, in which convolutions between features take steps that turn all directions alike.

    Of their weights as a matrix (out, in * kernel) the momentum is made orthogonal: directions that few
    images ask for count as much as those that all do (Jordan et al. 2024, "Muon: An optimizer for hidden
    layers"). Its size is that of AdamW's steps (Liu et al. 2025, "Muon is Scalable for LLM Training", sec.
    2.2), so that learning rate and weight decay stay as they are. The first convolution, the classifiers,
    biases and batch norms take AdamW's steps.
    """

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Change the weights; the gradients of those that Muon changed are dropped."""
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None or not _is_between_features(weight):
                    continue
                state = self.state[weight]
                if not state:  # a step is what AdamW looks for when it is loaded
                    state |= {"step": torch.tensor(0.0), "momentum": torch.zeros_like(weight)}
                momentum = state["momentum"]
                momentum.lerp_(weight.grad, 1 - MOMENTUM)
                ahead = weight.grad.lerp(momentum, MOMENTUM).flatten(1)  # (out, in * kernel), Nesterov's
                change = orthogonal(ahead) * (ADAM_SIZE * math.sqrt(max(ahead.shape)))
                weight.mul_(1 - group["lr"] * group["weight_decay"])
                weight.add_(change.view_as(weight), alpha=-group["lr"])
                weight.grad = None
        super().step(closure)


def _is_between_features(weight: Tensor) -> bool:
    return weight.ndim == 4 and min(weight.shape[:2]) >= FEWEST_FEATURES


def orthogonal(matrix: Tensor) -> Tensor:
    """Return nearly the nearest orthogonal matrix, float32 (n, m): all singular values come near 1.

    Five steps of the Newton-Schulz iteration with the coefficients of Jordan et al., which leaves them
    between 0.7 and 1.2.
    """
    is_tall = len(matrix) > matrix.shape[1]
    x = (matrix.T if is_tall else matrix).float()
    x = x / (x.norm() + torch.finfo(torch.float32).tiny)
    for _ in range(5):
        square = x @ x.T
        x = 3.4445 * x + (-4.775 * square + 2.0315 * square @ square) @ x
    orthogonalized: Tensor = x.T if is_tall else x
    return orthogonalized


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
    if name == "muon":
        return Muon(groups, lr=learning_rate)
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
