"""What a folder of shards holds: `manifest.json` and `failed.jsonl`, of all runs into it together."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from runtime.archives.chunk import ChunkOptions, ChunkResult
from runtime.archives.jobs import Failure
from runtime.base.codec import DecodeError, from_plain, to_plain
from runtime.base.files import read_regular, write_text
from runtime.base.lock import only_run_on
from runtime.base.shown import shown
from runtime.contract import ClassMap
from runtime.errors import ConfigError

MANIFEST, FAILED = "manifest.json", "failed.jsonl"
_LONGEST_NAME = 4096
_WAIT_S, _LONGEST_WAIT_S = 0.1, 120.0


@dataclass(frozen=True)
class ShardEntry:
    """A shard of a recording.

    Attributes:
        file: relative to the manifest.
        first: number of the first frame of its range.
        frames: that it holds.
        sha256: hex digest of the file.
        size_bytes: of the file.
    """

    file: str
    first: int
    frames: int
    sha256: str
    size_bytes: int


@dataclass(frozen=True)
class RecordingEntry:
    """A recording and its shards, in the order of the frames.

    Attributes:
        name: as it was found, free of passwords.
        kind: "video", "images" or "bag".
        digest: see `Recording`; "" where it could not even be looked into.
        problem: why frames are missing; "" where none are.
        shards: those that are whole.
        copies: names of equal recordings, which were segmented once.
        topic: of a bag; "" for the only one that fits.
        source_sha256: hex digest of the name with all that `name` hides; "" in manifests of before.
    """

    name: str
    kind: str = ""
    digest: str = ""
    problem: str = ""
    shards: tuple[ShardEntry, ...] = ()
    copies: tuple[str, ...] = ()
    topic: str = ""
    source_sha256: str = ""

    @property
    def title(self) -> str:
        """The name, and of a bag the topic."""
        return f"{self.name} {self.topic}" if self.topic else self.name

    def is_of(self, other: RecordingEntry) -> bool:
        """Whether both were found under one name."""
        if self.source_sha256 and other.source_sha256:
            return self.source_sha256 == other.source_sha256
        return self.name == other.name

    @property
    def frames(self) -> int:
        """Segmented frames."""
        return sum(shard.frames for shard in self.shards)


@dataclass(frozen=True)
class Manifest:
    """All of it.

    Attributes:
        settings: what decides the content of shards, see `ChunkOptions.decisive`.
        model: name of the network.
        classes: names and colours.
        recordings: by name.
    """

    settings: dict[str, str]
    model: str
    classes: ClassMap
    recordings: tuple[RecordingEntry, ...] = ()

    @property
    def failed(self) -> list[Failure]:
        """The recordings that lack frames."""
        return [Failure(one.title, one.problem) for one in self.recordings if one.problem]


@dataclass
class Tally:
    """Collects what became of a run's recordings."""

    _entries: dict[tuple[str, str], RecordingEntry] = field(default_factory=dict)
    _shards: dict[tuple[str, str], list[ShardEntry]] = field(default_factory=dict)

    def failed(self, failure: Failure) -> None:
        """Note what could not be looked into."""
        name, source = shown(failure.recording, _LONGEST_NAME), _name_sha256(failure.recording)
        self._entries["", source] = RecordingEntry(name, problem=failure.reason, source_sha256=source)

    def add(self, result: ChunkResult) -> None:
        """Note what became of a chunk."""
        recording = result.job.recording
        key = recording.digest, recording.topic or ""
        entry = self._entries.get(key) or RecordingEntry(
            shown(recording.name, _LONGEST_NAME),
            recording.kind,
            recording.digest,
            topic=shown(recording.topic or "", _LONGEST_NAME),
            source_sha256=_name_sha256(recording.name),
        )
        self._entries[key] = replace(entry, problem=entry.problem or result.problem)
        if result.shard:
            self._shards.setdefault(key, []).append(
                ShardEntry(result.shard, result.job.first, result.frames, result.sha256, result.size_bytes)
            )

    def entries(self, copies: dict[str, list[str]]) -> Iterator[RecordingEntry]:
        """Yield the recordings; `copies` are other names by digest."""
        for key, entry in self._entries.items():
            shards = sorted(self._shards.get(key, ()), key=lambda shard: shard.first)
            names = tuple(shown(name, _LONGEST_NAME) for name in copies.get(entry.digest, ()))
            yield replace(entry, shards=tuple(shards), copies=names)


