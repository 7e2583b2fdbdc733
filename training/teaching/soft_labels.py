"""Soft labels: what one or several networks say of each frame, as a file beside it.

    DIR/teacher.json     {"classes": [...], "stride": 4, "scale": 255, "networks": [...], "weights": [...],
                          "terms": "...", "features": [32, 32], "features_of": "..."}, here or one folder up
    DIR/NAME.npz         `scores`, uint8 (classes, H / stride, W / stride): probabilities x 255; and, if
                         teacher.json names any, `features`, uint8 (64, H / stride, W / stride): what two
                         layers of a network say, see `training.teaching.features`

NAME is the frame's file name without its suffix. Files are stored uncompressed, so that reading maps them
into memory; compressed ones are read too.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from runtime.base.codec import from_plain, to_plain
from runtime.base.files import open_regular, read_regular, replacing, write_text
from runtime.base.shown import shown
from runtime.errors import DatasetError
from runtime.frame import Image
from training.data.dataset import IGNORE

DESCRIPTION = "teacher.json"
SCALE = 255
MAX_BYTES = 1 << 30  # of one frame's scores
LAYERS = 2  # that speak in features


@dataclass(frozen=True)
class TeacherFile:
    """The content of teacher.json.

    Attributes:
        classes: names, in the order of the scores.
        stride: pixels of the frame a score stands for, along each axis.
        scale: what a probability of 1 is stored as.
        networks: whose opinion it is.
        weights: of each in the mean of the log-probabilities.
        terms: what the networks and their data allow, in words.
        features: how many there are of each of two layers, fine to coarse; none for no features.
        features_of: SHA-256 of the file that gave them; those of two files mean different things.
    """

    classes: tuple[str, ...]
    stride: int
    scale: int = SCALE
    networks: tuple[str, ...] = ()
    weights: tuple[float, ...] = ()
    terms: str = ""
    features: tuple[int, ...] = ()
    features_of: str = ""


@dataclass(frozen=True)
class SoftLabels:
    """A folder of soft labels.

    Attributes:
        folder: that holds the files.
        teacher: what is known of all of them.
        names: of the frames, in order.
    """

    folder: Path
    teacher: TeacherFile
    names: tuple[str, ...]

    @classmethod
    def open(cls, folder: str | Path) -> SoftLabels:
        """Open a folder; the files are read when asked for.

        Raises:
            DatasetError: no folder, no teacher.json, or one that says something impossible.
        """
        folder = Path(folder)
        if not folder.is_dir():
            raise DatasetError(f"{folder}: expected a folder of soft labels, found none; check the path")
        path = next((at / DESCRIPTION for at in (folder, folder.parent) if (at / DESCRIPTION).exists()), None)
        if path is None:
            raise DatasetError(
                f"{folder}: expected {DESCRIPTION} in it or beside it, found none; "
                "make soft labels with training.label"
            )
        try:
            teacher = from_plain(TeacherFile, json.loads(read_regular(path).decode("utf-8")))
        except OSError as error:
            raise DatasetError(f"{path}: expected a file, got {error.strerror}; make it again") from None
        except (ValueError, RecursionError) as error:  # DecodeError is one
            raise DatasetError(
                f"{path}: expected a description of soft labels, {error}; correct it"
            ) from None
        if teacher.scale != SCALE or teacher.stride < 1 or not 1 <= len(teacher.classes) <= IGNORE:
            raise DatasetError(
                f"{path}: expected a scale of {SCALE}, a stride of at least 1 and up to {IGNORE} classes, "
                f"got {teacher.scale}, {teacher.stride} and {len(teacher.classes)}; correct it"
            )
        if teacher.features and (len(teacher.features) != LAYERS or min(teacher.features) < 1):
            raise DatasetError(
                f"{path}: expected the numbers of features of {LAYERS} layers, got {teacher.features}; "
                "correct it"
            )
        return cls(folder, teacher, tuple(sorted(file.stem for file in folder.glob("[!.]*.npz"))))

    def __contains__(self, name: str) -> bool:
        """Return whether there is a file for a frame."""
        return (self.folder / f"{name}.npz").exists()

    def read(self, name: str) -> NDArray[np.uint8]:
        """Return a frame's scores, uint8 (classes, H / stride, W / stride), mapped into memory if it can be.

        Raises:
            DatasetError: no such file, a damaged one, or scores of another shape.
        """
        return self._read(name, "scores", len(self.teacher.classes))

    def read_features(self, name: str) -> NDArray[np.uint8] | None:
        """Return a frame's features, uint8 (F, H / stride, W / stride); None where the teacher gave none.

        Raises:
            DatasetError: as `read`.
        """
        return self._read(name, "features", sum(self.teacher.features)) if self.teacher.features else None

    def _read(self, name: str, what: str, planes: int) -> NDArray[np.uint8]:
        path = self.folder / f"{name}.npz"
        try:
            found = _read_member(path, what)
        except OSError as error:
            raise DatasetError(f"{path}: expected a file, got {error.strerror}; make it again") from None
        except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise DatasetError(
                f"{path}: expected an npz file that holds {what}, got {shown(str(error), 200)}; make it again"
            ) from None
        if found.dtype != np.uint8 or found.ndim != 3 or len(found) != planes:
            raise DatasetError(
                f"{path}: expected uint8 ({planes}, height, width), got {found.dtype} "
                f"{found.shape}; make it again"
            )
        return found

    def digest(self) -> str:
        """Return a SHA-256 of what is taught: the description, and the files' names, sizes and checksums."""
        text = json.dumps(to_plain(self.teacher))
        for name in self.names:
            path = self.folder / f"{name}.npz"
            try:
                with open_regular(path) as file, zipfile.ZipFile(file) as archive:
                    sums = [f"{member.filename} {member.CRC}" for member in archive.infolist()]
            except (OSError, ValueError, zipfile.BadZipFile):  # told where it is read
                sums = ["damaged"]
            text += f"{name} {path.stat().st_size if path.exists() else 0} {sums}\n"
        return hashlib.sha256(text.encode()).hexdigest()


