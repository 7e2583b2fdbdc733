"""Lets networks that were not made here take a camera's pixels."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from runtime.contract import Normalization
from runtime.errors import ConfigError


class ForeignNetwork(nn.Module):
    """Wraps a network that takes normalised float (N, 3, H, W) images, for `export.module.export_module`.

    Such are the networks of torchvision, segmentation_models_pytorch, timm and most papers' code. One that
    was trained on RGB from 0 to 1 with the mean and std of ImageNet becomes:

        normalization = Normalization(
            mean_bgr=(0.406 * 255, 0.456 * 255, 0.485 * 255), std_bgr=(0.225 * 255, 0.224 * 255, 0.229 * 255)
        )
        contract = ModelContract(
            "theirs", ImageInput((352, 480), size_multiple=32), GraphOutput(stride=8), classes, normalization
        )
        export_module(ForeignNetwork(theirs, normalization, output="out"), contract, "theirs.onnx")

    The contract's stride is the input's height over that of the logits: 1 for a network that upsamples by
    itself. Leave that last upsampling out where the network's code allows it; the runtime does it faster.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        network: nn.Module,
        normalization: Normalization,
        *,
        color_order: Literal["RGB", "BGR"] = "RGB",
        output: str | None = None,
    ) -> None:
        """Wrap a network.

        Args:
            network: normalised float32 (N, 3, H, W) → logits (N, classes, h, w), alone or in a dict.
            normalization: (image - mean) / std in units of 0..255, channels as B, G, R.
            color_order: the order of the channels that the network was trained on.
            output: key of the logits, for a network that returns a dict (torchvision's is "out").

        Raises:
            ConfigError: another colour order.
        """
        super().__init__()
        if color_order not in ("RGB", "BGR"):
            raise ConfigError(f"color_order: expected RGB or BGR, got {color_order!r}")
        self.network = network
        self.output = output
        self.is_rgb = color_order == "RGB"
        order = [2, 1, 0] if self.is_rgb else [0, 1, 2]
        mean, std = torch.tensor(normalization.mean_bgr), torch.tensor(normalization.std_bgr)
        self.register_buffer("mean", mean[order].view(1, 3, 1, 1))
        self.register_buffer("std", std[order].view(1, 3, 1, 1))

    def forward(self, images_bgr: Tensor) -> Tensor:
        """uint8 (N, H, W, 3) BGR → float32 logits (N, classes, h, w)."""
        x = images_bgr.permute(0, 3, 1, 2)  # (N, 3, H, W), uint8
        if self.is_rgb:
            blue, green, red = x.unbind(1)
            x = torch.stack((red, green, blue), 1)
        result = self.network((x.float() - self.mean) / self.std)
        logits: Tensor = result if self.output is None else result[self.output]
        return logits.float()
