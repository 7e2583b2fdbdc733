"""What a bag is, whatever its format: topics, and messages in the order in which they were recorded."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from runtime.base.closing import Closable
from runtime.errors import SourceError
from runtime.ros.library import typestore

# rmw's numbers, which every release of rosbag2 reads: keep last, reliable, and volatile or transient local.
_QOS = """\
- history: 1
  depth: {depth}
  reliability: 1
  durability: {durability}
  deadline: {{sec: 9223372036, nsec: 854775807}}
  lifespan: {{sec: 9223372036, nsec: 854775807}}
  liveliness: 1
  liveliness_lease_duration: {{sec: 9223372036, nsec: 854775807}}
  avoid_ros_namespace_conventions: false
"""
# A channel's quality of service in its metadata: each message, or the latest for whoever comes late.
EACH = (("offered_qos_profiles", _QOS.format(depth=5, durability=2)),)
LATCHED = (("offered_qos_profiles", _QOS.format(depth=1, durability=1)),)


@dataclass(frozen=True)
class Channel:
    """A topic of a bag.

    Attributes:
        topic: its name.
        type: such as "sensor_msgs/msg/Image".
        count: messages in the bag.
        ros: 1 or 2, which serialised the messages.
        definition: text of the type, as the bag holds it; "" for none.
        definition_encoding: "ros2msg" or "ros2idl".
        metadata: what the bag says more of it, such as its quality of service.
    """

    topic: str
    type: str
    count: int
    ros: int = 2
    definition: str = ""
    definition_encoding: str = "ros2msg"
    metadata: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Record:
    """A message of a bag.

    Attributes:
        channel: its topic.
        logged_ns: when it was recorded, nanoseconds.
        data: its bytes.
    """

    channel: Channel
    logged_ns: int
    data: bytes

    def message(self) -> Any:
        """Return the message, by rosbags.

        Raises:
            SourceError: bytes that are no such message.
        """
        store, kind = typestore(self.channel.ros), self.channel.type
        read = store.deserialize_ros1 if self.channel.ros == 1 else store.deserialize_cdr
        try:
            return read(self.data, kind)
        except Exception as error:  # a stranger's bytes: struct.error, IndexError, ValueError, …
            raise SourceError(
                f"{self.channel.topic}: expected a {kind}, got {len(self.data)} bytes that are none "
                f"({type(error).__name__}: {error})"
            ) from None


class Bag(Closable, Protocol):
    """An open bag.

    Attributes:
        path: the file or folder.
        channels: its topics.
        span_ns: times of the first and the last message; None where there is none.
        damage: what is wrong with it; "" for nothing. What comes before the damage is read.
    """

    path: Path
    channels: tuple[Channel, ...]
    span_ns: tuple[int, int] | None
    damage: str

    @abstractmethod
    def records(self, topics: Collection[str]) -> Iterator[Record]:
        """Yield the messages of some topics in the order in which they were recorded.

        Raises:
            SourceError: what comes next is damaged; all before it was yielded.
        """
