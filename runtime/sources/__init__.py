"""Where frames come from: cameras and streams, video files, image files, a synthetic drive.

>>> with open_source("synthetic") as source:
...     frame = next(iter(source))
>>> frame.image_bgr.shape, frame.frame_id
((360, 480, 3), 0)
"""

from runtime.base.shown import without_secrets
from runtime.sources.backoff import Backoff
from runtime.sources.clock import Clock
from runtime.sources.fake import Drop, FakeSource, Late
from runtime.sources.live import LiveSource
from runtime.sources.opening import open_source
from runtime.sources.paced import PacedSource
from runtime.sources.policy import LivePolicy
from runtime.sources.recorded import ImageFiles, RecordedSource, SyntheticDrive, VideoFile
from runtime.sources.source import Capture, Source
from runtime.sources.state import TRANSITIONS, SourceState, SourceStatus

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
    "VideoFile",
    "open_source",
    "without_secrets",
]
