"""What one can use, made of shards: a table of all frames, a timeline a recording, and a contact sheet."""

from __future__ import annotations

import csv
import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from runtime.archives.manifest import Manifest, RecordingEntry
from runtime.archives.pictures import clock, contact_sheet, timeline
from runtime.archives.shards import Shard, pyarrow, read_shard
from runtime.base.files import replacing
from runtime.base.progress import tracked
from runtime.contract import ClassMap
from runtime.errors import OutputError
from runtime.frame import Image

TABLE_COLUMNS = ("frame", "pts_ns", "stamp_ns", "height", "width", "confidence", "area_*")
SHEET, TIMELINES, SELECTED = "contact-sheet.jpg", "timelines", "selected-"
_SHEET_PANELS = 48
_SAFE = re.compile(r"[^\w.-]+", re.ASCII)


@dataclass(frozen=True)
class _Frames:
    """The numbers of a recording's frames, each (N,) or (N, C)."""

    number: NDArray[np.int64]
    pts_ns: NDArray[np.int64]
    shares: NDArray[np.float32]
    confidence: NDArray[np.float32]

    def seconds(self) -> NDArray[np.float64]:
        """Return when each frame is shown; without times their numbers."""
        times = self.pts_ns
        has_times = len(times) and (times >= 0).all() and (np.diff(times) >= 0).all()
        return times / 1e9 if has_times else self.number.astype(np.float64)


def write_results(out: Path, manifest: Manifest, table: str) -> list[Path]:
    """Write the table of all frames, a timeline a recording and the contact sheet.

    Args:
        out: folder of the results.
        manifest: of that folder.
        table: "parquet" or "csv".

    Returns:
        What was written: the table, the sheet, and the folder of the timelines.

    Raises:
        OutputError: it cannot be written.
        DamagedShard: a shard changed since it was listed.
        ConfigError: Parquet without pyarrow.
    """
    classes = manifest.classes
    path, sheet, timelines = out / f"frames.{table}", out / SHEET, out / TIMELINES
    panels = _Panels(sum(len(one.shards) for one in manifest.recordings))
    try:
        with replacing(path) as part, _table(part, table, classes) as rows:
            for entry in tracked(manifest.recordings, "results"):
                parts: list[_Frames] = []
                for number, shard in enumerate(_shards(out, entry)):
                    parts.append(_frames(shard))
                    rows.add(entry, shard)
                    panels.offer(entry, entry.shards[number].first, shard)
                if sum(len(part.number) for part in parts):
                    _write_timeline(timelines, entry, parts, classes)
        write_picture(sheet, contact_sheet(f"{len(manifest.recordings)} recordings", panels.chosen))
    except OSError as error:
        raise OutputError(
            f"{out}: expected a folder that can be written, got {error.strerror or error}; free some room "
            "and run this again: what is whole stays"
        ) from None
    return [path, sheet, timelines]


def _shards(out: Path, entry: RecordingEntry) -> Iterator[Shard]:
    for shard in entry.shards:
        yield read_shard(out / shard.file, TABLE_COLUMNS)


def _frames(shard: Shard) -> _Frames:
    columns = shard.columns
    pixels = np.asarray(columns["height"], np.int64) * np.asarray(columns["width"], np.int64)
    shares = (shard.areas() / np.maximum(pixels, 1)[:, None]).astype(np.float32)  # (N, C)
    return _Frames(
        np.asarray(columns["frame"]), np.asarray(columns["pts_ns"]), shares, np.asarray(columns["confidence"])
    )


