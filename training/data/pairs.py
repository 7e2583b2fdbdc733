"""Image files beside label files as a data set, whole or without one of its recordings."""

from __future__ import annotations

import dataclasses
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from runtime.base.images import IMAGE_SUFFIXES, is_clutter, turn
from runtime.base.shown import printable
from runtime.contract import ClassMap
from runtime.errors import DatasetError
from runtime.frame import Image
from training.data.dataset import Sample, SegmentationDataset
from training.data.labels import LabelCode, load_file, read_picture

LABEL_SUFFIXES = frozenset({".png"})


class DrawnLabel(Protocol):
    """A label that is no picture of its own, such as polygons in a JSON, and is drawn when it is asked for.

    Attributes:
        name: says in messages where it stands.
    """

    @property
    def name(self) -> str: ...  # noqa: D102

    def draw(self, size_hw: tuple[int, int]) -> Image:
        """Return class indices, uint8 (h, w), 255 for void.

        Args:
            size_hw: of the upright picture. A label that was made over another size is drawn at that, if it
                can be this picture as it is stored.

        Raises:
            DatasetError: it cannot be drawn, or belongs to a picture of another size.
        """
        ...


@dataclass(frozen=True)
class Pair:
    """An image file and its label.

    Attributes:
        image: in colour.
        label: a file of ids or colours that stand for classes, or what draws such a picture.
        drive: the recording that the image is a frame of, such as a drive or a city, as `plain_name` writes
            it; empty when unknown.
        code: what the values in this one label file mean, where that differs from file to file.
    """

    image: Path
    label: Path | DrawnLabel
    drive: str = ""
    code: LabelCode | None = None


@dataclass(frozen=True)
class PairedFiles:
    """A `SegmentationDataset` of image files and label files.

    Attributes:
        name: of the data set.
        split: which part.
        classes: names and colours.
        terms: what the data allows, in words.
        pairs: the files, in order.
        code: what the values in the label files mean.
        faults: files that found no partner, one line each; `open_dataset` refuses a data set with any.
        labels_upright: whether labels were drawn over pictures that had been turned upright; see `examine`.
        bits: of a channel of the pictures, where they have more than 8; None to see it by each picture.
    """

    name: str
    split: str
    classes: ClassMap
    terms: str
    pairs: tuple[Pair, ...]
    code: LabelCode
    faults: tuple[str, ...] = ()
    labels_upright: bool = False
    bits: int | None = None

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self.pairs)

    def __getitem__(self, index: int) -> Sample:
        """Read a pair and check it.

        Raises:
            IndexError: an index that is not in the data set.
            DatasetError: a file that does not decode, sizes that differ, a value that is no class.
        """
        sample = self.examine(index)
        if isinstance(sample, Sample):
            return sample
        raise DatasetError(sample[0])

    def examine(self, index: int) -> Sample | tuple[str, ...]:
        """Read a pair and return it, or everything that is wrong with it, one line each.

        A picture is turned upright as its EXIF orientation says, and its label with it, since a label without
        an orientation of its own is taken for one that was drawn over the pixels as they are stored. That it
        was drawn over the upright picture is seen by its size or stated by `labels_upright`; then it is left
        as it is.

        Raises:
            IndexError: an index that is not in the data set.
        """
        pair = self.pairs[index]
        faults: list[str] = []
        image_bgr = label = None
        orientation = 1
        try:
            image_file = load_file(pair.image)
            image_bgr = read_picture(image_file, self.bits)
            orientation = image_file.header.orientation
        except DatasetError as error:
            faults.append(str(error))
        try:
            if isinstance(pair.label, Path):
                label_file = load_file(pair.label)
                label = (pair.code or self.code).decode(label_file)
                if label_file.header.orientation != 1:
                    orientation = 1  # the label said itself which way is up
            elif image_bgr is not None:
                label = pair.label.draw(image_bgr.shape[:2])
        except DatasetError as error:
            faults.append(str(error))
        if image_bgr is None or label is None:
            return tuple(faults)
        height, width = image_bgr.shape[:2]
        size_tells = orientation >= 5 and height != width
        if orientation != 1 and not (label.shape == (height, width) if size_tells else self.labels_upright):
            label = turn(label, orientation)
        if label.shape != image_bgr.shape[:2]:
            where = pair.label if isinstance(pair.label, Path) else pair.label.name
            return (
                f"{where}: expected the size of its image, {_size(image_bgr)}, got {_size(label)}; "
                "resize the label with nearest neighbours, or replace the pair",
            )
        return Sample(image_bgr, label, printable(pair.image.name), orientation != 1 and not size_tells)


