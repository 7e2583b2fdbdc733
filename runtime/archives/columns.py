"""What is kept of each segmented frame: the columns of a shard, and its one picture."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace
from typing import Any

import cv2
import numpy as np

from runtime.archives.shards import Shard, ShardHead
from runtime.contract import ClassMap
from runtime.frame import Frame, Segmentation
from runtime.ground.birds_eye import BirdsEye
from runtime.ground.options import GroundOptions
from runtime.masks.areas import label_areas
from runtime.masks.formats import encode_palette_png
from runtime.masks.overlay import Overlay
from runtime.masks.selection import layout
from runtime.segmenter import Segmenter
from runtime.sources.recorded import RecordedSource

_PICTURE_WIDTH, _PICTURE_QUALITY = 240, 80


@dataclass
class ShardColumns:
    """Segments the frames of a chunk, and collects the columns of its shard.

    Attributes:
        segment: the network.
        ground: makes occupancy grids; None for none.
        masks: whether masks are kept.
        mask_scale: see `ChunkOptions`.
        count: frames so far.
        network_s: that they took inside of the network.
    """

    segment: Segmenter
    ground: Ground | None
    masks: bool
    mask_scale: float
    count: int = 0
    network_s: float = 0.0
    _columns: dict[str, list[Any]] = field(default_factory=lambda: defaultdict(list))
    _areas: list[Any] = field(default_factory=list)
    _picture: bytes = b""

    def add(self, frame: Frame, source: RecordedSource) -> None:
        """Segment a frame of a source."""
        fitted = self.segment.fit(frame)
        height, width = (max(1, round(side * self.mask_scale)) for side in fitted.frame_hw)
        result = self.segment.finish(self.segment.infer(replace(fitted, frame_hw=(height, width))))
        classes = self.segment.contract.classes
        mask, columns = result.mask, self._columns
        if not self.count:
            self._picture = _picture(frame, mask, Overlay(classes))
        self.count += 1
        self.network_s += result.latency_ms["network"] / 1e3
        columns["frame"].append(frame.frame_id)
        columns["pts_ns"].append(-1 if frame.pts_ns is None else frame.pts_ns)
        columns["stamp_ns"].append(-1 if frame.stamp_ns is None else frame.stamp_ns)
        columns["height"].append(mask.shape[0])
        columns["width"].append(mask.shape[1])
        sure = np.nan if result.confidence is None else cv2.mean(result.confidence)[0] / 255
        columns["confidence"].append(sure)
        self._areas.append(label_areas(mask)[: len(classes)])
        columns["layout"].append(layout(mask, len(classes)).tobytes())
        if self.masks:
            columns["mask"].append(encode_palette_png(mask, classes))
        if self.ground is not None:
            columns["occupancy"].append(self.ground.occupancy(result, classes, source))

    def shard(self, head: ShardHead) -> Shard:
        """Return what was collected."""
        columns: dict[str, Any] = {
            name: np.array(self._columns[name], kind)
            for name, kind in (
                ("frame", np.int64),
                ("pts_ns", np.int64),
                ("stamp_ns", np.int64),
                ("height", np.int32),
                ("width", np.int32),
                ("confidence", np.float32),
            )
        }
        areas = np.array(self._areas, np.int64).reshape(-1, len(head.classes))  # (frames, C)
        columns |= {f"area_{name}": areas[:, index].copy() for index, name in enumerate(head.classes)}
        columns["layout"] = self._columns["layout"]
        columns |= {name: self._columns[name] for name in ("mask", "occupancy") if name in self._columns}
        return Shard(head, columns, self._picture)


class Ground:
    """Makes occupancy grids, and keeps what a camera sees between frames."""

    def __init__(self, options: GroundOptions) -> None:
        """Note the options; what a camera sees is worked out at its first frame."""
        self._options = options
        self._source: RecordedSource | None = None
        self._view: BirdsEye | None = None
        self._free: frozenset[int] = frozenset()

    def occupancy(self, seen: Segmentation, classes: ClassMap, source: RecordedSource) -> bytes:
        """Return the grid of a mask as a PNG, grey: 0 free, 100 occupied, 255 unknown.

        Raises:
            ConfigError: no camera, or classes that the network does not know.
        """
        height, width = seen.mask.shape
        camera = None if self._view is None else self._view.camera
        is_other = self._options.camera is None and self._source is not source
        if is_other or camera is None or (camera.height, camera.width) != (height, width):
            self._source = source
            self._free = self._options.free_indices(classes)
            camera = self._options.camera_over(source).scaled_to(width, height)
            self._view = self._options.grid.view(camera)
        assert self._view is not None
        grid = self._view.occupancy(seen.mask, self._free, seen.confidence)
        return cv2.imencode(".png", grid.view(np.uint8))[1].tobytes()


def _picture(frame: Frame, mask: Any, overlay: Overlay) -> bytes:
    """Return a small JPEG of a frame with its mask."""
    height, width = frame.image_bgr.shape[:2]
    scale = min(1.0, _PICTURE_WIDTH / width)
    size_wh = max(1, round(width * scale)), max(1, round(height * scale))
    image = np.asarray(cv2.resize(frame.image_bgr, size_wh, interpolation=cv2.INTER_AREA), np.uint8)
    small = np.asarray(cv2.resize(mask, size_wh, interpolation=cv2.INTER_NEAREST), np.uint8)
    _, jpeg = cv2.imencode(".jpg", overlay.blend(image, small), [cv2.IMWRITE_JPEG_QUALITY, _PICTURE_QUALITY])
    return jpeg.tobytes()
