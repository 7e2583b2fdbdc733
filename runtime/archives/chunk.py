"""One chunk: decode its frames, segment them, write a shard. Knows no engine and no other chunk.

A shard's name is made of all that its content depends on: recording, range, model, options. So whoever finds
a whole one of that name need not do the work again, and two that do it at once write the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from runtime.archives.jobs import ChunkJob, Recording, file_system
from runtime.archives.shards import FORMATS, VERSION, DamagedShard, Shard, ShardHead, read_shard, write_shard
from runtime.base.closing import Closable
from runtime.base.lock import only_run_on
from runtime.base.shown import shown
from runtime.contract import ClassMap
from runtime.errors import ConfigError, EdgesegError, SourceError
from runtime.frame import Frame, Segmentation
from runtime.ground.birds_eye import BirdsEye
from runtime.ground.options import GroundOptions
from runtime.masks.areas import label_areas
from runtime.masks.formats import encode_palette_png
from runtime.masks.overlay import Overlay
from runtime.masks.selection import layout
from runtime.network.options import ModelOptions
from runtime.segmenter import Segmenter
from runtime.sources.recorded import ImageFiles, RecordedSource
from runtime.sources.video import VideoFile

logger = logging.getLogger(__name__)

SHARDS = "shards"
_HALF_MS_NS = 500_000
_PICTURE_WIDTH, _PICTURE_QUALITY = 240, 80
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
        is_fatal: whether the problem is none of the recording, and all others would have it too.
        seconds: that it took.
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
    is_fatal: bool = False
    seconds: float = 0.0
    ended_s: float = 0.0
    network_s: float = 0.0


def shard_key(job: ChunkJob, options: ChunkOptions) -> str:
    """Return the hex SHA-256 of all that decides what a chunk's shard holds."""
    facts = {
        "recording": job.recording.digest,
        "topic": job.recording.topic,
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
        self._reader = ChunkReader(options.decoder_threads)
        self._ground = None if options.ground is None else _Ground(options.ground)

    def __call__(self, job: ChunkJob) -> ChunkResult:
        """Segment a chunk, unless its shard is there and whole; never raises what belongs into a result."""
        started_s = time.perf_counter()
        target = self._options.out / shard_name(job, self._options)
        try:
            result = _whole(target, job, self._options) or self._claimed(target, job)
        except (EdgesegError, OSError) as error:
            result = ChunkResult(job, problem=_one_line(error), is_fatal=True)
        return replace(result, seconds=time.perf_counter() - started_s, ended_s=time.time())

    def follow(self, job: ChunkJob) -> Iterator[ChunkResult]:
        """Segment a chunk, and of a recording whose end nobody knows all that follow."""
        while True:
            result = self(job)
            yield result
            if not job.is_open or result.is_end or result.is_taken or result.problem:
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
            self._segment = self._options.model.open(confidence=self._options.confidence)
        rows = _Rows(self._segment, self._options, self._ground)
        problem, is_end = "", False
        try:
            for frame in self._reader.frames(job, lambda number: number % self._options.every == 0):
                rows.add(frame, self._reader.source)
            is_end = self._reader.is_end
        except (EdgesegError, OSError, cv2.error, MemoryError) as error:
            problem = _one_line(error)
            self._reader.close()
        if problem and not rows.count:
            return ChunkResult(job, problem=problem, network_s=rows.network_s)
        head = ShardHead(
            key=shard_key(job, self._options),
            digest=job.recording.digest,
            first=job.first,
            frames=rows.count,
            is_end=is_end,
            classes=self._segment.contract.classes.names,
            problem=problem,
        )
        sha256, size = write_shard(target, rows.shard(head))
        return ChunkResult(
            job,
            target.relative_to(self._options.out).as_posix(),
            sha256,
            size,
            rows.count,
            is_end,
            problem=problem,
            network_s=rows.network_s,
        )


def _one_line(error: BaseException) -> str:
    """Return what went wrong, fit for a line of a log."""
    said = shown(" ".join(str(error).split()), 600)
    return said if isinstance(error, EdgesegError) else f"{type(error).__name__}: {said}"


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


@dataclass
class _Rows:
    """Collects the columns of a shard."""

    segment: Segmenter
    options: ChunkOptions
    ground: _Ground | None
    count: int = 0
    network_s: float = 0.0
    _columns: dict[str, list[Any]] = field(default_factory=lambda: defaultdict(list))
    _areas: list[Any] = field(default_factory=list)
    _picture: bytes = b""

    def add(self, frame: Frame, source: RecordedSource) -> None:
        """Segment a frame of a source."""
        fitted = self.segment.fit(frame)
        height, width = (max(1, round(side * self.options.mask_scale)) for side in fitted.frame_hw)
        result = self.segment.finish(self.segment.infer(replace(fitted, frame_hw=(height, width))))
        classes = self.segment.contract.classes
        mask, columns = result.mask, self._columns
        if not self.count:
            self._picture = _picture(frame, mask, Overlay(classes))
        self.count += 1
        self.network_s += result.latency_ms["network"] / 1e3
        columns["frame"].append(frame.frame_id)
        columns["pts_ns"].append(-1 if frame.pts_ns is None else frame.pts_ns)
        columns["stamp_ns"].append(-1 if frame.stamp_ns is None else frame.stamp_ns)
        columns["height"].append(mask.shape[0])
        columns["width"].append(mask.shape[1])
        sure = np.nan if result.confidence is None else cv2.mean(result.confidence)[0] / 255
        columns["confidence"].append(sure)
        self._areas.append(label_areas(mask)[: len(classes)])
        columns["layout"].append(layout(mask, len(classes)).tobytes())
        if self.options.masks:
            columns["mask"].append(encode_palette_png(mask, classes))
        if self.ground is not None:
            columns["occupancy"].append(self.ground.occupancy(result, classes, source))

    def shard(self, head: ShardHead) -> Shard:
        """Return what was collected."""
        columns: dict[str, Any] = {
            name: np.array(self._columns[name], kind)
            for name, kind in (
                ("frame", np.int64),
                ("pts_ns", np.int64),
                ("stamp_ns", np.int64),
                ("height", np.int32),
                ("width", np.int32),
                ("confidence", np.float32),
            )
        }
        areas = np.array(self._areas, np.int64).reshape(-1, len(head.classes))  # (frames, C)
        columns |= {f"area_{name}": areas[:, index].copy() for index, name in enumerate(head.classes)}
        columns["layout"] = self._columns["layout"]
        columns |= {name: self._columns[name] for name in ("mask", "occupancy") if name in self._columns}
        return Shard(head, columns, self._picture)


class _Ground:
    """Makes occupancy grids, and keeps what a camera sees between frames."""

    def __init__(self, options: GroundOptions) -> None:
        self._options = options
        self._source: RecordedSource | None = None
        self._view: BirdsEye | None = None
        self._free: frozenset[int] = frozenset()

    def occupancy(self, seen: Segmentation, classes: ClassMap, source: RecordedSource) -> bytes:
        """Return the grid of a mask as a PNG, grey: 0 free, 100 occupied, 255 unknown.

        Raises:
            ConfigError: no camera, or classes that the network does not know.
        """
        height, width = seen.mask.shape
        camera = None if self._view is None else self._view.camera
        is_other = self._options.camera is None and self._source is not source
        if is_other or camera is None or (camera.height, camera.width) != (height, width):
            self._source = source
            self._free = self._options.free_indices(classes)
            camera = self._options.camera_over(source).scaled_to(width, height)
            self._view = self._options.grid.view(camera)
        assert self._view is not None
        grid = self._view.occupancy(seen.mask, self._free, seen.confidence)
        return cv2.imencode(".png", grid.view(np.uint8))[1].tobytes()


def _picture(frame: Frame, mask: Any, overlay: Overlay) -> bytes:
    """Return a small JPEG of a frame with its mask."""
    height, width = frame.image_bgr.shape[:2]
    scale = min(1.0, _PICTURE_WIDTH / width)
    size_wh = max(1, round(width * scale)), max(1, round(height * scale))
    image = np.asarray(cv2.resize(frame.image_bgr, size_wh, interpolation=cv2.INTER_AREA), np.uint8)
    small = np.asarray(cv2.resize(mask, size_wh, interpolation=cv2.INTER_NEAREST), np.uint8)
    _, jpeg = cv2.imencode(".jpg", overlay.blend(image, small), [cv2.IMWRITE_JPEG_QUALITY, _PICTURE_QUALITY])
    return jpeg.tobytes()


class ChunkReader(Closable):
    """Gives the frames of chunks, and keeps a recording open as long as the next chunk is of it too."""

    def __init__(self, decoder_threads: int = 1) -> None:
        """Start with nothing open."""
        self._decoder_threads = decoder_threads
        self._open: _Reader | None = None

    @property
    def is_end(self) -> bool:
        """Whether the last chunk ended because the recording did."""
        return self._open is not None and self._open.is_end

    @property
    def source(self) -> RecordedSource:
        """The source of the chunk that is read; only while one is."""
        assert self._open is not None
        return self._open.source

    def frames(self, job: ChunkJob, is_wanted: Callable[[int], bool]) -> Iterator[Frame]:
        """Yield the frames of a chunk whose numbers are wanted; the others are decoded only if they must be.

        Raises:
            SourceError: what comes next cannot be read; all frames before it were yielded.
            ConfigError: a package that this recording needs is not installed.
        """
        if self._open is not None and not self._open.serves(job):
            self.close()
        if self._open is None:
            self._open = _Reader(job, self._decoder_threads)
        yield from self._open.frames(job, is_wanted)

    def close(self) -> None:
        """Close the recording."""
        if self._open is not None:
            self._open.close()
        self._open = None


class _Reader(Closable):
    """An open recording; it gives the frames of one chunk after the other.

    Attributes:
        is_end: whether the last chunk ended because the recording did.
        source: that it reads.
    """

    def __init__(self, job: ChunkJob, decoder_threads: int) -> None:
        """Fetch what is far away, and open it.

        Raises:
            SourceError: it cannot be read.
            ConfigError: a package that it needs is missing.
        """
        self.is_end = False
        self._recording = job.recording
        self._next = 0  # number of the next frame of the source
        self._ahead: Frame | None = None
        self._problem: Exception | None = None
        self._folder = tempfile.TemporaryDirectory(prefix="edgeseg-") if job.recording.is_remote else None
        try:
            self._files = _local(job.files, self._folder)
            self.source = _open(job.recording, self._files, decoder_threads)
        except BaseException:
            self._clean()
            raise

    def serves(self, job: ChunkJob) -> bool:
        """Whether it can go on with a chunk."""
        if self._recording != job.recording or self._recording.kind == "images":
            return False
        return job.start_ns is not None or self._next - (self._ahead is not None) <= job.first

    def close(self) -> None:
        """Close the recording, and delete what was fetched."""
        self.source.close()
        self._clean()

    def _clean(self) -> None:
        if self._folder is not None:
            self._folder.cleanup()

    def frames(self, job: ChunkJob, is_wanted: Callable[[int], bool]) -> Iterator[Frame]:
        """Yield frames, see `ChunkReader`."""
        self.is_end = False
        offset = job.first if self._recording.kind == "images" else 0
        if job.start_ns is not None:
            assert isinstance(self.source, VideoFile)
            self.source.seek(job.start_ns, job.first)
            self._next = job.first
        while True:
            number = self._next + offset if self._ahead is None else self._ahead.frame_id
            if job.start_ns is None and number >= job.end:
                break
            if job.end_ns is not None:
                shown_ns = self.source.next_pts_ns()
                if shown_ns is not None and shown_ns >= job.end_ns - _HALF_MS_NS:
                    return
            frame = self._read(number >= job.first and is_wanted(number))
            if frame is None:
                self.is_end = True
                return
            if isinstance(frame, Frame):
                yield frame if not offset else replace(frame, frame_id=frame.frame_id + offset)
        if job.is_open:  # look whether another chunk follows
            self.is_end = not self._looks_ahead()

    def _read(self, is_wanted: bool, /) -> Frame | bool | None:
        """Return the next frame, True for one that was passed over, None at the end."""
        if self._problem is not None:
            raise self._problem
        if self._ahead is not None:
            frame, self._ahead = self._ahead, None
            return frame if is_wanted else True
        if not is_wanted:
            is_there = self.source.skip()
            self._next += is_there
            return True if is_there else None
        read = self.source.read()
        if read is not None:
            self._next = read.frame_id + 1
        return read

    def _looks_ahead(self) -> bool:
        """Whether there is more to come, be it a frame or an error."""
        if self._ahead is None and self._problem is None:
            try:
                read = self._read(True)
            except (EdgesegError, cv2.error) as error:  # belongs to the next chunk
                self._problem = error
            else:
                self._ahead = read if isinstance(read, Frame) else None
        return self._ahead is not None or self._problem is not None


def _open(recording: Recording, files: list[str], decoder_threads: int) -> RecordedSource:
    """Open a recording, with few threads: the other cores are other workers'."""
    if recording.kind == "images":
        return ImageFiles(files)
    if recording.kind == "bag":
        from runtime.sources.bag import BagSource  # of the extra `ros`

        return BagSource(files[0], recording.topic)
    settings = [cv2.CAP_PROP_N_THREADS, decoder_threads]
    return VideoFile(files[0], lambda name: cv2.VideoCapture(name, cv2.CAP_ANY, settings))


def _local(files: tuple[str, ...], folder: tempfile.TemporaryDirectory[str] | None) -> list[str]:
    """Return names of files on this machine, fetched into a folder where there is one."""
    if folder is None:
        return list(files)
    found = []
    for number, name in enumerate(files):
        suffix = Path(name.partition("?")[0]).suffix
        target = Path(folder.name, f"{number:06d}{suffix}")
        try:
            with file_system(name).open(name, "rb") as source, open(target, "wb") as fetched:
                shutil.copyfileobj(source, fetched, 1 << 20)
        except ConfigError:
            raise
        except Exception as error:  # each file system of fsspec has errors of its own
            raise SourceError(
                f"{shown(name)}: expected a recording, cannot fetch it ({shown(error, 200)})"
            ) from None
        found.append(str(target))
    return found


def tidy(out: Path) -> None:
    """Delete what killed workers left behind: parts of shards that nobody writes, and locks nobody holds."""
    for left in sorted((out / SHARDS).rglob(".*")):
        stem, _, rest = left.name[1:].partition(".")
        target = left.with_name(left.name[1:-5] if rest.endswith("lock") else f"{stem}{left.suffix}")
        with suppress(ConfigError, OSError), only_run_on(target):
            if ".part" in left.name:
                left.unlink(missing_ok=True)