def _name_sha256(name: str) -> str:
    return hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()


def check_folder(out: Path, options: ChunkOptions) -> None:
    """Refuse a folder whose results are of another model or of other options.

    Raises:
        ConfigError: so it is, or the manifest there cannot be read.
    """
    before = read_manifest(out)
    if before is None:
        return
    wanted = options.decisive()
    differing = [name for name, value in wanted.items() if before.settings.get(name) != value]
    if differing:
        name = differing[0]
        raise ConfigError(
            f"{out}: expected results of the same {', '.join(differing)}, got {name} "
            f"{shown(before.settings.get(name))} there and {wanted[name]} now; choose another --out"
        )


def update_manifest(
    out: Path,
    options: ChunkOptions,
    model: str,
    classes: ClassMap,
    entries: Iterable[RecordingEntry],
) -> Manifest:
    """Write what a run did into the manifest, beside what others did, and return all of it.

    Raises:
        ConfigError: the manifest there cannot be read, or somebody holds it for minutes.
        OutputError: it cannot be written.
    """
    with _held(out / MANIFEST):
        before = read_manifest(out)
        recordings = list(before.recordings if before else ())
        for entry in entries:
            recordings = _joined(recordings, entry)
        recordings.sort(key=lambda one: (one.title, one.source_sha256))
        manifest = Manifest(options.decisive(), model, classes, tuple(recordings))
        write_text(out / MANIFEST, json.dumps(to_plain(manifest), indent=1) + "\n")
        lines = [json.dumps(to_plain(failure)) + "\n" for failure in manifest.failed]
        write_text(out / FAILED, "".join(lines))
    return manifest


def _joined(recordings: list[RecordingEntry], new: RecordingEntry) -> list[RecordingEntry]:
    """Return what is known of all recordings once a run has looked at one of them."""
    if not new.digest:  # nothing of it could be read this time, but what was segmented before is there
        known = [one for one in recordings if one.digest and one.is_of(new)]
        if known:
            return [replace(one, problem=new.problem) if one in known else one for one in recordings]
        return [one for one in recordings if not one.is_of(new)] + [new]
    kept = [
        one
        for one in recordings
        if (one.digest, one.topic) != (new.digest, new.topic)
        # Of its name an earlier run may know other content, or that it could not be read.
        and not (one.is_of(new) and (not one.digest or one.topic == new.topic))
    ]
    return [*kept, new]


def read_manifest(out: Path) -> Manifest | None:
    """Return a folder's manifest; None where there is none.

    Raises:
        ConfigError: it is none of ours.
    """
    path = out / MANIFEST
    try:
        return from_plain(Manifest, json.loads(read_regular(path)))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, DecodeError, RecursionError) as error:
        raise ConfigError(
            f"{path}: expected a manifest of runtime.archive, got {shown(error, 200)}; choose another --out, "
            "or delete that file: shards that are whole are found without it"
        ) from None


@contextmanager
def _held(path: Path) -> Iterator[None]:
    """Hold the manifest's lock; wait for whoever has it."""
    until_s = time.monotonic() + _LONGEST_WAIT_S
    while True:
        held = only_run_on(path)
        try:
            held.__enter__()
            break
        except ConfigError:
            if time.monotonic() > until_s:
                raise
            time.sleep(_WAIT_S)
    try:
        yield
    finally:
        held.__exit__(None, None, None)
