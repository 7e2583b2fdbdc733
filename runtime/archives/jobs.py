"""Which recordings there are and where each is cut: from what a user names to chunks."""

from __future__ import annotations

import codecs
import glob
import hashlib
import importlib
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

from runtime.base.files import SAMPLE_BYTES, SAMPLES, open_regular, sampled_digest
from runtime.base.images import IMAGE_SUFFIXES, ImageFile, image_of, is_clutter, sequence_bits
from runtime.base.shown import printable, shown
from runtime.errors import ConfigError, EdgesegError, SourceError
from runtime.ros.bags import SUFFIXES as BAG_SUFFIXES
from runtime.ros.bags import is_bag
from runtime.sources.container import what_is_missing
from runtime.sources.key_frames import key_frames
from runtime.sources.opening import natural_order
from runtime.sources.video import VideoFile

VIDEO_SUFFIXES = frozenset(
    {".3gp", ".avi", ".flv", ".h264", ".h265", ".hevc", ".m2ts", ".m4v", ".mjpeg", ".mjpg", ".mkv", ".mov"}
    | {".mp4", ".mpeg", ".mpg", ".mts", ".mxf", ".ogv", ".ts", ".webm", ".wmv"}
)
LIST_SUFFIX = ".txt"
_INSIDE = "::"  # what stands before it lies inside of what stands behind it, as fsspec writes it
_PART = re.compile(r"_\d+$")
_IMAGE_SAMPLES, _IMAGE_SAMPLE_BYTES = 2, 1 << 12


@dataclass(frozen=True)
class Recording:
    """What one camera recorded.

    Attributes:
        name: a path, or an address with a scheme, as it was found; of images, their folder.
        kind: "video", "images" or "bag".
        digest: hex SHA-256 of its size and of parts of its content (see `sampled_digest`); equal for copies.
        topic: of a bag; None for the only one that fits.
        bits: of a channel of images that have more than 8 and do not state how many count, the same in all
            chunks; None for others.
    """

    name: str
    kind: str
    digest: str
    topic: str | None = None
    bits: int | None = None

    @property
    def is_remote(self) -> bool:
        """Whether it must be fetched before it is read."""
        return "://" in self.name


@dataclass(frozen=True)
class ChunkJob:
    """A range of a recording's frames, which one worker segments and writes as one shard.

    Attributes:
        recording: whose frames.
        files: what is read: the video, the bag, or the range's images.
        first: number of its first frame.
        end: number behind its last frame; only an estimate where there is a `start_ns`.
        start_ns: presentation time of the first frame, a key frame that a reader jumps to; None where the
            frames before it must be passed over.
        end_ns: presentation time of the first frame behind it; None for the end of the recording.
        is_open: whether nobody knows where the recording ends: the next chunk follows, in the same worker.
        expected: frames of this chunk, or of the whole recording where it `is_open`; 0 for unknown.
    """

    recording: Recording
    files: tuple[str, ...]
    first: int
    end: int
    start_ns: int | None = None
    end_ns: int | None = None
    is_open: bool = False
    expected: int = 0

    def following(self) -> ChunkJob:
        """Return the next chunk of a recording whose end nobody knows."""
        return replace(self, first=self.end, end=2 * self.end - self.first)


@dataclass(frozen=True)
class Failure:
    """A recording, or a part of one, that was not segmented.

    Attributes:
        recording: its name.
        reason: one line.
    """

    recording: str
    reason: str


@dataclass(frozen=True)
class Found:
    """A recording that was found and not yet looked into."""

    name: str
    kind: str
    files: tuple[str, ...]


def find_recordings(specs: Iterable[str]) -> Iterator[Found | Failure]:
    """Yield every recording that a user's words name, once, in a steady order.

    A word is a video, a bag, an image, a folder, a pattern, an address that fsspec opens, or a .txt file with
    one of these a line. A folder gives every video and bag below it, and each folder of images in it as one
    recording. Images that are named one by one are one recording a folder.

    Raises:
        ConfigError: an address, and fsspec is not installed.
    """
    images: dict[str, list[str]] = {}
    seen: set[str] = set()
    for found in _named(specs, depth=0):
        if isinstance(found, Found) and found.kind == "images":
            images.setdefault(found.name, []).extend(found.files)
        elif isinstance(found, Failure):
            yield found
        elif found.name not in seen:
            seen.add(found.name)
            yield found
    for folder, files in images.items():
        yield Found(folder, "images", tuple(sorted(set(files), key=natural_order)))


def _named(specs: Iterable[str], depth: int) -> Iterator[Found | Failure]:
    for spec in specs:
        try:
            yield from _by_name(spec, depth)
        except OSError as error:  # a name that is too long, a folder that may not be read
            yield _unreadable(spec, error)


