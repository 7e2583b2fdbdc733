"""Runs edgeseg networks on video with OpenCV and onnxruntime alone.

from runtime import Segmenter

with Segmenter("seg.onnx") as segment:
    result = segment(frame_bgr)  # uint8 (H, W, 3) of any size
    result.mask                  # uint8 (H, W) class indices at the frame's size

With a calibrated camera the mask becomes metres on the ground, see `CameraModel` and `BirdsEye`.

The camera's loop is here too: `for step in run(source, segment)`, with a source of `open_source`, and
`Outputs`, which feeds these steps to a window, files or a page.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runtime.contract import ModelContract
    from runtime.deadline import DeadlineSegmenter
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
    from runtime.ground import BirdsEye, CameraModel
    from runtime.loop import Step, run
    from runtime.outputs import JsonLines, Output, Outputs, Recording, Stream
    from runtime.segmenter import Segmenter, bundled_model
    from runtime.sources import Source, open_source

__all__ = [
    "BirdsEye",
    "CameraModel",
    "ConfigError",
    "ContractError",
    "DeadlineSegmenter",
    "EdgesegError",
    "Frame",
    "FrameError",
    "JsonLines",
    "ModelContract",
    "ModelLoadError",
    "Output",
    "OutputError",
    "Outputs",
    "ProviderError",
    "Recording",
    "Segmentation",
    "Segmenter",
    "Source",
    "SourceError",
    "Step",
    "Stream",
    "bundled_model",
    "open_source",
    "run",
]

# Imported when first used: `edgeseg --help` needs neither OpenCV nor onnxruntime, and without them says so.
_HOMES = {
    "BirdsEye": "runtime.ground",
    "CameraModel": "runtime.ground",
    "DeadlineSegmenter": "runtime.deadline",
    "Frame": "runtime.frame",
    "JsonLines": "runtime.outputs",
    "ModelContract": "runtime.contract",
    "Output": "runtime.outputs",
    "Outputs": "runtime.outputs",
    "Recording": "runtime.outputs",
    "Segmentation": "runtime.frame",
    "Segmenter": "runtime.segmenter",
    "Source": "runtime.sources",
    "Step": "runtime.loop",
    "Stream": "runtime.outputs",
    "bundled_model": "runtime.segmenter",
    "open_source": "runtime.sources",
    "run": "runtime.loop",
}


def __getattr__(name: str) -> object:
    """Return a public name, which is looked up once."""
    if name not in __all__:
        raise AttributeError(f"module 'runtime' has no attribute {name!r}")
    value = getattr(import_module(_HOMES.get(name, "runtime.errors")), name)
    globals()[name] = value
    return value
