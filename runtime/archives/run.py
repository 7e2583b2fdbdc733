"""A whole run: find, plan, segment, and make what one can use of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from runtime.archives.chunk import SHARDS, ChunkOptions, ChunkResult, tidy
from runtime.archives.engine import Engine, has_ray, in_process, on_ray, segment_all
from runtime.archives.jobs import ChunkJob, Failure, Found, find_recordings, plan
from runtime.archives.manifest import RecordingEntry, Tally, check_folder, update_manifest
from runtime.archives.results import SELECTED, SHEET, TIMELINES, write_results
from runtime.archives.selected import known_layouts, write_selected
from runtime.archives.shards import has_pyarrow, pyarrow
from runtime.base.codec import to_plain
from runtime.base.files import file_sha256, make_folder
from runtime.base.flags import check_fields, flag, nested
from runtime.base.progress import tracked
from runtime.base.shown import shown
from runtime.contract import ModelContract
from runtime.errors import ConfigError, EdgesegError
from runtime.ground import CameraModel
from runtime.ground.options import GroundOptions
from runtime.network.options import ModelOptions
from runtime.network.session import MAX_THREADS, default_threads

_PLANNERS = 8  # disks answer several questions at once


def _workers(text: str) -> int | None:
    if text == "auto":
        return None
    if not text.isdecimal():
        raise ValueError(f"expected a whole number or auto, got {text!r}")
    return int(text)


@dataclass(frozen=True)
class ArchiveOptions:
    """What the command line asks for."""

    recordings: tuple[str, ...] = flag(
        "videos, bags, folders, patterns, addresses of fsspec, or a .txt file with one of these a line",
        name="recording",
    )
    out: Path = flag("folder of the results; a run that was ended goes on there", metavar="DIR")
    model: ModelOptions = nested(ModelOptions, without=("threads",))
    every: int = flag("segment every so many frames", default=1, at_least=1, metavar="N")
    workers: int | None = flag(
        "processes on Ray; 0 for none: all in this process, without Ray",
        default=None,
        unset="auto: as many as there are processors for; 0 where Ray is not installed",
        parse=_workers,
        metavar="N",
    )
    threads: int | None = flag(
        "threads of each worker",
        default=None,
        unset="1; with --workers 0 the physical cores, at most 4",
        at_least=1,
        at_most=MAX_THREADS,
    )
    address: str | None = flag(
        "Ray cluster that runs, such as auto or ray://head:10001; it must see the same files",
        default=None,
        unset="this machine",
        metavar="ADDR",
    )
    chunk_frames: int = flag(
        "frames of a chunk, at least; one that was ended is begun anew", default=500, at_least=1, metavar="N"
    )
    topic: str | None = flag(
        "topic of bags that holds the pictures", default=None, unset="the only one that fits"
    )
    masks: bool = flag("leave the masks out, and keep what they say in numbers", default=True)
    mask_scale: float = flag(
        "sides of masks, and of all that is told of them, as a share of the frame's",
        default=1.0,
        above=0,
        at_most=1,
        metavar="SHARE",
    )
    format: Literal["parquet", "npz"] | None = flag(
        "of the shards; npz needs no package",
        default=None,
        unset="parquet where pyarrow is installed, else npz",
    )
    select: int | None = flag(
        "write the frames most worth a person's time into a folder to label",
        default=None,
        at_least=1,
        metavar="N",
    )
    known: tuple[str, ...] = flag(
        "images that --select keeps away from, such as the training set's", default=(), metavar="DIR"
    )
    ground: GroundOptions = nested(GroundOptions, without=("draw_grid",), group="occupancy")
    as_json: bool = flag("print one JSON object instead of the summary", default=False, name="--json")

    def __post_init__(self) -> None:
        """Check what goes together."""
        check_fields(self)
        if self.known and self.select is None:
            raise ConfigError("known: expected --select N beside it, got none; say how many frames to write")
        if self.address is not None and self.workers == 0:
            raise ConfigError(
                "address: expected workers on that cluster, got --workers 0; leave one of them out"
            )


@dataclass(frozen=True)
class Report:
    """What a run did.

    Attributes:
        out: folder of the results.
        engine: where it ran, in words.
        recordings: that were found.
        frames: segmented by this run.
        frames_there: that were there from runs before.
        chunks: segmented by this run.
        chunks_there: that were there.
        size_bytes: of the shards of both.
        seconds: from the first chunk's start to the last one's end.
        worked_s: of all workers together, in chunks.
        network_s: of these, inside of the network.
        failed: recordings that lack frames.
        selected: folder of the frames to label; None where none were asked for.
    """

    out: str
    engine: str
    recordings: int
    frames: int
    frames_there: int
    chunks: int
    chunks_there: int
    size_bytes: int
    seconds: float
    worked_s: float
    network_s: float
    failed: tuple[Failure, ...]
    selected: str | None = None

    def as_text(self) -> str:
        """Return a summary for a terminal."""
        rate = self.frames / self.seconds if self.seconds else 0.0
        every = self.frames + self.frames_there
        rows = [
            ("recordings", f"{self.recordings}, {len(self.failed)} of them failed"),
            ("frames", f"{every:,}, {self.frames_there:,} of them there before"),
            ("chunks", f"{self.chunks + self.chunks_there:,}, {self.chunks_there:,} of them there before"),
            (
                "shards",
                f"{self.size_bytes / 1e6:,.1f} MB, {self.size_bytes / max(every, 1):,.0f} bytes a frame",
            ),
            ("rate", f"{rate:,.1f} frames a second, {self.engine}"),
            ("network", f"{self.network_s / max(self.worked_s, 1e-9):.0%} of the workers' time"),
            ("results", f"{self.out}: manifest.json, frames.*, timelines/, contact-sheet.jpg"),
        ]
        if self.selected is not None:
            rows.append(("selected", self.selected))
        return "\n".join(f"{name:<11}{text}" for name, text in rows)


@dataclass
class _Plan:
    """The work, and what could not even be planned."""

    jobs: list[ChunkJob] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    copies: dict[str, list[str]] = field(default_factory=dict)

    @property
    def recordings(self) -> int:
        """How many there are, copies among them."""
        known = {job.recording.digest for job in self.jobs}
        return len(known) + len(self.failures) + sum(map(len, self.copies.values()))


def segment_archive(options: ArchiveOptions, say: Callable[[str], None] = lambda line: None) -> Report:
    """Segment recordings and write what one can use; what an earlier run finished is not done again.

    Args:
        options: which, how, and where to.
        say: gets lines on what happens.

    Raises:
        ConfigError: options that cannot work, no recording at all, or a folder with results of another model.
        OutputError: the results cannot be written.
        EdgesegError: the model does not open.
    """
    make_folder(options.out)
    workers = options.workers
    if workers is None and options.address is None and not has_ray():
        workers = 0
    threads = options.threads or (default_threads() if workers == 0 else 1)
    model = ModelOptions(options.model.model, threads, options.model.provider)
    with model.open() as segment:  # which also refuses a model that would fail everywhere
        contract = segment.contract
    ground = _ground(options.ground, contract)
    chunk = ChunkOptions(
        out=options.out.absolute(),
        model=ModelOptions(model.file.absolute(), threads, model.provider),
        model_sha256=file_sha256(model.file),
        confidence=contract.output.has_logits,
        every=options.every,
        masks=options.masks,
        mask_scale=options.mask_scale,
        ground=ground,
        ground_sha256="" if ground is None else _ground_digest(ground),
        format=options.format or ("parquet" if has_pyarrow() else "npz"),
        decoder_threads=threads,
    )
    if chunk.format == "parquet":
        pyarrow()  # now, so that a missing package is told before the first frame
    check_folder(options.out, chunk)
    work = _planned(options)
    if not work.jobs and not work.failures:
        raise ConfigError("recordings: expected at least one, found none; check the folders and patterns")
    with _engine(options, workers, threads) as (engine, where):
        say(f"{len(work.jobs):,} chunks of {work.recordings:,} recordings, {where}")
        results = list(_watched(segment_all(engine, work.jobs, chunk), work.jobs, options.every))
    tidy(options.out)
    entries = _entries(work, results)
    manifest = update_manifest(options.out, chunk, contract.name, contract.classes, entries)
    own = {entry.source_sha256 for entry in entries}
    write_results(options.out, manifest, "parquet" if chunk.format == "parquet" else "csv")
    selected = None if options.select is None else _selected(options, model, contract, results, say)
    done = [one for one in results if not one.was_there]
    there = [one for one in results if one.was_there]
    return Report(
        out=shown(options.out),
        engine=where,
        recordings=work.recordings,
        frames=sum(one.frames for one in done),
        frames_there=sum(one.frames for one in there),
        chunks=len(done),
        chunks_there=len(there),
        size_bytes=sum(one.size_bytes for one in results),
        seconds=_span_s(done),
        worked_s=sum(one.seconds for one in done),
        network_s=sum(one.network_s for one in done),
        failed=tuple(
            Failure(one.title, one.problem)
            for one in manifest.recordings
            if one.problem and one.source_sha256 in own
        ),
        selected=selected,
    )


@contextmanager
def _engine(options: ArchiveOptions, workers: int | None, threads: int) -> Iterator[tuple[Engine, str]]:
    """Yield what does the chunks, and say where it does them."""
    each = "1 thread" if threads == 1 else f"{threads} threads"
    if workers == 0:
        yield in_process, f"in this process with {each}"
        return
    with on_ray(workers, threads, options.address) as engine:
        at = "this machine" if options.address is None else f"the cluster at {shown(options.address)}"
        yield engine, f"{engine.workers} workers of {each} on Ray, {at}"


def _ground(options: GroundOptions, contract: ModelContract) -> GroundOptions | None:
    """Return the options with absolute paths, since workers stand elsewhere; None where no grid is wanted."""
    if not options.is_wanted:
        return None
    options.free_indices(contract.classes)  # now, so that what cannot be is told before the first frame
    if options.camera is not None:
        CameraModel.from_yaml(options.camera, options.pose)
    camera, pose = (None if path is None else path.absolute() for path in (options.camera, options.pose))
    return replace(options, camera=camera, pose=pose)


def _ground_digest(options: GroundOptions) -> str:
    """Return the hex SHA-256 of all that decides an occupancy grid."""
    files = [path for path in (options.camera, options.pose) if path is not None]
    if options.camera is not None and (beside := options.camera.with_name("pose.yaml")).is_file():
        files.append(beside)
    facts = [options.free, options.grid, *map(file_sha256, files)]
    return hashlib.sha256(json.dumps(to_plain(facts)).encode()).hexdigest()


def _planned(options: ArchiveOptions) -> _Plan:
    """Look into all recordings, several at a time."""
    work = _Plan()
    found = [
        kept
        for one in find_recordings(options.recordings)
        if (kept := one if isinstance(one, Failure) else _without_results(one, options.out)) is not None
    ]

    def chunks_of(one: Found | Failure) -> list[ChunkJob] | Failure:
        if isinstance(one, Failure):
            return one
        try:
            return plan(one, options.chunk_frames, options.topic)
        except EdgesegError as error:
            return Failure(one.name, str(error))

    seen: dict[str, str] = {}
    with ThreadPoolExecutor(_PLANNERS) as pool:
        for planned in tracked(pool.map(chunks_of, found), "recordings", len(found)):
            if isinstance(planned, Failure):
                work.failures.append(planned)
                continue
            recording = planned[0].recording
            if recording.digest in seen:
                work.copies.setdefault(recording.digest, []).append(recording.name)
            else:
                seen[recording.digest] = recording.name
                work.jobs.extend(planned)
    return work


def _without_results(found: Found, out: Path) -> Found | None:
    """Return a recording without the pictures that an earlier run wrote; None where it is nothing else."""
    if "://" in found.name or found.kind != "images":
        return found
    folder = out.resolve()
    place = Path(found.name).resolve()
    if not place.is_relative_to(folder):
        return found
    below = place.relative_to(folder).parts
    if below:
        is_own = below[0] in (SHARDS, TIMELINES) or below[0].startswith(SELECTED)
        return None if is_own else found
    files = tuple(file for file in found.files if Path(file).name != SHEET)
    return replace(found, files=files) if files else None


def _watched(results: Iterator[ChunkResult], jobs: Sequence[ChunkJob], every: int) -> Iterator[ChunkResult]:
    """Yield the results and show how far they are, in frames."""
    expected = sum(-(-job.expected // every) for job in jobs)
    return tracked(results, "frames", expected or None, lambda result: result.frames)


def _entries(work: _Plan, results: Sequence[ChunkResult]) -> list[RecordingEntry]:
    """Return what became of each recording."""
    tally = Tally()
    for failure in work.failures:
        tally.failed(failure)
    for result in results:
        tally.add(result)
    return list(tally.entries(work.copies))


def _span_s(results: Sequence[ChunkResult]) -> float:
    """Return the seconds from the first start to the last end."""
    if not results:
        return 0.0
    return max(one.ended_s for one in results) - min(one.ended_s - one.seconds for one in results)


def _selected(
    options: ArchiveOptions,
    model: ModelOptions,
    contract: ModelContract,
    results: Sequence[ChunkResult],
    say: Callable[[str], None],
) -> str:
    assert options.select is not None
    known = None
    if options.known:
        with model.open() as segment:
            known = known_layouts(options.known, segment)
    folder, count = write_selected(options.out, results, options.select, contract.classes, known)
    if count < options.select:
        say(f"select: {count} frames, since all others are like one of them")
    return shown(folder)
