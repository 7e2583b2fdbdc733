"""The two plain networks of the article this project started from; baselines without skip connections."""

from __future__ import annotations

from torch import Tensor, nn

from training.network.residual import ConvNormAct
from training.network.sizes import ArticleKerasConfig, ArticlePytorchConfig


class ArticlePytorch(nn.Module):
    """conv3x3 64, max-pool, conv3x3 64, conv3x3 128, conv1x1 to the classes; logits at stride 2."""

    def __init__(self, config: ArticlePytorchConfig, num_classes: int) -> None:
        """Build the layers."""
        super().__init__()
        self.layers = nn.Sequential(
            ConvNormAct(3, 64),
            nn.MaxPool2d(2),
            ConvNormAct(64, 64),
            ConvNormAct(64, 128),
            nn.Conv2d(128, num_classes, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) normalised → logits (N, classes, H / 2, W / 2)."""
        logits: Tensor = self.layers(x)
        return logits


class ArticleKeras(nn.Module):
    """conv3x3 64, max-pool, two conv3x3 64, max-pool, three conv3x3 128, conv1x1; logits at stride 4."""

    def __init__(self, config: ArticleKerasConfig, num_classes: int) -> None:
        """Build the layers."""
        super().__init__()
        self.layers = nn.Sequential(
            ConvNormAct(3, 64),
            nn.MaxPool2d(2),
            ConvNormAct(64, 64),
            ConvNormAct(64, 64),
            nn.MaxPool2d(2),
            ConvNormAct(64, 128),
            ConvNormAct(128, 128),
            ConvNormAct(128, 128),
            nn.Conv2d(128, num_classes, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) normalised → logits (N, classes, H / 4, W / 4)."""
        logits: Tensor = self.layers(x)
        return logits
