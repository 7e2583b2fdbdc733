"""The procedural street scenes of `training.streets` as a data set: no files, no download."""

from __future__ import annotations

from dataclasses import dataclass, field

from runtime.contract import CAMVID_CLASSES, ClassMap
from runtime.errors import DatasetError
from training.data.dataset import Sample
from training.streets import render_scene

# First seed and number of scenes; the seed ranges never meet.
SPLITS = {"train": (0, 400), "val": (1_000_000, 60), "test": (2_000_000, 60)}


@dataclass(frozen=True)
class SyntheticStreets:
    """A `SegmentationDataset` of rendered scenes; each is drawn once and kept.

    Attributes:
        split: "train", "val" or "test".
        size_hw: height and width of the scenes in pixels.
        scenes: how many; None for the split's own number (train 400, val and test 60).
        varied: other places, weathers and times of day too, see `training.streets.scenes.World`.
        name: as `open_dataset` knows it.
        classes: CamVid's.
        terms: empty, since nobody else's data is in it.
    """

    split: str
    size_hw: tuple[int, int] = (360, 480)
    scenes: int | None = None
    varied: bool = False
    name: str = "synthetic"
    classes: ClassMap = CAMVID_CLASSES
    terms: str = ""
    _drawn: dict[int, Sample] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Check split and number.

        Raises:
            DatasetError: an unknown split, or less than one scene.
        """
        if self.split not in SPLITS:
            raise DatasetError(
                f"synthetic: expected a split out of {', '.join(SPLITS)}, got {self.split!r}; name one"
            )
        if not 1 <= len(self) <= 1_000_000:
            raise DatasetError(
                f"synthetic: expected from 1 to 1000000 scenes, got {len(self)}; ask for fewer"
            )

    def __len__(self) -> int:
        """Return the number of scenes."""
        return SPLITS[self.split][1] if self.scenes is None else self.scenes

    def __getitem__(self, index: int) -> Sample:
        """Return a scene; index from 0.

        Raises:
            IndexError: an index that is not in the data set.
            ConfigError: a `size_hw` too small for a scene.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"synthetic: expected an index from 0 to {len(self) - 1}, got {index}")
        if index not in self._drawn:
            seed = SPLITS[self.split][0] + index
            scene = render_scene(seed, self.size_hw, self.varied)
            self._drawn[index] = Sample(scene.image_bgr, scene.label, f"street_{seed}")
        return self._drawn[index]
