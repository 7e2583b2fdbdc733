"""What a folder of shards holds: `manifest.json` and `failed.jsonl`, of all runs into it together."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
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
    """

    name: str
    kind: str = ""
    digest: str = ""
    problem: str = ""
    shards: tuple[ShardEntry, ...] = ()
    copies: tuple[str, ...] = ()

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
        return [Failure(one.name, one.problem) for one in self.recordings if one.problem]


@dataclass
class Tally:
    """Collects what became of a run's recordings."""

    _entries: dict[str, RecordingEntry] = field(default_factory=dict)
    _shards: dict[str, list[ShardEntry]] = field(default_factory=dict)

    def failed(self, failure: Failure) -> None:
        """Note what could not be looked into."""
        name = shown(failure.recording, _LONGEST_NAME)
        self._entries[name] = RecordingEntry(name, problem=failure.reason)

    def add(self, result: ChunkResult) -> None:
        """Note what became of a chunk."""
        recording = result.job.recording
        entry = self._entries.get(recording.digest) or RecordingEntry(
            shown(recording.name, _LONGEST_NAME), recording.kind, recording.digest
        )
        problem = entry.problem or result.problem
        self._entries[recording.digest] = RecordingEntry(
            entry.name, entry.kind, entry.digest, problem, copies=entry.copies
        )
        if result.shard:
            self._shards.setdefault(recording.digest, []).append(
                ShardEntry(result.shard, result.job.first, result.frames, result.sha256, result.size_bytes)
            )

    def entries(self, copies: dict[str, list[str]]) -> Iterator[RecordingEntry]:
        """Yield the recordings; `copies` are other names by digest."""
        for key, entry in self._entries.items():
            shards = sorted(self._shards.get(key, ()), key=lambda shard: shard.first)
            names = tuple(shown(name, _LONGEST_NAME) for name in copies.get(key, ()))
            yield RecordingEntry(entry.name, entry.kind, entry.digest, entry.problem, tuple(shards), names)


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
        new = list(entries)
        names = {one.name for one in new}  # of which an earlier run may know other content, or none
        kept = [one for one in (before.recordings if before else ()) if one.digest and one.name not in names]
        known = {one.digest: one for one in kept}
        known |= {one.digest or one.name: one for one in new}
        recordings = tuple(sorted(known.values(), key=lambda one: one.name))
        manifest = Manifest(options.decisive(), model, classes, recordings)
        write_text(out / MANIFEST, json.dumps(to_plain(manifest), indent=1) + "\n")
        lines = [json.dumps(to_plain(failure)) + "\n" for failure in manifest.failed]
        write_text(out / FAILED, "".join(lines))
    return manifest


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