def write_description(folder: Path, teacher: TeacherFile) -> None:
    """Write teacher.json into a folder.

    Raises:
        OutputError: it cannot be written.
    """
    write_text(folder / DESCRIPTION, json.dumps(to_plain(teacher), indent=1, ensure_ascii=False) + "\n")


def write_soft_labels(
    folder: Path, name: str, probabilities: NDArray[np.float32], features: Image | None = None
) -> None:
    """Write a frame's soft labels, whole or not at all.

    Args:
        folder: that holds, or will hold, teacher.json.
        name: of the frame's file, without its suffix.
        probabilities: float (classes, H / stride, W / stride), 0..1.
        features: uint8 (F, H / stride, W / stride); None for none.

    Raises:
        OSError: it cannot be written.
    """
    scores = np.clip(np.rint(probabilities * SCALE), 0, SCALE).astype(np.uint8)
    with replacing(folder / f"{name}.npz") as part:
        if features is None:
            np.savez(part, scores=scores)
        else:
            np.savez(part, scores=scores, features=features)


def _read_member(path: Path, what: str) -> NDArray[np.uint8]:
    """Return an array of an npz file, mapped into memory where it is stored uncompressed."""
    with open_regular(path) as file, zipfile.ZipFile(file) as archive:
        member = archive.getinfo(f"{what}.npy")
        if member.file_size > MAX_BYTES:
            raise ValueError(f"{member.file_size} bytes of {what}, of at most {MAX_BYTES}")
        with archive.open(member) as data:
            version = np.lib.format.read_magic(data)
            if version != (1, 0):
                raise ValueError(f"{what} in npy format {version}, not (1, 0)")
            shape, fortran, dtype = np.lib.format.read_array_header_1_0(data)
            if fortran or dtype.hasobject or np.prod(shape, dtype=object) * dtype.itemsize > member.file_size:
                raise ValueError(f"{what} of {dtype} {shape} in {member.file_size} bytes")
            header = data.tell()
            if member.compress_type != zipfile.ZIP_STORED:
                values: NDArray[np.uint8] = np.frombuffer(data.read(), dtype)[: np.prod(shape)].reshape(shape)
                return values
        file.seek(member.header_offset + 26)
        name, extra = (int.from_bytes(file.read(2), "little") for _ in range(2))
        start = member.header_offset + 30 + name + extra + header
        return np.memmap(path, dtype, "r", start, shape)
