"""Runs edgeseg networks on video with OpenCV and onnxruntime alone.

from runtime import Segmenter

with Segmenter("seg.onnx") as segment:
    result = segment(frame_bgr)  # uint8 (H, W, 3) of any size
    result.mask                  # uint8 (H, W) class indices at the frame's size
"""

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
