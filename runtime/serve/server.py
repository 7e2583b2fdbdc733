"""The page's HTTP server: an output of the loop that never makes the loop wait."""

from __future__ import annotations

import logging
import socket
import sys
import threading
from contextlib import suppress
from http.server import ThreadingHTTPServer
from typing import Any

from runtime.contract import ModelContract
from runtime.errors import ConfigError, OutputError
from runtime.loop import Step
from runtime.outputs.output import Output
from runtime.serve.address import Address, Guard
from runtime.serve.gauges import Gauges
from runtime.serve.handler import PageHandler
from runtime.serve.viewfinder import Viewfinder
from runtime.sources import Source

logger = logging.getLogger(__name__)

MAX_CONNECTIONS = 24
_POLL_S = 0.1
_CLOSE_WAIT_S = 2.0
_BUSY = b"HTTP/1.0 503 Service Unavailable\r\nConnection: close\r\nRetry-After: 5\r\n\r\ntoo many viewers\n"


class PageServer(Output):
    """Serves the page and its data until it is closed.

    The loop's thread does no more than put each step into a slot. Every connection has a thread, at most
    `MAX_CONNECTIONS`; a stream always sends the freshest picture, and a client that does not read for 10 s
    is dropped. Pictures are drawn and encoded only while somebody watches.

    Attributes:
        address: what it listens on, with the port that the system chose where 0 was asked for.
    """

    def __init__(
        self,
        address: Address,
        contract: ModelContract,
        source: Source,
        *,
        token: str | None = None,
        alpha: float = 0.5,
        source_name: str = "",
    ) -> None:
        """Start to listen.

        Args:
            address: a loopback address, or any other together with a token.
            contract: of the network.
            source: asked for its status.
            token: what every request must bring, as header `Authorization: Bearer`, as query `token=` or
                as the cookie that the page sets; never logged.
            alpha: share of the class colour that the page begins with, 0 to 1.
            source_name: what the page calls the source; free of passwords.

        Raises:
            OutputError: an address that cannot be listened on, needs a token, or a token that is too weak.
            ConfigError: alpha outside 0 to 1.
        """
        if not 0.0 <= alpha <= 1.0:
            raise ConfigError(f"page: expected an alpha from 0 to 1, got {alpha}")
        guard = Guard(address, token)
        self._gauges = Gauges(contract, source, source_name=source_name)
        self._viewfinder = Viewfinder(contract.classes)
        try:
            self._http = HttpServer(address, guard, self._gauges, self._viewfinder, alpha)
        except OSError as error:
            raise OutputError(
                f"page on {address}: cannot listen there ({error.strerror or error}); choose another port, "
                "or stop the program that uses it"
            ) from None
        self.address = Address(address.host, self._http.server_address[1])
        self._thread = threading.Thread(
            target=self._http.serve_forever, args=(_POLL_S,), name="page server", daemon=True
        )
        self._thread.start()

    @property
    def url(self) -> str:
        """The page's address for a browser, without the token."""
        return f"http://{self.address}/"

    def __call__(self, step: Step) -> None:
        """Take a step."""
        self._gauges.put(step)
        self._viewfinder.put(step)

    def close(self) -> None:
        """Stop listening and drop all connections."""
        self._viewfinder.close()
        if self._thread.is_alive():
            self._http.shutdown()
        self._thread.join(_CLOSE_WAIT_S)
        self._http.server_close()
        self._http.drop_connections()


class HttpServer(ThreadingHTTPServer):
    """A threading server with a limit on threads, whose connections can be dropped all at once.

    Attributes:
        guard: who is answered.
        gauges: the numbers.
        viewfinder: the pictures.
        alpha: that the page begins with.
        viewers: streams that are open.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(
        self, address: Address, guard: Guard, gauges: Gauges, viewfinder: Viewfinder, alpha: float
    ) -> None:
        """Listen."""
        self.address_family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        self.guard = guard
        self.gauges = gauges
        self.viewfinder = viewfinder
        self.alpha = alpha
        self.viewers = 0
        self.lock = threading.Lock()  # guards viewers and what follows
        self._open: dict[socket.socket, threading.Thread] = {}
        super().__init__((address.host, address.port), PageHandler)

    def server_bind(self) -> None:
        """Bind, without the look-up of the own name in the network that http.server does."""
        # ThreadingHTTPServer's own would ask DNS for the machine's name, which takes seconds offline.
        if sys.platform != "win32":  # there it would let a second server share the port
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = "edgeseg", self.server_address[1]

    def process_request(self, request: Any, client_address: Any) -> None:
        """Start a thread for a connection, or turn it away."""
        thread = threading.Thread(
            target=self.process_request_thread,
            args=(request, client_address),
            name="page viewer",
            daemon=True,
        )
        with self.lock:
            is_full = len(self._open) >= MAX_CONNECTIONS
            if not is_full:
                self._open[request] = thread
        if is_full:
            with suppress(OSError):
                request.settimeout(0.1)
                request.sendall(_BUSY)
            self.shutdown_request(request)
            return
        thread.start()

    def shutdown_request(self, request: Any) -> None:
        """Close a connection and forget it."""
        super().shutdown_request(request)
        with self.lock:
            self._open.pop(request, None)

    def drop_connections(self) -> None:
        """End all connections, also those stuck in sending, and wait for their threads for a moment."""
        with self.lock:
            connections = dict(self._open)
        for connection in connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in connections.values():
            thread.join(_CLOSE_WAIT_S)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log a failed request; browsers that went away are no failure."""
        if isinstance(sys.exc_info()[1], (ConnectionError, TimeoutError)):
            logger.debug("a viewer went away")
        else:
            logger.exception("page: a request failed")
