import os
import socket

import pytest

from runtime.base.service import ServiceManager

pytestmark = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="needs Unix sockets")


@pytest.fixture
def manager(tmp_path):
    """A socket that notes what a service tells."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.setblocking(False)
        yield tmp_path / "notify", listener


def told(listener):
    messages = []
    while True:
        try:
            messages.append(listener.recv(100).decode())
        except BlockingIOError:
            return messages


def test_tells_that_it_is_ready_and_that_it_stops(manager):
    address, listener = manager
    service = ServiceManager({"NOTIFY_SOCKET": str(address)})
    service.ready()
    service.alive()  # no watchdog was asked for
    service.stopping()
    assert told(listener) == ["READY=1", "STOPPING=1"]


def test_is_alive_twice_in_each_period_however_often_it_is_called(manager):
    address, listener = manager
    times_ns = iter(range(0, 2_000_000_000, 100_000_000))
    service = ServiceManager(
        {"NOTIFY_SOCKET": str(address), "WATCHDOG_USEC": "1000000", "WATCHDOG_PID": str(os.getpid())},
        lambda: next(times_ns),
    )
    for _ in range(20):
        service.alive()
    assert told(listener) == ["WATCHDOG=1"] * 4


def test_a_manager_that_does_not_read_holds_nothing_up(manager, caplog):
    service = ServiceManager({"NOTIFY_SOCKET": str(manager[0]), "WATCHDOG_USEC": "0"})
    while not caplog.records:  # until its queue is full
        service.alive()
    service.alive()
    assert [record.getMessage()[:43] for record in caplog.records] == [
        "cannot tell the service manager WATCHDOG=1 "
    ] * 2
    assert set(told(manager[1])) == {"WATCHDOG=1"}


def test_an_abstract_address_is_understood():
    name = f"edgeseg-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(f"\0{name}")
        ServiceManager({"NOTIFY_SOCKET": f"@{name}"}).ready()
        assert listener.recv(100) == b"READY=1"


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"WATCHDOG_USEC": "1000"},
        {"NOTIFY_SOCKET": "/nowhere/at/all", "WATCHDOG_USEC": "1000", "WATCHDOG_PID": "1"},
        {"NOTIFY_SOCKET": "/nowhere/at/all", "WATCHDOG_USEC": "soon"},
    ],
)
def test_without_anybody_to_tell_the_loop_goes_on(environ, caplog):
    service = ServiceManager(environ)
    service.alive()
    assert not caplog.records
    service.ready()
    assert len(caplog.records) == ("NOTIFY_SOCKET" in environ)
