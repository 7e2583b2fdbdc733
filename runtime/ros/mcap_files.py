"""MCAP files by the `mcap` package.

A file is read by the index at its end, and from start to end where that is missing. It is written in chunks
that are each complete, so that whatever ends the process, all chunks before can be read.
"""

from __future__ import annotations

import dataclasses
import heapq
import io
import os
import struct
import time
import zlib
from array import array
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from runtime.base.closing import Closable
from runtime.errors import SourceError
from runtime.ros.bag import Bag, Channel, Record
from runtime.ros.library import load, typestore

_INDEX = "_Writer__chunk_indices"  # of the package's writer
_MAGIC = b"\x89MCAP0\r\n"
_LARGEST_CHUNK = 1 << 30  # bytes; recorders write chunks of about one MiB
_ENCODINGS = {"cdr": 2, "ros1": 1}
_MESSAGE, _CHUNK = 0x05, 0x06
_RECORD = struct.Struct("<BQ")
_MESSAGE_HEAD = struct.Struct("<HIQQ")


class McapFile(Bag):
    """One MCAP file of ROS messages."""

    def __init__(self, path: Path) -> None:
        """Open the file, and read it through where it has no index.

        Raises:
            SourceError: no MCAP file.
            ConfigError: the extra `ros` is not installed.
        """
        load("mcap.reader")
        self.path, self.damage = path, ""
        try:
            self._file: BinaryIO = path.open("rb")
        except OSError as error:
            raise SourceError(f"{path}: expected a bag, cannot read it ({error.strerror})") from None
        try:
            if self._file.read(len(_MAGIC)) != _MAGIC:
                raise SourceError(f"{path}: expected an MCAP file, got one of another kind or an empty one")
            self._channels: dict[int, Channel] = {}
            self._chunks: list[Any] = []
            self.span_ns: tuple[int, int] | None = None
            if not self._read_index():
                self._read_through()
            self.channels = tuple(self._channels.values())
        except BaseException:
            self._file.close()
            raise

    def records(self, topics: Collection[str]) -> Iterator[Record]:
        """Yield messages, see `Bag`; of files without an index in the order in which they are stored."""
        wanted = {number: channel for number, channel in self._channels.items() if channel.topic in topics}
        if not self._chunks:
            yield from self._stored(wanted)
            if self.damage:
                raise SourceError(f"{self.path}: {self.damage}; all messages before were read")
            return
        waiting: list[tuple[int, int, Record]] = []  # of chunks whose times overlap
        order = count()
        problem: SourceError | None = None
        for index in self._chunks:
            if index.message_index_offsets and wanted.keys().isdisjoint(index.message_index_offsets):
                continue
            while waiting and waiting[0][0] < index.message_start_time:
                yield heapq.heappop(waiting)[2]
            try:
                for record in self._chunk_at(index.chunk_start_offset, wanted):
                    heapq.heappush(waiting, (record.logged_ns, next(order), record))
            except SourceError as error:
                problem = problem or error
        while waiting:
            yield heapq.heappop(waiting)[2]
        if problem is not None:
            raise problem

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _read_index(self) -> bool:
        """Read the summary at the file's end; return whether it is there and says where the chunks are."""
        self._file.seek(0)
        try:
            summary = (
                load("mcap.reader").SeekingReader(self._file, record_size_limit=_LARGEST_CHUNK).get_summary()
            )
        except Exception:  # damaged in any way: read without it
            return False
        if summary is None or summary.statistics is None or not summary.chunk_indexes:
            return False
        statistics = summary.statistics
        for channel in summary.channels.values():
            messages = statistics.channel_message_counts.get(channel.id, 0)
            self._note(channel, summary.schemas.get(channel.schema_id), messages)
        self._chunks = sorted(summary.chunk_indexes, key=lambda index: int(index.message_start_time))
        if statistics.message_count:
            self.span_ns = (statistics.message_start_time, statistics.message_end_time)
        return True

    def _read_through(self) -> None:
        """Find the topics of a file without an index, and where it is damaged."""
        counts: Counter[int] = Counter()
        first_ns = last_ns = None
        try:
            for number, logged_ns, _ in self._raw():
                counts[number] += 1
                first_ns = logged_ns if first_ns is None else min(first_ns, logged_ns)
                last_ns = logged_ns if last_ns is None else max(last_ns, logged_ns)
        except SourceError as error:
            self.damage = str(error)
        self._channels = {
            number: dataclasses.replace(channel, count=counts[number])
            for number, channel in self._channels.items()
        }
        if first_ns is not None and last_ns is not None:
            self.span_ns = (first_ns, last_ns)

    def _stored(self, wanted: dict[int, Channel]) -> Iterator[Record]:
        """Yield messages as they are stored, up to the damage that is known."""
        try:
            for number, logged_ns, data in self._raw():
                if number in wanted:
                    yield Record(wanted[number], logged_ns, data)
        except SourceError:
            return

    def _raw(self) -> Iterator[tuple[int, int, bytes]]:
        """Yield number of the channel, time and bytes of every message; note channels that turn up.

        Raises:
            SourceError: says where the file is damaged.
        """
        records = load("mcap.records")
        schemas: dict[int, Any] = {}
        position = len(_MAGIC)
        size = self.path.stat().st_size
        while True:
            self._file.seek(position)
            head = self._file.read(_RECORD.size)
            if head[:1] == b"\x0f":  # DataEnd
                return
            if len(head) < _RECORD.size:
                raise SourceError(f"the bag is cut after {position} bytes")
            code, length = _RECORD.unpack(head)
            if length > _LARGEST_CHUNK + 1024:
                raise SourceError(f"the bag is damaged at byte {position}")
            if position + _RECORD.size + length > size:
                raise SourceError(f"the bag is cut after {size} bytes, in the record at {position}")
            try:
                if code == _CHUNK:
                    inner = _inflated(records.Chunk.read(_stream(self._file.read(length))))
                    yield from self._within(inner, schemas)
                elif code in (0x03, 0x04, _MESSAGE):
                    yield from self._within(head + self._file.read(length), schemas)
            except Exception as error:  # fields that do not fit their record, or a chunk that is damaged
                raise SourceError(f"the bag is damaged at byte {position} ({error})") from None
            position += _RECORD.size + length

    def _within(self, data: bytes, schemas: dict[int, Any]) -> Iterator[tuple[int, int, bytes]]:
        """Yield the messages among records; note schemas and channels."""
        records = load("mcap.records")
        for code, body in _split(data):
            if code == 0x03:
                schema = records.Schema.read(_stream(body))
                schemas[schema.id] = schema
            elif code == 0x04:
                channel = records.Channel.read(_stream(body))
                if channel.id not in self._channels:
                    self._note(channel, schemas.get(channel.schema_id), 0)
            elif code == _MESSAGE:
                number, _, logged_ns, _ = _MESSAGE_HEAD.unpack_from(body)
                yield number, logged_ns, body[_MESSAGE_HEAD.size :]

    def _chunk_at(self, offset: int, wanted: dict[int, Channel]) -> list[Record]:
        """Return the messages of the chunk at a place in the file.

        Raises:
            SourceError: it is damaged.
        """
        found = []
        try:
            self._file.seek(offset)
            code, length = _RECORD.unpack(self._file.read(_RECORD.size))
            if code != _CHUNK or length > _LARGEST_CHUNK + 1024:
                raise SourceError("expected a chunk")
            chunk = load("mcap.records").Chunk.read(_stream(self._file.read(length)))
            for code, body in _split(_inflated(chunk)):
                if code == _MESSAGE:
                    number, _, logged_ns, _ = _MESSAGE_HEAD.unpack_from(body)
                    if number in wanted:
                        found.append(Record(wanted[number], logged_ns, body[_MESSAGE_HEAD.size :]))
        except Exception as error:  # SourceError, struct.error, what zstandard and lz4 raise, …
            raise SourceError(
                f"{self.path}: the bag is damaged at byte {offset} ({error}); all other messages were read"
            ) from None
        return found

    def _note(self, channel: Any, schema: Any, messages: int) -> None:
        """Add a channel of ROS messages; others, such as of protobuf, are left out."""
        ros = _ENCODINGS.get(channel.message_encoding)
        if ros is None or schema is None:
            return
        self._channels[channel.id] = Channel(
            channel.topic,
            _full_name(schema.name),
            messages,
            ros,
            schema.data.decode("utf-8", "replace"),
            schema.encoding,
            tuple(channel.metadata.items()),
        )


