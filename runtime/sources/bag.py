"""Pictures out of a recording of ROS: `--source drive.mcap --topic /camera/image_raw`."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from runtime.errors import SourceError
from runtime.frame import Frame, Image
from runtime.ground import CameraModel
from runtime.ros.bag import Bag, Channel, Record
from runtime.ros.bags import open_bag
from runtime.ros.cameras import camera_info_topic, camera_model
from runtime.ros.images import DamagedPicture, decode_compressed, decode_image
from runtime.sources.recorded import RecordedSource
from runtime.sources.source import SourceStatus

logger = logging.getLogger(__name__)

_DECODERS = {
    "sensor_msgs/msg/Image": decode_image,
    "sensor_msgs/msg/CompressedImage": decode_compressed,
}
_BAD_IN_A_ROW = 100  # pictures; then it is no single fault of the recording
_HIGHEST_FPS = 1000.0
_FPS_FROM = 30  # pictures that tell how many come a second


class BagSource(RecordedSource):
    """Every picture of one topic of a bag, with its stamp and coordinate frame.

    A picture that is damaged is passed over and counted in `status.skipped`. Of a bag that was cut all
    pictures are given that it still holds, then reading raises SourceError. Where a header has no stamp, the
    frame's is the time of the recording.

    Attributes:
        path: the bag.
        topic: where the pictures come from.
    """

    def __init__(self, path: str | Path, topic: str | None = None) -> None:
        """Open the bag.

        Args:
            path: a .mcap, .db3 or .bag file, or a folder of the first two.
            topic: of type Image or CompressedImage; None where only one fits. Depth images, and what edgeseg
                wrote itself under /segmentation, do not count then.

        Raises:
            SourceError: no bag, or no such topic.
            ConfigError: the extra `ros` is not installed.
        """
        super().__init__()
        self.path = Path(path)
        self._bag: Bag = open_bag(self.path)
        try:
            self.topic = _chosen(self._bag, topic)
            self.announced = sum(one.count for one in self._bag.channels if one.topic == self.topic)
        except BaseException:
            self._bag.close()
            raise
        self.fps = self._usual_fps()
        self._records: Iterator[Record] = self._bag.records([self.topic])
        self._decoded = self._skipped = self._bad_in_a_row = 0
        self._latest_ns: int | None = None
        self._header: tuple[int | None, str] = (None, "")
        self._has_warned = False

    @property
    def status(self) -> SourceStatus:
        """What the source is doing; may be asked from any thread."""
        return dataclasses.replace(super().status, skipped=self._skipped)

    def read(self) -> Frame | None:
        """Return the next frame, None at the end; see `RecordedSource`."""
        frame = super().read()
        if frame is None:
            return None
        stamp_ns, coordinate_frame = self._header
        return dataclasses.replace(frame, stamp_ns=stamp_ns, coordinate_frame=coordinate_frame)

    def camera(self, *, height_m: float, pitch_rad: float = 0.0, roll_rad: float = 0.0) -> CameraModel | None:
        """Return the camera of the camera_info beside the topic; None where the bag has none.

        Args:
            height_m: of the camera above the ground.
            pitch_rad: how far it looks down.
            roll_rad: how far it leans to the right.

        Raises:
            SourceError: a message that cannot be read.
            ConfigError: a camera that was never calibrated, or cannot be.
        """
        beside = camera_info_topic(self.topic)
        with open_bag(self.path) as bag:  # another one, whose place in the file is its own
            record = next(bag.records([beside]), None)
            if record is None:
                return None
            return camera_model(
                record.message(),
                height_m=height_m,
                pitch_rad=pitch_rad,
                roll_rad=roll_rad,
                is_rectified="image_rect" in self.topic,
            )

    def close(self) -> None:
        """Close the bag."""
        super().close()
        self._bag.close()

    def _usual_fps(self) -> float | None:
        """Return the frames a second of the first pictures, which a gap among them does not change."""
        times: list[int] = []
        with suppress(SourceError):
            times.extend(one.logged_ns for one in islice(self._bag.records([self.topic]), _FPS_FROM))
        usual_ns = float(np.median(np.diff(times))) if len(times) > 1 else 0.0
        return 1e9 / usual_ns if usual_ns >= 1e9 / _HIGHEST_FPS else None

    def _image(self) -> Image | None:
        for record in self._records:
            message = record.message()
            try:
                image_bgr = _DECODERS[record.channel.type](message)
            except DamagedPicture as error:
                self._skip_one(error)
                continue
            except SourceError as error:
                raise SourceError(f"{self.path}, {self.topic}: {error}") from None
            self._bad_in_a_row = 0
            self._decoded += 1
            self._header = self._stamped(message.header, record.logged_ns), str(message.header.frame_id)
            return image_bgr
        if not self._decoded:
            raise SourceError(f"{self.path}: expected pictures on {self.topic}, got none that can be decoded")
        return None

    def _pass(self) -> bool:
        return next(self._records, None) is not None

    def _stamped(self, header: Any, logged_ns: int) -> int:
        """Return a header's stamp; say so once where time runs backwards."""
        stamp_ns = int(header.stamp.sec) * 1_000_000_000 + int(header.stamp.nanosec)
        stamp_ns = stamp_ns if stamp_ns > 0 else logged_ns
        if self._latest_ns is not None and stamp_ns < self._latest_ns and not self._has_warned:
            self._has_warned = True
            back_s = (self._latest_ns - stamp_ns) / 1e9
            logger.warning(
                "%s, %s: stamps go back by %.3f s at picture %d; they are given as they are",
                self.path,
                self.topic,
                back_s,
                self._count,
            )
        self._latest_ns = stamp_ns
        return stamp_ns

    def _skip_one(self, error: SourceError) -> None:
        """Count a damaged picture.

        Raises:
            SourceError: it is one too many in a row.
        """
        self._count += 1  # a frame's number is its place in the topic
        self._skipped += 1
        self._bad_in_a_row += 1
        if self._skipped == 1:
            logger.warning("%s, %s: damaged picture dropped: %s", self.path, self.topic, error)
        if self._bad_in_a_row >= _BAD_IN_A_ROW:
            raise SourceError(
                f"{self.path}, {self.topic}: {self._bad_in_a_row} pictures in a row are damaged; the last: "
                f"{error}"
            )


