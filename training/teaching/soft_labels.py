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
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from runtime.base.codec import from_plain, to_plain
from runtime.base.files import open_regular, read_regular, replacing, write_text
from runtime.base.images import IMAGE_SUFFIXES
from runtime.base.shown import shown
from runtime.contract import ClassMap
from runtime.errors import DatasetError
from runtime.frame import Image
from training.class_maps.translation import Translation, open_translation
from training.data.dataset import IGNORE, Sample, SegmentationDataset
from training.data.labels import load_file, read_picture
from training.data.pairs import find_files

DESCRIPTION = "teacher.json"
SCALE = 255
MAX_BYTES = 1 << 30  # of one frame's scores
LAYERS = 2  # that speak in features
FLOOR = 0.5  # of 255: what a probability of 0 is taken for, since a file cannot tell it from .001


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


@dataclass(frozen=True)
class Lessons:
    """What all given folders of soft labels say in the classes of one training.

    Attributes:
        parts: folders, each with the translation of its classes into the training's.
        groups: indices of the training's classes whose probabilities are taught as one sum.
        features: how many features there are of each of two layers; empty for none.
        features_of: SHA-256 of the file that gave them.
    """

    parts: tuple[tuple[SoftLabels, Translation], ...]
    groups: tuple[tuple[int, ...], ...]
    features: tuple[int, ...] = ()
    features_of: str = ""

    @classmethod
    def open(cls, folders: Sequence[str | Path], class_map: str | None, classes: ClassMap) -> Lessons:
        """Open folders of soft labels for a training.

        Args:
            folders: at least one.
            class_map: a map's name or file, for folders whose classes are not the training's.
            classes: of the training.

        Raises:
            DatasetError: a folder that cannot be opened, classes that do not match, folders whose maps give
                other groups, or features of different networks.
        """
        parts = []
        for folder in folders:
            soft = SoftLabels.open(folder)
            own = set(soft.teacher.classes) == set(classes.names)
            translation = open_translation(None if own else class_map, soft.teacher.classes, classes.names)
            order = sorted(translation.groups, key=lambda group: group[1])  # the same in all folders
            parts.append((soft, Translation(translation.source, translation.target, tuple(order))))
        groups = parts[0][1].target_groups
        for soft, translation in parts[1:]:
            if translation.target_groups != groups:
                raise DatasetError(
                    f"{soft.folder}: expected soft labels that group the classes as those of "
                    f"{parts[0][0].folder} do, since they are joined; label with both networks at once"
                )
        speakers = {(soft.teacher.features, soft.teacher.features_of) for soft, _ in parts} - {((), "")}
        if len(speakers) > 1:
            raise DatasetError(
                f"{', '.join(map(str, folders))}: expected features of one network, got those of "
                f"{len(speakers)}; label all of them with the same file of export.features"
            )
        return cls(tuple(parts), groups, *(speakers.pop() if speakers else ()))

    def without_features(self) -> Lessons:
        """Return the same without features."""
        return replace(self, features=(), features_of="")

    @property
    def terms(self) -> str:
        """What all of them allow, in words."""
        return "; ".join(dict.fromkeys(soft.teacher.terms for soft, _ in self.parts if soft.teacher.terms))

    def digest(self) -> str:
        """Return a SHA-256 of all that is taught."""
        texts = [f"{soft.digest()} {translation.groups}" for soft, translation in self.parts]
        return hashlib.sha256("\n".join(texts).encode()).hexdigest()

    def of(self, name: str, image_hw: tuple[int, int]) -> NDArray[np.uint8] | None:
        """Return what is taught of a frame, uint8 (h, w, groups + features), or None where no folder has it.

        Several folders are joined by the sum of their log-probabilities. A pixel's total is 255, or less as
        far as it lies in classes that the training does not know. The features stand behind the groups.

        Args:
            name: of the frame's file, without its suffix.
            image_hw: its height and width in pixels.

        Raises:
            DatasetError: a damaged file, or one of a picture of another shape.
        """
        logs: list[NDArray[np.float32]] = []
        known = []
        features = None
        for soft, translation in self.parts:
            if name not in soft:
                continue
            scores = soft.read(name)
            _check_shape(soft.folder / f"{name}.npz", scores, image_hw)
            if self.features and features is None:
                features = soft.read_features(name)
            sums = translation.to_groups(scores.astype(np.float32)).transpose(1, 2, 0)  # (h, w, groups)
            if logs and sums.shape != logs[0].shape:
                height, width = logs[0].shape[:2]
                resized = cv2.resize(sums, (width, height))
                sums = resized.astype(np.float32).reshape(height, width, -1)
            total = sums.sum(axis=2, keepdims=True)
            known.append(np.minimum(total / SCALE, 1))
            logs.append(np.log((sums + FLOOR) / (total + FLOOR * sums.shape[2])))
        if not logs:
            return None
        joined = np.exp(np.sum(logs, axis=0))
        joined *= np.minimum.reduce(known) / joined.sum(axis=2, keepdims=True)
        said: NDArray[np.uint8] = np.rint(joined * SCALE).astype(np.uint8)
        if not self.features:
            return said
        height, width = said.shape[:2]
        whole = np.zeros((height, width, said.shape[2] + sum(self.features)), np.uint8)
        whole[:, :, : said.shape[2]] = said
        for place, plane in enumerate(() if features is None else features, said.shape[2]):
            whole[:, :, place] = cv2.resize(np.ascontiguousarray(plane), (width, height))
        return whole


