import numpy as np
import pytest

from runtime.contract import CAMVID_CLASSES
from runtime.errors import DatasetError
from training.data import open_dataset
from training.data.synthetic import SPLITS, SyntheticStreets
from training.streets import render_scene


def test_default_numbers_of_scenes() -> None:
    sizes = {split: len(open_dataset("synthetic", None, split)) for split in ("train", "val", "test")}
    assert sizes == {"train": 400, "val": 60, "test": 60}


def test_a_sample_is_the_scene_of_its_seed() -> None:
    sample = SyntheticStreets("val", size_hw=(48, 64))[3]
    scene = render_scene(1_000_003, (48, 64))
    assert np.array_equal(sample.image_bgr, scene.image_bgr)
    assert np.array_equal(sample.label, scene.label)


def test_splits_share_no_scene() -> None:
    firsts = [SyntheticStreets(split, size_hw=(48, 64))[0].image_bgr.tobytes() for split in SPLITS]
    assert len(set(firsts)) == 3
    starts = sorted(first for first, _ in SPLITS.values())
    assert min(np.diff(starts)) >= 1_000_000  # and no split may ask for more scenes than that


def test_a_scene_is_drawn_once() -> None:
    dataset = SyntheticStreets("train", size_hw=(48, 64))
    assert dataset[0] is dataset[0]


def test_labels_are_classes_or_void() -> None:
    dataset = SyntheticStreets("train", size_hw=(48, 64), scenes=5)
    ids = {int(value) for sample in dataset for value in np.unique(sample.label)}  # type: ignore[attr-defined]
    assert ids <= {*range(len(CAMVID_CLASSES)), 255}


@pytest.mark.parametrize("index", [-1, 2])
def test_an_index_outside_is_refused(index: int) -> None:
    with pytest.raises(IndexError, match="expected an index from 0 to 1"):
        SyntheticStreets("train", size_hw=(48, 64), scenes=2)[index]


@pytest.mark.parametrize(
    ("split", "scenes", "message"),
    [("dev", None, "got 'dev'"), ("train", 0, "got 0"), ("val", 1_000_001, "got 1000001")],
)
def test_impossible_data_sets_are_refused(split: str, scenes: int | None, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        SyntheticStreets(split, scenes=scenes)
