"""What is made of each step: window, video, pictures, JSON lines and page, all fed by `Outputs`."""

from runtime.outputs.jsonl import JsonLines, MaskFormat
from runtime.outputs.output import Output, Outputs, OutputState, Stream
from runtime.outputs.page import Page
from runtime.outputs.pictures import MaskFolder, SnapshotFolder
from runtime.outputs.video import Recording, View
from runtime.outputs.window import Window

__all__ = [
    "JsonLines",
    "MaskFolder",
    "MaskFormat",
    "Output",
    "OutputState",
    "Outputs",
    "Page",
    "Recording",
    "SnapshotFolder",
    "Stream",
    "View",
    "Window",
]
