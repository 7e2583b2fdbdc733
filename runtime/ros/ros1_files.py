"""Reads ROS 1 bags that lack their index, such as .bag.active files, from start to end.

The format is http://wiki.ros.org/Bags/Format/2.0: records of a header and data; chunks of such records.
"""

from __future__ import annotations

import dataclasses
import io
import re
import struct
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from runtime.errors import SourceError
from runtime.ros.bag import LATCHED, Bag, Channel, Record
from runtime.ros.library import load

_LARGEST_RECORD = 1 << 30
_MESSAGE, _CHUNK, _CONNECTION = b"\x02", b"\x05", b"\x07"


class CutRos1Bag(Bag):
    """A ROS 1 bag without an index."""

    def __init__(self, path: Path, problem: str) -> None:
        """Read it through.

        Args:
            path: the file.
            problem: why it cannot be read by its index.

        Raises:
            SourceError: the problem, where it is no ROS 1 bag at all.
        """
        self.path = path
        self._channels: dict[int, Channel] = {}
        counts: Counter[int] = Counter()
        low_ns = high_ns = None
        with path.open("rb") as file:
            if not re.match(rb"#ROSBAG V2\.0\n", file.read(13)):
                raise SourceError(problem)
        self.damage = "the bag has no index at its end; run rosbag reindex on it"
        try:
            for number, logged_ns, _ in self._raw():
                counts[number] += 1
                low_ns = logged_ns if low_ns is None else min(low_ns, logged_ns)
                high_ns = logged_ns if high_ns is None else max(high_ns, logged_ns)
        except SourceError as error:
            self.damage = str(error)
        if not counts:
            raise SourceError(problem)
        self._channels = {
            number: dataclasses.replace(channel, count=counts[number])
            for number, channel in self._channels.items()
        }
        self.channels = tuple(self._channels.values())
        self.span_ns = None if low_ns is None or high_ns is None else (low_ns, high_ns)

    def records(self, topics: Collection[str]) -> Iterator[Record]:
        """Yield messages as they are stored, then the error; see `Bag`."""
        try:
            for number, logged_ns, data in self._raw():
                channel = self._channels.get(number)
                if channel is not None and channel.topic in topics:
                    yield Record(channel, logged_ns, data)
        except SourceError:
            pass
        raise SourceError(f"{self.path}: {self.damage}; all messages before were read")

    def close(self) -> None:
        """Do nothing: the file is open only while it is read."""

    def _raw(self) -> Iterator[tuple[int, int, bytes]]:
        """Yield connection, time and bytes of every message; note connections that turn up.

        Raises:
            SourceError: says where the bag is cut.
        """
        with self.path.open("rb") as file:
            file.seek(13)
            yield from self._within(file)

    def _within(self, file: BinaryIO, is_chunk: bool = False) -> Iterator[tuple[int, int, bytes]]:
        while True:
            position = file.tell()
            try:
                header = _fields(_sized(file))
                data = _sized(file)
            except EOFError:
                if is_chunk or file.seek(0, io.SEEK_END) == position:
                    return
                raise SourceError(f"the bag is cut at byte {position}") from None
            except ValueError as error:
                raise SourceError(f"the bag is damaged at byte {position} ({error})") from None
            kind = header.get(b"op")
            try:
                if kind == _MESSAGE:
                    number, seconds, nanoseconds = struct.unpack("<III", header[b"conn"] + header[b"time"])
                    yield number, seconds * 1_000_000_000 + nanoseconds, data
                elif kind == _CONNECTION:
                    self._note(header, _fields(data))
                elif kind == _CHUNK and not is_chunk:
                    unpack = load("rosbags.rosbag1.reader").decompressors[header[b"compression"].decode()]
                    yield from self._within(io.BytesIO(unpack(data)), is_chunk=True)
            except SourceError:
                raise
            except Exception as error:  # a header that lacks a field, or a packed chunk that is damaged
                raise SourceError(f"the bag is damaged at byte {position} ({error!r})") from None

    def _note(self, header: Mapping[bytes, bytes], more: Mapping[bytes, bytes]) -> None:
        (number,) = struct.unpack("<I", header[b"conn"])
        package, _, kind = more[b"type"].decode().partition("/")
        topic, definition = header[b"topic"].decode(), more[b"message_definition"].decode()
        metadata = LATCHED if more.get(b"latching") == b"1" else ()
        channel = Channel(topic, f"{package}/msg/{kind}", 0, 1, definition, metadata=metadata)
        self._channels.setdefault(number, channel)


def _sized(file: BinaryIO) -> bytes:
    """Read a length and so many bytes.

    Raises:
        EOFError: the file ends before.
        ValueError: a length that cannot be.
    """
    head = file.read(4)
    if len(head) < 4:
        raise EOFError
    (length,) = struct.unpack("<I", head)
    if length > _LARGEST_RECORD:
        raise ValueError(f"a record of {length} bytes")
    data = file.read(length)
    if len(data) < length:
        raise EOFError
    return data


def _fields(data: bytes) -> dict[bytes, bytes]:
    """Return a header's fields."""
    fields: dict[bytes, Any] = {}
    file = io.BytesIO(data)
    while file.tell() < len(data):
        name, equals, value = _sized(file).partition(b"=")
        if not equals:
            raise ValueError("a header field without a value")
        fields[name] = value
    return fields
