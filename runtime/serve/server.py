"""The page's HTTP server: who is answered, how many, and by what."""

from __future__ import annotations

import socket
from collections.abc import Callable
from http import HTTPStatus

from runtime.serve.address import Address, Guard
from runtime.serve.board import Board
from runtime.serve.door import Door
from runtime.serve.gauges import Gauges
from runtime.serve.handler import PageHandler
from runtime.serve.viewfinder import Viewfinder


class PageServer(Board):
    """Answers in threads of its own until it is stopped; see `Door` for how many, and for whom.

    Small answers always fit into the connection's buffer, so only pictures can be held up by a client that
    does not read. They are bounded, and such a client is dropped after 10 s. A stream always sends the
    freshest picture.
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
        super().__init__(guard, gauges, viewfinder, alpha=alpha, control=control)
        self._door = Door(address, self._answer, self._health)
        self.port = self._door.port

    def stop(self) -> None:
        """Stop listening and drop all connections; a second call does nothing."""
        self.viewfinder.close()
        self._door.stop()

    def _answer(self, connection: socket.socket, head: bytes, peer: str) -> None:
        PageHandler(connection, head, peer, self)

    def _health(self) -> tuple[HTTPStatus, str]:
        """Answer a health check: no secret in it, since probes rarely can bring a token."""
        if self.gauges.is_healthy:
            return HTTPStatus.OK, "ok"
        return HTTPStatus.SERVICE_UNAVAILABLE, f"no fresh frame; source {self.gauges.state}"
