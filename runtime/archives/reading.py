"""The frames of chunks: a recording is fetched and opened once, and left where the next chunk begins."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import cv2

from runtime.archives.jobs import ChunkJob, Recording, opened_file, suffix_of
from runtime.base.closing import Closable
from runtime.base.images import Depth
from runtime.errors import EdgesegError, SourceError
from runtime.frame import Frame
from runtime.sources.recorded import ImageFiles, RecordedSource
from runtime.sources.video import VideoFile

_HALF_MS_NS = 500_000


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
    def lost(self) -> int:
        """Frames of the last chunk that are damaged, as far as that is known."""
        return 0 if self._open is None else self._open.lost

    @property
    def why(self) -> str:
        """Why the first of them cannot be read; "" where nobody knows."""
        return "" if self._open is None or not self._open._unread else self._open._unread[0]

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
        lost: damaged frames of the last chunk, as far as that is known.
        source: that it reads.
    """

    def __init__(self, job: ChunkJob, decoder_threads: int) -> None:
        """Fetch what is far away, and open it.

        Raises:
            SourceError: it cannot be read.
            ConfigError: a package that it needs is missing.
        """
        self.is_end = False
        self.lost = 0
        self._told = 0  # damaged frames of all chunks so far
        self._unread: list[str] = []  # why images of the last chunk were passed over
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
        self.is_end, self.lost, self._unread = False, 0, []
        skipped, passed = self.source.status.skipped, 0
        offset = job.first if self._recording.kind == "images" else 0
        if job.start_ns is not None and not self._stands_at(job.first, job.start_ns):
            assert isinstance(self.source, VideoFile)
            self.source.seek(job.start_ns, job.first)
            self._next = job.first
        while True:
            number = self._next + offset if self._ahead is None else self._ahead.frame_id
            if job.start_ns is None and number >= job.end:
                break
            if self._is_behind(job, self.source.next_pts_ns() if job.end_ns is not None else None):
                break
            frame = self._read(number >= job.first and is_wanted(number))
            if frame is None:
                self.is_end = True
                break
            if isinstance(frame, Frame):
                if job.start_ns is not None and self.source.status.skipped > skipped:
                    if self._is_behind(job, frame.pts_ns):  # all that was left of the chunk is damaged
                        break
                    frame = replace(frame, frame_id=_number_at(job, frame, self.source.fps))
                yield frame if not offset else replace(frame, frame_id=frame.frame_id + offset)
            passed += number >= job.first
        if damaged := self.source.status.skipped - self._told:
            # What is met at a chunk's end may lie behind it; where its length is known, what is there counts.
            self.lost = damaged if job.is_open else max(0, job.end - job.first - passed)
            self._told += damaged
        self.lost += len(self._unread)
        if job.is_open and not self.is_end:  # look whether another chunk follows
            self.is_end = not self._looks_ahead()

    @staticmethod
    def _is_behind(job: ChunkJob, shown_ns: int | None) -> bool:
        """Whether a frame of this time is of the next chunk."""
        return job.end_ns is not None and shown_ns is not None and shown_ns >= job.end_ns - _HALF_MS_NS

    def _stands_at(self, number: int, time_ns: int) -> bool:
        """Whether that frame is the next one anyway; for a jump, OpenCV decodes from the key frame before."""
        if self._next != number:
            return False
        shown_ns = self.source.next_pts_ns()
        return shown_ns is not None and abs(shown_ns - time_ns) < _HALF_MS_NS

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
        try:
            read = self.source.read()
        except SourceError as error:
            if self._recording.kind != "images":
                raise
            self._unread.append(str(error))  # the others are files of their own
            self.source.skip()
            self._next += 1
            return True
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


def _number_at(job: ChunkJob, frame: Frame, fps: float | None) -> int:
    """Return a frame's number by its time, where damage before it hides how many there were."""
    if frame.pts_ns is None or job.start_ns is None:
        return frame.frame_id
    period_ns = 1e9 / fps if fps else 0.0
    if job.end_ns is not None:
        period_ns = (job.end_ns - job.start_ns) / (job.end - job.first)
    return job.first + round((frame.pts_ns - job.start_ns) / period_ns) if period_ns else frame.frame_id


def _open(recording: Recording, files: list[str], decoder_threads: int) -> RecordedSource:
    """Open a recording, with few threads: the other cores are other workers'."""
    if recording.kind == "images":
        return ImageFiles(files, None if recording.bits is None else Depth(recording.bits))
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
        target = Path(folder.name, f"{number:06d}{suffix_of(name)}")
        with opened_file(name) as source, open(target, "wb") as fetched:
            shutil.copyfileobj(source, fetched, 1 << 20)
        found.append(str(target))
    return found
