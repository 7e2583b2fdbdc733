"""One chunk: decode its frames, segment them, write a shard. Knows no engine and no other chunk.

A shard's name is made of all that its content depends on: recording, range, model, options. So whoever finds
a whole one of that name need not do the work again, and two that do it at once write the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import cv2

from runtime.archives.columns import Ground, ShardColumns
from runtime.archives.jobs import ChunkJob
from runtime.archives.reading import ChunkReader
from runtime.archives.shards import FORMATS, VERSION, DamagedShard, ShardHead, read_shard, write_shard
from runtime.base.closing import Closable
from runtime.base.lock import only_run_on
from runtime.base.shown import shown
from runtime.errors import ConfigError, EdgesegError
from runtime.ground.options import GroundOptions
from runtime.network.options import ModelOptions
from runtime.segmenter import Segmenter

logger = logging.getLogger(__name__)

SHARDS = "shards"
_WAIT_S, _LONGEST_WAIT_S = 0.2, 600.0
_KEY_LENGTH = 16  # hexadecimal digits in a name


@dataclass(frozen=True)
class ChunkOptions:
    """How every chunk of an archive is segmented; `decisive` are those that a shard's content depends on.

    Attributes:
        out: folder of the results.
        model: the file, and what onnxruntime gets to run it.
        model_sha256: hex digest of the file.
        confidence: whether it gives logits, and so confidences.
        every: frames from one that is segmented to the next.
        masks: whether shards hold the masks themselves.
        mask_scale: sides of masks as a share of the frame's; confidences and areas are of that size too.
        ground: the camera over the ground, for occupancy; None for none.
        ground_sha256: hex digest of all that `ground` says; "" for none.
        format: of the shards, one of `FORMATS`.
        waits: whether a chunk that another run works on is waited for; else it is left for later.
        decoder_threads: of one video.
    """

    out: Path
    model: ModelOptions
    model_sha256: str
    confidence: bool = True
    every: int = 1
    masks: bool = True
    mask_scale: float = 1.0
    ground: GroundOptions | None = None
    ground_sha256: str = ""
    format: str = "npz"
    waits: bool = False
    decoder_threads: int = 1

    def decisive(self) -> dict[str, str]:
        """Return what decides the content of a shard."""
        return {
            "version": str(VERSION),
            "model": self.model_sha256,
            "provider": self.model.provider,
            "every": str(self.every),
            "masks": "png" if self.masks else "none",
            "mask_scale": f"{self.mask_scale:g}",
            "ground": self.ground_sha256,
            "format": self.format,
        }


@dataclass(frozen=True)
class ChunkResult:
    """What became of a chunk.

    Attributes:
        job: the chunk.
        shard: its file, relative to the folder of the results; "" for none.
        sha256: hex digest of that file.
        size_bytes: of that file.
        frames: that were segmented.
        is_end: whether the recording has no frame behind it.
        was_there: whether the shard was whole before, so that nothing was done.
        is_taken: whether another run works on it, so that nothing was done.
        problem: why frames of the range are missing; "" for no reason.
        goes_on: whether what follows can be read all the same.
        is_fatal: whether the problem is none of the recording, and all others would have it too.
        seconds: that it took, without opening the model for the first one.
        ended_s: wall clock when it was done.
        network_s: of these, inside of the network.
    """

    job: ChunkJob
    shard: str = ""
    sha256: str = ""
    size_bytes: int = 0
    frames: int = 0
    is_end: bool = False
    was_there: bool = False
    is_taken: bool = False
    problem: str = ""
    goes_on: bool = True
    is_fatal: bool = False
    seconds: float = 0.0
    ended_s: float = 0.0
    network_s: float = 0.0


def shard_key(job: ChunkJob, options: ChunkOptions) -> str:
    """Return the hex SHA-256 of all that decides what a chunk's shard holds."""
    facts = {
        "recording": job.recording.digest,
        "topic": job.recording.topic,
        **({} if job.recording.bits is None else {"bits": job.recording.bits}),
        "range": [job.first, job.end if job.start_ns is None else None, job.start_ns, job.end_ns],
        **options.decisive(),
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def shard_name(job: ChunkJob, options: ChunkOptions) -> str:
    """Return where a chunk's shard lies below the folder of the results."""
    folder = job.recording.digest[:_KEY_LENGTH]
    key = shard_key(job, options)[:_KEY_LENGTH]
    return f"{SHARDS}/{folder}/{job.first:09d}-{key}{FORMATS[options.format]}"


class ChunkSegmenter(Closable):
    """Segments chunks, one after the other; holds one session and one open recording between them.

    ```python
    with ChunkSegmenter(options) as segment_chunk:
        result = segment_chunk(job)
    ```
    """

    def __init__(self, options: ChunkOptions) -> None:
        """Note the options; the model is opened for the first chunk that is not there yet."""
        self._options = options
        self._segment: Segmenter | None = None
        self._opening_s = 0.0
        self._reader = ChunkReader(options.decoder_threads)
        self._ground = None if options.ground is None else Ground(options.ground)

    def __call__(self, job: ChunkJob) -> ChunkResult:
        """Segment a chunk, unless its shard is there and whole; never raises what belongs into a result."""
        started_s = time.perf_counter()
        self._opening_s = 0.0
        target = self._options.out / shard_name(job, self._options)
        try:
            result = _whole(target, job, self._options) or self._claimed(target, job)
        except (EdgesegError, OSError) as error:
            result = ChunkResult(job, problem=_one_line(error), goes_on=False, is_fatal=True)
        seconds = time.perf_counter() - started_s - self._opening_s
        return replace(result, seconds=seconds, ended_s=time.time())

    def follow(self, job: ChunkJob) -> Iterator[ChunkResult]:
        """Segment a chunk, and of a recording whose end nobody knows all that follow."""
        while True:
            result = self(job)
            yield result
            if not job.is_open or result.is_end or result.is_taken or not result.goes_on:
                return
            job = job.following()

    def close(self) -> None:
        """Free the network and the recording."""
        self._reader.close()
        if self._segment is not None:
            self._segment.close()
        self._segment = None

    def _claimed(self, target: Path, job: ChunkJob) -> ChunkResult:
        """Do the work under the lock of the shard, so that two runs share a folder and not the work."""
        until_s = time.monotonic() + (_LONGEST_WAIT_S if self._options.waits else 0.0)
        with ExitStack() as stack:
            while True:
                try:
                    stack.enter_context(only_run_on(target))
                    break
                except ConfigError:
                    if not self._options.waits:
                        return ChunkResult(job, is_taken=True)
                    if time.monotonic() > until_s:  # it hangs; equal bytes twice do no harm
                        break
                    time.sleep(_WAIT_S)
            found = _whole(target, job, self._options)
            return found if found is not None else self._work(target, job)

    def _work(self, target: Path, job: ChunkJob) -> ChunkResult:
        if self._segment is None:
            started_s = time.perf_counter()
            # Of each pixel it is for the grid on the ground alone.
            sure = self._options.confidence and self._ground is not None
            self._segment = self._options.model.open(confidence=sure)
            self._opening_s = time.perf_counter() - started_s
        columns = ShardColumns(self._segment, self._ground, self._options.masks, self._options.mask_scale)
        problem, is_end, goes_on = "", False, True
        try:
            try:
                for frame in self._reader.frames(job, lambda number: number % self._options.every == 0):
                    columns.add(frame, self._reader.source)
            finally:
                columns.flush()
            is_end = self._reader.is_end
            if lost := self._reader.lost:
                why = f" ({_said(self._reader.why)})" if self._reader.why else ""
                problem = (
                    f"{lost} frames are damaged{why}; what can be read is segmented, copy the rest again"
                )
        except (EdgesegError, OSError, cv2.error, MemoryError) as error:
            problem, goes_on = _one_line(error), False
            self._reader.close()
        if problem and not columns.count:
            return ChunkResult(
                job, is_end=is_end, problem=problem, goes_on=goes_on, network_s=columns.network_s
            )
        head = ShardHead(
            key=shard_key(job, self._options),
            digest=job.recording.digest,
            first=job.first,
            frames=columns.count,
            is_end=is_end,
            classes=self._segment.contract.classes.names,
            problem=problem,
        )
        sha256, size = write_shard(target, columns.shard(head))
        return ChunkResult(
            job,
            target.relative_to(self._options.out).as_posix(),
            sha256,
            size,
            columns.count,
            is_end,
            problem=problem,
            goes_on=goes_on,
            network_s=columns.network_s,
        )


def _one_line(error: BaseException) -> str:
    """Return what went wrong, fit for a line of a log."""
    said = _said(str(error))
    return said if isinstance(error, EdgesegError) else f"{type(error).__name__}: {said}"


def _said(text: str) -> str:
    return shown(" ".join(text.split()), 600)


def _whole(target: Path, job: ChunkJob, options: ChunkOptions) -> ChunkResult | None:
    """Return the result of a shard that is there, whole and without a problem; None for any other."""
    if not target.exists():
        return None
    try:
        head = read_shard(target).head
        content = target.read_bytes()
    except DamagedShard as error:
        logger.warning("%s; it is written again", error)
        return None
    if head.key != shard_key(job, options) or head.problem:
        return None
    return ChunkResult(
        job,
        target.relative_to(options.out).as_posix(),
        hashlib.sha256(content).hexdigest(),
        len(content),
        head.frames,
        head.is_end,
        was_there=True,
    )


def tidy(out: Path) -> None:
    """Delete what killed workers left behind: parts of shards that nobody writes, and locks nobody holds."""
    for left in sorted((out / SHARDS).rglob(".*")):
        stem, _, rest = left.name[1:].partition(".")
        target = left.with_name(left.name[1:-5] if rest.endswith("lock") else f"{stem}{left.suffix}")
        with suppress(ConfigError, OSError), only_run_on(target):
            if ".part" in left.name:
                left.unlink(missing_ok=True)
