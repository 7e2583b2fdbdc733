"""What a frame of an archive costs, frames a second beside the network alone, and memory over a long one."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import cv2
import numpy as np

from benchmarks.machine.description import Machine, this_machine
from benchmarks.stress.archives import Kill, Work, measure_kills, report_of
from runtime.archives.columns import ShardColumns
from runtime.archives.jobs import Found, find_recordings, plan
from runtime.archives.reading import ChunkReader
from runtime.archives.shards import ShardHead, write_shard
from runtime.base.flags import check_fields, flag, nested
from runtime.errors import ConfigError
from runtime.frame import Frame, Image, Segmentation
from runtime.network.options import ModelOptions
from runtime.network.session import NetworkSession
from runtime.segmenter import Fitted, Inferred, Segmenter
from runtime.sources import open_source, without_secrets

_FPS = 25.0
_TINY_WH = (64, 48)
_POLL_S = 0.05
_WARMUP_RUNS, _BARE_TURNS, _BARE_RUNS = 5, 5, 40
_COST_WARMUP, _COST_FRAMES = 40, 500
_USUAL_CHUNK = 500  # frames, as of the command
_CHUNKS_TO_TIME, _CHUNKS_TO_KILL = 8, 20  # of a recording; each is begun with a jump, and ends on the disk


@dataclass(frozen=True)
class ArchiveConfig:
    """What to measure, and how."""

    model: ModelOptions = nested(ModelOptions, without=("threads", "provider"))
    source: str = flag("recording that is archived; it starts anew at its end", default="synthetic")
    frames: int = flag("frames of each run", default=600, at_least=20)
    rounds: int = flag("runs of one worker and of two, in turn; medians count", default=3, at_least=0)
    kills: int = flag("of a worker, of the driver and of all, each at random moments", default=10, at_least=0)
    memory_frames: int = flag(
        "small frames over which memory must stay flat; 0 leaves that out", default=20_000, at_least=0
    )
    seed: int = flag("of the random moments", default=0, at_least=0)

    def __post_init__(self) -> None:
        """Check the numbers."""
        check_fields(self)


@dataclass(frozen=True)
class Rate:
    """One run.

    Attributes:
        workers: processes of one thread each.
        fps: frames a second, from the first chunk's start to the last one's end.
        bare_fps: frames a second of the network alone with as many threads, in one session, just before.
        network_share: of the workers' time inside the network, so what they do of as many bare networks.
        bytes_a_frame: of the shards.
    """

    workers: int
    fps: float
    bare_fps: float
    network_share: float
    bytes_a_frame: float


@dataclass(frozen=True)
class Memory:
    """Resident memory of one process over a long recording, in MB.

    Attributes:
        frames: of the recording.
        early: highest in the second tenth of the run.
        late: highest in the last tenth, before tables and pictures are made.
    """

    frames: int
    early: float
    late: float


@dataclass(frozen=True)
class Cost:
    """Processor time of one worker of one thread, milliseconds a frame.

    Attributes:
        decode: of the recording itself where it is a file.
        resize: to the network's size.
        network: the network.
        mask: at the frame's size.
        numbers: areas, confidence, layout, PNG, and the shard.
    """

    decode: float
    resize: float
    network: float
    mask: float
    numbers: float

    @property
    def total(self) -> float:
        """All of it."""
        return self.decode + self.resize + self.network + self.mask + self.numbers


@dataclass(frozen=True)
class ArchiveReport:
    """A measurement."""

    machine: Machine
    config: ArchiveConfig
    source: str
    model: str
    cost: Cost
    rates: tuple[Rate, ...]
    kills: tuple[Kill, ...]
    memory: Memory | None

    def median_fps(self, workers: int) -> float | None:
        """Return the median of the runs with so many workers; None without one."""
        found = [rate.fps for rate in self.rates if rate.workers == workers]
        return statistics.median(found) if found else None

    @property
    def speed_up(self) -> float | None:
        """Frames a second of two workers over one, the median of the rounds' own ratios."""
        one, two = ([rate.fps for rate in self.rates if rate.workers == count] for count in (1, 2))
        return statistics.median(b / a for a, b in zip(one, two, strict=True)) if one else None

    def network_share(self, workers: int) -> float | None:
        """Return the network's share of so many workers' time, median."""
        found = [rate.network_share for rate in self.rates if rate.workers == workers]
        return statistics.median(found) if found else None

    def bare_ratio(self, workers: int) -> float | None:
        """Return the rate of so many workers over the bare network's, the median of the rounds' ratios."""
        found = [rate.fps / rate.bare_fps for rate in self.rates if rate.workers == workers]
        return statistics.median(found) if found else None


