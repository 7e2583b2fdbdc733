"""The segmenter as a managed node of ROS 2.

Written against the interface of rclpy (Humble and later) and tested with a fake of it, on message bytes that
rosbags serialises. It never ran inside ROS.

Messages go in and out as bytes (`raw=True`, and `publish(bytes)`), so that bags and the node share one way of
reading and building them, and rclpy's slow conversion of large arrays is not needed.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from runtime.base.flags import described_values, with_values
from runtime.errors import ConfigError, EdgesegError
from runtime.ros.cameras import camera_info_topic
from runtime.ros.images import DamagedPicture
from runtime.ros.topics import Topic
from runtime.ros.work import CAMERA_INFO, NAME, NodeOptions, Work


def ros_module(name: str) -> Any:
    """Import a module of ROS.

    Raises:
        ConfigError: it is not there.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ConfigError(
            f"the node needs ROS 2, but {name} cannot be imported ({error}); source ROS's setup.bash and "
            "use the Python that ROS was built for"
        ) from None


def run_node(options: NodeOptions, arguments: Sequence[str] = ()) -> None:
    """Run the node until ROS shuts it down.

    Args:
        options: what its parameters are unless ROS says otherwise.
        arguments: ROS's own, from `--ros-args` on.

    Raises:
        ConfigError: ROS is not there, or the node cannot be configured.
    """
    rclpy, executors = ros_module("rclpy"), ros_module("rclpy.executors")
    rclpy.init(args=list(arguments))
    node = make_node(options)
    try:
        if not node.get_parameter("managed").value:
            success = ros_module("rclpy.lifecycle").TransitionCallbackReturn.SUCCESS
            if node.trigger_configure() != success or node.trigger_activate() != success:
                raise ConfigError(f"the node cannot start: {node.problem or 'see its log'}")
        rclpy.spin(node)
    except (KeyboardInterrupt, executors.ExternalShutdownException):
        pass
    finally:
        node.destroy_node()
        rclpy.try_shutdown()