class McapWriter(Closable):
    """Writes an MCAP file of ROS 2 messages.

    A chunk ends after 1 MiB or `chunk_s` seconds, and is then handed to the system: a crash of the process
    costs no more than that.
    """

    def __init__(
        self, file: BinaryIO, *, chunk_s: float = 1.0, clock_s: Callable[[], float] = time.monotonic
    ) -> None:
        """Start the file.

        Args:
            file: open for writing and empty; `close` closes it.
            chunk_s: seconds after which a chunk ends.
            clock_s: the clock of these seconds.

        Raises:
            OSError: the disk is full or gone.
            ConfigError: the extra `ros` is not installed.
        """
        writer = load("mcap.writer")
        self._chunk_s, self._clock_s = chunk_s, clock_s
        self._file: BinaryIO | None = file
        self._writer = writer.Writer(self._file, chunk_size=1 << 20)
        if isinstance(getattr(self._writer, _INDEX, None), list):  # else that package has changed
            setattr(self._writer, _INDEX, _PackedIndex())
        self._writer.start(profile="ros2", library="edgeseg")
        self._schemas: dict[str, int] = {}
        self._numbers: dict[Channel, int] = {}
        self._written: Counter[Channel] = Counter()
        self._flush_due_s = clock_s() + chunk_s

    def write(self, channel: Channel, logged_ns: int, data: bytes) -> None:
        """Append a message.

        Args:
            channel: its topic; one with the same fields is the same.
            logged_ns: time at which it is played back, at least 0.
            data: its bytes, CDR.

        Raises:
            OSError: the disk is full or gone.
        """
        if channel not in self._numbers:
            self._numbers[channel] = self._add(channel)
        time_ns = max(0, logged_ns)
        self._writer.add_message(self._numbers[channel], time_ns, data, time_ns, self._written[channel])
        self._written[channel] += 1
        if self._clock_s() >= self._flush_due_s:
            self._writer.flush()
            self._flush_due_s = self._clock_s() + self._chunk_s

    def close(self) -> None:
        """Write the index and close the file.

        Raises:
            OSError: the disk is full or gone; all chunks that were written can be read.
        """
        if self._file is None:
            return
        file, self._file = self._file, None
        try:
            self._writer.finish()
            file.flush()
            os.fsync(file.fileno())
        finally:
            with suppress(OSError):  # what could not be written before cannot be now
                file.close()

    def _add(self, channel: Channel) -> int:
        """Add a topic, and its type where that is new; return its number."""
        if channel.type not in self._schemas:
            encoding, text = channel.definition_encoding, channel.definition
            if not text:
                encoding, text = "ros2msg", typestore().generate_msgdef(channel.type, ros_version=2)[0]
            self._schemas[channel.type] = self._writer.register_schema(channel.type, encoding, text.encode())
        schema = self._schemas[channel.type]
        number: int = self._writer.register_channel(channel.topic, "cdr", schema, dict(channel.metadata))
        return number


