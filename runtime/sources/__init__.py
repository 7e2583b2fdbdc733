"""Where frames come from: cameras and streams, video files, image files, a synthetic drive.

>>> with open_source("synthetic") as source:
...     frame = next(iter(source))
>>> frame.image_bgr.shape, frame.frame_id
((360, 480, 3), 0)
"""

from runtime.sources.live import LiveSource
from runtime.sources.opening import open_source
from runtime.sources.recorded import ImageFiles, SyntheticDrive, VideoFile
from runtime.sources.source import Capture, Source

__all__ = ["Capture", "ImageFiles", "LiveSource", "Source", "SyntheticDrive", "VideoFile", "open_source"]
