"""What the page's server answers to one request."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import socket
import time
from collections.abc import Callable
from functools import lru_cache
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from runtime.base.shown import shown
from runtime.errors import ConfigError
from runtime.serve.board import Board
from runtime.serve.door import SECURITY_HEADERS, drain
from runtime.serve.metrics import METRICS_CONTENT_TYPE, metrics_text
from runtime.serve.viewfinder import Look, Picture

SEND_S = 10.0  # that a client may take to read an answer, or a picture of a stream
CONTROL_HEADER = "X-Edgeseg"  # no other site can make a browser send it
_COOKIE = "edgeseg_token"
_BOUNDARY = "edgesegframe"
_SEND_BUFFER_BYTES = 256 << 10  # a large one would fill with old pictures
_MAX_STREAM_FPS = 30.0
_GROUND_PX = 400
_WAIT_S = 1.0
_ALLOWED = "GET, HEAD, OPTIONS, POST"
_INLINE = re.compile(r"<(script|style)>(.*?)</\1>", re.DOTALL)


class _Writer(io.RawIOBase):
    """Sends all of each piece within the connection's time-out."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._connection.sendall(data)
        return len(data)


class PageHandler(BaseHTTPRequestHandler):
    """Routes: /, /stream.mjpg, /frame.jpg, /mask.png, /ground.png, /stats.json, /metrics.

    /healthz is the door's. HTTP/1.0, so each request has its own connection and no idle one holds a thread.
    """

    server_version = "edgeseg"
    sys_version = ""

    def __init__(self, connection: socket.socket, head: bytes, peer: str, board: Board) -> None:
        """Answer one request on a connection.

        Args:
            connection: closed by the caller afterwards.
            head: the request's first bytes, its whole head among them.
            peer: whom the connection comes from.
            board: what to show.
        """
        self._head, self._peer, self._board = head, peer, board
        super().__init__(connection, (peer, 0), board)  # type: ignore[arg-type]

    def setup(self) -> None:
        """Read what the door has read, and keep little in the pipe to a slow client."""
        self.connection = self.request
        self.connection.settimeout(SEND_S)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
        self.rfile = io.BytesIO(self._head)
        self.wfile = _Writer(self.connection)  # type: ignore[assignment]

    def finish(self) -> None:
        """Let a client that sends a body get its answer."""
        headers = getattr(self, "headers", None)
        if headers is None or headers.get("Content-Length", "0") != "0" or "Transfer-Encoding" in headers:
            drain(self.connection)

    def do_GET(self) -> None:
        """Answer a GET."""
        asked = self._admitted()
        if asked is None:
            return
        path, query = asked
        if path == "/" and "token" in query:
            self._remember(query["token"])
            return
        routes = {
            "/": self._page,
            "/stream.mjpg": self._stream,
            "/frame.jpg": self._frame,
            "/mask.png": self._mask,
            "/ground.png": self._ground,
            "/stats.json": self._stats,
            "/metrics": self._metrics,
        }
        route = routes.get(path)
        if route is None:
            known = ", ".join([*routes, "/healthz"])
            self._text(HTTPStatus.NOT_FOUND, f"no such page; there are {known}\n")
            return
        try:
            route(query)
        except ConfigError as error:
            self._text(HTTPStatus.BAD_REQUEST, f"{shown(error)}\n")

    def do_HEAD(self) -> None:
        """Answer a HEAD: as a GET, without the body."""
        self.do_GET()

    def do_OPTIONS(self) -> None:
        """Tell the methods; to other sites nothing, since none may use them."""
        self._send("text/plain", b"", ("Allow", _ALLOWED), status=HTTPStatus.NO_CONTENT)

    def do_POST(self) -> None:
        """Pause or resume an output: /outputs/NUMBER/pause and /outputs/NUMBER/resume."""
        asked = self._admitted()
        if asked is None:
            return
        found = re.fullmatch(r"/outputs/(\d{1,4})/(pause|resume)", asked[0])
        if found is None:
            self._not_allowed()
            return
        origin = self.headers.get("Origin")
        if CONTROL_HEADER not in self.headers or (
            origin is not None and urlsplit(origin).netloc != self.headers.get("Host")
        ):
            self._text(
                HTTPStatus.FORBIDDEN, f"expected the header {CONTROL_HEADER}: 1, and no other origin\n"
            )
        elif self._board.control(int(found[1]), found[2] == "pause"):
            self._stats({})
        else:
            self._text(HTTPStatus.NOT_FOUND, "no such output, or none that can be paused\n")

    def _not_allowed(self) -> None:
        self._send(
            "text/plain; charset=utf-8",
            f"expected one of {_ALLOWED}\n".encode(),
            ("Allow", _ALLOWED),
            status=HTTPStatus.METHOD_NOT_ALLOWED,
        )

    do_PUT = do_DELETE = do_PATCH = do_TRACE = do_CONNECT = _not_allowed

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Refuse what http.server cannot read, without a word of what it was."""
        self._text(HTTPStatus(code), f"{HTTPStatus(code).phrase}\n")

    def log_message(self, format: str, *args: Any) -> None:
        """Stay silent: the request's line may hold the token."""

    def _admitted(self) -> tuple[str, dict[str, str]] | None:
        """Return path and query of a request that may be answered; else refuse it."""
        try:
            url = urlsplit(self.path)
            query = {name: values[-1] for name, values in parse_qs(url.query).items()}
        except ValueError:  # such as an address whose host is half an IPv6 one
            self._text(HTTPStatus.BAD_REQUEST, "the address cannot be read\n")
            return None
        hosts = self.headers.get_all("Host", [])
        if url.scheme:  # of an address that a proxy wrote out (RFC 9112, section 3.2.2)
            hosts.append(url.netloc)
        host = hosts[0] if len({*hosts}) == 1 else None
        if not self._board.guard.admits(host, self._tokens(query)):
            self._refuse()
            return None
        return url.path, query

    def _page(self, _: dict[str, str]) -> None:
        page, policy = _page_html()
        page = page.replace("{{alpha}}", f"{self._board.alpha:g}")
        self._send("text/html; charset=utf-8", page.encode(), ("Content-Security-Policy", policy))

    def _stream(self, query: dict[str, str]) -> None:
        """Send picture after picture; each is the freshest at that moment.

        One that is too old is sent grey, with its age in it, and again each second.
        """
        look = _look(query, self._board.alpha)
        period_s = 1 / min(_MAX_STREAM_FPS, max(0.1, _number(query, "fps", _MAX_STREAM_FPS)))
        viewfinder = self._board.viewfinder
        with self._board.viewing(self._peer, stream=True) as has_place:
            if not has_place:
                self._busy()
                return
            self._head_of(f"multipart/x-mixed-replace; boundary={_BOUNDARY}")
            if self.command == "HEAD":
                return
            seen, next_s = 0, time.monotonic()
            while (number := viewfinder.wait(seen, _WAIT_S)) is not None:
                old_ms = self._board.gauges.old_ms
                if number == seen and viewfinder.age_ms <= old_ms:
                    continue
                pause_s = next_s - time.monotonic()
                if pause_s > 0:
                    time.sleep(pause_s)
                next_s = time.monotonic() + period_s
                picture = viewfinder.old_jpeg(look) if viewfinder.age_ms > old_ms else viewfinder.jpeg(look)
                if picture is None:
                    continue
                seen = number
                # Two boundaries round each picture, else browsers show it only when the next one comes.
                head = [f"--{_BOUNDARY}", "Content-Type: image/jpeg", f"Content-Length: {len(picture.data)}"]
                head += [f"{name}: {value}" for name, value in picture.headers]
                ends = "\r\n".join([*head, "", ""]).encode(), f"\r\n--{_BOUNDARY}\r\n\r\n".encode()
                self.wfile.write(picture.data.join(ends))

    def _frame(self, query: dict[str, str]) -> None:
        look = _look(query, self._board.alpha)
        self._picture("image/jpeg", lambda: self._board.viewfinder.jpeg(look))

    def _mask(self, _: dict[str, str]) -> None:
        self._picture("image/png", self._board.viewfinder.mask_png)

    def _ground(self, query: dict[str, str]) -> None:
        height = int(_number(query, "height", _GROUND_PX))
        self._picture("image/png", lambda: self._board.viewfinder.ground_png(height))

    def _picture(self, kind: str, draw: Callable[[], Picture | None]) -> None:
        with self._board.viewing(self._peer) as has_place:
            if not has_place:
                self._busy()
            elif (picture := draw()) is None:
                self._text(HTTPStatus.SERVICE_UNAVAILABLE, "no frame yet\n")
            else:
                self._send(kind, picture.data, *picture.headers)

    def _stats(self, _: dict[str, str]) -> None:
        board = self._board
        stats = {
            **board.gauges.stats(),
            "viewers": board.streams,
            "sees_ground": board.viewfinder.sees_ground,
        }
        self._send("application/json", json.dumps(stats, allow_nan=False).encode())

    def _metrics(self, _: dict[str, str]) -> None:
        text = metrics_text(self._board.gauges, self._board.streams)
        self._send(METRICS_CONTENT_TYPE, text.encode())

    def _tokens(self, query: dict[str, str]) -> list[str]:
        """Return every token that the request brings."""
        kind, _, bearer = self.headers.get("Authorization", "").partition(" ")
        tokens = [bearer.strip()] if kind.lower() == "bearer" else []
        if "token" in query:
            tokens.append(query["token"])
        for cookie in ";".join(self.headers.get_all("Cookie", [])).split(";"):
            name, _, value = cookie.strip().partition("=")
            if name == _COOKIE:
                tokens.append(value)
        return tokens

    def _remember(self, token: str) -> None:
        """Move the token from the address bar into a cookie that scripts cannot read.

        Lax, since a strict one would not come along where somebody follows a link to the page.
        """
        headers = [("Location", "/")]
        guard = self._board.guard
        if guard.needs_token and guard.admits(None, [token]):  # another one may have opened the page
            headers.append(("Set-Cookie", f"{_COOKIE}={token}; HttpOnly; SameSite=Lax; Path=/"))
        self._send("text/plain; charset=utf-8", b"", *headers, status=HTTPStatus.SEE_OTHER)

    def _refuse(self) -> None:
        if self._board.guard.needs_token:
            text = "this page needs its token: open /?token=…, or send the header Authorization: Bearer …\n"
            self._text(HTTPStatus.UNAUTHORIZED, text)
        else:
            self._text(HTTPStatus.FORBIDDEN, "this page answers only to 127.0.0.1 and localhost\n")

    def _busy(self) -> None:
        self._send(
            "text/plain; charset=utf-8",
            b"too many viewers\n",
            ("Retry-After", "5"),
            status=HTTPStatus.SERVICE_UNAVAILABLE,
        )

    def _text(self, status: HTTPStatus, text: str) -> None:
        self._send("text/plain; charset=utf-8", text.encode(), status=status)

    def _send(
        self, kind: str, data: bytes, *headers: tuple[str, str], status: HTTPStatus = HTTPStatus.OK
    ) -> None:
        self._head_of(kind, ("Content-Length", str(len(data))), *headers, status=status)
        if self.command != "HEAD":
            self.wfile.write(data)

    def _head_of(self, kind: str, *headers: tuple[str, str], status: HTTPStatus = HTTPStatus.OK) -> None:
        """Send an answer's head; no header can hold another line."""
        self.request_version = self.protocol_version  # else one of HTTP/0.9 would get no head
        self.send_response(status)
        for name, value in {**SECURITY_HEADERS, "Content-Type": kind, **dict(headers)}.items():
            self.send_header(name, "".join(each for each in value if " " <= each <= "~"))
        self.end_headers()


