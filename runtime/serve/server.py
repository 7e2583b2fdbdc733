"""The page's HTTP server: who is answered, how many, and by what."""

from __future__ import annotations

import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus

from runtime.serve.address import Address, Guard, is_loopback_host
from runtime.serve.door import Door
from runtime.serve.gauges import Gauges
from runtime.serve.handler import PageHandler
from runtime.serve.viewfinder import Viewfinder

MAX_VIEWERS = 24  # pictures and streams that are under way
MAX_VIEWERS_OF_PEER = 12


class PageServer:
    """Answers in threads of its own until it is stopped; see `Door` for how many, and for whom.

    Small answers always fit into the connection's buffer, so only pictures can be held up by a client that
    does not read. They are bounded, and such a client is dropped after 10 s. A stream always sends the
    freshest picture.

    Attributes:
        guard: who is answered.
        gauges: the numbers.
        viewfinder: the pictures.
        alpha: share of the class colour that the page begins with, 0 to 1.
        control: pauses (True) or resumes the output of a number; tells whether there is such a one.
        streams: that are open.
    """

    def __init__(
        self,
        address: Address,
        guard: Guard,
        gauges: Gauges,
        viewfinder: Viewfinder,
        *,
        alpha: float = 0.5,
        control: Callable[[int, bool], bool] = lambda number, pause: False,
    ) -> None:
        """Start to listen.

        Raises:
            OSError: it cannot listen on the address.
        """
        self.guard = guard
        self.gauges = gauges
        self.viewfinder = viewfinder
        self.alpha = alpha
        self.control = control
        self.streams = 0
        self._lock = threading.Lock()  # guards streams and the next
        self._viewers: Counter[str] = Counter()
        self._door = Door(address, self._answer, self._health)
        self.port = self._door.port

    def stop(self) -> None:
        """Stop listening and drop all connections; a second call does nothing."""
        self.viewfinder.close()
        self._door.stop()

    @contextmanager
    def viewing(self, peer: str, *, stream: bool = False) -> Iterator[bool]:
        """Hold a viewer's place while the block runs; yields whether there was one."""
        most = MAX_VIEWERS if is_loopback_host(peer) else min(MAX_VIEWERS, MAX_VIEWERS_OF_PEER)
        with self._lock:  # a proxy or a tunnel brings everybody from loopback
            has_place = self._viewers.total() < MAX_VIEWERS and self._viewers[peer] < most
            self._viewers[peer] += has_place
            self.streams += has_place and stream
        try:
            yield has_place
        finally:
            with self._lock:
                self._viewers[peer] -= has_place
                self.streams -= has_place and stream
                if not self._viewers[peer]:
                    del self._viewers[peer]

    def _answer(self, connection: socket.socket, head: bytes, peer: str) -> None:
        PageHandler(connection, head, peer, self)

    def _health(self) -> tuple[HTTPStatus, str]:
        """Answer a health check: no secret in it, since probes rarely can bring a token."""
        if self.gauges.is_healthy:
            return HTTPStatus.OK, "ok"
        return HTTPStatus.SERVICE_UNAVAILABLE, f"no fresh frame; source {self.gauges.state}"
