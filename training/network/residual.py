"""ResidualSegmenter: residual blocks to stride 32, a context layer, and a light decoder with skips."""

from __future__ import annotations

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from training.network.sizes import ResidualConfig


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


class Features(NamedTuple):
    """An encoder's outputs, each (N, its stage's width, H / stride, W / stride)."""

    x_4: Tensor
    x_8: Tensor
    x_16: Tensor
    x_32: Tensor


class ResidualSegmenter(nn.Module):
    """Normalised image to logits.

    Encoder: basic residual blocks (He et al. 2016) behind a stem of two 3x3 stride-2 convolutions, which
    costs a tenth of a 7x7 stem in onnxruntime. Context: the globally pooled deepest features are added
    back (ParseNet, Liu et al. 2015). Decoder: top-down sums with linear 1x1 laterals (FPN, Lin et al. 2017),
    which onnxruntime adds inside the convolution, smoothed by 3x3 convolutions once at each stride.
    """

    def __init__(self, config: ResidualConfig, num_classes: int) -> None:
        """Build the layers, with He initialisation."""
        super().__init__()
        self.config = config
        width_2, (width_4, width_8, width_16, width_32) = config.stem_width, config.widths
        decoder = config.decoder_width
        self.stem = nn.Sequential(ConvNormAct(3, width_2, stride=2), ConvNormAct(width_2, width_4, stride=2))
        depth_4, depth_8, depth_16, depth_32 = config.depths
        self.stage_4 = _stage(width_4, width_4, depth_4, stride=1, residual=config.residual)
        self.stage_8 = _stage(width_4, width_8, depth_8, stride=2, residual=config.residual)
        self.stage_16 = _stage(width_8, width_16, depth_16, stride=2, residual=config.residual)
        self.stage_32 = _stage(width_16, width_32, depth_32, stride=2, residual=config.residual)

        self.lateral_32 = ConvNormAct(width_32, decoder, 1)
        self.context = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(width_32, decoder, 1), nn.ReLU())
        self.lateral_16 = ConvNormAct(width_16, decoder, 1, act=False)
        self.smooth_16 = ConvNormAct(decoder, decoder)
        self.lateral_8 = ConvNormAct(width_8, decoder, 1, act=False)
        self.smooth_8 = ConvNormAct(decoder, decoder)
        head = decoder
        if config.detail_width:
            head = config.detail_width
            self.reduce_8 = ConvNormAct(decoder, head, 1)
            self.lateral_4 = ConvNormAct(width_4, head, 1, act=False)
            self.smooth_4 = ConvNormAct(head, head)
        self.dropout = nn.Dropout2d(config.dropout)  # whole channels: neighbouring pixels say the same
        self.classifier = nn.Conv2d(head, num_classes, 1)
        _initialise(self)
        _spread_drop_path(self, config.drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) normalised → logits (N, classes, H / stride, W / stride)."""
        return self.decode(self.features(x))

    def features(self, x: Tensor) -> Features:
        """(N, 3, H, W) normalised → what the encoder makes of it, stage by stage."""
        x_4 = self.stage_4(self.stem(x))  # (N, w4, H/4, W/4)
        x_8 = self.stage_8(x_4)  # (N, w8, H/8, W/8)
        x_16 = self.stage_16(x_8)  # (N, w16, H/16, W/16)
        x_32 = self.stage_32(x_16)  # (N, w32, H/32, W/32)
        return Features(x_4, x_8, x_16, x_32)

    def decode(self, features: Features) -> Tensor:
        """Return the logits (N, classes, H / stride, W / stride)."""
        return self.decode_from(self.deepest(features), features)

    def deepest(self, features: Features) -> Tensor:
        """Return the decoder's first features, with the whole picture's context (N, d, H/16, W/16)."""
        y = self.lateral_32(features.x_32) + self.context(features.x_32)  # (N, d, H/32, W/32)
        deepest: Tensor = self.smooth_16(_double(y) + self.lateral_16(features.x_16))
        return deepest

    def decode_from(self, deepest: Tensor, features: Features) -> Tensor:
        """Return the logits, as `decode`, of what `deepest` gave."""
        y = self.smooth_8(_double(deepest) + self.lateral_8(features.x_8))  # (N, d, H/8, W/8)
        if self.config.detail_width:
            y = self.smooth_4(_double(self.reduce_8(y)) + self.lateral_4(features.x_4))  # (N, d4, H/4, W/4)
        logits: Tensor = self.classifier(self.dropout(y))
        return logits


def _stage(in_channels: int, out_channels: int, depth: int, *, stride: int, residual: bool) -> nn.Sequential:
    """Return `depth` blocks, the first of which changes stride and width."""
    return nn.Sequential(
        *(
            BasicBlock(
                out_channels if number else in_channels,
                out_channels,
                stride=1 if number else stride,
                residual=residual,
            )
            for number in range(depth)
        )
    )


def _spread_drop_path(network: nn.Module, last_rate: float) -> None:
    """Set the rates of the blocks whose input can stand for their output: a line up to the last one's."""
    blocks = [
        module
        for module in network.modules()
        if isinstance(module, BasicBlock) and isinstance(module.shortcut, nn.Identity)
    ]
    for number, block in enumerate(blocks, start=1):
        block.drop_path.rate = last_rate * number / len(blocks)


def _double(x: Tensor) -> Tensor:
    """Upsample 2x; an integer scale keeps onnxruntime in its blocked layout."""
    return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


def _initialise(network: nn.Module) -> None:
    """He et al., "Delving Deep into Rectifiers" (2015), for all convolutions that precede a ReLU."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