def _by_name(spec: str, depth: int) -> Iterator[Found | Failure]:
    path = Path(spec)
    if "://" in spec:
        yield from _remote(spec)
    elif path.is_file() and path.suffix.lower() == LIST_SUFFIX:
        yield from _listed(path, depth)
    elif path.exists():
        yield from _at(path)
    elif glob.has_magic(spec):
        matches = sorted(glob.glob(spec, recursive=True), key=natural_order)  # noqa: PTH207
        found = [one for match in matches if not is_clutter(Path(match).name) for one in _at(Path(match))]
        yield from found or [Failure(spec, "expected recordings, no file matches; check the pattern")]
    else:
        yield Failure(spec, "expected a recording, found no such file; check the path")


def _unreadable(name: str, error: OSError) -> Failure:
    return Failure(name, f"expected what can be read, got {error.strerror or error}; check the path")


def _listed(path: Path, depth: int) -> Iterator[Found | Failure]:
    """Yield what a text file names, a line each; relative paths start at its folder."""
    if depth:
        yield Failure(str(path), "expected recordings in a list, got another list; name it on its own")
        return
    with open_regular(path) as file:
        lines = [os.fsdecode(line.strip()) for line in file.read().removeprefix(codecs.BOM_UTF8).splitlines()]
    names = [line for line in lines if line and not line.startswith("#")]
    if not names:
        yield Failure(str(path), "expected one recording a line, got an empty list")
    yield from _named([name if "://" in name else str(path.parent / name) for name in names], depth + 1)


def _at(path: Path) -> Iterator[Found | Failure]:
    """Yield the recordings that a path leads to; a file that is named counts whatever its ending is."""
    if not path.is_dir():
        yield _file(str(path), path.suffix.lower())
        return
    if _is_bag_folder(path):
        yield Found(str(path), "bag", (str(path),))
        return
    seen: set[str] = set()  # links may lead back
    problems: list[OSError] = []
    for place, folders, names in os.walk(path, onerror=problems.append, followlinks=True):
        if (real := os.path.realpath(place)) in seen:
            folders.clear()
            continue
        seen.add(real)
        folders.sort(key=natural_order)
        bags = [name for name in folders if _is_bag_folder(Path(place, name))]
        folders[:] = [name for name in folders if name not in bags and not is_clutter(name)]
        for name in sorted((*bags, *names), key=natural_order):
            suffix = Path(name).suffix.lower()
            whole = str(Path(place, name))
            if name in bags:
                yield Found(whole, "bag", (whole,))
            elif not is_clutter(name) and suffix in VIDEO_SUFFIXES | IMAGE_SUFFIXES | set(BAG_SUFFIXES):
                yield _file(whole, suffix)
    for problem in problems:
        yield _unreadable(str(problem.filename), problem)


def _is_bag_folder(folder: Path) -> bool:
    """Whether a folder is one bag and holds no other recordings; parts of a bag are numbered."""
    try:
        if not is_bag(folder):
            return False
        inside = [path for path in folder.iterdir() if not is_clutter(path.name)]
        if any(path.is_dir() or path.suffix.lower() in VIDEO_SUFFIXES | IMAGE_SUFFIXES for path in inside):
            return False
    except OSError:  # told by whoever walks through it
        return False
    parts = {_PART.sub("", path.stem) for path in inside if path.suffix.lower() in BAG_SUFFIXES}
    return len(parts) == 1 or (folder / "metadata.yaml").is_file()


def _file(name: str, suffix: str) -> Found:
    if suffix in IMAGE_SUFFIXES:
        return Found(_folder_of(name), "images", (name,))
    return Found(name, "bag" if suffix in BAG_SUFFIXES else "video", (name,))


def _remote(address: str) -> Iterator[Found | Failure]:
    """Yield what an address, or a pattern of addresses, names."""
    names = [address]
    try:
        if glob.has_magic(address.partition("?")[0] if address.startswith("http") else address):
            files, pattern = _file_system(address)
            rest = address.split(_INSIDE)[1:]
            found = sorted(map(files.unstrip_protocol, files.glob(pattern)), key=natural_order)
            names = [_INSIDE.join((name, *rest)) for name in found]
    except ConfigError:
        raise
    except Exception as error:  # each file system of fsspec has errors of its own
        yield Failure(address, f"expected recordings, cannot list them ({shown(error, 200)})")
        return
    if not names:
        yield Failure(address, "expected recordings, but nothing matches; check the pattern")
    for name in names:
        yield _file(name, suffix_of(name))


def suffix_of(address: str) -> str:
    """Return the suffix of the file that an address names, in lower case.

    >>> suffix_of("https://drives/night.MP4?token=a.b"), suffix_of("zip://night.avi::s3://drives/all.zip")
    ('.mp4', '.avi')
    """
    return Path(address.partition(_INSIDE)[0].partition("?")[0]).suffix.lower()


