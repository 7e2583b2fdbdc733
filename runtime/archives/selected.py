"""The frames of an archive most worth a person's time, as a folder of pictures to label."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from runtime.archives.chunk import ChunkResult
from runtime.archives.jobs import Failure, Found, find_recordings
from runtime.archives.reading import ChunkReader
from runtime.archives.results import SELECTED, write_picture
from runtime.archives.shards import read_shard
from runtime.base.codec import to_plain
from runtime.base.files import write_text
from runtime.base.progress import tracked
from runtime.base.shown import shown
from runtime.contract import ClassMap
from runtime.errors import ConfigError, OutputError
from runtime.masks.selection import layout, select_frames
from runtime.segmenter import Segmenter
from runtime.sources.recorded import ImageFiles

_MOST_CANDIDATES = 20_000  # the most uncertain; distances to all frames of a fleet would take hours


@dataclass(frozen=True)
class SelectedFrame:
    """A line of `selected.jsonl`.

    Attributes:
        file: of the picture, relative to the folder.
        recording: name.
        digest: of the recording.
        frame: number in the recording.
        pts_ns: presentation time; None for none.
        confidence: mean of the picture; None for none.
    """

    file: str
    recording: str
    digest: str
    frame: int
    pts_ns: int | None
    confidence: float | None


@dataclass(frozen=True)
class _Candidates:
    """Frames to choose from: place of the chunk, number, mean confidence and layout; (N,) and (N, D)."""

    place: NDArray[np.int64]
    number: NDArray[np.int64]
    confidence: NDArray[np.float32]
    layouts: NDArray[np.uint8]

    def most_uncertain(self, count: int) -> _Candidates:
        """Return so many at most, in their order."""
        kept = np.sort(np.argsort(np.nan_to_num(self.confidence, nan=0.0), kind="stable")[:count])
        return _Candidates(self.place[kept], self.number[kept], self.confidence[kept], self.layouts[kept])


def write_selected(
    out: Path,
    results: Sequence[ChunkResult],
    count: int,
    classes: ClassMap,
    known: NDArray[np.uint8] | None = None,
) -> tuple[Path, int]:
    """Write the frames most worth a person's time as a folder of pictures, see `select_frames`.

    The folder holds `images/`, `selected.jsonl` (a `SelectedFrame` a line, the most useful first) and
    `classes.json`, as a data set without labels. Its name counts up, since somebody may be at work in the one
    before.

    Args:
        out: folder of the results.
        results: of the chunks to choose from.
        count: how many frames at most.
        classes: of the network that segmented them.
        known: uint8 (K, D) layouts of frames that need no look; None for none.

    Returns:
        The folder, and how many frames it holds.

    Raises:
        ConfigError: no frame to choose from.
        SourceError: a recording that cannot be read any more.
        OutputError: the folder cannot be written.
    """
    chunks = sorted(
        (one for one in results if one.frames), key=lambda one: (one.job.recording.name, one.job.first)
    )
    found = _candidates(out, chunks, max(_MOST_CANDIDATES, 50 * count))
    chosen = select_frames(-np.nan_to_num(found.confidence, nan=0.0), found.layouts, count, known)
    numbers = [int(path.name.removeprefix(SELECTED)) for path in out.glob(f"{SELECTED}[0-9][0-9][0-9]")]
    folder = out / f"{SELECTED}{1 + max(numbers, default=0):03d}"
    frames: dict[int, SelectedFrame] = {}
    try:
        with ChunkReader() as reader:
            for place in tracked(np.unique(found.place[chosen]).tolist(), "selected frames"):
                job = chunks[place].job
                wanted = {int(found.number[one]): one for one in chosen.tolist() if found.place[one] == place}
                for frame in reader.frames(job, wanted.__contains__):
                    index = wanted.pop(frame.frame_id)
                    file = f"images/{job.recording.digest[:8]}-{frame.frame_id:09d}.png"
                    write_picture(folder / file, frame.image_bgr)
                    sure = float(found.confidence[index])
                    frames[index] = SelectedFrame(
                        file,
                        shown(job.recording.name),
                        job.recording.digest,
                        frame.frame_id,
                        frame.pts_ns,
                        None if np.isnan(sure) else round(sure, 4),
                    )
                    if not wanted:
                        break
        lines = [json.dumps(to_plain(frames[one])) + "\n" for one in chosen.tolist() if one in frames]
        write_text(folder / "selected.jsonl", "".join(lines))
        described = {"names": classes.names, "palette": classes.palette_rgb}
        write_text(folder / "classes.json", json.dumps(described, indent=1) + "\n")
    except OSError as error:
        raise OutputError(
            f"{folder}: expected a folder that can be written, got {error.strerror or error}; free some room"
        ) from None
    return folder, len(frames)


def known_layouts(specs: Sequence[str], segment: Segmenter) -> NDArray[np.uint8]:
    """Return the layouts of images that need no look, such as those of the training set, (K, D).

    Args:
        specs: folders or patterns of images.
        segment: the network that segmented the archive.

    Raises:
        ConfigError: no image.
        SourceError: one that cannot be read.
    """
    found = list(find_recordings(specs))
    for one in found:
        if isinstance(one, Failure):
            raise ConfigError(f"known {shown(one.recording)}: {one.reason}")
    paths = [path for one in found if isinstance(one, Found) and one.kind == "images" for path in one.files]
    if not paths:
        raise ConfigError(f"known: expected images, got none in {shown(' '.join(specs))}; check the folder")
    classes = len(segment.contract.classes)
    with ImageFiles(paths) as source:
        return np.stack(
            [layout(segment(frame).mask, classes) for frame in tracked(source, "known", len(paths))]
        )


def _candidates(out: Path, chunks: Sequence[ChunkResult], most: int) -> _Candidates:
    """Return the frames to choose from, at most twice as many of them in memory at any time."""
    parts: list[_Candidates] = []
    for place, chunk in enumerate(chunks):
        columns = read_shard(out / chunk.shard, ("frame", "confidence", "layout")).columns
        number = np.asarray(columns["frame"], np.int64)
        layouts = np.stack([np.frombuffer(one, np.uint8) for one in columns["layout"]])
        parts.append(
            _Candidates(np.full(len(number), place), number, np.asarray(columns["confidence"]), layouts)
        )
        if sum(len(part.number) for part in parts) > 2 * most:
            parts = [_joined(parts).most_uncertain(most)]
    if not parts:
        raise ConfigError("select: expected frames to choose from, got none; see failed.jsonl")
    return _joined(parts).most_uncertain(most)


def _joined(parts: Sequence[_Candidates]) -> _Candidates:
    return _Candidates(
        np.concatenate([part.place for part in parts]),
        np.concatenate([part.number for part in parts]),
        np.concatenate([part.confidence for part in parts]),
        np.concatenate([part.layouts for part in parts]),
    )
