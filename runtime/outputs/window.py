"""The overlay in a window on the screen."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

import cv2
import numpy as np

from runtime.errors import OutputError
from runtime.frame import Image
from runtime.ground.drawing import GroundSight
from runtime.loop import Step
from runtime.outputs.output import Output, OutputState, Stream

_QUIT_KEYS = (ord("q"), 27)
_PROBE_WAIT_S = 30.0


class Window(Output):
    """A window on the screen, left with q, Esc or its close button, which ends the loop.

    Where the stream knows its camera, the ground as seen from above stands beside the picture.
    """

    kind = "window"

    name = "window"

    def __init__(self, title: str = "edgeseg") -> None:
        """Choose the title."""
        self._title = title
        self._is_open = False
        self._ground: GroundSight | None = None
        self._colors: Callable[[Image], Image] = np.array

    def open(self, stream: Stream) -> None:
        """Make sure that there is a screen; the window opens with the first frame.

        Raises:
            OutputError: no screen.
        """
        _check_display()
        self._ground, self._colors = stream.ground, stream.overlay.colors

    def take(self, step: Step) -> None:
        """Show a frame and answer the keyboard.

        Raises:
            OutputError: an OpenCV without windows.
        """
        shown_bgr = step.overlay_bgr
        if self._ground is not None:
            from_above = self._ground.from_above(step.segmentation.mask, self._colors)
            shown_bgr = np.asarray(cv2.hconcat([shown_bgr, from_above]), np.uint8)
        if not self._is_open:
            self._open(shown_bgr)
        cv2.imshow(self._title, shown_bgr)
        key = cv2.waitKey(1) & 0xFF
        if key in _QUIT_KEYS or not self._is_visible():
            self.state = OutputState.DONE

    def close(self) -> None:
        """Close the window."""
        if self._is_open:
            cv2.destroyAllWindows()
            self._is_open = False

    def _open(self, image_bgr: Image) -> None:
        """Open the window at the size of the frames."""
        try:
            cv2.namedWindow(self._title, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO)
        except cv2.error:
            raise OutputError(
                "window: this OpenCV was built without windows; install opencv-python instead of "
                "opencv-python-headless, or run without a window (--headless)"
            ) from None
        cv2.resizeWindow(self._title, image_bgr.shape[1], image_bgr.shape[0])
        self._is_open = True

    def _is_visible(self) -> bool:
        """Tell whether the user left the window open."""
        try:
            return cv2.getWindowProperty(self._title, cv2.WND_PROP_VISIBLE) > 0
        except cv2.error:  # OpenCV 4 with Qt knows no properties once the last window is closed
            return False


def _check_display() -> None:
    """Make sure that a window can open, since without a screen OpenCV's Qt ends the whole process."""
    advice = "run without a window (--headless), and record a video (--save out.mp4) to see the result"
    if not sys.platform.startswith("linux"):
        return
    if not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise OutputError(
            f"window: expected a display, but neither DISPLAY nor WAYLAND_DISPLAY is set; {advice}"
        )
    # A set variable proves little (a screen of another user, a closed ssh session), so another process tries.
    probe = [sys.executable, "-c", "import cv2; cv2.namedWindow('edgeseg'); cv2.destroyAllWindows()"]
    try:
        failed = (
            subprocess.run(probe, capture_output=True, timeout=_PROBE_WAIT_S, check=False).returncode != 0
        )
    except subprocess.TimeoutExpired:
        failed = True
    if failed:
        raise OutputError(
            f"window: expected a display on which OpenCV can open a window, found none; {advice}"
        )
