"""From a kind and a config to a network that takes a camera's pixels, as the exported graph will.

>>> network = build_network("residual", SIZES["residual-n"].config, num_classes=11)
>>> sum(parameter.numel() for parameter in network.parameters()) < 2_000_000
True
"""

from __future__ import annotations

import copy

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

__all__ = ["SIZES", "CameraNetwork", "SupervisedNetwork", "build_network", "network_config"]

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


class SupervisedNetwork(nn.Module):
    """What a training step computes: a network and, beside it, an auxiliary head at stride 16.

    The head's loss gives the encoder's deep stages a short way to the labels (Zhao et al., "Pyramid Scene
    Parsing Network", CVPR 2017, sec. 3.3). The network itself does not know the head, so it is in no
    averaged weights and in no exported file.

    Attributes:
        network: the network that will be kept.
        auxiliary: the head, or None.
    """

    def __init__(self, network: CameraNetwork, num_classes: int, *, auxiliary: bool) -> None:
        """Put a head with fresh weights beside the network, if asked to.

        Raises:
            ConfigError: a head is asked for beside a network without stages.
        """
        super().__init__()
        self.network = network
        self.auxiliary: AuxiliaryHead | None = None
        if auxiliary:
            body = network.body
            if not isinstance(body, ResidualSegmenter):
                raise ConfigError(
                    f"aux_weight: expected a residual network, got {type(body).__name__}, which has no stage "
                    "for a second head; give --aux-weight 0"
                )
            self.auxiliary = AuxiliaryHead(body.config.widths[2], body.config.decoder_width, num_classes)

    def forward(self, images_bgr: Tensor) -> tuple[Tensor, ...]:
        """uint8 (N, H, W, 3) → the network's float32 logits and, if there is a head, its own."""
        if self.auxiliary is None:
            return (self.network(images_bgr),)
        body = self.network.body
        assert isinstance(body, ResidualSegmenter)  # seen to in __init__
        features = body.features(self.network.normalized(images_bgr))
        return body.decode(features).float(), self.auxiliary(features.x_16).float()

    def auxiliary_state(self) -> dict[str, Tensor]:
        """Return the head's state dict, empty without a head."""
        return {} if self.auxiliary is None else self.auxiliary.state_dict()

    def load_auxiliary_state(self, state: dict[str, Tensor]) -> None:
        """Take over what `auxiliary_state` returned of an equal one."""
        if self.auxiliary is not None:
            self.auxiliary.load_state_dict(state)
