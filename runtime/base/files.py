"""Files that are whole or not there: written beside their target, flushed, then renamed."""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from runtime.base.shown import printable_lines
from runtime.errors import ConfigError, OutputError

SAMPLES, SAMPLE_BYTES = 8, 1 << 19  # of a recording, that tell it from others


@contextmanager
def replacing(target: str | Path) -> Iterator[Path]:
    """Yield a temporary path in the target's folder; on success flush it and rename it onto the target.

    The temporary name keeps the target's suffix, for writers that choose a format by it. If the block
    raises, the temporary file is deleted and a target that already existed is left as it was. Missing
    folders are made.

    Raises:
        OSError: the folder cannot be made or written.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> with replacing(folder / "note.txt") as part:
    ...     _ = part.write_text("whole")
    >>> [path.name for path in folder.iterdir()]
    ['note.txt']
    """
    target = Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    # Another process may have the same number, such as the one of a restarted container.
    unique = f"{os.getpid()}-{secrets.token_hex(4)}"
    part = target.with_name(f".{target.stem}.{unique}.part{target.suffix}")
    try:
        yield part
        with open(part, "rb") as written:
            os.fsync(written.fileno())
        os.replace(part, target)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all; what no reader should get is escaped (`base.shown`).

    Raises:
        OutputError: a file that cannot be written.
    """
    try:
        with replacing(path) as part:
            part.write_text(printable_lines(text), encoding="utf-8")
    except OSError as error:
        raise OutputError(
            f"{path}: expected a file that can be written, got {error}; choose another"
        ) from error


def make_folder(folder: Path) -> None:
    """Make a folder, and find out before an hour of work whether its results can be kept there.

    Raises:
        ConfigError: it cannot be made or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ConfigError(
            f"{folder}: expected a folder that can be written, got {error.strerror}; choose another"
        ) from None


def open_regular(path: str | Path) -> BinaryIO:
    """Open a regular file for reading, binary; refuse at once what is none.

    Opening a pipe would wait for its writer, reading a terminal or a device might never end, and opening some
    devices changes what they do.

    Raises:
        OSError: the file is missing, cannot be read, or is a folder, pipe, socket or device.

    >>> open_regular("/dev/null")
    Traceback (most recent call last):
    ...
    OSError: [Errno 22] it is a device, not a regular file: '/dev/null'
    """
    _check_regular(Path(path).stat(), path)
    # Somebody may put a pipe in its place meanwhile; O_NONBLOCK changes nothing for files.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        _check_regular(os.fstat(descriptor), path)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_regular(path: str | Path) -> bytes:
    """Return the content of a regular file; see `open_regular`.

    Raises:
        OSError: as there.
    """
    with open_regular(path) as file:
        return file.read()


def _check_regular(state: os.stat_result, path: str | Path) -> None:
    kinds = {
        stat.S_IFIFO: "a pipe",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
    }
    kind = stat.S_IFMT(state.st_mode)
    if kind == stat.S_IFDIR:
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if kind in kinds:
        raise OSError(errno.EINVAL, f"it is {kinds[kind]}, not a regular file", str(path))


@contextmanager
def name_for_libraries(path: str | Path) -> Iterator[str]:
    """Yield a file's absolute name, or another that leads to it where its own is not UTF-8.

    Names are bytes on Linux. OpenCV ends the process at a text that stands for other bytes than UTF-8, so it
    gets a link to the file, which is gone after the block: open the file within.

    Raises:
        OSError: no link can be made.

    >>> with name_for_libraries("/data/clip.mp4") as name:
    ...     print(name)
    /data/clip.mp4
    """
    # Absolute, since of a relative 12:30.mp4 FFmpeg would take 12 for a protocol such as http.
    path = Path(path).absolute()
    if is_encodable(str(path)):
        yield str(path)
        return
    with tempfile.TemporaryDirectory(prefix="edgeseg-") as folder:
        link = Path(folder, f"file{path.suffix if is_encodable(path.suffix) else ''}")
        link.symlink_to(path)
        yield str(link)


def is_encodable(text: str) -> bool:
    """Whether a text has no lone surrogates, which stand for bytes that are no UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def sampled_digest(
    file: BinaryIO, samples: int = SAMPLES, sample_bytes: int = SAMPLE_BYTES
) -> tuple[bytes, int]:
    """Return a SHA-256 of a file's size and of parts of it spread evenly from start to end, and its size.

    A file of a terabyte is told from another after 4 MB. What is longer, shorter, or encoded again differs;
    bytes that somebody changed in place, between the parts, are not noticed.

    >>> import io
    >>> one, other = bytes(5_000_000), bytes(4_999_999) + b"x"
    >>> sampled_digest(io.BytesIO(one)) == sampled_digest(io.BytesIO(other))
    False
    """
    size = file.seek(0, os.SEEK_END)
    digest = hashlib.sha256(str(size).encode() + b"\0")
    last = max(0, size - sample_bytes)
    places = range(0, size, sample_bytes) if size <= samples * sample_bytes else None
    for place in places or [last * number // (samples - 1) for number in range(samples)]:
        file.seek(place)
        digest.update(file.read(sample_bytes))
    return digest.digest(), size


def file_sha256(path: str | Path) -> str:
    """Return the hex SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
