"""The segmentation networks: the residual family, and the two plain ones that it is measured against.

`sizes` says what there is, `build` makes a network of it; what is imported from here loads no torch.
"""

from training.network.sizes import SIZES, NetworkConfig, NetworkSize, ResidualConfig

__all__ = ["SIZES", "NetworkConfig", "NetworkSize", "ResidualConfig"]
