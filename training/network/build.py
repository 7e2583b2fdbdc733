"""From a kind and a config to a network that takes a camera's pixels, as the exported graph will.

>>> network = build_network("residual", SIZES["residual-n"].config, num_classes=11)
>>> sum(parameter.numel() for parameter in network.parameters()) < 2_000_000
True
"""

from __future__ import annotations

import copy
from typing import NamedTuple

import torch
from torch import Tensor, nn

from runtime.base.codec import DecodeError, from_plain
from runtime.contract import Normalization
from runtime.errors import CheckpointError, ConfigError
from training.network.article import ArticleKeras, ArticlePytorch
from training.network.residual import ConvNormAct, ResidualSegmenter
from training.network.sizes import (
    SIZES,
    ArticleKerasConfig,
    ArticlePytorchConfig,
    NetworkConfig,
    ResidualConfig,
)

__all__ = ["SIZES", "CameraNetwork", "Supervised", "SupervisedNetwork", "build_network", "network_config"]

# Kind of network → what it is built from. A checkpoint names the kind and carries the config.
_KINDS: dict[str, tuple[type[NetworkConfig], type[nn.Module]]] = {
    "residual": (ResidualConfig, ResidualSegmenter),
    "article_pytorch": (ArticlePytorchConfig, ArticlePytorch),
    "article_keras": (ArticleKerasConfig, ArticleKeras),
}


def build_network(kind: str, config: NetworkConfig, num_classes: int) -> nn.Module:
    """Return a freshly initialised body: normalised (N, 3, H, W) → logits.

    Raises:
        ConfigError: an unknown kind, or a config of another kind.
    """
    config_type, network_type = _entry(kind)
    if not isinstance(config, config_type):
        raise ConfigError(f"network {kind}: expected a {config_type.__name__}, got {type(config).__name__}")
    return network_type(config, num_classes)


def network_config(kind: str, plain: object) -> NetworkConfig:
    """Return the config that a checkpoint carries as plain values.

    Raises:
        ConfigError: an unknown kind or a config that cannot work.
        CheckpointError: values that do not fit the config's fields.
    """
    config_type, _ = _entry(kind)
    try:
        return from_plain(config_type, plain, "config")
    except DecodeError as error:
        raise CheckpointError(f"network {kind}: {error}; train the network again") from None


def _entry(kind: str) -> tuple[type[NetworkConfig], type[nn.Module]]:
    if kind not in _KINDS:
        raise ConfigError(f"network: expected one of {sorted(_KINDS)}, got {kind!r}")
    return _KINDS[kind]


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

    @property
    def classifier(self) -> nn.Conv2d:
        """The body's last convolution, which gives the logits."""
        return [module for module in self.body.modules() if isinstance(module, nn.Conv2d)][-1]

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


class AuxiliaryHead(nn.Sequential):
    """conv3x3 and conv1x1 to the classes: features (N, C, h, w) → logits (N, classes, h, w)."""

    def __init__(self, in_channels: int, width: int, num_classes: int) -> None:
        """Build the layers."""
        super().__init__(ConvNormAct(in_channels, width), nn.Conv2d(width, num_classes, 1))


class Supervised(NamedTuple):
    """What a training step computes; see `SupervisedNetwork`.

    Attributes:
        logits: float32 (N, classes, H / stride, W / stride).
        auxiliary: those of the second head (N, classes, H / 16, W / 16); none without one.
        features: of two layers (N, F, H / 8, W / 8) and (N, F, H / 16, W / 16), as bytes of soft labels say
            them; none where nobody teaches them.
    """

    logits: Tensor
    auxiliary: tuple[Tensor, ...] = ()
    features: tuple[Tensor, ...] = ()


class SupervisedNetwork(nn.Module):
    """What a training step computes: a network and, beside it, heads that only the training knows.

    The loss of the auxiliary head, at stride 16, gives the encoder's deep stages a short way to the labels
    (Zhao et al., "Pyramid Scene Parsing Network", CVPR 2017, sec. 3.3). The hints, 1x1 convolutions behind
    stage_8 and smooth_16, say in the words of another network's layers what these hold. The network itself
    does not know the heads, so they are in no averaged weights and in no exported file.

    Attributes:
        network: the network that will be kept.
        auxiliary: the head, or None.
        hints: one convolution for each of the two layers, or None.
    """

    def __init__(
        self,
        network: CameraNetwork,
        num_classes: int,
        *,
        auxiliary: bool,
        features: tuple[int, ...] = (),
    ) -> None:
        """Put heads with fresh weights beside the network, if asked to.

        Raises:
            ConfigError: a head is asked for beside a network without stages.
        """
        super().__init__()
        self.network = network
        self.auxiliary: AuxiliaryHead | None = None
        self.hints: nn.ModuleList | None = None
        body = network.body
        for setting, is_asked_for in (("aux_weight", auxiliary), ("feature_weight", bool(features))):
            if is_asked_for and not isinstance(body, ResidualSegmenter):
                raise ConfigError(
                    f"{setting}: expected a residual network, got {type(body).__name__}, which has no stage "
                    f"for a second head; give --{setting.replace('_', '-')} 0"
                )
        if isinstance(body, ResidualSegmenter):
            config = body.config
            if auxiliary:
                self.auxiliary = AuxiliaryHead(config.widths[2], config.decoder_width, num_classes)
            if features:
                fine, coarse = features
                self.hints = nn.ModuleList(
                    [nn.Conv2d(config.widths[1], fine, 1), nn.Conv2d(config.decoder_width, coarse, 1)]
                )

    def forward(self, images_bgr: Tensor) -> Supervised:
        """uint8 (N, H, W, 3) → the network's logits and what the heads say, all float32."""
        body = self.network.body
        if (self.auxiliary is None and self.hints is None) or not isinstance(body, ResidualSegmenter):
            return Supervised(self.network(images_bgr))
        x = body.features(self.network.normalized(images_bgr))
        deepest = body.deepest(x)
        logits = body.decode_from(deepest, x).float()
        auxiliary = () if self.auxiliary is None else (self.auxiliary(x.x_16).float(),)
        if self.hints is None:
            return Supervised(logits, auxiliary)
        fine, coarse = self.hints
        return Supervised(logits, auxiliary, (fine(x.x_8).float(), coarse(deepest).float()))

    def heads_state(self) -> dict[str, Tensor]:
        """Return the heads' state dict, empty without heads."""
        return {name: value for name, value in self.state_dict().items() if not name.startswith("network.")}

    def load_heads_state(self, state: dict[str, Tensor]) -> None:
        """Take over what `heads_state` returned of an equal one."""
        self.load_state_dict({**self.state_dict(), **state})
