"""Batch norm over the batch of all processes, also where PyTorch's own does not run: on the CPU."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, distributed, nn


def synchronize_batch_norms(network: nn.Module, device: str) -> None:
    """Make every batch norm of `network` measure the batch of all processes; names and values stay.

    On a GPU by PyTorch's `SyncBatchNorm`, elsewhere by `SynchronizedBatchNorm`.
    """
    for name, child in network.named_children():
        if isinstance(child, nn.BatchNorm2d):
            if torch.device(device).type == "cuda":
                converted = nn.SyncBatchNorm.convert_sync_batchnorm(child)  # type: ignore[no-untyped-call]
                setattr(network, name, converted)
            else:
                setattr(network, name, SynchronizedBatchNorm.like(child))
        else:
            synchronize_batch_norms(child, device)


class SynchronizedBatchNorm(nn.BatchNorm2d):
    """`nn.BatchNorm2d` whose training statistics are those of all processes together.

    Needs equal shapes on all processes.
    """

    momentum: float
    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    @classmethod
    def like(cls, norm: nn.BatchNorm2d) -> SynchronizedBatchNorm:
        """Return one with the parameters and statistics of `norm`, shared."""
        made = cls(norm.num_features, norm.eps, norm.momentum)
        made._parameters, made._buffers = norm._parameters, norm._buffers
        return made.train(norm.training)

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, H, W) → the same, normalised."""
        x = input.float()
        if not self.training:
            return super().forward(input)
        count = x.numel() // x.shape[1] * distributed.get_world_size()
        mean = _total(x.sum((0, 2, 3))) / count  # (C,)
        centred = x - mean[:, None, None]
        variance = _total(centred.square().sum((0, 2, 3))) / count  # (C,)
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * (count / (count - 1)), self.momentum)
            self.num_batches_tracked += 1
        scale = self.weight * torch.rsqrt(variance + self.eps)  # (C,)
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(input.dtype)


class _Total(torch.autograd.Function):
    """The sum over all processes; each one's share of the result's gradient flows to every process."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        total = values.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.contiguous().clone()
        distributed.all_reduce(total)
        return total


def _total(values: Tensor) -> Tensor:
    total: Tensor = _Total.apply(values)  # type: ignore[no-untyped-call]
    return total
