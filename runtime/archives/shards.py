"""A shard: what one chunk of a recording gave, as one file that is whole or not there.

Columns, one row a frame:

    frame           int64    number in the recording, from 0
    pts_ns          int64    presentation time; -1 for none
    stamp_ns        int64    the picture's own time stamp, as of a ROS header; -1 for none
    height, width   int32    of the mask, pixels
    confidence      float32  mean probability of the classes that win, see `mean_confidence` in
                             `runtime.masks.confidence`; NaN where the network gives masks only
    area_<class>    int64    pixels of the class; what they lack of height * width is void
    layout          bytes    see `runtime.masks.selection.layout`
    mask            bytes    palette PNG of class indices (see `runtime.masks.formats`)
    occupancy       bytes    PNG of the grid on the ground, grey: 0 free, 100 occupied, 255 unknown

The last two are there where they were asked for. Beside them is a description, see `ShardHead`, and one small
picture. As Parquet (pyarrow) the columns are columns, pages have checksums, and description and picture stand
in the schema's metadata. As .npz (numpy alone) each is an array; of bytes there are two, one with all of them
and one with where each ends.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import io
import json
import zipfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.base.codec import DecodeError, from_plain, to_plain
from runtime.base.files import replacing
from runtime.errors import ConfigError, EdgesegError, OutputError

FORMATS = {"parquet": ".parquet", "npz": ".npz"}
VERSION = 2
BYTES = ("layout", "mask", "occupancy")
_HEAD, _PICTURE = "edgeseg.shard", "edgeseg.picture"
_ROWS_A_GROUP = 256

Column = NDArray[Any] | list[bytes]


class DamagedShard(EdgesegError):
    """A file that is no whole shard; it is written again."""


@dataclass(frozen=True)
class ShardHead:
    """What a shard says of itself.

    Attributes:
        key: hex SHA-256 of all that its content depends on; see `runtime.archives.chunk.shard_key`.
        digest: of the recording.
        first: number of the first frame of its range.
        frames: rows.
        is_end: whether the recording has no frame behind it.
        classes: names, in the order of their indices.
        problem: why the range ends before it should; "" for no reason.
        version: of this layout.
    """

    key: str
    digest: str
    first: int
    frames: int
    is_end: bool
    classes: tuple[str, ...]
    problem: str = ""
    version: int = VERSION


@dataclass(frozen=True)
class Shard:
    """A shard that was read.

    Attributes:
        head: what it says of itself.
        columns: those that were asked for.
        picture: JPEG of its first frame with its mask; empty for none.
    """

    head: ShardHead
    columns: Mapping[str, Column]
    picture: bytes = b""

    def areas(self) -> NDArray[np.int64]:
        """Return the pixels of each class, (frames, C)."""
        planes = [np.asarray(self.columns[f"area_{name}"], np.int64) for name in self.head.classes]
        return np.stack(planes, axis=1)


def has_pyarrow() -> bool:
    """Whether shards may be Parquet here."""
    return importlib.util.find_spec("pyarrow") is not None


def pyarrow(module: str = "pyarrow") -> Any:
    """Import a module of pyarrow.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ConfigError(
            f"Parquet needs the package pyarrow, which cannot be imported ({error}); pip install "
            "'edgeseg[archive]', or take --format npz"
        ) from None


def write_shard(path: Path, shard: Shard) -> tuple[str, int]:
    """Write a shard, whole or not at all; equal shards become equal files.

    Returns:
        The hex SHA-256 of the file, and its bytes.

    Raises:
        OutputError: it cannot be written.
        ConfigError: Parquet without pyarrow.
    """
    content = _parquet(shard) if path.suffix == FORMATS["parquet"] else _npz(shard)
    try:
        with replacing(path) as part:
            part.write_bytes(content)
    except OSError as error:
        raise OutputError(
            f"{path}: expected a file that can be written, got {error.strerror or error}; free some room or "
            "mend the disk, and run this again: what is whole stays"
        ) from None
    return hashlib.sha256(content).hexdigest(), len(content)


