"""Turns messages of ROS 1 into those of ROS 2, to copy them into a bag of ROS 2."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from runtime.errors import SourceError
from runtime.ros.bag import Channel, Record
from runtime.ros.library import load, new_typestore

_Convert = Callable[[bytes], Any]


class FromRos1:
    """Records of ROS 2 for those of ROS 1; those of ROS 2 stay as they are.

    Fields go by their names: what ROS 2 no longer has, such as a header's seq, is left out. A type that ROS 2
    does not know is defined as the bag defines it.
    """

    def __init__(self) -> None:
        """Know no topic yet."""
        self._known: dict[Channel, tuple[Channel, _Convert]] = {}
        self._from: Any = None
        self._to: Any = None
        self._cache: dict[str, object] = {}

    def __call__(self, record: Record) -> Record:
        """Return the record of ROS 2.

        Raises:
            SourceError: a type that the bag does not define, or bytes that are no such message.
        """
        if record.channel.ros == 2:
            return record
        try:
            if record.channel not in self._known:
                self._known[record.channel] = self._plan(record.channel)
            channel, convert = self._known[record.channel]
            return Record(channel, record.logged_ns, bytes(convert(record.data)))
        except Exception as error:  # a stranger's bytes and definitions: whatever rosbags makes of them
            raise SourceError(
                f"{record.channel.topic}: expected a {record.channel.type} of ROS 1, got what cannot be "
                f"read as one ({type(error).__name__}: {error})"
            ) from None

    def _plan(self, old: Channel) -> tuple[Channel, _Convert]:
        """Return a topic as it is in ROS 2, and what turns its messages into those."""
        converter = load("rosbags.convert.converter")
        if self._from is None:
            self._from, self._to = new_typestore(1), new_typestore(2)
        kind = converter.STATIC_MSGTYPE_RENAMES.get(old.type, old.type)
        for store, name in ((self._from, old.type), (self._to, kind)):
            if name not in store.fielddefs:
                types = load("rosbags.typesys").get_types_from_msg(old.definition, name)
                store.register({each: of for each, of in types.items() if each not in store.fielddefs})
        new = replace(
            old,
            type=kind,
            ros=2,
            definition=self._to.generate_msgdef(kind, ros_version=2)[0],
            definition_encoding="ros2msg",
        )
        stores = self._from, self._to, old.type, kind
        if converter.is_same_wireformat(*stores):
            return new, partial(self._to.ros1_to_cdr, typename=kind)
        return new, partial(converter.migrate_bytes, *stores, self._cache, src_is2=False, dst_is2=True)
