"""One run at a time on one output: a lock that the kernel releases when its process dies, however it dies."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from runtime.errors import ConfigError

logger = logging.getLogger(__name__)

_held: set[int] = set()  # descriptors, for a child to close: a lock lives as long as any copy of one


@contextmanager
def only_run_on(target: str | Path, *, is_folder: bool = False) -> Iterator[None]:
    """Hold the lock of a file or folder that is about to be written, while the block runs.

    The lock is a file `.NAME.lock` beside the target, or `.lock` inside of a folder, which is made where it
    is missing; it goes with the block. Where the disk takes none, the block runs without.

    Raises:
        ConfigError: another run holds it; with that run's process id.

    >>> import tempfile
    >>> drive = Path(tempfile.mkdtemp(), "drive.mp4")
    >>> with only_run_on(drive), only_run_on(drive):
    ...     pass
    Traceback (most recent call last):
    ...
    runtime.errors.ConfigError: ...drive.mp4: expected no other run to write it, but process ... does; ...
    """
    real = Path(os.path.realpath(target))
    path = real / ".lock" if is_folder else real.with_name(f".{real.name}.lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = _locked(path)
    except BlockingIOError as error:
        raise ConfigError(
            f"{target}: expected no other run to write it, but process {error.strerror} does; wait for it, "
            "stop it, or choose another name"
        ) from None
    except OSError as error:
        # A full or read-only disk, or one that knows no locks; whoever writes there says what is wrong.
        logger.info("%s: cannot be locked (%s)", target, error.strerror)
        yield
        return
    _held.add(descriptor)
    try:
        yield
    finally:
        _held.discard(descriptor)
        with suppress(OSError):
            path.unlink()
        os.close(descriptor)


def _locked(path: Path) -> int:
    """Return a descriptor that holds the lock.

    Raises:
        BlockingIOError: another process has it, whose id is the error's text.
        OSError: there can be no lock.
    """
    try:
        import fcntl
    except ImportError:  # not POSIX
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP)) from None
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.read(descriptor, 32).decode("ascii", "replace").strip()
                raise BlockingIOError(errno.EAGAIN, holder or "(unknown)") from None
            if _is_at(path, descriptor):
                os.ftruncate(descriptor, 0)
                os.write(descriptor, f"{os.getpid()}\n".encode())
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # its holder removed it between our opening and our locking


def _is_at(path: Path, descriptor: int) -> bool:
    """Whether a path still names the file that is open."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _let_go() -> None:
    """Close a forked child's copies, so that the lock dies with its holder."""
    for descriptor in _held:
        with suppress(OSError):
            os.close(descriptor)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)