def read_shard(path: Path, columns: Collection[str] | None = None) -> Shard:
    """Read a shard.

    Args:
        path: the file.
        columns: names; a name that ends in `*` stands for all that begin so. None for all, which also checks
            every byte against its checksum.

    Raises:
        DamagedShard: no whole shard.
        OSError: it cannot be read.
        ConfigError: Parquet without pyarrow.
    """
    try:
        read = _from_parquet if path.suffix == FORMATS["parquet"] else _from_npz
        shard = read(path, columns)
    except (ConfigError, FileNotFoundError, PermissionError):
        raise
    except Exception as error:  # pyarrow's, zipfile's, numpy's and json's
        raise DamagedShard(f"{path}: expected a whole shard, got a damaged file ({error})") from None
    for name, column in shard.columns.items():
        if len(column) != shard.head.frames:
            raise DamagedShard(f"{path}: expected {shard.head.frames} rows, got {len(column)} of {name}")
    return shard


def _is_wanted(name: str, columns: Collection[str] | None) -> bool:
    if columns is None:
        return True
    return any(name == one or (one.endswith("*") and name.startswith(one[:-1])) for one in columns)


def _head_of(text: str | bytes) -> ShardHead:
    try:
        return from_plain(ShardHead, json.loads(text))
    except DecodeError as error:
        raise ValueError(str(error)) from None


def _head_text(head: ShardHead) -> str:
    return json.dumps(to_plain(head), sort_keys=True)


def _parquet(shard: Shard) -> bytes:
    arrow, parquet = pyarrow(), pyarrow("pyarrow.parquet")
    arrays = {
        name: arrow.array(column, arrow.binary()) if isinstance(column, list) else arrow.array(column)
        for name, column in shard.columns.items()
    }
    table = arrow.table(arrays, metadata={_HEAD: _head_text(shard.head), _PICTURE: shard.picture})
    content = io.BytesIO()
    parquet.write_table(
        table,
        content,
        compression={name: "none" if name in BYTES[1:] else "zstd" for name in arrays},  # PNG is packed
        use_dictionary=False,
        row_group_size=_ROWS_A_GROUP,
        write_page_checksum=True,
    )
    return content.getvalue()


def _from_parquet(path: Path, columns: Collection[str] | None) -> Shard:
    parquet = pyarrow("pyarrow.parquet")
    with path.open("rb") as source, parquet.ParquetFile(source, page_checksum_verification=True) as file:
        metadata = file.schema_arrow.metadata
        head = _head_of(metadata[_HEAD.encode()])
        names = [name for name in file.schema_arrow.names if _is_wanted(name, columns)]
        table = file.read(names, use_threads=False)
    read = {name: table[name].to_pylist() if name in BYTES else table[name].to_numpy() for name in names}
    return Shard(head, read, metadata[_PICTURE.encode()])


def _npz(shard: Shard) -> bytes:
    arrays: dict[str, NDArray[Any]] = {
        _HEAD: np.frombuffer(_head_text(shard.head).encode(), np.uint8),
        _PICTURE: np.frombuffer(shard.picture, np.uint8),
    }
    for name, column in shard.columns.items():
        if isinstance(column, list):
            arrays[f"{name}.bytes"] = np.frombuffer(b"".join(column), np.uint8)
            arrays[f"{name}.ends"] = np.cumsum([len(one) for one in column], dtype=np.int64)
        else:
            arrays[name] = column
    content = io.BytesIO()
    np.savez(content, **arrays)  # type: ignore[arg-type]
    return content.getvalue()


def _from_npz(path: Path, columns: Collection[str] | None) -> Shard:
    with path.open("rb") as source:
        if columns is None and zipfile.ZipFile(source).testzip() is not None:
            raise ValueError("a checksum is wrong")
        source.seek(0)
        with np.load(source, allow_pickle=False) as arrays:
            read: dict[str, Column] = {}
            for name in arrays.files:
                column = name.removesuffix(".ends") if name.removesuffix(".ends") in BYTES else name
                if column in (_HEAD, _PICTURE) or name.endswith(".bytes") or not _is_wanted(column, columns):
                    continue
                if column in BYTES:
                    data, ends = arrays[f"{column}.bytes"].tobytes(), arrays[name].tolist()
                    starts = [0, *ends[:-1]] if ends else []
                    read[column] = [data[start:end] for start, end in zip(starts, ends, strict=True)]
                else:
                    read[column] = arrays[name]
            head = _head_of(arrays[_HEAD].tobytes())
            return Shard(head, read, arrays[_PICTURE].tobytes())
