"""Steadies masks along time: logits are averaged with those before them, moved along with the picture.

Dense optical flow (Kroeger et al. 2016, "Fast Optical Flow using Dense Inverse Search", as in OpenCV) at half
the network's size says where each logit was a frame ago. Those logits count for the most of a pixel, less
where the picture that was moved along differs from the picture that is there (what moved on its own, or was
hidden, leaves no ghost), and nothing where the network is sure by itself.
"""

from __future__ import annotations

import threading

import cv2
import numpy as np
from numpy.typing import NDArray

from runtime.frame import Image

KEEP = 0.9  # the most that what came before counts
SAME_GREY = 10.0  # grey levels by which the moved picture may differ
SURE = 7.0  # log-odds between the first and the second class from which on the past says nothing
_GUIDE_PX = 240  # width of the pictures that flow is computed on
_LEAST_PX = 16  # which flow needs along each side

_Floats = NDArray[np.float32]


class Steadiness:
    """Steadies the logits of one camera's frames, given in order; safe to call from several threads."""

    def __init__(self, temperature: float = 1.0) -> None:
        """Begin anew; `temperature` divides logits before their odds are true, see `GraphOutput`."""
        self._sure = np.float32(SURE * temperature)
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
        self._lock = threading.Lock()  # guards what follows
        self._grey: Image | None = None
        self._planes: _Floats = np.empty((0, 0, 0), np.float32)

    def __call__(self, image_bgr: Image, logits: _Floats) -> _Floats:
        """Return the steadied logits, which the next call takes for what came before.

        Args:
            image_bgr: uint8 (H, W, 3), what the network saw.
            logits: float32 (1, C, h, w) of it, left as they are.

        Returns:
            float32 (1, C, h, w).
        """
        planes = logits[0]  # (C, h, w)
        with np.errstate(all="ignore"):
            if not np.isfinite(planes.sum()):  # refused by who makes a mask of them; the next begin anew
                self._grey = None
                return logits
        height, width = image_bgr.shape[:2]
        coarser = max(1, round(width / _GUIDE_PX))
        size_wh = max(_LEAST_PX, width // coarser), max(_LEAST_PX, height // coarser)
        grey = np.asarray(
            cv2.cvtColor(cv2.resize(image_bgr, size_wh, interpolation=cv2.INTER_AREA), cv2.COLOR_BGR2GRAY),
            np.uint8,
        )
        with self._lock:
            goes_on = (
                self._grey is not None
                and self._grey.shape == grey.shape
                and self._planes.shape == planes.shape
            )
            if goes_on:
                planes = self._steadied(grey, planes)
            self._grey, self._planes = grey, planes
        return np.asarray(planes[None], np.float32)

    def _steadied(self, grey: Image, planes: _Floats) -> _Floats:
        """Return planes (C, h, w) with what came before in them."""
        assert self._grey is not None
        flow = np.zeros((*grey.shape, 2), np.float32)  # from here to where it was
        self._flow.calc(grey, self._grey, flow)
        columns, rows = _places(flow, grey.shape)
        moved = cv2.remap(self._grey, columns, rows, cv2.INTER_LINEAR)
        differs = cv2.blur(cv2.absdiff(moved, grey), (3, 3))
        height, width = planes.shape[1:]
        coarse = np.asarray(cv2.resize(flow, (width, height), interpolation=cv2.INTER_AREA), np.float32)
        coarse *= np.array([width / grey.shape[1], height / grey.shape[0]], np.float32)
        columns, rows = _places(coarse, (height, width))
        share = cv2.resize(differs, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32)
        share = np.exp(-((share / np.float32(SAME_GREY)) ** 2)) * np.float32(KEEP)
        share *= (columns > -0.5) & (columns < width - 0.5) & (rows > -0.5) & (rows < height - 0.5)
        share *= np.clip(1 - _lead(planes) / self._sure, 0, 1)
        before = np.empty_like(planes)
        for plane, was in zip(before, self._planes, strict=True):
            cv2.remap(was, columns, rows, cv2.INTER_LINEAR, dst=plane, borderMode=cv2.BORDER_REPLICATE)
        before -= planes
        before *= share
        before += planes
        return before


def _lead(planes: _Floats) -> _Floats:
    """Return by how much the highest of planes lies above the second, in an eighth of np.partition's time."""
    first, second = planes[0].copy(), np.full_like(planes[0], -np.inf)
    for plane in planes[1:]:
        cv2.max(second, cv2.min(first, plane), dst=second)
        cv2.max(first, plane, dst=first)
    return np.asarray(first - second, np.float32)


def _places(flow: _Floats, size_hw: tuple[int, ...]) -> tuple[_Floats, _Floats]:
    """Return columns and rows that pixels were at, from how they moved."""
    rows, columns = np.ogrid[: size_hw[0], : size_hw[1]]
    return flow[..., 0] + columns.astype(np.float32), flow[..., 1] + rows.astype(np.float32)
