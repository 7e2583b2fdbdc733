"""A server that gives prepared bytes, whatever it is asked."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from tests.fuzz.seeds import NEXT_ANSWER

_LONGEST_REQUEST = 65_536
_SILENCE_S = 2.0
_MOST_CONNECTIONS = 6


@contextmanager
def answering(script: bytes) -> Iterator[int]:
    """Serve a script on a port of this machine, which is yielded; each connection gets it from the start.

    The script's parts, between `NEXT_ANSWER`, are sent one for each request. After the last the connection is
    closed, and after some connections the port.
    """
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        is_over = threading.Event()
        thread = threading.Thread(target=_serve, args=(server, script, is_over), daemon=True)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            is_over.set()
            thread.join()


def _serve(server: socket.socket, script: bytes, is_over: threading.Event) -> None:
    accepted = 0
    while accepted < _MOST_CONNECTIONS and not is_over.is_set():
        try:
            connection, _ = server.accept()
        except TimeoutError:
            continue
        except OSError:
            return
        accepted += 1
        threading.Thread(target=_answer, args=(connection, script), daemon=True).start()
    server.close()


def _answer(connection: socket.socket, script: bytes) -> None:
    with connection, suppress(OSError):
        connection.settimeout(_SILENCE_S)
        for part in script.split(NEXT_ANSWER):
            request = b""
            while b"\r\n\r\n" not in request and len(request) < _LONGEST_REQUEST:
                received = connection.recv(4096)
                if not received:
                    return
                request += received
            connection.sendall(part)