def measure_archive(config: ArchiveConfig, show: Callable[[str], None] = lambda line: None) -> ArchiveReport:
    """Measure what a frame costs, then rates, kills and memory.

    Args:
        config: what of it, and how often.
        show: gets a line for each run.

    Raises:
        EdgesegError: the source does not open, or the archive fails.
    """
    rates: list[Rate] = []
    kills: list[Kill] = []
    memory = None
    with tempfile.TemporaryDirectory() as folder:
        recordings = Path(folder, "recordings")
        recordings.mkdir()
        write_recording(recordings / "drive.avi", islice(_looped(config.source), config.frames))
        itself = Path(config.source)
        cost = measure_cost(config.model, itself if itself.is_file() else recordings / "drive.avi")
        model = ("--model", str(config.model.file), "--threads", "1")

        def work_in(chunks: int) -> Work:
            chunk = min(_USUAL_CHUNK, max(10, config.frames // chunks))
            return Work(recordings, (*model, "--chunk-frames", str(chunk)))

        for number in range(config.rounds):
            for workers in (1, 2) if number % 2 == 0 else (2, 1):
                bare_fps = _bare_fps(config.model.file, workers)
                out = Path(folder, f"rate-{number}-{workers}")
                rates.append(_rate(work_in(_CHUNKS_TO_TIME), out, workers, bare_fps))
                show(
                    f"{workers} workers {number + 1} of {config.rounds}: {rates[-1].fps:.1f} frames a second"
                )
        if config.kills:
            kills = measure_kills(work_in(_CHUNKS_TO_KILL), config.kills, config.seed, show=show)
        if config.memory_frames:
            tiny = Path(folder, "tiny")
            tiny.mkdir()
            write_recording(tiny / "drive.avi", _tiny(config.memory_frames))
            tiny_work = Work(tiny, (*model, "--chunk-frames", "100"))
            memory = _memory(tiny_work, Path(folder, "memory"), config.memory_frames)
            show(f"memory: {memory.early:.0f} MB early, {memory.late:.0f} MB late")
    return ArchiveReport(
        this_machine(),
        config,
        without_secrets(config.source),
        config.model.file.name,
        cost,
        tuple(rates),
        tuple(kills),
        memory,
    )


class _Timed(Segmenter):
    """Adds up the processor time of the parts of a call."""

    def __init__(self, model: Path) -> None:
        super().__init__(model, threads=1)
        self.spent_s: defaultdict[str, float] = defaultdict(float)

    def fit(self, frame: Image | Frame) -> Fitted:
        with self.clock("resize"):
            return super().fit(frame)

    def infer(self, fitted: Fitted) -> Inferred:
        with self.clock("network"):
            return super().infer(fitted)

    def finish(self, inferred: Inferred) -> Segmentation:
        with self.clock("mask"):
            return super().finish(inferred)

    @contextmanager
    def clock(self, part: str) -> Iterator[None]:
        started_s = time.process_time()
        yield
        self.spent_s[part] += time.process_time() - started_s


def measure_cost(model: ModelOptions, recording: Path, frames: int = _COST_FRAMES) -> Cost:
    """Segment a recording in this process and thread, as a worker does, and sum its processor time.

    Other work on the machine changes it little: it counts what was done, and not how long it waited.

    Args:
        model: the network.
        recording: a video or a bag.
        frames: of it, at most.

    Raises:
        SourceError: it cannot be read.
        EdgesegError: the model does not open.
    """
    (found,) = find_recordings([str(recording)])
    assert isinstance(found, Found)
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        with tempfile.TemporaryDirectory() as folder, _Timed(model.file) as segment, ChunkReader() as reader:
            for chunk in (_COST_WARMUP, frames):
                job = plan(found, chunk)[0]
                segment.spent_s.clear()
                started_s = time.process_time()
                columns = ShardColumns(segment, None, masks=True, mask_scale=1.0)
                read = reader.frames(job, lambda number: True)
                while True:
                    with segment.clock("decode"):
                        frame = next(read, None)
                    if frame is None:
                        break
                    columns.add(frame, reader.source)
                columns.flush()
                names = segment.contract.classes.names
                head = ShardHead("", job.recording.digest, 0, columns.count, is_end=True, classes=names)
                write_shard(Path(folder, f"{chunk}.npz"), columns.shard(head))
                total_s = time.process_time() - started_s
                reader.close()
    finally:
        cv2.setNumThreads(threads)
    spent_ms = {part: 1e3 * spent_s / columns.count for part, spent_s in segment.spent_s.items()}
    return Cost(**spent_ms, numbers=1e3 * total_s / columns.count - sum(spent_ms.values()))


def write_recording(path: Path, frames: Iterator[Image]) -> None:
    """Write frames as Motion JPEG, which can be cut at any of them."""
    writer = None
    for image_bgr in frames:
        if writer is None:
            size_wh = image_bgr.shape[1], image_bgr.shape[0]
            writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), _FPS, size_wh)
        writer.write(image_bgr)
    if writer is None:
        raise ConfigError("archive: expected a source with frames, got none")
    writer.release()