@dataclass(frozen=True)
class Taught:
    """A `SegmentationDataset` whose samples carry soft labels where there are any.

    Attributes:
        dataset: the labelled one.
        lessons: what is said of its frames.
    """

    dataset: SegmentationDataset
    lessons: Lessons
    _taught: dict[str, int] = field(default_factory=dict, compare=False)  # stem → index of its image

    @property
    def name(self) -> str:
        """The labelled data set's."""
        return self.dataset.name

    @property
    def split(self) -> str:
        """The labelled data set's."""
        return self.dataset.split

    @property
    def classes(self) -> ClassMap:
        """The labelled data set's."""
        return self.dataset.classes

    @property
    def terms(self) -> str:
        """The labelled data set's, and what the teachers allow."""
        return self.dataset.terms

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.dataset)

    def __getitem__(self, index: int) -> Sample:
        """Return a sample, see `SegmentationDataset`.

        Raises:
            DatasetError: also if another image has the name that these soft labels are kept under.
        """
        sample = self.dataset[index]
        stem = Path(sample.name).stem
        soft = self.lessons.of(stem, _size_of(sample.label))
        if soft is not None and self._taught.setdefault(stem, index) != index:
            other = self.dataset[self._taught[stem]].name
            raise DatasetError(
                f"{sample.name}: expected an image of a name of its own, since soft labels go by it, found "
                f"{other} too; rename one of them, or leave out --soft-labels"
            )
        return Sample(sample.image_bgr, sample.label, sample.name, sample.turn_is_guessed, soft)


@dataclass(frozen=True)
class UnlabelledFrames:
    """A `SegmentationDataset` of frames that have soft labels and nothing else: each label is void.

    Attributes:
        images: the frames' files, in order.
        lessons: what is said of them.
        classes: of the training.
        name: "unlabelled".
        split: the folder.
        terms: empty; the teachers' terms are those of the lessons.
    """

    images: tuple[Path, ...]
    lessons: Lessons
    classes: ClassMap
    split: str
    name: str = "unlabelled"
    terms: str = ""

    @classmethod
    def open(cls, folder: str | Path, class_map: str | None, classes: ClassMap) -> UnlabelledFrames:
        """Open what `training.label` made: DIR/images and DIR/soft.

        Args:
            folder: DIR.
            class_map: for soft labels of other classes.
            classes: of the training.

        Raises:
            DatasetError: no frames, or a frame without soft labels.
        """
        folder = Path(folder)
        if not (folder / "images").is_dir():
            raise DatasetError(
                f"{folder}: expected a folder that holds images and soft, found no images; make it with "
                "training.label"
            )
        images = tuple(find_files(folder / "images", IMAGE_SUFFIXES))
        lessons = Lessons.open([folder / "soft"], class_map, classes)
        for image in images:
            if not any(image.stem in soft for soft, _ in lessons.parts):
                raise DatasetError(
                    f"{image}: expected soft labels of this frame in {folder / 'soft'}, found none; run "
                    "training.label again"
                )
        return cls(images, lessons, classes, str(folder))

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self.images)

    def __getitem__(self, index: int) -> Sample:
        """Return a frame.

        Raises:
            IndexError: an index that is not in the data set.
            DatasetError: a file that does not decode.
        """
        path = self.images[index]
        image_bgr: Image = read_picture(load_file(path), None)
        size_hw = _size_of(image_bgr)
        soft = self.lessons.of(path.stem, size_hw)
        return Sample(image_bgr, np.full(size_hw, IGNORE, np.uint8), path.name, soft=soft)


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


def _check_shape(path: Path, scores: NDArray[np.uint8], image_hw: tuple[int, int]) -> None:
    """Refuse soft labels of a picture of another shape."""
    across = [pixels / side for pixels, side in zip(image_hw, scores.shape[1:], strict=True)]
    if max(across) > 1.1 * min(across):
        raise DatasetError(
            f"{path}: expected soft labels in the shape of the frame, {image_hw[1]}x{image_hw[0]} pixels, "
            f"got {scores.shape[2]}x{scores.shape[1]}; make them again"
        )


def _size_of(pixels: Image) -> tuple[int, int]:
    return pixels.shape[0], pixels.shape[1]
