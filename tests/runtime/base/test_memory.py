"""One heap for all threads: seen from the inside of a process, by glibc's own account of its heaps."""

import os
import platform
import re
import subprocess
import sys

import pytest

HEAPS = """
import ctypes, sys, tempfile, threading
from runtime.base.memory import share_one_heap
if sys.argv[1] == "one":
    share_one_heap()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
at_once = threading.Barrier(8)
def work():
    at_once.wait()
    libc.malloc(4000)
    at_once.wait()
threads = [threading.Thread(target=work) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
libc.fopen.restype = ctypes.c_void_p
libc.malloc_info.argtypes = [ctypes.c_int, ctypes.c_void_p]
libc.fclose.argtypes = [ctypes.c_void_p]
with tempfile.NamedTemporaryFile() as file:
    stream = libc.fopen(file.name.encode(), b"w")
    libc.malloc_info(0, stream)
    libc.fclose(stream)
    print(file.read().decode())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
@pytest.mark.parametrize(
    ("asked", "own", "is_one"), [("one", None, True), ("none", None, False), ("one", "4", False)]
)
def test_threads_share_one_heap_unless_the_user_says_otherwise(
    asked: str, own: str | None, is_one: bool
) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "MALLOC_ARENA_MAX"}
    if own is not None:
        environment["MALLOC_ARENA_MAX"] = own
    said = subprocess.run(
        [sys.executable, "-c", HEAPS, asked], capture_output=True, text=True, check=True, env=environment
    ).stdout
    assert (len(re.findall("<heap nr=", said)) == 1) is is_one


@pytest.mark.parametrize("module", ["runtime.camera", "benchmarks.soak"])
def test_what_runs_for_days_has_one_heap(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    called = []
    command = __import__(module, fromlist=["command"])
    monkeypatch.setattr(command, "share_one_heap", lambda: called.append(True))
    for name in ("watch", "soak"):
        monkeypatch.setattr(command, name, lambda *_: 1 / 0, raising=False)
    with pytest.raises((ZeroDivisionError, AttributeError)):
        command.command(type("Options", (), {"watch": None, "config": None, "as_json": True})())
    assert called == [True]
