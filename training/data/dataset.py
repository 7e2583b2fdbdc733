"""What a data set is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from runtime.contract import ClassMap
from runtime.frame import Image

IGNORE = 255  # the label value of void in every Sample, whatever value the files use


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
        split: which part, in words that a measured accuracy is quoted with: "train", "val", "test",
            "held-out drive 0006R0".
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
