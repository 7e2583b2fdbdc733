"""Kills the workers, the driver, or both of a running archive, and looks whether anything was lost."""

from __future__ import annotations

import importlib.util
import json
import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from runtime.errors import ConfigError, EdgesegError

STRUCK = ("a worker", "the driver", "all")
_CHECKOUT = Path(__file__).parents[2]
_LONGEST_S = 600.0  # on a machine with much else to do
_START_S = 120.0


class LostWork(EdgesegError):
    """An archive lost a chunk, or holds one twice."""


@dataclass(frozen=True)
class Kill:
    """What one kill left.

    Attributes:
        struck: one of `STRUCK`.
        chunks: of the whole archive.
        there: of these, whole after the kill.
        again: that the next run did; where only a worker died, there is no next run.
        problem: what is wrong with the result; "" for nothing.
    """

    struck: str
    chunks: int
    there: int
    again: int
    problem: str


@dataclass(frozen=True)
class Work:
    """An archive to be made again and again: recordings, and flags that decide what its shards hold."""

    recordings: Path
    flags: tuple[str, ...]

    def start(self, out: Path, *flags: str) -> subprocess.Popen[str]:
        """Start the command in a process of its own."""
        command = [sys.executable, "-m", "runtime.archive", str(self.recordings), "--out", str(out), "--json"]
        return subprocess.Popen(
            [*command, *self.flags, *flags],
            cwd=_CHECKOUT,
            env=_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def finish(self, out: Path, *flags: str) -> dict[str, int]:
        """Run the command to its end and return its report.

        Raises:
            ConfigError: it fails.
        """
        return report_of(self.start(out, *flags))


def report_of(process: subprocess.Popen[str]) -> dict[str, int]:
    """Wait for a command's end and return its report.

    Raises:
        ConfigError: it fails.
    """
    printed, said = process.communicate(timeout=_LONGEST_S)
    if process.returncode:
        raise ConfigError(f"archive: expected it to finish, it did not: {said.strip().splitlines()[-1:]}")
    report: dict[str, int] = json.loads(printed.splitlines()[-1])
    return report


def measure_kills(
    work: Work,
    trials: int,
    seed: int = 0,
    struck: Sequence[str] = STRUCK,
    show: Callable[[str], None] = lambda line: None,
) -> list[Kill]:
    """Kill an archive on a Ray of two workers at random moments, let it go on, and compare the bytes.

    Args:
        work: what is archived.
        trials: kills of each kind.
        seed: of the moments.
        struck: who dies.
        show: gets a line for each kill.

    Raises:
        ConfigError: the archive does not even run, or Ray is not installed.
    """
    if importlib.util.find_spec("ray") is None:
        raise ConfigError("kills: expected the package ray, found none; pip install 'edgeseg[archive]'")
    dice = random.Random(seed)
    kills = []
    with tempfile.TemporaryDirectory() as folder, own_cluster() as cluster:
        whole = Path(folder, "whole")
        work.finish(whole, "--workers", "0")
        expected = shards_of(whole)
        for number in range(trials):
            for who in struck:
                out = Path(folder, f"{number}-{who}")
                kill = _strike(
                    who, work, cluster, out, expected, dice.randrange(1, max(2, len(expected) // 2))
                )
                show(
                    f"{who} {number + 1} of {trials}: {kill.there} of {kill.chunks} chunks were whole, "
                    f"{kill.problem or 'all are now'}"
                )
                kills.append(kill)
                shutil.rmtree(out)
    return kills


def shards_of(out: Path) -> dict[str, bytes]:
    """Return the content of every shard of an archive by its name."""
    files = sorted(path for path in (out / "shards").rglob("[0-9]*") if path.is_file())
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in files}


def _strike(
    who: str, work: Work, cluster: Cluster, out: Path, expected: dict[str, bytes], after: int
) -> Kill:
    """Start, wait for some chunks, kill, and let the next run finish."""
    process = work.start(out, "--workers", "2", "--address", cluster.address)
    _wait_for(lambda: len(shards_of(out)) >= after or process.poll() is not None)
    workers = cluster.workers()
    if who != "a worker":
        process.kill()
    for pid in {"a worker": workers[: 1 + after % 2], "the driver": [], "all": workers}[who]:
        os.kill(pid, signal.SIGKILL)
    there, again = len(shards_of(out)), 0
    if who == "a worker":  # another one takes its place
        report_of(process)
    else:
        process.communicate(timeout=_LONGEST_S)
        _wait_for(lambda: not cluster.workers())  # of a driver that is gone they end by themselves
        there = len(shards_of(out))
        again = work.finish(out, "--workers", "0")["chunks"]
    found = shards_of(out)
    problem = ""
    if found != expected:
        missing, other = len(expected.keys() - found.keys()), len(found.keys() - expected.keys())
        problem = f"{missing} chunks are missing, {other} are too many, others differ"
    elif again and again != len(expected) - there:
        problem = f"{again} chunks were done again, {len(expected) - there} were missing"
    elif list(out.rglob("*.part*")):
        problem = "parts of shards are left"
    return Kill(who, len(expected), there, again, problem)


def _wait_for(condition: Callable[[], object]) -> None:
    until_s = time.monotonic() + _LONGEST_S
    while not condition():
        if time.monotonic() > until_s:
            raise ConfigError(f"kills: expected an archive that goes on, got none within {_LONGEST_S:g} s")
        time.sleep(0.01)


def _environment() -> dict[str, str]:
    """Return this process's environment, with a token for the cluster and a path to this very package."""
    path = os.pathsep.join(filter(None, (str(_CHECKOUT), os.environ.get("PYTHONPATH"))))
    return {**os.environ, "PYTHONPATH": path, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": _TOKEN}


_TOKEN = secrets.token_hex(16)


@dataclass(frozen=True)
class Cluster:
    """A Ray of our own.

    Attributes:
        address: for `--address`.
        folder: that holds its sockets and logs.
    """

    address: str
    folder: str

    def workers(self) -> list[int]:
        """Return the process ids of the archive's workers on it, as Linux lists them."""
        processes = list(_processes())
        raylets = {
            pid for pid, command, _ in processes if b"/raylet" in command and self.folder.encode() in command
        }
        return [
            pid
            for pid, command, parent in processes
            if command.startswith(b"ray::MapWorker") and parent in raylets
        ]


def _processes() -> Iterator[tuple[int, bytes, int]]:
    """Yield process id, command line and parent of all processes, as Linux tells them."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes()
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:  # gone meanwhile
            continue
        yield int(folder.name), command, parent


@contextmanager
def own_cluster(cpus: int = 2) -> Iterator[Cluster]:
    """Run a Ray on this machine's loopback while the block runs."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = tempfile.mkdtemp(prefix="ray-")  # a short name, since it holds sockets
    flags = {
        "port": port,
        "num-cpus": cpus,
        "node-ip-address": "127.0.0.1",
        "object-store-memory": 100 << 20,
        "include-dashboard": "false",
        "temp-dir": folder,
    }
    started = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block"]
    process = subprocess.Popen(
        [*started, "--disable-usage-stats", *(f"--{name}={value}" for name, value in flags.items())],
        cwd=_CHECKOUT,
        env=_environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait_until_it_listens(process, port)
        yield Cluster(f"127.0.0.1:{port}", folder)
    finally:
        ours = {process.pid}  # asked to stop, Ray takes half a minute
        running = list(_processes())
        ours |= {pid for pid, command, _ in running if folder.encode() in command}
        ours |= {pid for pid, _, parent in running if parent in ours}
        for pid in ours:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait(_START_S)
        shutil.rmtree(folder, ignore_errors=True)


def _wait_until_it_listens(process: subprocess.Popen[bytes], port: int) -> None:
    until_s = time.monotonic() + _START_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            if process.poll() is not None or time.monotonic() > until_s:
                raise ConfigError("kills: expected Ray to start, it did not") from None
            time.sleep(0.1)