class _Panels:
    """Chooses shards evenly for the contact sheet, while they pass."""

    def __init__(self, shards: int) -> None:
        count = min(_SHEET_PANELS, shards)
        self._wanted = {(2 * number + 1) * shards // (2 * count) for number in range(count)}
        self._passed = 0
        self.chosen: list[tuple[str, bytes]] = []

    def offer(self, entry: RecordingEntry, first: int, shard: Shard) -> None:
        """Take a shard's picture if it is its turn."""
        if self._passed in self._wanted:
            pts_ns = np.asarray(shard.columns["pts_ns"])
            is_timed = len(pts_ns) and pts_ns[0] >= 0
            when = clock(pts_ns[0] / 1e9) if is_timed else f"frame {first}"
            self.chosen.append((f"{when}  {Path(entry.name).name}", shard.picture))
        self._passed += 1


def _write_timeline(folder: Path, entry: RecordingEntry, parts: Sequence[_Frames], classes: ClassMap) -> None:
    number, pts_ns, shares, confidence = (
        np.concatenate([getattr(part, name) for part in parts])
        for name in ("number", "pts_ns", "shares", "confidence")
    )
    frames = _Frames(number, pts_ns, shares, confidence)
    title = f"{entry.title}: {len(number)} frames" + (f", {entry.problem}" if entry.problem else "")
    picture = timeline(title, frames.seconds(), shares, confidence, classes)
    key = (
        hashlib.sha256(f"{entry.digest} {entry.topic}".encode()).hexdigest() if entry.topic else entry.digest
    )
    write_picture(folder / f"{_safe(entry.name)}-{key[:8]}.png", picture)


def _safe(name: str) -> str:
    """Return the stem of a recording's name in letters that every disk takes."""
    return _SAFE.sub("_", Path(name).stem)[:60] or "recording"


def write_picture(path: Path, picture: Image) -> None:
    """Write a picture, whole or not at all; its suffix says as what."""
    _, content = cv2.imencode(path.suffix, picture)
    with replacing(path) as part:
        part.write_bytes(content.tobytes())


def _table(path: Path, kind: str, classes: ClassMap) -> _CsvTable | _ParquetTable:
    return _ParquetTable(path, classes) if kind == "parquet" else _CsvTable(path, classes)


def _columns(entry: RecordingEntry, shard: Shard) -> dict[str, NDArray[Any] | list[str]]:
    """Return the table's rows of a shard, column by column."""
    frames = _frames(shard)
    names = shard.head.classes
    return {
        "recording": [entry.title] * len(frames.number),
        "digest": [entry.digest] * len(frames.number),
        **{name: np.asarray(shard.columns[name]) for name in TABLE_COLUMNS[:5]},
        "confidence": frames.confidence,
        **{f"share_{name}": frames.shares[:, index] for index, name in enumerate(names)},
    }


class _ParquetTable:
    """A table that grows shard by shard."""

    def __init__(self, path: Path, classes: ClassMap) -> None:
        self._arrow, parquet = pyarrow(), pyarrow("pyarrow.parquet")
        arrow = self._arrow
        whole, small, text = arrow.int64(), arrow.int32(), arrow.string()
        fields = [("recording", text), ("digest", text), ("frame", whole), ("pts_ns", whole)]
        fields += [("stamp_ns", whole), ("height", small), ("width", small), ("confidence", arrow.float32())]
        fields += [(f"share_{name}", arrow.float32()) for name in classes.names]
        self._schema = arrow.schema(fields)
        self._file = path.open("wb")  # by pyarrow no name could be opened that is not UTF-8
        self._writer = parquet.ParquetWriter(self._file, self._schema, compression="zstd")

    def __enter__(self) -> _ParquetTable:
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.close()
        self._file.close()

    def add(self, entry: RecordingEntry, shard: Shard) -> None:
        """Append the frames of a shard."""
        arrow, columns = self._arrow, _columns(entry, shard)
        arrays = []
        for field in self._schema:
            values = columns[field.name]
            is_missing = np.asarray(values) < 0 if field.name.endswith("_ns") else None
            if field.name == "confidence":
                is_missing = np.isnan(np.asarray(values))
            arrays.append(arrow.array(values, field.type, mask=is_missing))
        self._writer.write_table(arrow.Table.from_arrays(arrays, schema=self._schema))


class _CsvTable:
    """The same as text."""

    def __init__(self, path: Path, classes: ClassMap) -> None:
        self._file = path.open("w", newline="", encoding="utf-8")
        self._writer = csv.writer(self._file)
        shares = [f"share_{name}" for name in classes.names]
        self._writer.writerow(["recording", "digest", *TABLE_COLUMNS[:5], "confidence", *shares])

    def __enter__(self) -> _CsvTable:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, entry: RecordingEntry, shard: Shard) -> None:
        """Append the frames of a shard."""
        columns = _columns(entry, shard)
        texts = [
            [_text(name, value) for value in (values if isinstance(values, list) else values.tolist())]
            for name, values in columns.items()
        ]
        self._writer.writerows(zip(*texts, strict=True))


def _text(name: str, value: Any) -> str:
    if isinstance(value, float):
        return "" if np.isnan(value) else f"{value:.6g}"
    return "" if name.endswith("_ns") and value < 0 else str(value)
