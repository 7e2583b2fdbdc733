"""A bag of what was seen: `--out drive-segmented.mcap`, for ROS 2's tools, Foxglove and Nav2."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import BinaryIO

from runtime.errors import OutputError, SourceError
from runtime.ground.options import GroundOptions
from runtime.loop import Step
from runtime.outputs.disk import DiskOutput
from runtime.outputs.output import Stream, cannot_write
from runtime.outputs.segments import SegmentOptions
from runtime.ros.bag import EACH, LATCHED, Bag, Channel, Record
from runtime.ros.bags import open_bag
from runtime.ros.from_ros1 import FromRos1
from runtime.ros.library import typestore
from runtime.ros.mcap_files import McapWriter
from runtime.ros.messages import serialized
from runtime.ros.topics import Ground, SegmentationTopics, Topic
from runtime.sources.bag import BagSource
from runtime.sources.recorded import PacedSource
from runtime.sources.source import Source, SourceState


class BagOutput(DiskOutput):
    """Writes each step's messages into an MCAP file; `runtime.ros.topics` says which.

    A message has the stamp of its picture, and is recorded at that time; a picture without a stamp gets the
    wall clock's time of its capture. If the process is killed, what is on the disk can be read up to the last
    second or so, from the start of the file, as by `ros2 bag reindex` or `mcap recover`. Of a camera or
    stream the bag is cut into segments (see `runtime.outputs.segments`), each with all that it needs.

    Topics of the bag that the pictures come from can be copied: each message as it is (of a ROS 1 bag as
    ROS 2 has it), before the first picture that was recorded later. Answers are then recorded at the time at
    which their picture was.
    """

    kind = "out"

    def __init__(
        self,
        path: str | Path,
        ground: Ground | Callable[[Stream], Ground | None] | None = None,
        options: SegmentOptions = SegmentOptions(),  # noqa: B008  # frozen
        *,
        copy_topics: Collection[str] = (),
        leave_out: Collection[Topic] = (),
        chunk_s: float = 1.0,
    ) -> None:
        """Choose the file; one of that name is replaced, segments never are.

        Args:
            path: ends in .mcap; of segments, the folder, stem and suffix of their names.
            ground: for grid, scan, cloud and transform, or what makes it when the stream is known; None
                leaves these out.
            options: length and retention of segments.
            copy_topics: names or patterns such as "/tf*" of topics to copy.
            leave_out: topics not to write.
            chunk_s: seconds of messages that a crash may cost.

        Raises:
            OutputError: another ending, or a folder.
        """
        super().__init__(path, options)
        if self.path.suffix.lower() != ".mcap":
            raise OutputError(
                f"{path}: expected a bag that ends in .mcap, got {self.path.suffix or 'no ending'!r}"
            )
        if self.path.is_dir():
            raise OutputError(f"{path}: expected the name of a bag, got a folder; choose another name")
        self._ground = ground
        self._copy_topics = tuple(copy_topics)
        self._leave_out = tuple(leave_out)
        self._chunk_s = chunk_s
        self._writer: McapWriter | None = None
        self._written, self._has_latched, self._first_ns = self.path, False, 0
        self._saved: tuple[Path, ...] = ()
        self._copy: _Copy | None = None
        self._latest = -1

    @property
    def saved(self) -> tuple[Path, ...]:
        """The files that are complete, oldest first."""
        return self._saved

    def open(self, stream: Stream) -> None:
        """Make the file, or get ready for the first segment; see `Output`.

        Raises:
            OutputError: it cannot be made, it is the bag that is read, or no topic is there to copy.
            ConfigError: the extra `ros` is not installed, another run writes it, or a camera that cannot be.
        """
        super().open(stream)
        typestore()  # now, so that a missing package is told before the first frame
        source = _recording(stream.source)
        bag = source if isinstance(source, BagSource) else None
        if bag is not None and bag.path.resolve() == self.path.resolve():
            raise OutputError(f"{self.path}: expected another file than the bag that is read")
        ground = self._ground(stream) if callable(self._ground) else self._ground
        self._topics = SegmentationTopics(
            stream.contract.classes,
            ground,
            threshold=stream.unknown_below or 0.0,
            leave_out=self._leave_out,
        )
        # The clock of captures never jumps; that of stamps must not either, while this runs.
        self._wall_minus_monotonic_ns = time.time_ns() - time.monotonic_ns()
        self._source = source
        if self._copy_topics:
            if bag is None:
                raise OutputError(
                    f"{self.path}: expected a bag as the source whose topics to copy, got {stream.name}; "
                    "leave --copy-topics out"
                )
            self._copy = _Copy(bag, self._copy_topics, self._latest)
        try:
            if self._segments is None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._begin(self.path, self.path.open("wb"))
        except OSError as error:
            raise cannot_write(self.path, error) from None

    def take(self, step: Step) -> None:
        """Append a step's messages.

        Raises:
            OutputError: they cannot be written; what was written before can be read.
        """
        frame, segmentation = step.frame, step.segmentation
        stamp_ns, coordinate_frame = frame.stamp_ns, frame.coordinate_frame
        if stamp_ns is None:
            stamp_ns = frame.captured_ns + self._wall_minus_monotonic_ns
        logged_ns = stamp_ns
        try:
            writer = self._writer_for(frame.captured_ns)
            self._written.stat()  # one that was removed takes messages all the same
            if self._copy is not None:
                for record in self._copy.until(frame.frame_id):
                    writer.write(record.channel, record.logged_ns, record.data)
                logged_ns = self._copy.picture_ns
            if not self._has_latched:
                self._has_latched = True
                for topic, message in self._topics.latched(stamp_ns, coordinate_frame):
                    writer.write(_channel(topic), logged_ns, serialized(message))
            answers = self._topics.of(
                segmentation.mask,
                segmentation.confidence,
                lambda: step.overlay_bgr,
                stamp_ns,
                coordinate_frame,
            )
            for topic, message in answers:
                writer.write(_channel(topic), logged_ns, serialized(message))
        except OSError as error:
            raise cannot_write(self.path, error) from None
        except SourceError as error:
            raise OutputError(f"{self.path}: the topics to copy end here: {error}") from None
        self._latest = frame.frame_id

    def close(self) -> None:
        """Copy what the bag has after the last picture, write the index and close the file.

        Raises:
            OutputError: it cannot be written; what was written before can be read.
        """
        copy, self._copy = self._copy, None
        try:
            try:
                if copy is not None and self._writer is not None and self._has_ended:
                    for record in copy.rest():
                        self._writer.write(record.channel, record.logged_ns, record.data)
            except SourceError as error:
                raise OutputError(f"{self.path}: the topics to copy end early: {error}") from None
            finally:
                if copy is not None:
                    copy.close()
                self._finish()
        except OSError as error:
            raise cannot_write(self.path, error) from None
        finally:
            super().close()

    @property
    def _has_ended(self) -> bool:
        """Whether all pictures were read, and not only as many as were wanted."""
        return self._source.status.state is SourceState.ENDED

    def _writer_for(self, time_ns: int) -> McapWriter:
        """Return the file that a frame of this time goes to."""
        if self._segments is not None:
            if (
                self._writer is not None
                and not 0 <= time_ns - self._first_ns < self._segments.segment_s * 1e9
            ):
                self._finish()
            if self._writer is None:
                self._segments.apply_retention()
                path, descriptor = self._segments.create()
                self._begin(path, os.fdopen(descriptor, "wb"))
                self._first_ns = time_ns
        assert self._writer is not None
        return self._writer

    def _begin(self, path: Path, file: BinaryIO) -> None:
        self._writer = McapWriter(file, chunk_s=self._chunk_s)
        self._written, self._has_latched = path, False

    def _finish(self) -> None:
        writer, self._writer = self._writer, None
        if writer is None:
            return
        writer.close()
        self._saved += (self._written,)
        if self._segments is not None:
            self._segments.finished(self._written)


def ground_under(options: GroundOptions, stream: Stream) -> Ground | None:
    """Return what the flags of metres make of a stream, None where they were not given.

    Raises:
        ConfigError: a camera that cannot be, or none at all; a class that the network does not
            know, or none that may be driven on.
        SourceError: a bag whose camera_info cannot be read.
    """
    if not options.is_wanted:
        return None
    camera = options.camera_over(stream.source)
    return Ground(camera, options.free_indices(stream.contract.classes), options.grid)


def _recording(source: Source) -> Source:
    """Return what is played at its own pace, or the source itself."""
    return source.recording if isinstance(source, PacedSource) else source


class _Copy:
    """Goes along a bag beside its pictures.

    Attributes:
        picture_ns: when the latest picture was recorded.
    """

    def __init__(self, source: BagSource, patterns: Collection[str], latest: int) -> None:
        """Go to the place after a picture, -1 for the bag's start."""
        self._bag: Bag = open_bag(source.path)  # another one, whose place in the file is its own
        channels = self._bag.channels
        chosen = [one for one in channels if any(fnmatchcase(one.topic, each) for each in patterns)]
        if not chosen:
            self._bag.close()
            found = ", ".join(sorted(channel.topic for channel in channels))
            raise OutputError(
                f"{source.path}: expected topics to copy that match {', '.join(patterns)}, got none; the bag "
                f"has {found}"
            )
        self._chosen = {channel.topic for channel in chosen}
        self._picture_topic = source.topic
        self._records: Iterator[Record] = self._bag.records({*self._chosen, source.topic})
        self._of_ros2 = FromRos1()
        self._pictures = 0
        self.picture_ns = 0
        for _ in self.until(latest):  # what was copied before the output was opened again
            pass

    def until(self, frame_id: int) -> Iterator[Record]:
        """Yield what was recorded up to a picture, itself included."""
        while self._pictures <= frame_id:
            record = next(self._records, None)
            if record is None:
                return
            if record.channel.topic == self._picture_topic:
                self._pictures += 1
                self.picture_ns = record.logged_ns
            if record.channel.topic in self._chosen:
                yield self._of_ros2(record)

    def rest(self) -> Iterator[Record]:
        """Yield all that comes after."""
        return (self._of_ros2(record) for record in self._records if record.channel.topic in self._chosen)

    def close(self) -> None:
        self._bag.close()


def _channel(topic: Topic) -> Channel:
    """Return a topic of ours as it stands in the file."""
    return Channel(topic.name, topic.type, 0, metadata=LATCHED if topic.latched else EACH)