def refuse_masks(dataset: SegmentationDataset, max_labels: int = 50) -> None:
    """Refuse labels whose object can never be learnt, see `LabelCode.mask_fault`; reads at most `max_labels`.

    Raises:
        DatasetError: saying what to write into classes.json.
    """
    if not isinstance(dataset, PairedFiles) or not dataset.code.is_plain or len(dataset.classes) > 2:
        return
    counts = np.zeros(256, np.int64)
    for index in np.linspace(0, len(dataset) - 1, min(max_labels, len(dataset))).round().astype(int):
        label = dataset.pairs[index].label
        if isinstance(label, Path):
            counts += np.bincount(dataset.code.read(label).ravel(), minlength=256)
    if fault := dataset.code.mask_fault(dataset.classes.names, counts):
        raise DatasetError(f"{dataset.name} {dataset.split}: {fault}")


def find_files(folder: Path, suffixes: Collection[str]) -> list[Path]:
    """Return a folder's files with one of these suffixes in name order; clutter is passed over.

    Raises:
        DatasetError: a missing folder, or one without such files.
    """
    if not folder.is_dir():
        raise DatasetError(f"{folder}: expected a folder, found none; check --root and the data set's layout")
    files = [
        path
        for path in sorted(folder.iterdir())
        if path.suffix.lower() in suffixes and not is_clutter(path.name)
    ]
    if not files:
        raise DatasetError(
            f"{folder}: expected files ending in {', '.join(sorted(suffixes))}, found none; "
            "check --root and the data set's layout"
        )
    return files


def pair_folders(image_folder: Path, label_folder: Path) -> tuple[tuple[Pair, ...], tuple[str, ...]]:
    """Match the images of a folder with the labels of another by the names without their suffixes.

    Args:
        image_folder: holds images with one of `IMAGE_SUFFIXES`; other files are passed over.
        label_folder: holds one PNG an image.

    Returns:
        The pairs in name order, and the faults: an image without a label, a label without an image, two
        images of one name.

    Raises:
        DatasetError: a missing or empty folder.
    """
    images, faults = _by_stem(find_files(image_folder, IMAGE_SUFFIXES))
    labels, more_faults = _by_stem(find_files(label_folder, LABEL_SUFFIXES))
    pairs, lonely = match_files(images, labels, image_folder, label_folder)
    return pairs, (*faults, *more_faults, *lonely)


def match_files(
    images: Mapping[str, Path], labels: Mapping[str, Path], image_folder: Path, label_folder: Path
) -> tuple[tuple[Pair, ...], tuple[str, ...]]:
    """Match images with labels by their keys.

    Returns:
        The pairs in the order of their keys, and a fault for each file without a partner.
    """
    faults = (
        *_lonely(images, labels, "image", "label", label_folder),
        *_lonely(labels, images, "label", "image", image_folder),
    )
    return tuple(Pair(images[key], labels[key]) for key in sorted(images) if key in labels), faults


