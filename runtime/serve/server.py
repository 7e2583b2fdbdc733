"""The page's HTTP server, and what it answers."""

from __future__ import annotations

import json
import logging
import socket
import sys
import threading
import time
from contextlib import suppress
from functools import lru_cache
from http import HTTPStatus
from http.cookies import CookieError, SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from runtime.errors import ConfigError
from runtime.serve.address import Address, Guard
from runtime.serve.gauges import METRICS_CONTENT_TYPE, Gauges, metrics_text
from runtime.serve.viewfinder import Look, Viewfinder

logger = logging.getLogger(__name__)

MAX_CONNECTIONS = 24
_POLL_S = 0.1
_CLOSE_WAIT_S = 2.0
_BUSY = b"HTTP/1.0 503 Service Unavailable\r\nConnection: close\r\nRetry-After: 5\r\n\r\ntoo many viewers\n"
_COOKIE = "edgeseg_token"
_BOUNDARY = "edgesegframe"
_SEND_BUFFER_BYTES = 256 << 10  # a large one would fill with old pictures
_MAX_STREAM_FPS = 30.0
_WAIT_S = 1.0
_CONTENT_SECURITY_POLICY = (
    "default-src 'none'; img-src 'self' data: blob:; style-src 'unsafe-inline'; "
    "script-src 'unsafe-inline'; connect-src 'self'; base-uri 'none'; frame-ancestors 'none'"
)


class PageServer(ThreadingHTTPServer):
    """Answers in threads of its own until it is stopped.

    Every connection has a thread, at most `MAX_CONNECTIONS`; a stream always sends the freshest picture, and
    a client that does not read for 10 s is dropped.

    Attributes:
        guard: who is answered.
        gauges: the numbers.
        viewfinder: the pictures.
        alpha: share of the class colour that the page begins with, 0 to 1.
        viewers: streams that are open.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(
        self, address: Address, guard: Guard, gauges: Gauges, viewfinder: Viewfinder, *, alpha: float = 0.5
    ) -> None:
        """Start to listen.

        Raises:
            OSError: it cannot listen on the address.
        """
        self.address_family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        self.guard = guard
        self.gauges = gauges
        self.viewfinder = viewfinder
        self.alpha = alpha
        self.viewers = 0
        self.lock = threading.Lock()  # guards viewers and what follows
        self._open: dict[socket.socket, threading.Thread] = {}
        super().__init__((address.host, address.port), PageHandler)
        self._thread = threading.Thread(
            target=self.serve_forever, args=(_POLL_S,), name="page server", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Stop listening and drop all connections; a second call does nothing."""
        self.viewfinder.close()
        if self._thread.is_alive():
            self.shutdown()
        self._thread.join(_CLOSE_WAIT_S)
        self.server_close()
        self.drop_connections()

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


