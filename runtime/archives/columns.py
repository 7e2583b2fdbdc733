"""What is kept of each segmented frame: the columns of a shard, and its one picture."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace
from typing import Any

import cv2
import numpy as np

from runtime.archives.shards import Shard, ShardHead
from runtime.contract import ClassMap
from runtime.frame import Frame, Image, Segmentation
from runtime.ground.birds_eye import BirdsEye
from runtime.ground.options import GroundOptions
from runtime.masks.areas import label_areas
from runtime.masks.confidence import mean_confidence
from runtime.masks.formats import encode_palette_png
from runtime.masks.overlay import Overlay
from runtime.masks.selection import layout
from runtime.network.resize import seen
from runtime.segmenter import Fitted, Inferred, Segmenter
from runtime.sources.recorded import RecordedSource

_PICTURE_WIDTH, _PICTURE_QUALITY = 240, 80
_TOGETHER_BYTES = 8 << 20  # of pictures at the network's size: 17 of 352x480, two of 1024x2048


@dataclass(frozen=True)
class _Waiting:
    """A frame at the network's size, what its row says of it, and the source, which may tell its camera."""

    fitted: Fitted
    numbers: dict[str, int]
    source: RecordedSource


@dataclass
class ShardColumns:
    """Segments the frames of a chunk, and collects the columns of its shard.

    Some frames go through each stage together: code and tables of a stage are in the processor's caches then,
    which the network empties.

    Attributes:
        segment: the network.
        ground: makes occupancy grids; None for none.
        masks: whether masks are kept.
        mask_scale: see `ChunkOptions`.
        count: frames so far, without those that wait.
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
    _waiting: list[_Waiting] = field(default_factory=list)
    _small: Image | None = None
    _picture: bytes = b""

    def add(self, frame: Frame, source: RecordedSource) -> None:
        """Take a frame of a source; it waits until there are enough of them, see `flush`."""
        fitted = self.segment.fit(frame)
        if self._small is None:
            self._small = _small(frame.image_bgr)
        numbers = {
            "frame": frame.frame_id,
            "pts_ns": -1 if frame.pts_ns is None else frame.pts_ns,
            "stamp_ns": -1 if frame.stamp_ns is None else frame.stamp_ns,
        }
        self._waiting.append(_Waiting(fitted, numbers, source))
        if len(self._waiting) * fitted.image_bgr.nbytes >= _TOGETHER_BYTES:
            self.flush()

    def flush(self) -> None:
        """Segment the frames that wait; those before one that fails are kept."""
        waiting, self._waiting = self._waiting, []
        inferred: list[Inferred] = []
        try:
            for one in waiting:
                height, width = (max(1, round(side * self.mask_scale)) for side in one.fitted.frame_hw)
                inferred.append(self.segment.infer(replace(one.fitted, frame_hw=(height, width))))
        finally:
            for one, found in zip(waiting, inferred, strict=False):
                self._keep(one, found)

    def _keep(self, waiting: _Waiting, inferred: Inferred) -> None:
        """Add a row."""
        result = self.segment.finish(inferred)
        classes = self.segment.contract.classes
        mask, columns = result.mask, self._columns
        if not self.count:
            assert self._small is not None
            self._picture = _picture(self._small, mask, Overlay(classes))
        self.count += 1
        self.network_s += result.latency_ms["network"] / 1e3
        for name, number in waiting.numbers.items():
            columns[name].append(number)
        columns["height"].append(mask.shape[0])
        columns["width"].append(mask.shape[1])
        columns["confidence"].append(self._sure(inferred))
        self._areas.append(label_areas(mask)[: len(classes)])
        columns["layout"].append(layout(mask, len(classes)).tobytes())
        if self.masks:
            columns["mask"].append(encode_palette_png(mask, classes))
        if self.ground is not None:
            columns["occupancy"].append(self.ground.occupancy(result, classes, waiting.source))

    def _sure(self, inferred: Inferred) -> float:
        """Return the mean confidence, in which what the network does not see of a frame counts as 0."""
        contract = self.segment.contract
        if not contract.output.has_logits:
            return np.nan
        height, width = inferred.fitted.frame_hw
        part = seen((height, width), self.segment.size_hw, contract.input.fit)
        share = part.size_hw[0] * part.size_hw[1] / (height * width)
        return share * mean_confidence(inferred.output, contract.output.temperature, part.window)

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


def _small(image_bgr: Image) -> Image:
    """Return a frame at the size of a shard's picture."""
    height, width = image_bgr.shape[:2]
    scale = min(1.0, _PICTURE_WIDTH / width)
    size_wh = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(cv2.resize(image_bgr, size_wh, interpolation=cv2.INTER_AREA), np.uint8)


def _picture(image_bgr: Image, mask: Image, overlay: Overlay) -> bytes:
    """Return a small JPEG of a frame with its mask."""
    size_wh = image_bgr.shape[1], image_bgr.shape[0]
    small = np.asarray(cv2.resize(mask, size_wh, interpolation=cv2.INTER_NEAREST), np.uint8)
    blended = overlay.blend(image_bgr, small)
    _, jpeg = cv2.imencode(".jpg", blended, [cv2.IMWRITE_JPEG_QUALITY, _PICTURE_QUALITY])
    return jpeg.tobytes()
