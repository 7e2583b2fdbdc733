"""The same work in this process, or spread over the processors of one machine or a cluster by Ray Data.

An engine gets chunks and yields results as they come. It needs to know nothing of what a chunk is, since
whatever dies may be done again: a chunk whose shard is whole is not.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
import pickle
import signal
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import cv2

from runtime.archives.chunk import ChunkOptions, ChunkResult, ChunkSegmenter
from runtime.archives.jobs import ChunkJob
from runtime.base.shown import shown
from runtime.errors import ConfigError, OutputError

_BLOCKS_A_WORKER = 64
_STORE_BYTES = 128 << 20  # Ray would take a third of the memory; jobs and results are small
_REACHED_S = 10.0
_PACKAGES = Path(__file__).parents[2]


class Engine(Protocol):
    """Does chunks in any order and yields what became of each."""

    def __call__(self, jobs: Sequence[ChunkJob], options: ChunkOptions) -> Iterator[ChunkResult]:
        """Yield the results of all chunks, those that follow open ones among them."""


def segment_all(engine: Engine, jobs: Sequence[ChunkJob], options: ChunkOptions) -> Iterator[ChunkResult]:
    """Yield the results of all chunks; those that another run works on come last, when it is done.

    Raises:
        OutputError: what is wrong with one chunk would be with all, such as a full disk.
    """
    taken: list[ChunkJob] = []
    for waits in (False, True):
        for result in engine(taken if waits else jobs, replace(options, waits=waits)):
            if result.is_fatal:
                raise OutputError(result.problem)
            if result.is_taken:
                taken.append(result.job)
            else:
                yield result
        if not taken:
            return


def in_process(jobs: Sequence[ChunkJob], options: ChunkOptions) -> Iterator[ChunkResult]:
    """Do the chunks one after the other, here; see `Engine`."""
    with ChunkSegmenter(options) as segment_chunk:
        for job in jobs:
            yield from segment_chunk.follow(job)


def has_ray() -> bool:
    """Whether Ray is installed."""
    return importlib.util.find_spec("ray") is not None


class RayEngine:
    """Does the chunks on Ray Data, one actor a worker, each with a session of its own.

    Attributes:
        workers: how many there are.
    """

    def __init__(self, ray: Any, workers: int, threads: int) -> None:
        """Take over a connection."""
        self._ray = ray
        self._threads = threads
        self.workers = workers

    def __call__(self, jobs: Sequence[ChunkJob], options: ChunkOptions) -> Iterator[ChunkResult]:
        """Do the chunks on all workers at once; see `Engine`.

        Raises:
            OutputError: Ray gave up.
        """
        data = importlib.import_module("ray.data")
        blocks = min(len(jobs), _BLOCKS_A_WORKER * self.workers)
        rows = [{"job": pickle.dumps(job)} for job in jobs]
        results = data.from_items(rows, override_num_blocks=blocks).map_batches(
            _Actor,
            fn_constructor_args=(options, self._threads),
            compute=data.ActorPoolStrategy(size=min(self.workers, len(jobs))),
            batch_size=1,
            num_cpus=self._threads,
        )
        try:
            for row in results.iter_rows():
                yield from pickle.loads(row["results"])
        except self._ray.exceptions.RayError as error:
            raise OutputError(
                f"ray: expected workers that go on, got {shown(' '.join(str(error).split()), 300)}; run this "
                "again: what is whole stays"
            ) from None


class _Actor:
    """A worker: one process with one session."""

    def __init__(self, options: ChunkOptions, threads: int) -> None:
        cv2.setNumThreads(threads)
        self._segment_chunk = ChunkSegmenter(options)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[bytes]]:
        jobs = [pickle.loads(job) for job in batch["job"]]
        return {"results": [pickle.dumps(list(self._segment_chunk.follow(job))) for job in jobs]}


@contextmanager
def on_ray(workers: int | None, threads: int, address: str | None = None) -> Iterator[RayEngine]:
    """Start Ray on this machine, or connect to a cluster, and give it back afterwards.

    Args:
        workers: how many; None for as many as there are processors for.
        threads: processors of each.
        address: of a cluster that runs, such as "auto" or "ray://head:10001"; None for this machine.

    Raises:
        ConfigError: Ray is not installed or there is no such cluster, or fewer processors than one worker
            needs.
    """
    if address is not None:
        _check_reachable(address)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # else it would tell its makers
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    try:
        ray = importlib.import_module("ray")
        data = importlib.import_module("ray.data")
    except ImportError as error:
        raise ConfigError(
            f"workers: expected the package ray, which cannot be imported ({error}); pip install "
            "'edgeseg[archive]', or take --workers 0"
        ) from None
    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.ERROR)
    data.DataContext.get_current().enable_progress_bars = False
    settings: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    if address is not None:
        settings["address"] = address
    else:
        cpus = _cpus()
        settings |= {
            "num_cpus": cpus if workers is None else workers * threads,
            "include_dashboard": False,
            "_node_ip_address": "127.0.0.1",  # nobody else is to reach it
            "object_store_memory": _STORE_BYTES,
            "runtime_env": {"env_vars": {"PYTHONPATH": _python_path()}},
        }
    handler = signal.getsignal(signal.SIGTERM)
    try:
        with _silent():
            ray.init(**settings)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise _no_cluster(address, error) from None
    try:
        signal.signal(signal.SIGTERM, handler)  # Ray's own would end with another exit code
        fitting = int(ray.cluster_resources().get("CPU", 0)) // threads
        if fitting < 1:
            raise ConfigError(
                f"threads: expected a worker to fit, got {threads} threads and a cluster with fewer "
                "processors; take fewer --threads"
            )
        with redirect_stdout(sys.stderr):  # where Ray tells of nodes that died
            yield RayEngine(ray, fitting if workers is None else workers, threads)
    finally:
        ray.shutdown()


@contextmanager
def _silent() -> Iterator[None]:
    """Drop what C++ writes to stderr meanwhile: Ray tells its own level of logging."""
    sys.stderr.flush()
    try:
        kept = os.dup(2)
    except OSError:  # closed by the shell's 2>&-
        yield
        return
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(null)


def _check_reachable(address: str) -> None:
    """Refuse an address where nobody listens; Ray would knock for minutes.

    Raises:
        ConfigError: nobody does.
    """
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if not port.isdecimal():  # "auto", or one of Ray's own names
        return
    try:
        socket.create_connection((host, int(port)), _REACHED_S).close()
    except (OSError, OverflowError) as error:
        raise _no_cluster(address, error) from None


def _no_cluster(address: str | None, error: Exception) -> ConfigError:
    return ConfigError(
        f"address: expected a Ray cluster at {shown(address)}, got {shown(error, 300)}; start one with ray "
        "start --head, or leave --address out"
    )


def _cpus() -> int:
    """Return the processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _python_path() -> str:
    """Return a path by which workers find this very package, a checkout too."""
    return os.pathsep.join(filter(None, (str(_PACKAGES), os.environ.get("PYTHONPATH"))))
