"""What the networks are built from, and the sizes that have a name. No torch, for commands that list them."""

from __future__ import annotations

from dataclasses import dataclass

from runtime.errors import ConfigError


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


@dataclass(frozen=True)
class ArticlePytorchConfig:
    """The article's PyTorch network has nothing to set."""

    stride: int = 2
    size_multiple: int = 2


@dataclass(frozen=True)
class ArticleKerasConfig:
    """The article's Keras network has nothing to set."""

    stride: int = 4
    size_multiple: int = 4


NetworkConfig = ResidualConfig | ArticlePytorchConfig | ArticleKerasConfig


@dataclass(frozen=True)
class NetworkSize:
    """A named choice of `--network`."""

    kind: str
    config: NetworkConfig


SIZES = {
    "residual-n": NetworkSize(
        "residual", ResidualConfig(16, (32, 32, 64, 128), (0, 1, 2, 2), decoder_width=32, detail_width=16)
    ),
    "residual-s": NetworkSize("residual", ResidualConfig()),
    "residual-m": NetworkSize(
        "residual", ResidualConfig(16, (48, 96, 160, 256), (1, 1, 2, 2), decoder_width=80, detail_width=32)
    ),
    # A plain ResNet-like shape without any of the family's choices: what they are measured against.
    "reference": NetworkSize(
        "residual", ResidualConfig(16, (24, 48, 96, 192), (2, 2, 2, 2), decoder_width=64, detail_width=0)
    ),
    "article_pytorch": NetworkSize("article_pytorch", ArticlePytorchConfig()),
    "article_keras": NetworkSize("article_keras", ArticleKerasConfig()),
}
