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


class BasicBlock(nn.Module):
    """relu(x + F(x)) with F two 3x3 convolutions (He et al., "Deep Residual Learning", CVPR 2016, fig. 2).

    Where the stride or the width changes, the shortcut is a 1x1 convolution (their option B). The last
    batch norm starts at zero, so that every block starts as the identity (Goyal et al. 2017, sec. 5.1).
    """

    def __init__(self, in_channels: int, out_channels: int, *, stride: int = 1) -> None:
        """Build both branches."""
        super().__init__()
        self.conv1 = ConvNormAct(in_channels, out_channels, stride=stride)
        self.conv2 = ConvNormAct(out_channels, out_channels, act=False)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = ConvNormAct(in_channels, out_channels, 1, stride=stride, act=False)
        else:
            nn.init.zeros_(self.conv2[1].weight)  # type: ignore[arg-type]
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in, H, W) → (N, out, H / stride, W / stride)."""
        y: Tensor = self.act(self.conv2(self.conv1(x)) + self.shortcut(x))
        return y
