"""Every error that edgeseg raises for a reason it knows.

    EdgesegError
    ├── ConfigError       a setting that cannot work
    ├── ContractError     a model file whose contract is missing, damaged or does not fit its graph
    ├── ModelLoadError    a model file that is missing or that onnxruntime cannot open
    ├── ProviderError     an execution provider that is unknown or was not granted
    ├── FrameError        an image that is not uint8 (H, W, 3)
    ├── SourceError       a camera, stream, video or image list that cannot be read
    ├── OutputError       a window, a file or a page that cannot be opened or written
    ├── CheckpointError   a training checkpoint that is missing, damaged or unsafe
    ├── DatasetError      a data set whose images and labels do not fit together
    ├── TrainingError     a training that cannot start, go on or finish
    └── ParityError       an exported file that does not reproduce its network

Each message is one line: what was expected, what was found, and what to do. Commands print it on
stderr and exit with code 1 (see `runtime.base.command`).
"""

__all__ = [
    "CheckpointError",
    "ConfigError",
    "ContractError",
    "DatasetError",
    "EdgesegError",
    "FrameError",
    "ModelLoadError",
    "OutputError",
    "ParityError",
    "ProviderError",
    "SourceError",
    "TrainingError",
]


class EdgesegError(Exception):
    """Base of all known errors; catch this to catch every one of them."""


class ConfigError(EdgesegError):
    """A setting that cannot work."""


class ContractError(EdgesegError):
    """A model file whose contract is missing, damaged or does not fit its graph."""


class ModelLoadError(EdgesegError):
    """A model file that is missing or that onnxruntime cannot open."""


class ProviderError(EdgesegError):
    """An execution provider that is unknown or was not granted."""


class FrameError(EdgesegError):
    """An image that is not uint8 (H, W, 3)."""


class SourceError(EdgesegError):
    """A camera, stream, video or image list that cannot be read."""


class OutputError(EdgesegError):
    """A window, a file or a page that cannot be opened or written."""


class CheckpointError(EdgesegError):
    """A training checkpoint that is missing, damaged or unsafe."""


class DatasetError(EdgesegError):
    """A data set whose images and labels do not fit together."""


class TrainingError(EdgesegError):
    """A training that cannot start, go on or finish."""


class ParityError(EdgesegError):
    """An exported file that does not reproduce its network."""