def _chosen(bag: Bag, topic: str | None) -> str:
    """Return the topic to read."""
    pictures = [channel for channel in bag.channels if channel.type in _DECODERS]
    if topic is not None:
        if any(channel.topic == topic for channel in pictures):
            return topic
        found = next((channel for channel in bag.channels if channel.topic == topic), None)
        got = "no such topic" if found is None else found.type
        raise SourceError(
            f"{bag.path}, {topic}: expected a topic of pictures, got {got}; --topic takes one of "
            f"{_listed(pictures)}"
        )
    fitting = [channel.topic for channel in pictures if channel.count and _is_camera(channel.topic)]
    # The compressed form of a topic that is there too shows the same pictures.
    fitting = sorted(
        {name for name in fitting if name.removesuffix("/compressed") not in fitting}
        | {name for name in fitting if not name.endswith("/compressed")}
    )
    if len(fitting) == 1:
        return fitting[0]
    if not fitting:
        raise SourceError(
            f"{bag.path}: expected a topic of type Image or CompressedImage, got "
            f"{_listed(pictures or list(bag.channels))}"
            + ("; choose one of them by --topic" if pictures else "")
        )
    raise SourceError(
        f"{bag.path}: expected one topic of pictures, got {len(fitting)}; choose by --topic one of "
        f"{', '.join(fitting)}"
    )


def _is_camera(topic: str) -> bool:
    """Whether a topic may show what a camera sees; not depth, nor what this program wrote."""
    parts = topic.strip("/").split("/")
    return parts[0] != "segmentation" and not any("depth" in part.lower() for part in parts)


def _listed(channels: list[Channel]) -> str:
    """Return topics and types for a message."""
    return ", ".join(f"{channel.topic} ({channel.type})" for channel in channels) or "no topic at all"
