"""The segmentation networks and the registry that rebuilds them from a checkpoint.

>>> network = build_network("residual", SIZES["residual-n"].config, num_classes=11)
>>> sum(parameter.numel() for parameter in network.parameters()) < 2_000_000
True
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from runtime.base.codec import DecodeError, from_plain
from runtime.errors import CheckpointError, ConfigError
from training.network.article import ArticleKeras, ArticleKerasConfig, ArticlePytorch, ArticlePytorchConfig
from training.network.auxiliary import SupervisedNetwork
from training.network.camera import CameraNetwork
from training.network.residual import ResidualConfig, ResidualSegmenter

__all__ = [
    "SIZES",
    "CameraNetwork",
    "NetworkConfig",
    "NetworkSize",
    "ResidualConfig",
    "SupervisedNetwork",
    "build_network",
    "network_config",
]

NetworkConfig = ResidualConfig | ArticlePytorchConfig | ArticleKerasConfig

# Kind of network → what it is built from. A checkpoint names the kind and carries the config.
_KINDS: dict[str, tuple[type[NetworkConfig], type[nn.Module]]] = {
    "residual": (ResidualConfig, ResidualSegmenter),
    "article_pytorch": (ArticlePytorchConfig, ArticlePytorch),
    "article_keras": (ArticleKerasConfig, ArticleKeras),
}


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
