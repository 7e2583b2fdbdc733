"""As much of rclpy as the node uses, with its names and rules, but without ROS: topics are lists of bytes."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Callable
from enum import Enum
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest


class Policy(Enum):
    KEEP_LAST = 1
    RELIABLE = 2
    BEST_EFFORT = 3
    VOLATILE = 4
    TRANSIENT_LOCAL = 5


class Answer(Enum):
    SUCCESS = 97
    FAILURE = 98
    ERROR = 99


class ExternalShutdownException(Exception):
    pass


class Publisher:
    def __init__(self, world: World, kind: type, topic: str, profile: Any, is_managed: bool) -> None:
        self.kind, self.topic, self.profile = kind, topic, profile
        self._world, self.is_active = world, not is_managed

    def publish(self, message: bytes) -> None:
        if not isinstance(message, bytes | self.kind):
            raise TypeError(f"Expected {self.kind}, got {type(message)}")
        if self.is_active:  # a managed publisher drops what it gets before
            self._world.published[self.topic].append(message)

    def get_subscription_count(self) -> int:
        return self._world.listeners[self.topic]


class LifecycleNode:
    """Configures, activates and cleans up as rclpy.lifecycle.LifecycleNode does."""

    def __init__(self, node_name: str) -> None:
        self.name = node_name
        self.world = World.current
        self.world.nodes.append(self)
        self.state = "unconfigured"
        self._parameters: dict[str, Any] = {}
        self._managed: list[Publisher] = []

    def declare_parameter(self, name: str, value: Any, descriptor: Any) -> None:
        assert name not in self._parameters
        assert descriptor.description
        kinds = {type(one) for one in value} if isinstance(value, list) else {type(value)}
        assert kinds <= {bool, int, float, str}, name
        assert value != [], f"{name}: rclpy takes an empty list for one of bytes"
        given = self.world.parameters.get(name, value)
        assert type(given) is type(value), name
        self._parameters[name] = given

    def get_parameter(self, name: str) -> Any:
        return SimpleNamespace(value=self._parameters[name])

    def create_publisher(self, kind: type, topic: str, profile: Any) -> Publisher:
        return self._publisher(kind, topic, profile, False)

    def create_lifecycle_publisher(self, kind: type, topic: str, profile: Any) -> Publisher:
        publisher = self._publisher(kind, topic, profile, True)
        self._managed.append(publisher)
        return publisher

    def destroy_lifecycle_publisher(self, publisher: Publisher) -> None:
        self._managed.remove(publisher)
        del self.world.publishers[publisher.topic]

    def create_subscription(self, kind: type, topic: str, callback: Any, profile: Any, *, raw: bool) -> Any:
        assert raw
        subscription = SimpleNamespace(kind=kind, topic=topic, callback=callback, profile=profile)
        self.world.subscriptions[topic] = subscription
        return subscription

    def destroy_subscription(self, subscription: Any) -> None:
        del self.world.subscriptions[subscription.topic]

    def create_timer(self, period_s: float, callback: Callable[[], None]) -> None:
        self.world.timers.append(callback)

    def get_logger(self) -> Any:
        note = self.world.said.append
        return SimpleNamespace(info=note, warning=note, error=note)

    def get_clock(self) -> Any:
        return SimpleNamespace(now=lambda: SimpleNamespace(nanoseconds=1_700_000_000_000_000_000))

    def on_configure(self, state: Any) -> Answer:
        return Answer.SUCCESS

    def on_activate(self, state: Any) -> Answer:
        for publisher in self._managed:
            publisher.is_active = True
        return Answer.SUCCESS

    def on_deactivate(self, state: Any) -> Answer:
        for publisher in self._managed:
            publisher.is_active = False
        return Answer.SUCCESS

    def on_cleanup(self, state: Any) -> Answer:
        return Answer.SUCCESS

    def on_shutdown(self, state: Any) -> Answer:
        return Answer.SUCCESS

    def trigger_configure(self) -> Answer:
        return self._change("unconfigured", self.on_configure, "inactive")

    def trigger_activate(self) -> Answer:
        return self._change("inactive", self.on_activate, "active")

    def trigger_deactivate(self) -> Answer:
        return self._change("active", self.on_deactivate, "inactive")

    def trigger_cleanup(self) -> Answer:
        return self._change("inactive", self.on_cleanup, "unconfigured")

    def trigger_shutdown(self) -> Answer:
        return self._change(self.state, self.on_shutdown, "finalized")

    def destroy_node(self) -> None:
        self.state = "destroyed"

    def _publisher(self, kind: type, topic: str, profile: Any, is_managed: bool) -> Publisher:
        publisher = Publisher(self.world, kind, topic, profile, is_managed)
        self.world.publishers[topic] = publisher
        return publisher

    def _change(self, before: str, callback: Callable[[Any], Answer], after: str) -> Answer:
        assert self.state == before
        answer = callback(SimpleNamespace(label=before))
        if answer is Answer.SUCCESS:
            self.state = after
        return answer


class World:
    """What there is outside of the node.

    Attributes:
        parameters: that were given from outside.
        listeners: subscribers of each topic.
        published: bytes by topic.
        during_spin: what happens while the node runs.
    """

    current: World

    def __init__(self) -> None:
        World.current = self
        self.parameters: dict[str, Any] = {}
        self.listeners: defaultdict[str, int] = defaultdict(lambda: 1)
        self.published: defaultdict[str, list[bytes]] = defaultdict(list)
        self.publishers: dict[str, Publisher] = {}
        self.subscriptions: dict[str, Any] = {}
        self.timers: list[Callable[[], None]] = []
        self.nodes: list[LifecycleNode] = []
        self.said: list[str] = []
        self.ended: list[str] = []
        self.arguments: list[str] | None = None
        self.during_spin: Callable[[], None] = lambda: None

    def send(self, topic: str, data: bytes) -> None:
        self.subscriptions[topic].callback(data)

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def module(name: str, **members: Any) -> None:
            made = ModuleType(name)
            vars(made).update(members)
            monkeypatch.setitem(sys.modules, name, made)

        def init(args: list[str]) -> None:
            self.arguments = args

        def spin(node: LifecycleNode) -> None:
            self.during_spin()
            raise ExternalShutdownException

        module("rclpy", init=init, spin=spin, try_shutdown=lambda: self.ended.append("shutdown"))
        module("rclpy.executors", ExternalShutdownException=ExternalShutdownException)
        module("rclpy.lifecycle", LifecycleNode=LifecycleNode, TransitionCallbackReturn=Answer)
        policies = dict.fromkeys(("HistoryPolicy", "ReliabilityPolicy", "DurabilityPolicy"), Policy)
        module("rclpy.qos", QoSProfile=SimpleNamespace, **policies)
        module("rcl_interfaces.msg", ParameterDescriptor=SimpleNamespace)
        for package, kinds in {
            "sensor_msgs": ("Image", "CompressedImage", "CameraInfo", "LaserScan", "PointCloud2"),
            "vision_msgs": ("LabelInfo",),
            "nav_msgs": ("OccupancyGrid",),
            "tf2_msgs": ("TFMessage",),
            "diagnostic_msgs": ("DiagnosticArray",),
        }.items():
            module(f"{package}.msg", **{kind: type(kind, (), {}) for kind in kinds})
