"""A process that opens damaged files, so that one that crashes or hangs takes nothing else along."""

from __future__ import annotations

import multiprocessing
import sys
import tempfile
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

import numpy as np

from runtime.contract import ModelContract
from runtime.errors import EdgesegError
from runtime.network.session import NetworkSession
from tests.fuzz.corruption import Originals, damaged
from training.engine.checkpoint import load_checkpoint

START_METHOD: Literal["spawn"] = "spawn"  # torch and onnxruntime do not survive a fork
EXTRA_MEMORY_BYTES = 6 << 30  # beyond what the process has mapped before the first file
# What a file could make a loader do that is not loading; audit events of CPython (PEP 578).
FORBIDDEN_EVENTS = (
    *("os.system", "os.exec", "os.posix_spawn", "os.fork", "os.spawn", "subprocess.Popen", "pty.spawn"),
    *("os.remove", "os.rename", "os.rmdir", "shutil.rmtree", "socket.connect", "urllib.Request"),
)


class Worker:
    """One such process; it is started again after a crash."""

    def __init__(self, originals: Originals, seed: int, time_limit_s: float) -> None:
        """Keep what the process will need; it starts with the first file."""
        self._arguments = (originals, seed)
        self._time_limit_s = time_limit_s
        self._process: multiprocessing.process.BaseProcess | None = None
        self._connection: Connection[Any, Any] | None = None

    def check(self, target: str, index: int) -> str:
        """Open one variant.

        Returns:
            "loaded"; "refused: " and the error's type; or what must not happen: "untyped: …", "ran code: …",
            "crash: …" or "hang: …".
        """
        if self._process is None:
            self._start()
        assert self._process is not None
        assert self._connection is not None
        self._connection.send((target, index))
        try:
            if self._connection.poll(self._time_limit_s):
                return str(self._connection.recv())
        except (EOFError, ConnectionError):
            self._process.join()
            result = f"crash: exit code {self._process.exitcode}"
        else:
            result = f"hang: no answer within {self._time_limit_s:g} s"
        self.close()
        return result

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
        if self._connection is not None:
            self._connection.close()
        self._process = self._connection = None

    def _start(self) -> None:
        context = multiprocessing.get_context(START_METHOD)
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(theirs, *self._arguments), daemon=True)
        self._process.start()
        theirs.close()
        if self._connection.recv() != "ready":
            raise RuntimeError("the fuzzing process did not start")


def serve(connection: Connection[Any, Any], originals: Originals, seed: int) -> None:
    """Answer what happens with one variant after the other, until the other side is gone."""
    caught: list[str] = []
    is_watched = False

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        if is_watched and (event in FORBIDDEN_EVENTS or (event == "open" and _is_writing(arguments))):
            caught.append(event)

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "variant"
        for target, content in (
            ("checkpoint", originals.checkpoint),
            ("graph", originals.model),
            ("contract", originals.contract),
        ):
            path.write_bytes(content)
            open_file(target, path)  # whole files must open; what they import is loaded now
        _limit_memory()
        sys.addaudithook(watch)
        connection.send("ready")
        while True:
            try:
                target, index = connection.recv()
            except EOFError:
                return
            path.write_bytes(damaged(originals, target, index, seed))
            caught.clear()
            is_watched = True
            try:
                open_file(target, path)
                result = "loaded"
            except EdgesegError as error:
                result = f"refused: {type(error).__name__}"
            except BaseException as error:
                result = f"untyped: {type(error).__name__}: {' '.join(str(error).split())[:200]}"
            finally:
                is_watched = False
            connection.send(f"ran code: {', '.join(caught)}" if caught else result)


def open_file(target: str, path: Path) -> None:
    """Open a variant as its users do, and use it once."""
    if target in ("checkpoint", "pickle"):
        load_checkpoint(path).build()
    elif target == "contract":
        ModelContract.from_json(path.read_bytes().decode("utf-8", errors="replace")).to_json()
    else:
        session = NetworkSession(path, threads=1)
        image_bgr = np.zeros((*session.contract.input.size_hw, 3), np.uint8)
        if session.contract.output.has_logits:
            session.run(image_bgr)
        else:
            session.run_mask(image_bgr)


def _is_writing(arguments: tuple[object, ...]) -> bool:
    """Whether an `open` event is for writing: its arguments are path, mode and flags."""
    mode = arguments[1] if len(arguments) > 1 else None
    return isinstance(mode, str) and any(letter in mode for letter in "wax+")


def _limit_memory() -> None:
    """Make an allocation of many gigabytes fail here, rather than take the machine along; Linux only."""
    status = Path("/proc/self/statm")
    if not status.exists():
        return
    import resource

    mapped = int(status.read_text().split()[0]) * resource.getpagesize()
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (mapped + EXTRA_MEMORY_BYTES, hard))
