"""The page's door: takes connections, waits for their requests without a thread each, and bounds them all.

A connection costs a thread only once its request is complete, so idle and slow ones hold up nobody: each has
a few seconds and a few kilobytes for its head, and where too many wait, the oldest of the peer that has most
makes room. Health checks are answered at the door itself, whatever goes on behind it.

Threads that have answered take the next request: OpenCV (4.9 to 5.0) loses 900 bytes with each thread that
drew something and ended, which were 5 MB an hour for a viewer that looks once a second.
"""

from __future__ import annotations

import logging
import queue
import selectors
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus

from runtime.serve.address import Address

logger = logging.getLogger(__name__)

MAX_WAITING = 64  # connections whose request is not complete
MAX_THREADS = 64  # requests that are being answered
MAX_IDLE = 2  # threads that wait for a next request; OpenCV 5 loads its font, 6 MB, for each
HEAD_S = 5.0  # for the whole head of a request, however it trickles in
MAX_LINE_BYTES, MAX_HEAD_BYTES = 8 << 10, 16 << 10
SECURITY_HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Content-Security-Policy": (
        "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
}
_BACKLOG = 128
_DRAIN_S = 1.0
_DRAIN_BYTES = 1 << 20
_CLOSE_WAIT_S = 2.0
_PAUSE_S = 0.05  # where the process has no descriptor left

_Request = tuple[socket.socket, bytes, str]  # its connection, the bytes up to the end of its head, the peer


@dataclass
class _Waiting:
    """A connection whose request is not complete, or one that is answered and sends on (`is_draining`)."""

    peer: str
    until_s: float
    head: bytearray = field(default_factory=bytearray)
    is_draining: bool = False


