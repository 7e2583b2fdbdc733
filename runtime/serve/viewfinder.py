"""The freshest step and pictures of it, drawn only when somebody looks."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from dataclasses import dataclass

import cv2
import numpy as np

from runtime.contract import ClassMap
from runtime.errors import ConfigError
from runtime.frame import Image
from runtime.ground.drawing import GroundSight
from runtime.loop import Step
from runtime.masks.formats import encode_palette_png
from runtime.masks.overlay import Overlay

PAGE_VIEWS = ("overlay", "mask", "raw")
_JPEG_QUALITY = 80
_ALPHA_STEPS = 20  # so that viewers with nearly the same opacity share a picture
_MOST_DRAWN = 8  # looks of one step that are kept


@dataclass(frozen=True)
class Look:
    """What a viewer wants to see.

    Attributes:
        view: overlay, mask or raw.
        alpha: share of the class colour in the overlay, 0 to 1.
        width: the widest picture in pixels; None for the frame's own size.
        hide: indices of classes that are not drawn: their pixels show the frame, in the mask black.
    """

    view: str = "overlay"
    alpha: float = 0.5
    width: int | None = None
    hide: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        """Check and round."""
        if self.view not in PAGE_VIEWS or not 0 <= self.alpha <= 1 or not 16 <= (self.width or 16) <= 8192:
            raise ConfigError(
                f"expected a view among {', '.join(PAGE_VIEWS)}, an alpha from 0 to 1 and a width from 16 to "
                f"8192, got {self.view!r}, {self.alpha} and {self.width}"
            )
        if any(not 0 <= index <= 255 for index in self.hide):
            raise ConfigError(f"hide: expected class numbers from 0 to 255, got {sorted(self.hide)}")
        object.__setattr__(self, "alpha", round(self.alpha * _ALPHA_STEPS) / _ALPHA_STEPS)


@dataclass(frozen=True)
class Picture:
    """A picture as a file.

    Attributes:
        data: the file.
        frame_id: of the frame that it shows.
        captured_ns: when that was captured, on the machine's monotonic clock.
    """

    data: bytes
    frame_id: int
    captured_ns: int

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        """Which frame it is and how old now, as an answer's headers."""
        age_ms = max(0.0, (time.monotonic_ns() - self.captured_ns) / 1e6)
        return ("X-Frame-Id", str(self.frame_id)), ("X-Age-Ms", f"{age_ms:.1f}")


class Viewfinder:
    """One slot for the freshest step. The loop only fills it; viewers wait, draw and encode on their own.

    Viewers draw one after the other and share what they drew of a step, so all of them together never
    take more than one core, and a viewer that does not read holds up nobody.
    """

    def __init__(self, classes: ClassMap, overlay: Overlay, ground: GroundSight | None = None) -> None:
        """Start without a step; `ground` is what a camera over the ground sees, None without one."""
        self._classes = classes
        self._overlay = overlay
        self._ground = ground
        self._news = threading.Condition()  # guards the three that follow
        self._step: Step | None = None
        self._number = 0
        self._is_closed = False
        self._drawing = threading.Lock()  # guards the two that follow
        self._drawn: OrderedDict[Look | int | None, bytes] = OrderedDict()
        self._drawn_number = 0

    def put(self, step: Step) -> None:
        """Replace the step."""
        with self._news:
            self._step = step
            self._number += 1
            self._news.notify_all()

    def close(self) -> None:
        """Wake all viewers for the last time."""
        with self._news:
            self._is_closed = True
            self._news.notify_all()

    def wait(self, seen: int, timeout_s: float) -> int | None:
        """Wait for a step newer than number `seen`; return its number.

        Returns:
            `seen` itself after `timeout_s`; None once closed.
        """
        with self._news:
            self._news.wait_for(lambda: self._number != seen or self._is_closed, timeout_s)
            return None if self._is_closed else self._number

    def jpeg(self, look: Look) -> Picture | None:
        """Return the freshest picture as a JPEG file; None before the first step."""
        return self._encoded(look)

    @property
    def age_ms(self) -> float:
        """How long ago the freshest picture was captured; 0 before the first step."""
        with self._news:
            step = self._step
        return 0.0 if step is None else (time.monotonic_ns() - step.frame.captured_ns) / 1e6

    def old_jpeg(self, look: Look) -> Picture | None:
        """Return the freshest picture as one that nobody takes for current: dark, grey, and with its age."""
        with self._drawing:
            with self._news:
                step = self._step
            if step is None:
                return None
            grey = cv2.cvtColor(self._picture(step, look), cv2.COLOR_BGR2GRAY)
            old_bgr = np.asarray(
                cv2.cvtColor(cv2.convertScaleAbs(grey, alpha=0.5), cv2.COLOR_GRAY2BGR), np.uint8
            )
            scale = max(0.4, old_bgr.shape[1] / 640)
            place = (round(12 * scale), round(28 * scale))
            text = f"{self.age_ms / 1e3:.1f} s old"
            cv2.putText(old_bgr, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.7 * scale, (255, 255, 255), 2)
            return Picture(_jpeg(old_bgr), step.frame.frame_id, step.frame.captured_ns)

    def mask_png(self) -> Picture | None:
        """Return the freshest mask as a palette PNG (`runtime.masks.formats`); None before the first."""
        return self._encoded(None)

    @property
    def sees_ground(self) -> bool:
        """Whether there is a camera over the ground, and so a bird's eye view."""
        return self._ground is not None

    def ground_png(self, height: int) -> Picture | None:
        """Return the ground from above, so many pixels high, as a PNG; None before the first step.

        Raises:
            ConfigError: no camera over the ground, or a height outside 64 to 2048.
        """
        if self._ground is None:
            raise ConfigError("ground: expected a run with a camera over the ground (--camera), got none")
        if not 64 <= height <= 2048:
            raise ConfigError(f"height: expected 64 to 2048 pixels, got {height}")
        return self._encoded(height)

    def _encoded(self, look: Look | int | None) -> Picture | None:
        """Encode what is asked for: a look, the ground at a height, or the mask."""
        with self._drawing:
            with self._news:
                step, number = self._step, self._number
            if step is None:
                return None
            if number != self._drawn_number:
                self._drawn_number = number
                self._drawn.clear()
            if look not in self._drawn:
                self._drawn[look] = self._file(step, look)
            self._drawn.move_to_end(look)
            while len(self._drawn) > _MOST_DRAWN:
                self._drawn.popitem(last=False)
            return Picture(self._drawn[look], step.frame.frame_id, step.frame.captured_ns)

    def _file(self, step: Step, look: Look | int | None) -> bytes:
        mask = step.segmentation.mask
        if look is None:
            return encode_palette_png(mask, self._classes)
        if isinstance(look, Look):
            return _jpeg(self._picture(step, look))
        assert self._ground is not None
        _, data = cv2.imencode(".png", self._ground.from_above(mask, self._overlay.colors, look))
        return data.tobytes()

    def _picture(self, step: Step, look: Look) -> Image:
        """Draw; at the smaller size, where one is asked for, since that is cheaper."""
        image_bgr, mask = step.frame.image_bgr, step.segmentation.mask
        height, width = mask.shape
        if look.width is not None and look.width < width:
            size_wh = (look.width, max(1, round(height * look.width / width)))
            image_bgr = np.asarray(cv2.resize(image_bgr, size_wh, interpolation=cv2.INTER_AREA), np.uint8)
            mask = np.asarray(cv2.resize(mask, size_wh, interpolation=cv2.INTER_NEAREST), np.uint8)
        if look.view == "raw":
            return image_bgr
        is_mask = look.view == "mask"
        drawn = self._overlay.colors(mask) if is_mask else self._overlay.blend(image_bgr, mask, look.alpha)
        if look.hide:
            is_hidden = np.zeros(256, np.uint8)
            is_hidden[list(look.hide)] = 1
            behind = np.zeros_like(drawn) if is_mask else image_bgr
            cv2.copyTo(behind, cv2.LUT(mask, is_hidden), drawn)
        if self._ground is not None and self._ground.draws_grid and not is_mask:
            self._ground.stamp(drawn)
        return drawn


def _jpeg(image_bgr: Image) -> bytes:
    _, data = cv2.imencode(".jpg", image_bgr, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    return data.tobytes()
