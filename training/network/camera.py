"""A network together with its normalisation: takes a camera's pixels, as the exported graph will."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from runtime.contract import Normalization


class CameraNetwork(nn.Module):
    """uint8 BGR images to logits. Training, evaluation and export all go through this one definition."""

    mean: Tensor | None
    std: Tensor | None

    def __init__(self, body: nn.Module, normalization: Normalization) -> None:
        """Wrap a body that maps normalised (N, 3, H, W) to logits."""
        super().__init__()
        self.body = body
        # Not in the state dict: the contract is their one home.
        mean = torch.tensor(normalization.mean_bgr).view(1, 3, 1, 1) if any(normalization.mean_bgr) else None
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("std", torch.tensor(normalization.std_bgr).view(1, 3, 1, 1), persistent=False)

    def forward(self, images_bgr: Tensor) -> Tensor:
        """uint8 (N, H, W, 3) → float32 logits (N, classes, H / stride, W / stride)."""
        logits: Tensor = self.body(self.normalized(images_bgr))
        return logits.float()

    def normalized(self, images_bgr: Tensor) -> Tensor:
        """uint8 (N, H, W, 3) → float32 (N, 3, H, W), as the body takes it."""
        x = images_bgr.permute(0, 3, 1, 2).float()  # (N, 3, H, W)
        if self.mean is not None:
            x = x - self.mean
        return x if self.std is None else x / self.std

    def with_std_folded(self) -> CameraNetwork:
        """Return an eval-mode copy whose first convolution does the division by std.

        Exact up to rounding, padding included: zero stays zero when divided. Calling it on the result
        changes nothing.
        """
        folded = copy.deepcopy(self).eval()
        if folded.std is not None:
            first = next(module for module in folded.body.modules() if isinstance(module, nn.Conv2d))
            with torch.no_grad():
                first.weight /= folded.std
            folded.std = None
        return folded
