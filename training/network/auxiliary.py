"""An auxiliary head: a second classifier half-way up the encoder that only training has."""

from __future__ import annotations

from torch import Tensor, nn

from runtime.errors import ConfigError
from training.network.blocks import ConvNormAct
from training.network.camera import CameraNetwork
from training.network.residual import ResidualSegmenter


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
