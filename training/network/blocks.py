"""The building blocks: convolution + batch norm + ReLU, and the residual block made of them."""

from __future__ import annotations

from torch import Tensor, nn


class ConvNormAct(nn.Sequential):
    """Convolution without bias, batch norm, and ReLU unless `act` is False; "same" padding."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int = 3, *, stride: int = 1, act: bool = True
    ) -> None:
        """Build the three layers."""
        layers: list[nn.Module] = [
            nn.Conv2d(in_channels, out_channels, kernel, stride, padding=kernel // 2, bias=False),
            nn.BatchNorm2d(out_channels),
        ]
        if act:
            layers.append(nn.ReLU(inplace=True))
        super().__init__(*layers)


class DropPath(nn.Module):
    """Stochastic depth (Huang et al., ECCV 2016): training leaves a branch out for some samples.

    What is kept is divided by the share that is kept, so that evaluation needs nothing.

    Attributes:
        rate: share of the samples without the branch, from 0 to below 1.
    """

    def __init__(self, rate: float = 0.0) -> None:
        """Leave the branch out at this rate."""
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) → the same shape, in training with some samples set to 0."""
        if not self.training or not self.rate:
            return x
        keep = 1 - self.rate
        return x * x.new_empty(len(x), 1, 1, 1).bernoulli_(keep).div_(keep)


class BasicBlock(nn.Module):
    """relu(x + F(x)) with F two 3x3 convolutions (He et al., "Deep Residual Learning", CVPR 2016, fig. 2).

    Where the stride or the width changes, the shortcut is a 1x1 convolution (their option B). Elsewhere
    the last batch norm starts at zero, so that the block starts as the identity (Goyal et al. 2017,
    sec. 5.1). Without a shortcut the block is relu(F(x)), their plain network's (fig. 3).
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, stride: int = 1, residual: bool = True
    ) -> None:
        """Build both branches, or F alone."""
        super().__init__()
        self.conv1 = ConvNormAct(in_channels, out_channels, stride=stride)
        self.conv2 = ConvNormAct(out_channels, out_channels, act=False)
        self.drop_path = DropPath()
        self.shortcut: nn.Module | None = None
        if residual and (stride != 1 or in_channels != out_channels):
            self.shortcut = ConvNormAct(in_channels, out_channels, 1, stride=stride, act=False)
        elif residual:
            self.shortcut = nn.Identity()
            nn.init.zeros_(self.conv2[1].weight)  # type: ignore[arg-type]
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in, H, W) → (N, out, H / stride, W / stride)."""
        y = self.conv2(self.conv1(x))
        if self.shortcut is not None:
            y = self.drop_path(y) + self.shortcut(x)
        activated: Tensor = self.act(y)
        return activated