def _look(query: dict[str, str], alpha: float) -> Look:
    """Read what a viewer wants to see.

    Raises:
        ConfigError: values that cannot be.
    """
    width = int(_number(query, "width", 0)) or None
    hidden = query.get("hide", "")
    if not re.fullmatch(r"(\d{1,3}(,\d{1,3}){0,255})?", hidden, re.ASCII):
        raise ConfigError(f"hide: expected class numbers such as 0,3, got {hidden!r}")
    hide = frozenset(int(number) for number in hidden.split(",") if number)
    return Look(query.get("view", "overlay"), _number(query, "alpha", alpha), width, hide)


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
def _page_html() -> tuple[str, str]:
    """Return the page, and the policy that lets a browser run what is in it and nothing else."""
    page = (Path(__file__).parent / "page.html").read_text(encoding="utf-8")
    sources: dict[str, list[str]] = {"script": [], "style": []}
    for kind, text in _INLINE.findall(page):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        sources[kind].append(f"'sha256-{digest}'")
    policy = (
        "default-src 'none'; img-src 'self' data: blob:; connect-src 'self'; base-uri 'none'; "
        f"form-action 'none'; frame-ancestors 'none'; script-src {' '.join(sources['script'])}; "
        f"style-src {' '.join(sources['style'])}"
    )
    return page, policy