class Door:
    """Listens, collects the head of each request, and hands complete ones to threads.

    Attributes:
        port: that it listens on.
    """

    def __init__(
        self,
        address: Address,
        answer: Callable[[socket.socket, bytes, str], None],
        health: Callable[[], tuple[HTTPStatus, str]],
    ) -> None:
        """Start to listen.

        Args:
            address: where.
            answer: answers a request on its connection; gets its first bytes up to the end of the head, and
                the peer. Runs in a thread that has no other request, and the connection is closed afterwards.
            health: status and text of a health check; must return at once.

        Raises:
            OSError: it cannot listen on the address.
        """
        self._answer, self._health = answer, health
        self._listener = _listener(address)
        self.port: int = self._listener.getsockname()[1]
        self._waiting: dict[socket.socket, _Waiting] = {}
        self._lock = threading.Lock()  # guards the next three
        self._answering: set[socket.socket] = set()
        self._threads: set[threading.Thread] = set()
        self._idle = 0  # threads that no request is meant for yet
        self._requests: queue.SimpleQueue[_Request | None] = queue.SimpleQueue()
        self._wake, self._woken = socket.socketpair()
        self._is_stopped = False
        self._thread = threading.Thread(target=self._run, name="page door", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop listening, drop all connections and wait for their threads for a moment."""
        self._is_stopped = True
        with suppress(OSError):
            self._wake.send(b"x")
        self._thread.join(_CLOSE_WAIT_S)
        with self._lock:
            answering, threads = set(self._answering), set(self._threads)
        for connection in answering:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for _ in threads:
            self._requests.put(None)
        for thread in threads:
            thread.join(_CLOSE_WAIT_S)

    def _run(self) -> None:
        """Take connections and heads until stopped; the body of the thread."""
        with selectors.DefaultSelector() as selector:
            self._selector = selector
            selector.register(self._listener, selectors.EVENT_READ)
            selector.register(self._woken, selectors.EVENT_READ)
            while not self._is_stopped:
                for key, _ in selector.select(self._patience_s()):
                    connection = key.fileobj
                    assert isinstance(connection, socket.socket)
                    if connection is self._listener:
                        self._accept()
                    elif connection in self._waiting:
                        self._read(connection, self._waiting[connection])
                self._drop_late()
            for connection in list(self._waiting):
                self._drop(connection)
        for ours in (self._listener, self._wake, self._woken):
            ours.close()

    def _patience_s(self) -> float | None:
        """Return the seconds until the next connection is late."""
        if not self._waiting:
            return None
        return max(0.0, min(each.until_s for each in self._waiting.values()) - time.monotonic())

    def _accept(self) -> None:
        try:
            connection, peer = self._listener.accept()
        except OSError as error:  # the client went away, or there are no descriptors left
            logger.debug("page: cannot accept a connection (%s)", error)
            self._make_room()
            time.sleep(_PAUSE_S)
            return
        if len(self._waiting) >= MAX_WAITING:
            self._make_room()
        connection.setblocking(False)
        self._waiting[connection] = _Waiting(str(peer[0]), time.monotonic() + HEAD_S)
        self._selector.register(connection, selectors.EVENT_READ)

    def _make_room(self) -> None:
        """Drop the connection that has waited longest, of the peer that has most."""
        if self._waiting:
            (crowd, _), *_ = Counter(each.peer for each in self._waiting.values()).most_common(1)
            self._drop(next(one for one, each in self._waiting.items() if each.peer == crowd))

    def _drop_late(self) -> None:
        now_s = time.monotonic()
        for connection in [one for one, each in self._waiting.items() if each.until_s <= now_s]:
            waiting = self._waiting[connection]
            if waiting.head and not waiting.is_draining:
                self._say(connection, HTTPStatus.REQUEST_TIMEOUT, f"no request within {HEAD_S:g} s")
            else:  # browsers open connections ahead of need
                self._drop(connection)

    def _read(self, connection: socket.socket, waiting: _Waiting) -> None:
        """Read what there is, and act where the head is complete."""
        try:
            data = connection.recv(MAX_HEAD_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if not data:
            self._drop(connection)
            return
        waiting.head += data
        if waiting.is_draining:
            if len(waiting.head) > _DRAIN_BYTES:
                self._drop(connection)
            return
        end = _end_of_head(waiting.head)
        line_end = waiting.head.find(b"\n")
        if (line_end if line_end >= 0 else len(waiting.head)) > MAX_LINE_BYTES:
            self._say(connection, HTTPStatus.REQUEST_URI_TOO_LONG, "the address is too long")
        elif (end or len(waiting.head)) > MAX_HEAD_BYTES:
            self._say(connection, HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "the headers are too long")
        elif end is not None:
            self._complete(connection, waiting)

    def _complete(self, connection: socket.socket, waiting: _Waiting) -> None:
        """Answer a health check; hand any other request to a thread."""
        method, _, rest = bytes(waiting.head[:MAX_LINE_BYTES]).partition(b" ")
        path = rest.split(b" ")[0].split(b"\r")[0].split(b"\n")[0].split(b"?")[0]
        if path == b"/healthz" and method in (b"GET", b"HEAD"):
            status, text = self._health()
            self._say(connection, status, text, with_body=method == b"GET")
            return
        with self._lock:
            is_full = len(self._answering) >= MAX_THREADS
            if not is_full:
                self._answering.add(connection)
        if is_full:
            self._say(connection, HTTPStatus.SERVICE_UNAVAILABLE, "too many requests; try again later")
            return
        del self._waiting[connection]
        self._selector.unregister(connection)
        self._hand_on((connection, bytes(waiting.head), waiting.peer))

    def _hand_on(self, request: _Request) -> None:
        """Give a request to a thread that waits, or to a new one."""
        with self._lock:
            is_expected = self._idle > 0
            self._idle -= is_expected
        if is_expected:
            self._requests.put(request)
            return
        thread = threading.Thread(target=self._work, args=(request,), name="page viewer", daemon=True)
        with self._lock:
            self._threads.add(thread)
        try:
            thread.start()
        except RuntimeError:  # the system has no thread left
            self._end(request[0])
            with self._lock:
                self._threads.discard(thread)

    def _work(self, request: _Request | None) -> None:
        """Answer requests, one after the other; the body of their threads."""
        while request is not None:
            connection = request[0]
            try:
                self._answer(*request)
            except OSError:
                logger.debug("a viewer went away")
            except Exception:
                logger.exception("page: a request failed")
            with self._lock:  # before the client sees the end and asks anew
                stays = self._idle < MAX_IDLE
                self._idle += stays
            self._end(connection)
            if not stays:
                break
            request = self._requests.get()
        with self._lock:
            self._threads.discard(threading.current_thread())

    def _end(self, connection: socket.socket) -> None:
        close(connection)
        with self._lock:
            self._answering.discard(connection)

    def _say(
        self, connection: socket.socket, status: HTTPStatus, text: str, *, with_body: bool = True
    ) -> None:
        """Answer at the door in a few words, and let the client finish what it sends."""
        body = f"{text}\n".encode()
        head = [
            f"HTTP/1.0 {status.value} {status.phrase}",
            "Content-Type: text/plain; charset=utf-8",
            f"Content-Length: {len(body)}",
            "Connection: close",
            *(f"{name}: {value}" for name, value in SECURITY_HEADERS.items()),
        ]
        if status is HTTPStatus.SERVICE_UNAVAILABLE:
            head.append("Retry-After: 5")
        try:
            connection.send("\r\n".join([*head, "", ""]).encode() + (body if with_body else b""))
            connection.shutdown(socket.SHUT_WR)
        except OSError:
            self._drop(connection)
            return
        # A connection that is closed with something unread is reset, and its answer may be lost.
        waiting = self._waiting.pop(connection)
        waiting.is_draining, waiting.until_s = True, time.monotonic() + _DRAIN_S
        self._waiting[connection] = waiting

    def _drop(self, connection: socket.socket) -> None:
        self._waiting.pop(connection, None)
        with suppress(KeyError, ValueError):
            self._selector.unregister(connection)
        close(connection)


def close(connection: socket.socket) -> None:
    """Close a connection, whatever state it is in."""
    with suppress(OSError):
        connection.shutdown(socket.SHUT_WR)
    connection.close()


def drain(connection: socket.socket) -> None:
    """Take what a client still sends, for a moment: it would lose its answer to a reset."""
    until_s, left = time.monotonic() + _DRAIN_S, _DRAIN_BYTES
    with suppress(OSError):
        connection.shutdown(socket.SHUT_WR)
        while left > 0 and (patience_s := until_s - time.monotonic()) > 0:
            connection.settimeout(patience_s)
            data = connection.recv(64 << 10)
            if not data:
                return
            left -= len(data)


def _end_of_head(head: bytes | bytearray) -> int | None:
    """Return where a request's head ends, None where it does not yet."""
    ends = [place + len(mark) for mark in (b"\r\n\r\n", b"\n\n") if (place := head.find(mark)) >= 0]
    return min(ends, default=None)


def _listener(address: Address) -> socket.socket:
    """Return a listening socket, without the look-up of the own name in the network that http.server does."""
    listener = socket.socket(socket.AF_INET6 if ":" in address.host else socket.AF_INET)
    try:
        if sys.platform != "win32":  # there it would let a second server share the port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address.host, address.port))
        listener.listen(_BACKLOG)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener
