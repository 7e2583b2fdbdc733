"""Does something with a stranger's file in a child process, with limits of memory and time."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ParamSpec, TypeVar

from runtime.base.flags import check_fields, flag
from runtime.base.shown import shown
from runtime.errors import EdgesegError, ModelLoadError

P = ParamSpec("P")
T = TypeVar("T")
_FULL = ("bad_alloc", "bfc_arena", "Failed to allocate memory", "MemoryError", "Cannot allocate memory")
_MOST_GB = 8.0
_THREAD_BYTES = 72 << 20


@dataclass(frozen=True)
class Limits:
    """What a stranger's file may take."""

    isolated: bool = flag("work in the process itself, without limits of memory and time", default=True)
    memory_gb: float | None = flag(
        "memory that the file may take",
        default=None,
        unset="half of the machine's, at most 8",
        unit="GB",
        above=0,
    )
    time_s: float = flag("time that it may take", default=900.0, unit="s", above=0)

    def __post_init__(self) -> None:
        """Check the numbers."""
        check_fields(self)

    @property
    def gigabytes(self) -> float:
        """The memory allowed."""
        return min(_MOST_GB, _machine_gb() / 2) if self.memory_gb is None else self.memory_gb


def within(limits: Limits, path: Path, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Return what a function returns, called in a fresh process that must keep to limits.

    Memory is limited where the system can (Linux); time everywhere.

    Args:
        limits: of the process.
        path: the stranger's file, for messages.
        work: a function that can be pickled; so must its arguments and its result.
        args: its arguments.
        kwargs: its named arguments.

    Raises:
        ModelLoadError: the limits were not kept, or the process died.
        EdgesegError: what the function raises.
    """
    if not limits.isolated:
        return work(*args, **kwargs)
    # Not multiprocessing: its children run the caller's main module again, and a fork inherits threads that
    # stand still.
    code = f"import sys; sys.path[:] = {sys.path!r}; from export.foreign.isolation import serve; serve()"
    child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        call = pickle.dumps((limits.gigabytes, work, args, kwargs))
        answer, _ = child.communicate(call, timeout=limits.time_s)
    except subprocess.TimeoutExpired:
        raise ModelLoadError(
            f"model {shown(path, 200)}: stopped after {limits.time_s:g} s in a process of its own; allow "
            "more with --time-s if you trust it"
        ) from None
    finally:
        child.kill()
        child.communicate()
    if child.returncode != 0 or not answer:
        raise ModelLoadError(
            f"model {shown(path, 200)}: the process that opened it died (exit code {child.returncode}), of "
            f"{limits.gigabytes:.1f} GB or of a fault in onnxruntime; do not use the file, or allow more "
            "with --memory-gb if you trust it"
        )
    said, value = pickle.loads(answer)
    if said == "error":
        raise value
    if said == "full":
        raise ModelLoadError(
            f"model {shown(path, 200)}: needs more than {limits.gigabytes:.1f} GB ({shown(value, 120)}); "
            "allow more with --memory-gb if you trust it"
        )
    if said == "defect":
        raise RuntimeError(value)
    return value  # type: ignore[no-any-return]


def serve() -> None:
    """In the child: read the call from stdin, do it, and write its outcome to stdout."""
    with os.fdopen(os.dup(1), "wb") as answer:
        os.dup2(2, 1)  # what a library prints is no part of it
        gigabytes, work, args, kwargs = pickle.load(sys.stdin.buffer)
        _limit_memory(gigabytes)
        try:
            outcome = ("value", work(*args, **kwargs))
        except EdgesegError as error:
            full = any(word in str(error) for word in _FULL)
            outcome = ("full", str(error)) if full else ("error", error)
        except KeyboardInterrupt:
            return  # the parent says so
        except Exception as error:
            full = isinstance(error, MemoryError) or any(word in str(error) for word in _FULL)
            outcome = ("full", str(error) or "memory") if full else ("defect", traceback.format_exc())
        answer.write(pickle.dumps(outcome))


def _limit_memory(gigabytes: float) -> None:
    """Let this process take so much more address space than it has now."""
    try:
        import resource

        pages = int(Path("/proc/self/statm").read_text().split()[0])
        # Threads reserve a stack and a heap each, which is no memory yet.
        reserved = (os.cpu_count() or 1) * _THREAD_BYTES
        most = pages * resource.getpagesize() + int(gigabytes * 1e9) + reserved
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    except (ImportError, OSError, ValueError):
        return  # not Linux, or a lower limit is set already


def _machine_gb() -> float:
    """Return the machine's memory."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    except (AttributeError, ValueError, OSError):
        return 2 * _MOST_GB