def _folder_of(name: str) -> str:
    """Return the folder of a path or an address."""
    if "://" not in name:
        return str(Path(name).parent)
    first, *rest = name.split(_INSIDE)
    return _INSIDE.join((first.rpartition("/")[0], *rest))


def _file_system(address: str) -> tuple[Any, str]:
    """Return fsspec's file system of an address, and the path in it.

    Raises:
        ConfigError: fsspec, or what it needs for this kind of address, is not installed.
    """
    try:
        fsspec = importlib.import_module("fsspec")
        files, path = fsspec.core.url_to_fs(address)
        return files, path
    except ImportError as error:
        raise ConfigError(
            f"{shown(address)}: addresses need fsspec and its package for this scheme ({error}); "
            "pip install 'edgeseg[archive]', and s3fs, gcsfs or aiohttp"
        ) from None


def plan(found: Found, chunk_frames: int, topic: str | None = None) -> list[ChunkJob]:
    """Return the chunks of a recording.

    Images are cut anywhere, videos with an index at key frames (see `key_frames`). Of everything else there
    is one chunk whose `is_open` says that the others follow.

    Args:
        found: the recording.
        chunk_frames: frames of a chunk; at least so many where key frames decide.
        topic: of bags.

    Raises:
        SourceError: it cannot be read, or is empty.
        ConfigError: fsspec is not installed.
    """
    try:
        digest = _digest(found)
    except OSError as error:
        raise SourceError(f"expected a recording, cannot read it ({error.strerror or error})") from None
    is_bag_ = found.kind == "bag"
    recording = Recording(found.name, found.kind, digest, topic if is_bag_ else None)
    if found.kind == "images":
        recording = replace(recording, bits=_bits(found.files))
        starts = range(0, len(found.files), chunk_frames)
        parts = [found.files[first : first + chunk_frames] for first in starts]
        return [
            ChunkJob(recording, part, first, first + len(part), expected=len(part))
            for first, part in zip(starts, parts, strict=True)
        ]
    expected = 0
    if found.kind == "video" and not recording.is_remote and what_is_missing(found.name) is None:
        cuts, expected = key_frames(found.name, chunk_frames)
        if len(cuts) > 1:
            ends = [*((cut.number, cut.time_ns) for cut in cuts[1:]), (expected, None)]
            return [
                ChunkJob(
                    recording, found.files, cut.number, end, cut.time_ns, end_ns, expected=end - cut.number
                )
                for cut, (end, end_ns) in zip(cuts, ends, strict=True)
            ]
        with VideoFile(found.name) as video:  # which refuses what is none
            expected = video.announced
    return [ChunkJob(recording, found.files, 0, chunk_frames, is_open=True, expected=expected)]


def _bits(files: Sequence[str]) -> int | None:
    """Return what `sequence_bits` finds; None where the first image cannot be read, which its chunk tells."""

    def load(place: int) -> ImageFile:
        with opened_file(files[place]) as file:
            return image_of(file.read(), printable(files[place]))

    try:
        return sequence_bits(len(files), load)
    except (SourceError, OSError):
        return None


def _digest(found: Found) -> str:
    """Return a recording's digest.

    Raises:
        OSError: it cannot be read.
        SourceError: it is empty, or its address cannot be read.
    """
    digest = hashlib.sha256(found.kind.encode())
    samples = (_IMAGE_SAMPLES, _IMAGE_SAMPLE_BYTES) if found.kind == "images" else (SAMPLES, SAMPLE_BYTES)
    size = 0
    for name in _files_of(found):
        if found.kind == "images":  # whose order is that of their names
            digest.update(os.fsencode(Path(name).name) + b"\0")
        with opened_file(name) as file:
            of_file, length = sampled_digest(file, *samples)
        digest.update(of_file)
        size += length
    if not size:
        raise SourceError("expected a recording, got an empty file; copy it again from where it was recorded")
    return digest.hexdigest()


def _files_of(found: Found) -> Sequence[str]:
    """Return the files of a recording, those inside of a bag that is a folder too."""
    if found.kind == "bag" and "://" not in found.name and Path(found.name).is_dir():
        return sorted(str(path) for path in Path(found.name).iterdir() if path.is_file())
    return found.files


@contextmanager
def opened_file(name: str) -> Iterator[BinaryIO]:
    """Open a path or an address for reading.

    Raises:
        OSError: a path that cannot be read.
        SourceError: an address that cannot be opened or read.
        ConfigError: fsspec, or what it needs for this kind of address, is not installed.
    """
    if "://" not in name:
        with open_regular(name) as file:
            yield file
        return
    try:
        files, path = _file_system(name)  # kept, since what lies inside of others is closed with it
        with files.open(path, "rb") as file:
            yield file
    except EdgesegError:
        raise
    except Exception as error:  # see `_remote`
        raise SourceError(
            f"{shown(name)}: expected a recording, cannot fetch it ({shown(error, 200)})"
        ) from None