class _PackedIndex:
    """What the package's writer keeps of each chunk until its end: as bytes a fifth of its objects' memory.

    A robot's bag has two chunks a second, of 750 bytes each in a list: five megabytes an hour.
    """

    def __init__(self) -> None:
        self._new_builder = load("mcap.data_stream").RecordBuilder
        self._records = bytearray()
        self._ends = array("Q")

    def append(self, index: Any) -> None:
        builder = self._new_builder()
        index.write(builder)
        self._records += builder.end()
        self._ends.append(len(self._records))

    def __iter__(self) -> Iterator[_WrittenIndex]:
        start = 0
        for end in self._ends:
            yield _WrittenIndex(bytes(self._records[start:end]))
            start = end


class _WrittenIndex(NamedTuple):
    """A record that is written already."""

    data: bytes

    def write(self, builder: Any) -> None:
        """Append it to a package's builder."""
        builder.write(self.data)


def _full_name(name: str) -> str:
    """Return "package/msg/Type", where ROS 1 says "package/Type"."""
    package, _, kind = name.rpartition("/")
    return name if "/" in package or not package else f"{package}/msg/{kind}"


def _split(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield code and body of the records one after the other.

    Raises:
        SourceError: a record that is longer than what is left.
    """
    position, size = 0, len(data)
    while position < size:
        code, length = _RECORD.unpack_from(data, position)
        start = position + _RECORD.size
        if start + length > size:
            raise SourceError("a record is longer than its chunk")
        yield code, data[start : start + length]
        position = start + length


def _inflated(chunk: Any) -> bytes:
    """Return a chunk's records; however it was packed, never more than it says, nor than the limit.

    Raises:
        SourceError: it is damaged, too large, or packed in an unknown way.
    """
    size = chunk.uncompressed_size
    if size > _LARGEST_CHUNK:
        raise SourceError(f"a chunk of {size} bytes, expected at most {_LARGEST_CHUNK}")
    if chunk.compression == "zstd":
        with load("zstandard").ZstdDecompressor().stream_reader(chunk.data) as reader:
            data: bytes = reader.read(size + 1)
    elif chunk.compression == "lz4":
        data = load("lz4.frame").LZ4FrameDecompressor().decompress(chunk.data, size + 1)
    elif chunk.compression == "":
        data = chunk.data
    else:
        raise SourceError(f"packed by {chunk.compression!r}, expected zstd or lz4")
    if len(data) != size:
        raise SourceError(f"a chunk unpacks to {len(data)} bytes, expected {size}")
    if chunk.uncompressed_crc and zlib.crc32(data) != chunk.uncompressed_crc:
        raise SourceError("a chunk's checksum does not fit its bytes")
    return data


def _stream(data: bytes) -> Any:
    """Return bytes as the mcap package reads them."""
    return load("mcap.data_stream").ReadDataStream(io.BytesIO(data))
