"""Frames out of a folder of images, a video or a bag, each under a name that is the same every time."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from runtime.base.images import IMAGE_SUFFIXES, Depth, read_image
from runtime.base.progress import tracked
from runtime.base.shown import shown
from runtime.errors import ConfigError, DatasetError
from runtime.frame import Image
from runtime.ros.bags import is_bag
from runtime.sources import open_source
from runtime.sources.recorded import ImageFiles, RecordedSource
from runtime.sources.video import SyntheticDrive
from training.data.pairs import find_files


@dataclass(frozen=True)
class Taken:
    """A frame that was taken out of a recording.

    Attributes:
        name: under which it is kept, without a suffix.
        file: it came from, which is copied; None for a frame of a video or a bag.
        image_bgr: uint8 (H, W, 3); None where it is labelled already.
    """

    name: str
    file: Path | None = None
    image_bgr: Image | None = None

    @property
    def file_name(self) -> str:
        """Of its picture."""
        return f"{self.name}.png" if self.file is None else self.file.name


@dataclass(frozen=True)
class Recording:
    """Frames of a folder of images, a video or a bag.

    Attributes:
        source: the folder, or what `runtime.sources.open_source` opens.
        topic: of a bag.
        every: take one frame in so many.
        limit: take so many at most; None for all.
    """

    source: str
    topic: str | None = None
    every: int = 1
    limit: int | None = None
    _depth: Depth = field(default_factory=Depth)

    def frames(self, is_done: Callable[[Taken], bool]) -> Iterator[Taken]:
        """Yield the frames in order; those that are done without their picture, since it is not read.

        Raises:
            SourceError: a recording that is missing or breaks; all frames before were given.
            DatasetError: a folder without images, or with two of one name.
            ConfigError: what is no recording.
        """
        folder = Path(self.source)
        if folder.is_dir() and not is_bag(folder):
            files = self._files(folder)
            yield from tracked(self._of_files(files, is_done), "labelling", len(files))
        else:
            with self._open() as recording:
                frames = islice(self._of_recording(recording, is_done), self.limit)
                announced = math.ceil(recording.announced / self.every) or self.limit
                total = announced if self.limit is None else min(announced or 0, self.limit)
                yield from tracked(frames, "labelling", total)

    def _files(self, folder: Path) -> list[Path]:
        """Return the images to take, each of a name of its own."""
        try:
            files = find_files(folder, IMAGE_SUFFIXES)
        except DatasetError:
            raise DatasetError(
                f"{folder}: expected images, a video or a bag, found a folder without images; check --source"
            ) from None
        by_stem: dict[str, Path] = {}
        for file in files:
            if by_stem.setdefault(file.stem, file) != file:
                raise DatasetError(
                    f"{file}: expected one image a name, found {by_stem[file.stem].name} too; rename one"
                )
        return files[:: self.every][: self.limit]

    def _of_files(self, files: Sequence[Path], is_done: Callable[[Taken], bool]) -> Iterator[Taken]:
        for file in files:
            frame = Taken(file.stem, file)
            if not is_done(frame):
                frame = dataclasses.replace(frame, image_bgr=read_image(file, self._depth))
            yield frame

    def _of_recording(self, recording: RecordedSource, is_done: Callable[[Taken], bool]) -> Iterator[Taken]:
        stem = Path(self.source.split("?")[0]).stem
        number = 0
        while True:
            frame = Taken(f"{stem}_{number:06d}")
            if number % self.every == 0 and not is_done(frame):
                read = recording.read()
                if read is None:
                    return
                number = read.frame_id  # beyond what a bag holds damaged
                frame = Taken(f"{stem}_{number:06d}")
                picture = None if is_done(frame) else read.image_bgr
                yield dataclasses.replace(frame, image_bgr=picture)
            elif not recording.skip():
                return
            elif number % self.every == 0:
                yield frame
            number += 1

    def _open(self) -> RecordedSource:
        source = open_source(self.source, topic=self.topic)
        if isinstance(source, RecordedSource) and not isinstance(source, ImageFiles):
            if not isinstance(source, SyntheticDrive) or self.limit is not None:
                return source
            advice = "add --limit, since the bundled drive has no end"
        elif isinstance(source, ImageFiles):
            advice = "give the folder of the images"
        else:
            advice = "record it first, for example with ffmpeg"
        source.close()
        raise ConfigError(
            f"source: expected a folder of images, a video or a bag, got {shown(self.source)}; {advice}"
        )
