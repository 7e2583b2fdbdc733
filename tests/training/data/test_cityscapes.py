from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from runtime.errors import DatasetError
from training.data import open_dataset
from training.data.cityscapes import CITYSCAPES_CLASSES


def test_label_ids_become_train_ids(make_cityscapes: Callable[..., Path]) -> None:
    sample = open_dataset("cityscapes", make_cityscapes(), "train")[0]
    # The official table: label id → train id, everything else is void.
    official = {7: 0, 8: 1, 11: 2, 12: 3, 13: 4, 17: 5, 19: 6, 20: 7, 21: 8, 22: 9, 23: 10, 24: 11, 25: 12}
    official |= {26: 13, 27: 14, 28: 15, 31: 16, 32: 17, 33: 18}
    assert sample.label[0].tolist() == [official.get(label_id, 255) for label_id in range(34)]


def test_classes_have_the_official_names_and_colours() -> None:
    assert len(CITYSCAPES_CLASSES) == 19
    color_of = dict(zip(CITYSCAPES_CLASSES.names, CITYSCAPES_CLASSES.palette_rgb, strict=True))
    assert (color_of["road"], color_of["rider"], color_of["bicycle"]) == (
        (128, 64, 128),
        (255, 0, 0),
        (119, 11, 32),
    )


def test_cities_are_gathered_in_name_order(make_cityscapes: Callable[..., Path]) -> None:
    dataset = open_dataset("cityscapes", make_cityscapes(), "train")
    assert [dataset[index].name for index in range(len(dataset))] == [
        "aachen_000000_000019_leftImg8bit.png",
        "aachen_000001_000019_leftImg8bit.png",
        "bochum_000000_000019_leftImg8bit.png",
    ]
    assert (dataset.name, dataset.split) == ("cityscapes", "train")
    assert "non-commercial" in dataset.terms


def test_files_of_train_ids_are_read_where_there_are_no_label_ids(
    make_cityscapes: Callable[..., Path],
) -> None:
    root = make_cityscapes(ending="labelTrainIds", ids=[0, 18, 255])
    assert open_dataset("cityscapes", root, "train")[0].label[0, :3].tolist() == [0, 18, 255]


def test_other_files_beside_the_labels_are_passed_over(make_cityscapes: Callable[..., Path]) -> None:
    root = make_cityscapes()
    city = root / "gtFine" / "train" / "aachen"
    (city / "aachen_000000_000019_gtFine_polygons.json").write_text("{}")
    (city / "aachen_000000_000019_gtFine_color.png").write_bytes(b"")
    assert len(open_dataset("cityscapes", root, "train")) == 3


def test_an_unknown_id_is_refused(make_cityscapes: Callable[..., Path]) -> None:
    root = make_cityscapes(ids=[7, 34, 99])
    with pytest.raises(DatasetError, match="expected Cityscapes label ids from 0 to 33 or 255, got 34, 99"):
        open_dataset("cityscapes", root, "train")[0]


def test_a_train_label_of_the_wrong_city_is_no_partner(make_cityscapes: Callable[..., Path]) -> None:
    root = make_cityscapes()
    label = root / "gtFine" / "train" / "bochum" / "bochum_000000_000019_gtFine_labelIds.png"
    label.rename(label.parent.parent / "aachen" / label.name)
    with pytest.raises(DatasetError, match=r"bochum_000000_000019_leftImg8bit\.png: expected a file"):
        open_dataset("cityscapes", root, "train")


@pytest.mark.parametrize(
    ("folder", "split", "message"),
    [
        ("leftImg8bit", "train", r"train: expected a folder, found none"),
        ("gtFine", "train", r"train: expected a folder, found none"),
        (None, "trainextra", "expected a split out of train, val, test, got 'trainextra'"),
    ],
)
def test_another_layout_is_refused(
    make_cityscapes: Callable[..., Path], folder: str | None, split: str, message: str
) -> None:
    root = make_cityscapes()
    if folder:
        (root / folder).rename(root / "elsewhere")
    with pytest.raises(DatasetError, match=message):
        open_dataset("cityscapes", root, split)


def test_a_folder_without_labels_is_refused(make_cityscapes: Callable[..., Path]) -> None:
    root = make_cityscapes()
    for path in (root / "gtFine" / "train").glob("*/*.png"):
        path.unlink()
    with pytest.raises(DatasetError, match=r"expected files CITY/\*_gtFine_labelIds\.png, found none"):
        open_dataset("cityscapes", root, "train")


def test_sizes_that_differ_are_refused(make_cityscapes: Callable[..., Path]) -> None:
    root = make_cityscapes()
    label = root / "gtFine" / "train" / "aachen" / "aachen_000000_000019_gtFine_labelIds.png"
    cv2.imwrite(str(label), np.full((2, 2), 7, np.uint8))
    with pytest.raises(DatasetError, match="expected the size of its image, 34x8 pixels, got 2x2"):
        open_dataset("cityscapes", root, "train")[0]
