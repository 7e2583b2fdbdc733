"""What is made of each step of the loop: files for people and programs.

An output is called with every `runtime.loop.Step`; `feed` does so. Any function that takes a step is one.
"""

from runtime.outputs.jsonl import JsonLines, MaskFormat
from runtime.outputs.output import Output, feed
from runtime.outputs.painter import Painter
from runtime.outputs.pictures import MaskFolder, SnapshotFolder
from runtime.outputs.recording import Recording, View

__all__ = [
    "JsonLines",
    "MaskFolder",
    "MaskFormat",
    "Output",
    "Painter",
    "Recording",
    "SnapshotFolder",
    "View",
    "feed",
]
