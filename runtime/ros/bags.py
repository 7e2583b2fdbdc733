"""Recordings of ROS: MCAP, SQLite and ROS 1 bags, whole or damaged, read message by message.

    drive.mcap                 ROS 2, one file
    drive/ (metadata.yaml, …)  ROS 2, a folder of .mcap or .db3 files, with or without its metadata
    drive.db3                  ROS 2, one SQLite file
    drive.bag                  ROS 1

A bag that was cut, by a crash or a full disk, lacks the index at its end. It is read from its start as far as
it goes, and only then comes an error. At no time is more than a chunk or two of it in memory.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from runtime.errors import SourceError
from runtime.ros.bag import LATCHED, Bag, Channel, Record
from runtime.ros.library import load
from runtime.ros.mcap_files import McapFile
from runtime.ros.ros1_files import CutRos1Bag

SUFFIXES = (".mcap", ".db3", ".bag")


def is_bag(path: Path) -> bool:
    """Whether a path looks like a bag: by its ending, or a folder that holds such files."""
    if path.is_dir():
        return (path / "metadata.yaml").is_file() or bool(_files_in(path))
    return path.suffix.lower() in SUFFIXES


def open_bag(path: str | Path) -> Bag:
    """Open a bag.

    Raises:
        SourceError: no such file, or one that is no bag.
        ConfigError: the extra `ros` is not installed.
    """
    path = Path(path)
    if not path.exists():
        raise SourceError(f"{path}: expected a bag, found no such file; check the path")
    if path.is_dir():
        return _open_folder(path)
    if path.suffix.lower() not in SUFFIXES:
        raise SourceError(f"{path}: expected a bag that ends in {', '.join(SUFFIXES)}")
    return _open_file(path)


def _open_file(path: Path) -> Bag:
    """Open one file of a bag."""
    if path.suffix.lower() == ".mcap":
        return McapFile(path)
    if path.suffix.lower() == ".bag":
        try:
            return _ByRosbags(path, load("rosbags.rosbag1").Reader(path), ros=1)
        except SourceError as error:
            return CutRos1Bag(path, str(error))
    return _ByRosbags(path, load("rosbags.rosbag2").Reader(path), ros=2)


def _open_folder(path: Path) -> Bag:
    """Open a folder by its metadata, or where that is missing or damaged, file by file."""
    problem = "metadata.yaml is missing"
    if (path / "metadata.yaml").is_file():
        try:
            return _ByRosbags(path, load("rosbags.rosbag2").Reader(path), ros=2)
        except SourceError as error:
            problem = str(error)
    files = _files_in(path)
    if not files:
        raise SourceError(f"{path}: expected a folder of .mcap or .db3 files, found none ({problem})")
    return _Files(path, [_open_file(file) for file in files])


def _files_in(folder: Path) -> list[Path]:
    """Return a folder's storage files as they were recorded: drive_9 comes before drive_10."""
    found = [file for file in folder.iterdir() if file.suffix.lower() in (".mcap", ".db3")]

    def order(file: Path) -> list[tuple[int, str]]:
        parts = re.split(r"(\d+)", file.name)
        return [(int(part), "") if part.isdecimal() else (0, part) for part in parts]

    return sorted(found, key=order)


class _ByRosbags(Bag):
    """A bag that rosbags reads: SQLite, ROS 1 with its index, and folders with metadata."""

    def __init__(self, path: Path, reader: Any, ros: int) -> None:
        self.path, self.damage = path, ""
        self._reader = reader
        try:
            reader.open()
            self._connections = list(reader.connections)
            count = reader.message_count
            # Both readers give the time after the last message.
            self.span_ns = (reader.start_time, reader.end_time - 1) if count else None
        except Exception as error:  # rosbags' own errors, and what damaged files make of it
            with suppress(Exception):
                reader.close()
            raise SourceError(f"{path}: expected a bag, cannot read it ({_told(error)})") from None
        self.channels = tuple(_channel_of(connection, ros) for connection in self._connections)
        self._is_open = True

    def records(self, topics: Collection[str]) -> Iterator[Record]:
        wanted = {
            connection.id: (connection, channel)
            for connection, channel in zip(self._connections, self.channels, strict=True)
            if channel.topic in topics
        }
        if not wanted:
            return
        chosen = [connection for connection, _ in wanted.values()]
        try:
            for connection, logged_ns, data in self._reader.messages(chosen):
                yield Record(wanted[connection.id][1], logged_ns, data)
        except Exception as error:  # as above; apsw's and zstd's errors come through rosbags as they are
            raise SourceError(
                f"{self.path}: the bag is damaged ({_told(error)}); all messages before were read"
            ) from None

    def close(self) -> None:
        if self._is_open:
            self._is_open = False
            self._reader.close()


class _Files(Bag):
    """The files of a folder without metadata, one after the other."""

    def __init__(self, path: Path, files: list[Bag]) -> None:
        self.path = path
        self._files = files
        merged: dict[tuple[str, str], Channel] = {}
        for file in files:
            for channel in file.channels:
                before = merged.get((channel.topic, channel.type))
                count = channel.count + (before.count if before else 0)
                merged[channel.topic, channel.type] = dataclasses.replace(before or channel, count=count)
        self.channels = tuple(merged.values())
        spans = [file.span_ns for file in files if file.span_ns is not None]
        self.span_ns = (min(low for low, _ in spans), max(high for _, high in spans)) if spans else None
        self.damage = next((file.damage for file in files if file.damage), "")

    def records(self, topics: Collection[str]) -> Iterator[Record]:
        problem: SourceError | None = None
        for file in self._files:
            try:
                yield from file.records(topics)
            except SourceError as error:
                problem = problem or error
        if problem is not None:
            raise problem

    def close(self) -> None:
        for file in self._files:
            file.close()


def _channel_of(connection: Any, ros: int) -> Channel:
    """Return what rosbags says of a topic."""
    is_idl = connection.msgdef.format.name == "IDL"
    profiles = getattr(connection.ext, "offered_qos_profiles", None)
    metadata: tuple[tuple[str, str], ...] = LATCHED if getattr(connection.ext, "latching", None) else ()
    if profiles:
        metadata = (("offered_qos_profiles", load("rosbags.rosbag2.metadata").dump_qos_v8(profiles)),)
    return Channel(
        connection.topic,
        connection.msgtype,
        connection.msgcount,
        ros,
        connection.msgdef.data,
        "ros2idl" if is_idl else "ros2msg",
        metadata,
    )


def _told(error: Exception) -> str:
    """Return what a library's error says, in one line."""
    return " ".join(str(error).split()) or type(error).__name__
