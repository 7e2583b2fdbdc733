"""Runs edgeseg networks on video with OpenCV and onnxruntime alone.

from runtime import Segmenter

with Segmenter("seg.onnx") as segment:
    result = segment(frame_bgr)  # uint8 (H, W, 3) of any size
    result.mask                  # uint8 (H, W) class indices at the frame's size
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runtime.contract import ModelContract
    from runtime.errors import (
        ConfigError,
        ContractError,
        EdgesegError,
        FrameError,
        ModelLoadError,
        OutputError,
        ProviderError,
        SourceError,
    )
    from runtime.frame import Frame, Segmentation
    from runtime.segmenter import Segmenter, bundled_model

__all__ = [
    "ConfigError",
    "ContractError",
    "EdgesegError",
    "Frame",
    "FrameError",
    "ModelContract",
    "ModelLoadError",
    "OutputError",
    "ProviderError",
    "Segmentation",
    "Segmenter",
    "SourceError",
    "bundled_model",
]

# Imported when first used: `edgeseg --help` needs neither OpenCV nor onnxruntime, and without them says so.
_HOMES = {
    "Frame": "runtime.frame",
    "ModelContract": "runtime.contract",
    "Segmentation": "runtime.frame",
    "Segmenter": "runtime.segmenter",
    "bundled_model": "runtime.segmenter",
}


def __getattr__(name: str) -> object:
    """Return a public name, which is looked up once."""
    if name not in __all__:
        raise AttributeError(f"module 'runtime' has no attribute {name!r}")
    value = getattr(import_module(_HOMES.get(name, "runtime.errors")), name)
    globals()[name] = value
    return value
