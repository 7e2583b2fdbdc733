"""Which messages a segmented frame becomes, and under which names.

Names, encodings and delivery follow Nav2's semantic segmentation layer
(https://github.com/kiwicampus/semantic_segmentation_layer, README "Required Topics and Message Types", and
Nav2's tutorial "Navigating with Semantic Segmentation"):

- `/segmentation/mask`, Image mono8, class indices; `/segmentation/confidence`, Image mono8, 0 to 255;
- `/segmentation/label_info`, vision_msgs/LabelInfo, reliable and transient local, before the first mask;
- a PointCloud2 with a point for each pixel of the mask, row by row. The layer takes mask, confidence and
  cloud of exactly the same stamp, passes over points whose z is not finite, and measures distances from the
  origin of the cloud's frame; so the cloud is in the camera's frame.

Everything has the stamp and the frame of the picture. Only grid and scan, which lie on the ground, have the
frame `<picture's frame>_ground`, and `/tf_static` says where that is. All is offered reliably, which
subscribers that ask for best effort, as Nav2's layer does, take as well.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.contract import ClassMap
from runtime.errors import ConfigError
from runtime.frame import Image
from runtime.ground import BirdsEye, CameraModel
from runtime.ground.options import GridOptions
from runtime.masks.confidence import UNKNOWN
from runtime.ros import messages

_SCAN_STEP_RAD = math.radians(0.5)
_CAMERA_FRAME = "camera_optical_frame"  # of pictures that name none


@dataclass(frozen=True)
class Topic:
    """One topic.

    Attributes:
        name: such as "/segmentation/mask".
        type: such as "sensor_msgs/msg/Image".
        latched: whether who comes late gets the last message too (durability transient local).
    """

    name: str
    type: str
    latched: bool = False


MASK = Topic("/segmentation/mask", "sensor_msgs/msg/Image")
CONFIDENCE = Topic("/segmentation/confidence", "sensor_msgs/msg/Image")
LABEL_INFO = Topic("/segmentation/label_info", "vision_msgs/msg/LabelInfo", latched=True)
OVERLAY = Topic("/segmentation/overlay", "sensor_msgs/msg/CompressedImage")
OCCUPANCY = Topic("/segmentation/occupancy", "nav_msgs/msg/OccupancyGrid")
SCAN = Topic("/segmentation/scan", "sensor_msgs/msg/LaserScan")
POINTS = Topic("/segmentation/points", "sensor_msgs/msg/PointCloud2")
TF_STATIC = Topic("/tf_static", "tf2_msgs/msg/TFMessage", latched=True)

ON_IMAGE = (MASK, CONFIDENCE, LABEL_INFO, OVERLAY)
ON_GROUND = (OCCUPANCY, SCAN, POINTS, TF_STATIC)
OURS = {topic.name.rpartition("/")[2]: topic for topic in (*ON_IMAGE, *ON_GROUND)}  # by the name's end


class Ground:
    """What a camera over the ground adds: grid, scan, cloud and transform, for pictures of any size."""

    def __init__(
        self, camera: CameraModel, free_classes: Collection[int], grid: GridOptions | None = None
    ) -> None:
        """Choose the camera.

        Args:
            camera: model of the camera, for any size of the same picture.
            free_classes: classes that may be driven on.
            grid: on the ground; None for the usual one.

        Raises:
            ConfigError: no free class, a grid that cannot be, or one of which the camera sees nothing.
        """
        if not free_classes:
            raise ConfigError("free_classes: expected at least one class that may be driven on, got none")
        self._free = frozenset(free_classes)
        self._grid = grid or GridOptions()
        self._seen = _Seen(self._grid.view(camera))

    def messages(
        self, mask: Image, confidence: Image | None, header: Any, wanted: Collection[Topic]
    ) -> Iterator[tuple[Topic, Any]]:
        """Yield the messages of one mask.

        Args:
            mask: uint8 (H, W).
            confidence: uint8 (H, W); None where there is none.
            header: of the picture.
            wanted: topics to yield.
        """
        seen = self._fitted(mask)
        if confidence is not None:  # unknown pixels say nothing; without that they would be obstacles
            confidence = np.where(mask == UNKNOWN, np.uint8(0), confidence)
        view = seen.view
        on_ground = messages.header(_stamp_ns(header), ground_frame(header.frame_id))
        if OCCUPANCY in wanted:
            cells = view.occupancy(mask, self._free, confidence)
            yield OCCUPANCY, messages.occupancy_grid(on_ground, view, cells)
        if SCAN in wanted:
            ranges_m = view.range_scan(mask, seen.angles_rad, self._free)
            yield SCAN, messages.laser_scan(on_ground, seen.angles_rad, ranges_m, view.farthest_m)
        if POINTS in wanted:
            yield POINTS, messages.point_cloud(header, seen.cloud)

    def transform(self, header: Any) -> Any:
        """Return the message for /tf_static."""
        return messages.ground_transform(header, ground_frame(header.frame_id), self._seen.view.camera)

    def _fitted(self, mask: Image) -> _Seen:
        """Return the grid for a mask's size."""
        height, width = mask.shape
        camera = self._seen.view.camera
        if (camera.width, camera.height) != (width, height):
            self._seen = _Seen(self._grid.view(camera.scaled_to(width, height)))
        return self._seen