def last_fifth(pairs: tuple[Pair, ...], split: str) -> tuple[Pair, ...]:
    """Return the part of a data set without splits that is "train" or "val".

    "val" is the last fifth in order, at least one pair: neighbours in a video stay on one side, apart from
    the cut. Where the drives are known, the cut lies between two of them.

    Raises:
        DatasetError: another split, or fewer than two pairs.
    """
    cut = len(pairs) - max(1, len(pairs) // 5)
    if split not in ("train", "val") or cut <= 0:
        raise DatasetError(
            f"split {split!r}: expected train or val of at least 2 images, since the data set has no splits "
            f"of its own, got {len(pairs)} images; name one of the two"
        )
    if pairs[cut].drive:
        starts = [place for place in range(1, len(pairs)) if pairs[place].drive != pairs[place - 1].drive]
        cut = max([start for start in starts if start <= cut], default=min(starts, default=cut))
    return pairs[:cut] if split == "train" else pairs[cut:]


def count_drives(dataset: PairedFiles) -> dict[str, int]:
    """Return how many images each recording has, in name order; empty when the files do not tell."""
    return dict(sorted(Counter(pair.drive for pair in dataset.pairs if pair.drive).items()))


def leave_out_drive(train_set: PairedFiles, split: str, drive: str) -> PairedFiles:
    """Return one part of a training split that is divided by recordings.

    A validation split that continues a drive of the training split measures how well a network remembers a
    street, since neighbours in a video are nearly copies. A drive left out measures what a robot will meet.

    Args:
        train_set: the data set's "train".
        split: "train" for all its images but those of `drive`, "val" for those of `drive` alone.
        drive: the recording to leave out.

    Returns:
        A data set whose `split` says what was left out, so that an accuracy measured on it does too.

    Raises:
        DatasetError: another split, files that do not name their recording, an unknown recording, or a
            recording that is all of the training split.
    """
    if split not in ("train", "val"):
        raise DatasetError(
            f"leave out {drive}: expected split train or val, got {split!r}; "
            "the drive left out of train is what to measure on"
        )
    present, drive = count_drives(train_set), plain_name(drive)
    if not present:
        raise DatasetError(
            f"{train_set.name}: expected file names that tell the drives, found none; "
            "use a validation split instead of leaving a drive out"
        )
    if drive not in present:
        raise DatasetError(
            f"{train_set.name} train: expected a drive out of {', '.join(present)}, got {drive!r}; name one"
        )
    if len(present) == 1:
        raise DatasetError(
            f"{train_set.name} train: expected more drives than {drive} alone, found none; "
            "nothing would be left to train on"
        )
    if split == "val":
        pairs = tuple(pair for pair in train_set.pairs if pair.drive == drive)
        return dataclasses.replace(train_set, split=f"held-out drive {drive}", pairs=pairs)
    pairs = tuple(pair for pair in train_set.pairs if pair.drive != drive)
    return dataclasses.replace(train_set, split=f"train without drive {drive}", pairs=pairs)


def plain_name(name: str) -> str:
    """Return a name as it is compared: macOS writes an umlaut as two characters, others as one."""
    return unicodedata.normalize("NFC", name)


def same_named(folder: Path, name: str) -> Path:
    """Return the entry of a folder that has this name, however its accents are written."""
    if not (folder / name).exists() and folder.is_dir():
        for path in folder.iterdir():
            if plain_name(path.name) == plain_name(name):
                return path
    return folder / name


def _by_stem(paths: Iterable[Path]) -> tuple[dict[str, Path], list[str]]:
    files: dict[str, Path] = {}
    faults = []
    for path in paths:
        key = plain_name(path.stem)
        if key in files:
            faults.append(
                f"{path}: expected one file a name, found {files[key].name} too; remove one of them"
            )
        else:
            files[key] = path
    return files, faults


def _lonely(
    files: Mapping[str, Path], partners: Mapping[str, Path], kind: str, wanted: str, partner_folder: Path
) -> list[str]:
    """Return a fault for each of `files` that has no partner of the same key."""
    return [
        f"{files[key]}: expected a file of the same name, its {wanted}, in {partner_folder}, found none; "
        f"add the {wanted} or remove the {kind}"
        for key in sorted(files)
        if key not in partners
    ]


def _size(pixels: Image) -> str:
    return f"{pixels.shape[1]}x{pixels.shape[0]} pixels"