def make_node(options: NodeOptions) -> Any:
    """Return the node, not configured; `rclpy.init` comes before.

    Raises:
        ConfigError: ROS is not there.
    """
    lifecycle, qos = ros_module("rclpy.lifecycle"), ros_module("rclpy.qos")
    base: Any = lifecycle.LifecycleNode
    success = lifecycle.TransitionCallbackReturn.SUCCESS
    failure = lifecycle.TransitionCallbackReturn.FAILURE
    newest = qos.QoSProfile(  # the freshest picture, as sensors send them
        history=qos.HistoryPolicy.KEEP_LAST,
        depth=1,
        reliability=qos.ReliabilityPolicy.BEST_EFFORT,
        durability=qos.DurabilityPolicy.VOLATILE,
    )

    def offered(topic: Topic) -> Any:
        return qos.QoSProfile(
            history=qos.HistoryPolicy.KEEP_LAST,
            depth=1,
            reliability=qos.ReliabilityPolicy.RELIABLE,
            durability=qos.DurabilityPolicy.TRANSIENT_LOCAL
            if topic.latched
            else qos.DurabilityPolicy.VOLATILE,
        )

    class Node(base):  # type: ignore[misc]  # rclpy is not here when types are checked
        def __init__(self) -> None:
            super().__init__(NAME)
            self.problem = ""
            self.work: Work | None = None
            self._options = options
            self._publishers_of: dict[Topic, Any] = {}
            self._subscriptions_of: list[Any] = []
            descriptor = ros_module("rcl_interfaces.msg").ParameterDescriptor
            for name, value, help_text in described_values(options):
                self.declare_parameter(name, _as_parameter(name, value), descriptor(description=help_text))
            diagnostics = ros_module("diagnostic_msgs.msg").DiagnosticArray
            self._diagnostics = self.create_publisher(diagnostics, "/diagnostics", 10)
            self.create_timer(1.0, self._tell)

        def on_configure(self, state: Any) -> Any:
            try:
                self._options = _from_parameters(options, self)
                self.work = Work(self._options)
            except EdgesegError as error:
                self.problem = str(error)
                self.get_logger().error(self.problem)
                return failure
            self.problem = ""
            for topic in self.work.topics:
                kind = message_class(topic.type)
                self._publishers_of[topic] = self.create_lifecycle_publisher(kind, topic.name, offered(topic))
            return super().on_configure(state)

        def on_activate(self, state: Any) -> Any:
            answer = super().on_activate(state)  # publishers first
            assert self.work is not None
            topic = self._options.image_topic
            self._listen(self.work.image_type, topic, self._on_image)
            if self._options.height_m:
                self._listen(CAMERA_INFO, camera_info_topic(topic), self._on_camera_info)
            self._publish(self.work.latched(self._now_ns()))
            return answer

        def on_deactivate(self, state: Any) -> Any:
            self._be_deaf()
            return super().on_deactivate(state)

        def on_cleanup(self, state: Any) -> Any:
            self._free()
            return super().on_cleanup(state)

        def on_shutdown(self, state: Any) -> Any:
            self._free()
            return super().on_shutdown(state)

        def on_error(self, state: Any) -> Any:
            self._free()
            return success

        def destroy_node(self) -> None:
            self._free()
            super().destroy_node()

        def _listen(self, kind: str, topic: str, callback: Any) -> None:
            self._subscriptions_of.append(
                self.create_subscription(message_class(kind), topic, callback, newest, raw=True)
            )

        def _be_deaf(self) -> None:
            for subscription in self._subscriptions_of:
                self.destroy_subscription(subscription)
            self._subscriptions_of.clear()

        def _free(self) -> None:
            self._be_deaf()
            for publisher in self._publishers_of.values():
                self.destroy_lifecycle_publisher(publisher)
            self._publishers_of.clear()
            if self.work is not None:
                self.work.close()
                self.work = None

        def _on_image(self, data: bytes) -> None:
            if self.work is None:
                return
            wanted = [
                topic
                for topic, publisher in self._publishers_of.items()
                if publisher.get_subscription_count()
            ]
            try:
                self._publish(self.work.answer(data, wanted))
            except DamagedPicture as error:
                self.get_logger().warning(f"picture dropped: {error}")
            except EdgesegError as error:
                self.problem = str(error)
                self.get_logger().error(self.problem)
            else:
                self.problem = ""

        def _on_camera_info(self, data: bytes) -> None:
            if self.work is None:
                return
            try:
                self._publish(self.work.learn_camera(data))
            except EdgesegError as error:
                self.problem = str(error)
                self.get_logger().error(self.problem)

        def _publish(self, found: Sequence[tuple[Topic, bytes]]) -> None:
            for topic, data in found:
                self._publishers_of[topic].publish(data)

        def _tell(self) -> None:
            if self.work is not None:
                self._diagnostics.publish(self.work.diagnostics(self._now_ns(), self.problem))

        def _now_ns(self) -> int:
            return int(self.get_clock().now().nanoseconds)

    return Node()


def message_class(kind: str) -> Any:
    """Return ROS's class of a type such as sensor_msgs/msg/Image.

    Raises:
        ConfigError: its package is not installed.
    """
    package, _, name = kind.split("/")
    return getattr(ros_module(f"{package}.msg"), name)


def _as_parameter(name: str, value: Any) -> Any:
    """Return a value in a form that a parameter can have, of one type for ever: no None, no empty list."""
    if value is None:
        return 0 if name == "threads" else ""
    if isinstance(value, Path):
        return str(value)
    return (list(value) or [""]) if isinstance(value, tuple) else value


def _from_parameters(options: NodeOptions, node: Any) -> NodeOptions:
    """Return the options that a node's parameters say.

    Raises:
        ConfigError: values that cannot be.
    """
    values: dict[str, Any] = {}
    for name, default, _ in described_values(options):
        value = node.get_parameter(name).value
        if isinstance(default, tuple):
            values[name] = tuple(one for one in value if one != "")
        elif name == "model":
            values[name] = Path(value) if value else None
        elif name == "threads":
            values[name] = int(value) if value else None
        else:
            values[name] = value
    return with_values(options, values)
