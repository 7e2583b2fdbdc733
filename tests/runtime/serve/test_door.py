"""Connections that wait, trickle, flood and vanish: the page's door bounds them all."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from http import HTTPStatus

import pytest

from runtime.serve import door
from runtime.serve.address import Address
from runtime.serve.door import Door

WAIT_S = 20.0


class House:
    """A door whose answers say what was asked and by whom, where `may_answer` lets them."""

    def __init__(self) -> None:
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.asked: list[bytes] = []
        self.threads: set[int] = set()
        self.is_healthy = True
        self.door = Door(Address("127.0.0.1", 0), self.answer, self.health)

    def answer(self, connection: socket.socket, head: bytes, peer: str) -> None:
        self.asked.append(head)
        self.threads.add(threading.get_ident())
        self.may_answer.wait(WAIT_S)
        connection.settimeout(WAIT_S)
        connection.sendall(b"for " + peer.encode())

    def health(self) -> tuple[HTTPStatus, str]:
        return (HTTPStatus.OK, "ok") if self.is_healthy else (HTTPStatus.SERVICE_UNAVAILABLE, "stalled")

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.door.port), timeout=WAIT_S)

    def ask(self, request: bytes = b"GET / HTTP/1.0\r\n\r\n") -> bytes:
        with self.connect() as connection:
            connection.sendall(request)
            return all_of(connection)


def all_of(connection: socket.socket) -> bytes:
    """What comes until the other side closes; a reset is an end too."""
    got = b""
    try:
        while data := connection.recv(1 << 16):
            got += data
    except ConnectionError:
        pass
    return got


@pytest.fixture
def house() -> Iterator[House]:
    house = House()
    yield house
    house.may_answer.set()
    house.door.stop()


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.parametrize("end", [b"\r\n\r\n", b"\n\n"])
@pytest.mark.parametrize("size", [1, 3, 1000])
def test_a_request_in_pieces_of_any_size(house, size, end):
    request = b"GET /frame.jpg HTTP/1.0\r\nHost: x" + end
    with house.connect() as connection:
        for start in range(0, len(request), size):
            connection.sendall(request[start : start + size])
            time.sleep(0.002)
        assert all_of(connection) == b"for 127.0.0.1"
    assert house.asked == [request]


@pytest.mark.parametrize(
    "first", [b"", b"G", b"GET / HTTP/1.0\r\nHost: x\r\nX: "], ids=["idle", "one", "head"]
)
@pytest.mark.parametrize("count", [24, 200])
def test_connections_that_wait_lock_out_nobody(house, count, first):
    waiting = []
    for _ in range(count):
        waiting.append(house.connect())
        waiting[-1].sendall(first)
    assert house.ask() == b"for 127.0.0.1"
    assert house.ask(b"GET /healthz HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.0 200 ")
    assert sum(thread.name == "page viewer" for thread in threading.enumerate()) <= 1
    for connection in waiting:
        connection.close()


def test_a_head_that_trickles_in_is_cut_off(house, monkeypatch):
    monkeypatch.setattr(door, "HEAD_S", 0.3)
    with house.connect() as slow:
        slow.sendall(b"GET / HTTP/1.0\r\nX: ")
        stop = threading.Event()

        def trickle() -> None:
            while not stop.wait(0.05):
                try:
                    slow.sendall(b"x")
                except OSError:
                    return

        thread = threading.Thread(target=trickle, daemon=True)
        thread.start()
        assert all_of(slow).startswith(b"HTTP/1.0 408 ")
        stop.set()
        thread.join()
    assert house.asked == []


def test_an_idle_connection_is_closed_without_a_word(house, monkeypatch):
    monkeypatch.setattr(door, "HEAD_S", 0.1)
    with house.connect() as idle:
        assert all_of(idle) == b""


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /" + b"a" * 9000 + b" HTTP/1.0\r\n\r\n", 414),
        (b"a" * 9000, 414),
        (b"GET / HTTP/1.0\r\nX: " + b"a" * 17000 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.0\r\n" + b"X: y\r\n" * 4000, 431),
        (b"GET / HTTP/1.0\r\n" + b"X: y\r\n" * 400_000, 431),
    ],
    ids=["long address", "no line", "long header", "many headers", "megabytes"],
)
def test_too_much_is_refused_with_an_answer(house, request_, status):
    with house.connect() as connection:
        try:
            connection.sendall(request_)
        except ConnectionError:
            assert len(request_) > 1_000_000  # a flood may be reset
            return
        assert all_of(connection).startswith(f"HTTP/1.0 {status} ".encode())
    assert house.asked == []


def test_health_is_told_while_every_thread_is_busy(house, monkeypatch):
    monkeypatch.setattr(door, "MAX_THREADS", 3)
    house.may_answer.clear()
    busy = [house.connect() for _ in range(3)]
    for connection in busy:
        connection.sendall(b"GET /stream HTTP/1.0\r\n\r\n")
    wait_until(lambda: len(house.asked) == 3)
    assert house.ask().startswith(b"HTTP/1.0 503 ")
    for healthy, answer in ((True, b"HTTP/1.0 200 OK\r\n"), (False, b"HTTP/1.0 503 ")):
        house.is_healthy = healthy
        assert house.ask(b"GET /healthz HTTP/1.1\r\nHost: any\r\n\r\n").startswith(answer)
    house.may_answer.set()
    assert [all_of(connection) for connection in busy] == [b"for 127.0.0.1"] * 3
    for connection in busy:
        connection.close()
    wait_until(lambda: house.ask() == b"for 127.0.0.1")


@pytest.mark.parametrize(
    ("request_", "is_health"),
    [
        (b"GET /healthz HTTP/1.0\r\n\r\n", True),
        (b"HEAD /healthz?now=1 HTTP/1.0\r\n\r\n", True),
        (b"GET /healthz\r\n\r\n", True),
        (b"POST /healthz HTTP/1.0\r\n\r\n", False),
        (b"GET /healthzz HTTP/1.0\r\n\r\n", False),
        (b"GET /a/healthz HTTP/1.0\r\n\r\n", False),
    ],
)
def test_what_is_a_health_check(house, request_, is_health):
    answer = house.ask(request_)
    assert answer.startswith(b"HTTP/1.0 200 ") == is_health
    assert answer.endswith(b"ok\n") == (is_health and request_.startswith(b"GET"))
    assert (answer == b"for 127.0.0.1") == (not is_health)


def test_the_peer_with_the_most_connections_makes_room():
    house = Door.__new__(Door)  # peers of many addresses cannot be had on loopback
    house._selector = type("Quiet", (), {"unregister": lambda *_: None})()
    pairs = [socket.socketpair() for _ in range(5)]
    peers = ["crowd", "one", "crowd", "crowd", "two"]
    house._waiting = {ours: door._Waiting(peer, 0.0) for (ours, _), peer in zip(pairs, peers, strict=True)}
    house._make_room()
    assert [each.peer for each in house._waiting.values()] == ["one", "crowd", "crowd", "two"]
    house._make_room()
    assert [each.peer for each in house._waiting.values()] == ["one", "crowd", "two"]
    for pair in pairs:
        for end in pair:
            end.close()


def test_clients_that_vanish_are_forgotten(house):
    for _ in range(50):
        connection = house.connect()
        connection.sendall(b"GET / HT")
        connection.close()
    wait_until(lambda: not house.door._waiting)
    assert house.ask() == b"for 127.0.0.1"


def test_an_answer_that_fails_is_logged_and_ends_its_connection_only(house, monkeypatch, caplog):
    monkeypatch.setattr(house.door, "_answer", lambda *_: 1 / 0)
    assert house.ask() == b""
    assert "a request failed" in caplog.text
    monkeypatch.setattr(house.door, "_answer", house.answer)
    assert house.ask() == b"for 127.0.0.1"
    wait_until(lambda: not house.door._answering)


def viewers() -> int:
    return sum(thread.name == "page viewer" for thread in threading.enumerate())


def test_one_thread_answers_what_comes_one_after_the_other(house):
    """Each thread that draws and ends costs OpenCV 900 bytes for good."""
    for _ in range(50):
        assert house.ask() == b"for 127.0.0.1"
    assert len(house.threads) == 1
    assert viewers() == 1


def test_what_comes_at_once_has_a_thread_each_and_few_remain(house):
    for _ in range(2):
        house.threads.clear()
        house.may_answer.clear()
        asking = [house.connect() for _ in range(20)]
        for connection in asking:
            connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
        wait_until(lambda: len(house.threads) == 20)
        house.may_answer.set()
        for connection in asking:
            assert all_of(connection) == b"for 127.0.0.1"
            connection.close()
        wait_until(lambda: viewers() == door.MAX_IDLE)
    house.door.stop()
    assert viewers() == 0


def test_stop_ends_all_and_can_come_twice(house):
    before = [house.connect() for _ in range(3)]
    house.door.stop()
    house.door.stop()
    assert [all_of(connection) for connection in before] == [b""] * 3
    for connection in before:
        connection.close()
    with pytest.raises(ConnectionRefusedError):
        house.connect()
