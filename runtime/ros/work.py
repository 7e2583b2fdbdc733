"""What the node of ROS does with messages, as bytes in and bytes out, and needs no ROS for."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from runtime.base.flags import check_fields, flag, nested
from runtime.errors import SourceError
from runtime.frame import Frame
from runtime.ground.options import GridOptions, free_indices
from runtime.masks.overlay import Overlay
from runtime.network.options import ModelOptions
from runtime.ros import messages
from runtime.ros.cameras import camera_model
from runtime.ros.images import DamagedPicture, decode_compressed, decode_image
from runtime.ros.library import typestore
from runtime.ros.topics import ON_GROUND, ON_IMAGE, OURS, Ground, SegmentationTopics, Topic

NAME = "edgeseg"
CAMERA_INFO = "sensor_msgs/msg/CameraInfo"
_STALE_S = 2.0  # without a picture
_RECENT = 100  # frames that diagnostics tell of


@dataclass(frozen=True)
class NodeOptions:
    """What the node does; each is a parameter of the same name too."""

    model: ModelOptions = nested(ModelOptions)
    confidence: bool = flag("publish the probability of each pixel's class", default=False)
    unknown_below: float = flag(
        "make pixels unknown (255) whose class is less probable; implies confidence",
        default=0.0,
        at_least=0,
        at_most=1,
    )
    steady: bool = flag("steady masks by those of the pictures before", default=False)
    image_topic: str = flag(
        "topic of the pictures, Image, or CompressedImage if it ends in /compressed",
        default="/camera/image_raw",
    )
    height_m: float = flag(
        "height of the camera over the ground; with it, and the camera_info beside the pictures, grid, scan "
        "and cloud are published",
        default=0.0,
        at_least=0,
        unit="m, 0 for none",
    )
    pitch_rad: float = flag("how far the camera looks down", default=0.0, unit="radians")
    roll_rad: float = flag("how far the camera leans to the right", default=0.0, unit="radians")
    free: tuple[str, ...] = flag(
        "classes of the ground that may be driven on",
        default=(),
        unset="those that the model's contract calls traversable",
        metavar="CLASS",
    )
    grid: GridOptions = nested(GridOptions)
    leave_out: tuple[str, ...] = flag("topics not to publish", default=(), choices=tuple(OURS))
    managed: bool = flag(
        "wait for a lifecycle manager instead of configuring and activating at once", default=False
    )

    def __post_init__(self) -> None:
        """Check the numbers."""
        check_fields(self)


class Work:
    """What the node does with bytes, without ROS.

    Attributes:
        topics: that may be published.
        image_type: of the pictures' topic.
    """

    def __init__(self, options: NodeOptions) -> None:
        """Open the model.

        Raises:
            EdgesegError: a model that cannot be opened, a free class that it does not know, or none.
        """
        self._options = options
        self._segment = options.model.open(
            confidence=options.confidence,
            unknown_below=options.unknown_below or None,
            steady=options.steady,
        )
        classes = self._segment.contract.classes
        try:
            self._free = free_indices(options.free, classes) if options.height_m else frozenset()
            self._overlay = Overlay(classes)
            self._left_out = [OURS[name] for name in options.leave_out]
            self._answers = self._topics_with(None)
        except BaseException:
            self._segment.close()
            raise
        offered = (*ON_IMAGE, *ON_GROUND) if options.height_m else ON_IMAGE
        self.topics = tuple(topic for topic in offered if topic not in self._left_out)
        self._is_compressed = options.image_topic.endswith("/compressed")
        self.image_type = f"sensor_msgs/msg/{'CompressedImage' if self._is_compressed else 'Image'}"
        self._camera: Any = None
        self._frames = self._damaged = 0
        self._latest_ns: int | None = None
        self._age_ns = 0
        self._took_ms: deque[float] = deque(maxlen=_RECENT)
        self._came_ns: deque[int] = deque(maxlen=_RECENT)

    def close(self) -> None:
        """Close the model."""
        self._segment.close()

    def latched(self, now_ns: int, frame_id: str = "") -> list[tuple[Topic, bytes]]:
        """Return what is said once, as bytes."""
        return [(topic, messages.serialized(one)) for topic, one in self._answers.latched(now_ns, frame_id)]

    def learn_camera(self, data: bytes) -> list[tuple[Topic, bytes]]:
        """Take a CameraInfo; return what is said of a camera that is new.

        Raises:
            EdgesegError: bytes that are none, or a camera that cannot be.
        """
        options, info = self._options, _read(data, CAMERA_INFO)
        camera = camera_model(
            info,
            height_m=options.height_m,
            pitch_rad=options.pitch_rad,
            roll_rad=options.roll_rad,
            is_rectified="image_rect" in options.image_topic,
        )
        if camera == self._camera:
            return []
        ground = Ground(camera, self._free, options.grid)
        self._answers = self._topics_with(ground)
        self._camera = camera
        stamp_ns = int(info.header.stamp.sec) * 1_000_000_000 + int(info.header.stamp.nanosec)
        return self.latched(stamp_ns, str(info.header.frame_id))

    def _topics_with(self, ground: Ground | None) -> SegmentationTopics:
        return SegmentationTopics(
            self._segment.contract.classes,
            ground,
            threshold=self._options.unknown_below,
            leave_out=self._left_out,
        )

    def answer(self, data: bytes, wanted: Collection[Topic]) -> list[tuple[Topic, bytes]]:
        """Segment a picture; return the messages that are wanted, as bytes.

        Raises:
            DamagedPicture: it cannot be decoded; it is counted.
            SourceError: it is of an encoding that is not known.
        """
        started_ns = time.monotonic_ns()
        message = _read(data, self.image_type)
        try:
            image_bgr = (decode_compressed if self._is_compressed else decode_image)(message)
        except DamagedPicture:
            self._damaged += 1
            raise
        frame_id = str(message.header.frame_id)
        stamp_ns = int(message.header.stamp.sec) * 1_000_000_000 + int(message.header.stamp.nanosec)
        found = self._segment(Frame(image_bgr, self._frames, started_ns, stamp_ns, frame_id))
        mask = found.mask
        answers = self._answers.of(
            mask,
            found.confidence,
            lambda: self._overlay.draw(image_bgr, mask),
            stamp_ns,
            frame_id,
            wanted,
        )
        serialized = [(topic, messages.serialized(one)) for topic, one in answers]
        self._frames += 1
        finished_ns = time.monotonic_ns()
        self._took_ms.append((finished_ns - started_ns) / 1e6)
        self._came_ns.append(started_ns)
        self._age_ns = time.time_ns() - stamp_ns
        return serialized

    def diagnostics(self, now_ns: int, problem: str = "") -> bytes:
        """Return a diagnostic_msgs/DiagnosticArray of the last frames, as bytes."""
        waited_s = (time.monotonic_ns() - self._came_ns[-1]) / 1e9 if self._came_ns else float("inf")
        level, said = 0, "running"
        if waited_s > _STALE_S:
            level, said = 1, f"no picture on {self._options.image_topic} for {min(waited_s, 9999):.0f} s"
        if not self._frames:
            said = f"no picture on {self._options.image_topic} yet"
        if problem:
            level, said = 2, problem
        span_s = (self._came_ns[-1] - self._came_ns[0]) / 1e9 if len(self._came_ns) > 1 else 0.0
        values = {
            "frames": self._frames,
            "damaged pictures": self._damaged,
            "frames/s": round((len(self._came_ns) - 1) / span_s, 1) if span_s else 0,
            "latency, median ms": round(sorted(self._took_ms)[len(self._took_ms) // 2], 1)
            if self._took_ms
            else 0,
            "age when published, ms": round(self._age_ns / 1e6, 1),
            "model": self._segment.contract.name,
            "provider": self._segment.provider,
        }
        return messages.serialized(messages.diagnostics(now_ns, NAME, level, said, values))


def _read(data: bytes, kind: str) -> Any:
    """Return a message.

    Raises:
        SourceError: bytes that are none.
    """
    try:
        return typestore().deserialize_cdr(data, kind)
    except Exception as error:  # a stranger's bytes
        raise SourceError(f"expected a {kind}, got {len(data)} bytes that are none ({error})") from None
