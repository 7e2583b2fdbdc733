"""ResidualSegmenter: a residual encoder to stride 32, a context layer, and a light decoder with skips."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from runtime.errors import ConfigError
from training.network.blocks import BasicBlock, ConvNormAct


@dataclass(frozen=True)
class ResidualConfig:
    """Shape of a `ResidualSegmenter`; the defaults are size s.

    Attributes:
        stem_width: channels at stride 2.
        widths: channels of the four stages, at strides 4, 8, 16 and 32.
        depths: residual blocks a stage; the first, at stride 4, may do without.
        decoder_width: channels of the decoder at strides 32, 16 and 8.
        detail_width: channels of the decoder at stride 4; 0 ends it at stride 8.
        residual: False leaves all skip connections of the blocks out, for comparison.
        dropout: share of the channels before the classifier that a training step sets to 0.
        drop_path: how often training leaves out the last block that it can; earlier ones less, on a line.
    """

    stem_width: int = 16
    widths: tuple[int, int, int, int] = (32, 64, 96, 160)
    depths: tuple[int, int, int, int] = (0, 1, 2, 2)
    decoder_width: int = 64
    detail_width: int = 16
    residual: bool = True
    dropout: float = 0.0
    drop_path: float = 0.0

    def __post_init__(self) -> None:
        """Check the values; channels in eights, since onnxruntime's blocked layout pads others."""
        channels = (self.stem_width, *self.widths, self.decoder_width, self.detail_width)
        if any(width < 0 or width % 8 for width in channels) or not all(channels[:-1]):
            raise ConfigError(f"network: expected widths in positive multiples of 8, got {channels}")
        if self.depths[0] < 0 or min(self.depths[1:]) < 1:
            raise ConfigError(
                f"network: expected at least 1 block in each stage but the first, got depths {self.depths}"
            )
        for name, rate in {"dropout": self.dropout, "drop_path": self.drop_path}.items():
            if not 0 <= rate < 1:
                raise ConfigError(f"{name}: expected from 0 to below 1, got {rate}")
        if self.drop_path and not self.residual:
            raise ConfigError(
                f"drop_path: expected 0 in a network without skip connections, got {self.drop_path}"
            )

    @property
    def stride(self) -> int:
        """Pixels of the input a logit stands for, along each axis."""
        return 4 if self.detail_width else 8

    @property
    def size_multiple(self) -> int:
        """What the input's height and width must be multiples of, so that every upsampling is exactly 2x."""
        return 32


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
        x_4, x_8, x_16, x_32 = features
        y = self.lateral_32(x_32) + self.context(x_32)  # (N, d, H/32, W/32)
        y = self.smooth_16(_double(y) + self.lateral_16(x_16))  # (N, d, H/16, W/16)
        y = self.smooth_8(_double(y) + self.lateral_8(x_8))  # (N, d, H/8, W/8)
        if self.config.detail_width:
            y = self.smooth_4(_double(self.reduce_8(y)) + self.lateral_4(x_4))  # (N, d4, H/4, W/4)
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
