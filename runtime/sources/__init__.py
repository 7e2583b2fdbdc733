"""Where frames come from: cameras and streams, video files, image files, a synthetic drive.

>>> with open_source("synthetic") as source:
...     frame = next(iter(source))
>>> frame.image_bgr.shape, frame.frame_id
((360, 480, 3), 0)
"""

from runtime.base.shown import without_secrets
from runtime.sources.fake import Drop, FakeSource, Late
from runtime.sources.live import LiveSource
from runtime.sources.opening import open_recorded, open_source
from runtime.sources.policy import Backoff, Clock, LivePolicy
from runtime.sources.recorded import ImageFiles, PacedSource, RecordedSource
from runtime.sources.source import TRANSITIONS, Capture, Source, SourceState, SourceStatus
from runtime.sources.video import SyntheticDrive, VideoAddress, VideoFile

__all__ = [
    "TRANSITIONS",
    "Backoff",
    "Capture",
    "Clock",
    "Drop",
    "FakeSource",
    "ImageFiles",
    "Late",
    "LivePolicy",
    "LiveSource",
    "PacedSource",
    "RecordedSource",
    "Source",
    "SourceState",
    "SourceStatus",
    "SyntheticDrive",
    "VideoAddress",
    "VideoFile",
    "open_recorded",
    "open_source",
    "without_secrets",
]