class PageHandler(BaseHTTPRequestHandler):
    """Routes: /, /stream.mjpg, /frame.jpg, /mask.png, /stats.json, /metrics, /healthz.

    HTTP/1.0, so each request has its own connection and no idle one holds a thread.
    """

    server: PageServer
    server_version = "edgeseg"
    sys_version = ""
    timeout = 10  # seconds that a client may take to send its request, or to read anything

    def setup(self) -> None:
        """Keep little in the pipe to a slow client."""
        self.request.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
        super().setup()

    def do_GET(self) -> None:
        """Answer a GET."""
        url = urlsplit(self.path)
        query = {name: values[-1] for name, values in parse_qs(url.query).items()}
        if url.path == "/healthz":  # no secret in it, and probes rarely can bring a token
            self._healthz()
            return
        if not self.server.guard.admits(self.headers.get("Host"), self._tokens(query)):
            self._refuse()
            return
        if url.path == "/" and "token" in query:
            self._remember(query["token"])
            return
        routes = {
            "/": self._page,
            "/stream.mjpg": self._stream,
            "/frame.jpg": self._frame,
            "/mask.png": self._mask,
            "/stats.json": self._stats,
            "/metrics": self._metrics,
        }
        route = routes.get(url.path)
        if route is None:
            known = ", ".join([*routes, "/healthz"])
            self._text(HTTPStatus.NOT_FOUND, f"no such page; there are {known}\n")
            return
        try:
            route(query)
        except ConfigError as error:
            self._text(HTTPStatus.BAD_REQUEST, f"{error}\n")

    def do_HEAD(self) -> None:
        """Answer a HEAD: only whether there is a page."""
        admitted = self.server.guard.admits(self.headers.get("Host"), self._tokens({}))
        self.send_response(HTTPStatus.OK if admitted else HTTPStatus.FORBIDDEN)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Stay silent: the request's line may hold the token."""

    def _page(self, _: dict[str, str]) -> None:
        page = _page_html().replace("{{alpha}}", f"{self.server.alpha:g}")
        self._send(
            "text/html; charset=utf-8", page.encode(), ("Content-Security-Policy", _CONTENT_SECURITY_POLICY)
        )

    def _stream(self, query: dict[str, str]) -> None:
        """Send picture after picture; each is the freshest at that moment."""
        look = _look(query, self.server.alpha)
        period_s = 1 / min(_MAX_STREAM_FPS, max(0.1, _number(query, "fps", _MAX_STREAM_FPS)))
        viewfinder = self.server.viewfinder
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", f"multipart/x-mixed-replace; boundary={_BOUNDARY}")
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        with self.server.lock:
            self.server.viewers += 1
        try:
            seen, next_s = 0, time.monotonic()
            while (number := viewfinder.wait(seen, _WAIT_S)) is not None:
                if number == seen:
                    continue
                pause_s = next_s - time.monotonic()
                if pause_s > 0:
                    time.sleep(pause_s)
                next_s = time.monotonic() + period_s
                jpeg = viewfinder.jpeg(look)
                if jpeg is None:
                    continue
                seen = number
                # Two boundaries round each picture, else browsers show it only when the next one comes.
                head = f"--{_BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
                self.wfile.write(head.encode() + jpeg + f"\r\n--{_BOUNDARY}\r\n\r\n".encode())
        finally:
            with self.server.lock:
                self.server.viewers -= 1

    def _frame(self, query: dict[str, str]) -> None:
        self._picture("image/jpeg", self.server.viewfinder.jpeg(_look(query, self.server.alpha)))

    def _mask(self, _: dict[str, str]) -> None:
        self._picture("image/png", self.server.viewfinder.mask_png())

    def _picture(self, kind: str, data: bytes | None) -> None:
        if data is None:
            self._text(HTTPStatus.SERVICE_UNAVAILABLE, "no frame yet\n")
        else:
            self._send(kind, data)

    def _stats(self, _: dict[str, str]) -> None:
        with self.server.lock:
            viewers = self.server.viewers
        stats = {**self.server.gauges.stats(), "viewers": viewers}
        self._send("application/json", json.dumps(stats, allow_nan=False).encode())

    def _metrics(self, _: dict[str, str]) -> None:
        with self.server.lock:
            viewers = self.server.viewers
        self._send(METRICS_CONTENT_TYPE, metrics_text(self.server.gauges, viewers).encode())

    def _healthz(self) -> None:
        gauges = self.server.gauges
        if gauges.is_healthy:
            self._text(HTTPStatus.OK, "ok\n")
        else:
            self._text(HTTPStatus.SERVICE_UNAVAILABLE, f"no fresh frame; source {gauges.state}\n")

    def _tokens(self, query: dict[str, str]) -> list[str]:
        """Return every token that the request brings."""
        kind, _, bearer = self.headers.get("Authorization", "").partition(" ")
        tokens = [bearer.strip()] if kind.lower() == "bearer" else []
        if "token" in query:
            tokens.append(query["token"])
        try:
            cookie = SimpleCookie(self.headers.get("Cookie", "")).get(_COOKIE)
        except CookieError:
            cookie = None
        return tokens if cookie is None else [*tokens, cookie.value]

    def _remember(self, token: str) -> None:
        """Move the token from the address bar into a cookie that scripts cannot read.

        Lax, since a strict one would not come along where somebody follows a link to the page.
        """
        self.send_response(HTTPStatus.SEE_OTHER)
        self.send_header("Location", "/")
        if self.server.guard.needs_token:
            self.send_header("Set-Cookie", f"{_COOKIE}={token}; HttpOnly; SameSite=Lax; Path=/")
        self.end_headers()

    def _refuse(self) -> None:
        if self.server.guard.needs_token:
            text = "this page needs its token: open /?token=…, or send the header Authorization: Bearer …\n"
            self._text(HTTPStatus.UNAUTHORIZED, text)
        else:
            self._text(HTTPStatus.FORBIDDEN, "this page answers only to 127.0.0.1 and localhost\n")

    def _text(self, status: HTTPStatus, text: str) -> None:
        self._send("text/plain; charset=utf-8", text.encode(), status=status)

    def _send(
        self, kind: str, data: bytes, *headers: tuple[str, str], status: HTTPStatus = HTTPStatus.OK
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Referrer-Policy", "no-referrer")
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)


def _look(query: dict[str, str], alpha: float) -> Look:
    """Read what a viewer wants to see.

    Raises:
        ConfigError: values that cannot be.
    """
    width = int(_number(query, "width", 0)) or None
    return Look(query.get("view", "overlay"), _number(query, "alpha", alpha), width)


def _number(query: dict[str, str], name: str, default: float) -> float:
    """Read a number of the query."""
    try:
        number = float(query.get(name, default))
        if not abs(number) < 1e6:
            raise ValueError
    except ValueError:
        raise ConfigError(f"{name}: expected a number, got {query[name]!r}") from None
    return number


@lru_cache(maxsize=1)
def _page_html() -> str:
    return (Path(__file__).parent / "page.html").read_text(encoding="utf-8")
