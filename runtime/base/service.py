"""Tells systemd how the service does: ready, alive, stopping (the protocol of sd_notify(3))."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable, Mapping

logger = logging.getLogger(__name__)


class ServiceManager:
    """The service manager that started this process; without one, nothing is sent.

    systemd names its socket in `NOTIFY_SOCKET`, and in `WATCHDOG_USEC` after how many microseconds of silence
    it restarts the service.

    >>> ServiceManager({}).is_there
    False
    """

    def __init__(
        self, environ: Mapping[str, str] = os.environ, clock_ns: Callable[[], int] = time.monotonic_ns
    ) -> None:
        """Read what the service manager asks for."""
        address = environ.get("NOTIFY_SOCKET", "")
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        watched = environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        period_us = environ.get("WATCHDOG_USEC", "") if watched else ""
        # Twice as often as needed, as sd_watchdog_enabled(3) recommends.
        self._every_ns = int(period_us) * 1000 // 2 if period_us.isdecimal() else None
        self._clock_ns, self._next_ns = clock_ns, 0

    @property
    def is_there(self) -> bool:
        """Whether a service manager listens."""
        return bool(self._address)

    def ready(self) -> None:
        """Say that the service has started."""
        self._send("READY=1")

    def alive(self) -> None:
        """Say that the service works; call it as often as there is work."""
        if self._every_ns is not None and (now_ns := self._clock_ns()) >= self._next_ns:
            self._next_ns = now_ns + self._every_ns
            self._send("WATCHDOG=1")

    def stopping(self) -> None:
        """Say that the service ends."""
        self._send("STOPPING=1")

    def _send(self, message: str) -> None:
        if not self.is_there:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
                channel.setblocking(False)  # a manager that does not read must not hold up the loop
                channel.connect(self._address)
                channel.sendall(message.encode())
        except OSError as error:  # the loop is worth more than its report; systemd notices the silence
            logger.warning("cannot tell the service manager %s (%s)", message, error)
