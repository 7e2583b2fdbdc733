"""What a data set is, and image files beside label files as one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from runtime.contract import ClassMap
from runtime.errors import DatasetError
from runtime.frame import Image

IGNORE = 255  # the label value of void in every Sample, whatever value the files use
IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png")


@dataclass(frozen=True)
class Sample:
    """One image and its label.

    Attributes:
        image_bgr: uint8 (H, W, 3).
        label: uint8 (H, W), class indices or 255 for pixels without a class.
        name: what tells the sample from others of its data set, such as a file name.
    """

    image_bgr: Image
    label: Image
    name: str


class SegmentationDataset(Protocol):
    """One split of a data set; samples are read when asked for, always the same for the same index.

    Attributes:
        name: of the data set, as `open_dataset` knows it.
        split: which part: "train", "val", "test".
        classes: names and colours; its `ignore_index` is 255, as in the samples.
        terms: what the data allows, in words; empty when nothing is known.
    """

    @property
    def name(self) -> str: ...  # noqa: D102

    @property
    def split(self) -> str: ...  # noqa: D102

    @property
    def classes(self) -> ClassMap: ...  # noqa: D102

    @property
    def terms(self) -> str: ...  # noqa: D102

    def __len__(self) -> int:
        """Return the number of samples."""
        ...

    def __getitem__(self, index: int) -> Sample:
        """Return a sample.

        Raises:
            IndexError: an index that is not in the data set.
            DatasetError: a sample that cannot be read or whose parts do not fit together.
        """
        ...


@dataclass(frozen=True)
class Pair:
    """An image file and its label file."""

    image: Path
    label: Path


@dataclass(frozen=True)
class PairedFiles:
    """A `SegmentationDataset` of image files and single-channel label files.

    Attributes:
        name: of the data set.
        split: which part.
        classes: names and colours.
        terms: what the data allows, in words.
        pairs: the files, in order.
        void: the value that means "no class" in the label files; 255 always does too.
    """

    name: str
    split: str
    classes: ClassMap
    terms: str
    pairs: tuple[Pair, ...]
    void: int

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self.pairs)

    def __getitem__(self, index: int) -> Sample:
        """Read a pair and check it.

        Raises:
            IndexError: an index that is not in the data set.
            DatasetError: a file that does not decode, sizes that differ, an id that is no class.
        """
        pair = self.pairs[index]
        image_bgr = _decode(pair.image, cv2.IMREAD_COLOR)
        label = _decode(pair.label, cv2.IMREAD_UNCHANGED)
        if label.ndim != 2 or label.dtype != np.uint8:
            raise DatasetError(
                f"{pair.label}: expected a label of one 8-bit channel that holds class ids, "
                f"got {label.dtype} {label.shape}; save the ids as a grey PNG, without palette or colours"
            )
        if label.shape != image_bgr.shape[:2]:
            raise DatasetError(
                f"{pair.label}: expected the size of its image, {_size(image_bgr)}, got {_size(label)}; "
                "resize the label with nearest neighbours, or replace the pair"
            )
        return Sample(image_bgr, self._read_ids(pair.label, label), pair.image.name)

    def _read_ids(self, path: Path, label: Image) -> Image:
        """Return the label with void as `IGNORE`, after a look at every id."""
        if self.void != IGNORE:
            label[label == self.void] = IGNORE
        found = np.flatnonzero(np.bincount(label.ravel(), minlength=256))
        wrong = [int(value) for value in found if value >= len(self.classes) and value != IGNORE]
        if wrong:
            raise DatasetError(
                f"{path}: expected class ids from 0 to {len(self.classes) - 1} or {self.void} for void, "
                f"got {', '.join(map(str, wrong))}; correct the label or the list of classes"
            )
        return label


def pair_files(image_folder: Path, label_folder: Path) -> tuple[Pair, ...]:
    """Match images with labels by the names without their suffixes, in name order.

    Args:
        image_folder: holds images with one of `IMAGE_SUFFIXES`; hidden and other files are passed over.
        label_folder: holds one PNG an image.

    Raises:
        DatasetError: a missing or empty folder, an image without a label, a label without an image,
            two images of one name.
    """
    images = _by_stem(image_folder, IMAGE_SUFFIXES)
    labels = _by_stem(label_folder, (".png",))
    _expect_partners(images, labels, "image", label_folder)
    _expect_partners(labels, images, "label", image_folder)
    return tuple(Pair(images[stem], labels[stem]) for stem in sorted(images))


def _by_stem(folder: Path, suffixes: tuple[str, ...]) -> dict[str, Path]:
    if not folder.is_dir():
        raise DatasetError(f"{folder}: expected a folder, found none; check --root and the data set's layout")
    files: dict[str, Path] = {}
    for path in _visible(folder):
        if path.suffix.lower() in suffixes:
            if path.stem in files:
                raise DatasetError(
                    f"{path}: expected one file a name, found {files[path.stem].name} too; remove one of them"
                )
            files[path.stem] = path
    if not files:
        raise DatasetError(
            f"{folder}: expected files ending in {', '.join(suffixes)}, found none; "
            "check --root and the data set's layout"
        )
    return files


def _visible(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.iterdir()) if not path.name.startswith("."))


def _expect_partners(
    files: dict[str, Path], partners: dict[str, Path], kind: str, partner_folder: Path
) -> None:
    """Refuse `files` of which some have no partner of the same name."""
    lonely = [files[stem] for stem in sorted(files) if stem not in partners]
    if lonely:
        wanted = {"image": "label", "label": "image"}[kind]
        more = f" ({len(lonely)} such {kind}s)" if len(lonely) > 1 else ""
        raise DatasetError(
            f"{lonely[0]}: expected a file of the same name, its {wanted}, in {partner_folder}, "
            f"found none{more}; add the {wanted} or remove the {kind}"
        )


def _decode(path: Path, flags: int) -> Image:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DatasetError(f"{path}: expected a readable file, got {error.strerror}; replace it") from None
    try:
        pixels = cv2.imdecode(np.frombuffer(content, np.uint8), flags) if content else None
    except cv2.error:  # more pixels than OpenCV takes
        pixels = None
    if pixels is None:
        raise DatasetError(
            f"{path}: expected a whole image, got {len(content)} bytes that do not decode; replace the file"
        )
    return pixels  # type: ignore[return-value]  # cv2 types every image as any dtype


def _size(pixels: Image) -> str:
    return f"{pixels.shape[1]}x{pixels.shape[0]} pixels"