class _Seen:
    """A grid, and what is the same for each of its masks."""

    def __init__(self, view: BirdsEye) -> None:
        self.view = view
        camera = view.camera
        rows = np.arange(camera.height)
        right, left = (
            camera.pixels_to_ground(np.stack([np.full_like(rows, column), rows], axis=1))
            for column in (camera.width - 1, 0)
        )
        lowest, highest = (np.arctan2(edge[:, 1], edge[:, 0]) for edge in (right, left))
        sees = np.isfinite(lowest) & np.isfinite(highest)
        if not sees.any() or lowest[sees].max() >= highest[sees].min():
            raise ConfigError(
                "camera: expected one that sees the ground ahead, got one that does not; check pitch_rad (a "
                "positive one looks down) and roll_rad"
            )
        # Only what the camera sees in every row: outside of it, inf would call free what nobody saw.
        low, high = float(lowest[sees].max()), float(highest[sees].min())
        self.angles_rad = np.linspace(low, high, max(2, math.ceil((high - low) / _SCAN_STEP_RAD) + 1))

    @cached_property
    def cloud(self) -> NDArray[np.float32]:
        """Each pixel's point on the ground, float32 (H, W, 3) in the camera's optical axes."""
        camera = self.view.camera
        on_ground = self.view.points(np.zeros((camera.height, camera.width), np.uint8))
        from_camera = on_ground - np.array((0.0, 0.0, camera.height_m), np.float32)
        rotation = messages.ground_to_optical(camera).astype(np.float32)
        return np.ascontiguousarray(from_camera @ rotation.T)


class SegmentationTopics:
    """Turns the answers for frames into messages."""

    def __init__(
        self,
        classes: ClassMap,
        ground: Ground | None = None,
        *,
        threshold: float = 0.0,
        leave_out: Collection[Topic] = (),
    ) -> None:
        """Choose what there is to say.

        Args:
            classes: of the network.
            ground: for grid, scan, cloud and transform; None leaves these out.
            threshold: probability under which a pixel has no class, see `messages.label_info`.
            leave_out: topics that nobody wants.
        """
        self._classes = classes
        self._ground = ground
        self._threshold = threshold
        offered = ON_IMAGE if ground is None else (*ON_IMAGE, *ON_GROUND)
        self.topics = tuple(topic for topic in offered if topic not in leave_out)

    def latched(self, stamp_ns: int, frame_id: str = "") -> Iterator[tuple[Topic, Any]]:
        """Yield what is said once, before the first mask."""
        header = messages.header(stamp_ns, frame_id or _CAMERA_FRAME)
        if LABEL_INFO in self.topics:
            yield LABEL_INFO, messages.label_info(header, self._classes, self._threshold)
        if self._ground is not None and TF_STATIC in self.topics:
            yield TF_STATIC, self._ground.transform(header)

    def of(
        self,
        mask: Image,
        confidence: Image | None,
        overlay_bgr: Callable[[], Image],
        stamp_ns: int,
        frame_id: str = "",
        wanted: Collection[Topic] | None = None,
    ) -> Iterator[tuple[Topic, Any]]:
        """Yield the messages of one frame.

        Args:
            mask: uint8 (H, W) class indices.
            confidence: uint8 (H, W); None where there is none.
            overlay_bgr: draws the overlay; called only where it is wanted.
            stamp_ns: of the picture.
            frame_id: of the picture.
            wanted: topics that somebody listens to; None for all.
        """
        header = messages.header(stamp_ns, frame_id or _CAMERA_FRAME)
        topics = self.topics if wanted is None else [topic for topic in self.topics if topic in wanted]
        if MASK in topics:
            yield MASK, messages.image(header, mask)
        if confidence is not None and CONFIDENCE in topics:
            yield CONFIDENCE, messages.image(header, confidence)
        if OVERLAY in topics:
            yield OVERLAY, messages.compressed_image(header, overlay_bgr())
        if self._ground is not None:
            yield from self._ground.messages(mask, confidence, header, topics)


def ground_frame(frame_id: str) -> str:
    """Return the name of the frame on the ground under a camera."""
    return f"{frame_id or _CAMERA_FRAME}_ground"


def _stamp_ns(header: Any) -> int:
    return int(header.stamp.sec) * 1_000_000_000 + int(header.stamp.nanosec)
