"""What a training learns from folders of soft labels, joined and in its own classes.

`Lessons` joins them; `Taught` hangs them on labelled images, `UnlabelledFrames` are frames that have
nothing else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from runtime.base.images import IMAGE_SUFFIXES
from runtime.contract import ClassMap
from runtime.errors import DatasetError
from runtime.frame import Image
from training.class_maps.translation import Translation, open_translation
from training.data.dataset import IGNORE, Sample, SegmentationDataset
from training.data.labels import load_file, read_picture
from training.data.pairs import find_files
from training.teaching.soft_labels import SCALE, SoftLabels

FLOOR = 0.5  # of 255: what a probability of 0 is taken for, since a file cannot tell it from .001


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