def _looped(spec: str) -> Iterator[Image]:
    """Yield a recording's frames, again and again."""
    while True:
        with open_source(spec) as source:
            for frame in source:
                yield frame.image_bgr


def _tiny(count: int) -> Iterator[Image]:
    noise = np.random.default_rng(0).integers(0, 255, (100, _TINY_WH[1], _TINY_WH[0], 3), np.uint8)
    for number in range(count):
        yield noise[number % len(noise)]


def _bare_fps(model: Path, threads: int) -> float:
    """Return the rate of the network alone, on frames of its own size."""
    session = NetworkSession(model, threads=threads)
    infer = session.run if session.contract.output.has_logits else session.run_mask
    image_bgr = np.random.default_rng(0).integers(0, 256, (*session.contract.input.size_hw, 3), np.uint8)
    for _ in range(_WARMUP_RUNS):
        infer(image_bgr)
    rates = []
    for _ in range(_BARE_TURNS):  # the fastest counts: workers of the run before may still be ending
        started_s = time.perf_counter()
        for _ in range(_BARE_RUNS):
            infer(image_bgr)
        rates.append(_BARE_RUNS / (time.perf_counter() - started_s))
    return max(rates)


def _rate(work: Work, out: Path, workers: int, bare_fps: float) -> Rate:
    report = work.finish(out, "--workers", str(workers))
    return Rate(
        workers,
        report["frames"] / report["seconds"],
        bare_fps,
        report["network_s"] / report["worked_s"],
        report["size_bytes"] / report["frames"],
    )


def _memory(work: Work, out: Path, frames: int) -> Memory:
    """Watch the resident memory of a run in one process, as Linux tells it."""
    process = work.start(out, "--workers", "0")
    samples: list[tuple[int, float]] = []  # chunks that were there, and MB
    while process.poll() is None:
        with suppress(OSError, ValueError, IndexError):
            status = Path(f"/proc/{process.pid}/status").read_text()
            resident_mb = int(status.split("VmRSS:")[1].split()[0]) / 1024
            samples.append((len(list((out / "shards").rglob("[0-9]*.*"))), resident_mb))
        time.sleep(_POLL_S)
    report_of(process)
    chunks = max((count for count, _ in samples), default=0)
    early = [mb for count, mb in samples if 0.1 * chunks <= count <= 0.2 * chunks]
    late = [mb for count, mb in samples if 0.9 * chunks <= count < chunks]
    if not early or not late:
        raise ConfigError(f"memory: expected a run that can be watched, got {chunks} chunks; add frames")
    return Memory(frames, max(early), max(late))
