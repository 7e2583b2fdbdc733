"""A video of the loop: overlay, mask colours, or picture and colours side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from runtime.contract import ClassMap
from runtime.errors import ConfigError
from runtime.frame import Image
from runtime.loop import Step
from runtime.outputs.output import Output
from runtime.outputs.painter import Painter
from runtime.sinks import VideoSink

View = Literal["overlay", "mask", "side-by-side"]
VIEWS: tuple[View, ...] = ("overlay", "mask", "side-by-side")


class Recording(Output):
    """Writes one view of every step into a video file, see `runtime.sinks.VideoSink`.

    Attributes:
        video: the file.
    """

    def __init__(
        self, path: str | Path, fps: float, classes: ClassMap, *, view: View = "overlay", live: bool = False
    ) -> None:
        """Choose the file; it is opened with the first step.

        Args:
            path: ends in .mp4, .mkv or .avi.
            fps: frames a second that the video plays at.
            classes: the colours.
            view: "overlay" takes what the loop drew, so the loop must have an overlay.
            live: the source keeps its own pace, so frames are repeated or left out to follow the clock.

        Raises:
            OutputError: see `VideoSink`.
            ConfigError: an unknown view.
        """
        if view not in VIEWS:
            raise ConfigError(f"{path}: expected a view among {', '.join(VIEWS)}, got {view!r}")
        self.video = VideoSink(path, fps)
        self._view = view
        self._live = live
        self._painter = Painter(classes)

    def __call__(self, step: Step) -> None:
        """Append a frame.

        Raises:
            OutputError: see `VideoSink.write`.
            ConfigError: the view is "overlay", but the loop draws none.
        """
        self.video.write(self._picture(step), step.frame.captured_ns if self._live else None)

    def close(self) -> None:
        """Finish the file, see `VideoSink.close`."""
        self.video.close()

    def _picture(self, step: Step) -> Image:
        mask = step.segmentation.mask
        if self._view == "mask":
            return self._painter.colors(mask)
        if self._view == "side-by-side":
            return self._painter.beside(step.frame.image_bgr, mask)
        if step.drawn_bgr is None:
            raise ConfigError("recording: expected steps with an overlay, got none; give run() an overlay")
        return step.drawn_bgr
