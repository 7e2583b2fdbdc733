from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from runtime.contract import CAMVID_CLASSES, ClassMap
from runtime.errors import ConfigError
from training.data import Sample
from training.evaluation.confusion import ConfusionMatrix
from training.evaluation.measure import MeasuredImage
from training.figures.mistakes import WorstImages, draw_confusion, draw_worst


def measured(index: int, sample: Sample, mask: np.ndarray, num_classes: int = 2) -> MeasuredImage:
    confusion = ConfusionMatrix(num_classes)
    confusion.update(sample.label, mask)
    return MeasuredImage(index, sample, mask, confusion)


def scored_halves(wrong_rows: list[int]) -> WorstImages:
    """Images of 8 rows of class 0, of which so many are predicted as 1."""
    worst = WorstImages(2)
    for index, wrong in enumerate(wrong_rows):
        label, mask = np.zeros((8, 4), np.uint8), np.zeros((8, 4), np.uint8)
        mask[:wrong] = 1
        worst.add(measured(index, Sample(np.zeros((8, 4, 3), np.uint8), label, f"image_{index}"), mask))
    return worst


def test_keeps_the_worst_images_the_worst_first() -> None:
    images = scored_halves([1, 6, 0, 4, 2]).images
    assert [(image.index, image.sample.name) for image in images] == [(1, "image_1"), (3, "image_3")]
    assert [image.confusion.miou for image in images] == [0.25 / 2, 0.5 / 2]


def test_of_equally_bad_images_the_earlier_are_kept() -> None:
    assert [image.index for image in scored_halves([3, 3, 3, 3]).images] == [0, 1]


def test_an_image_without_labels_has_no_score_but_a_place() -> None:
    worst = WorstImages(3)
    for index, value in enumerate((255, 0)):
        label = np.full((4, 4), value, np.uint8)
        sample = Sample(np.zeros((4, 4, 3), np.uint8), label, str(value))
        worst.add(measured(index, sample, np.zeros((4, 4), np.uint8)))
    assert [(image.index, image.confusion.miou) for image in worst.images] == [(1, 1.0)]


def test_refuses_to_keep_none() -> None:
    with pytest.raises(ConfigError, match="at least 1, got 0"):
        WorstImages(0)


def test_the_confusion_matrix_is_darkest_where_a_class_is_found(tmp_path: Path) -> None:
    confusion = ConfusionMatrix(2)
    confusion.update(np.array([0, 0, 0, 0, 1], np.uint8), np.array([0, 0, 0, 0, 0], np.uint8))
    draw_confusion(tmp_path / "new" / "confusion.png", confusion, ("a", "b"), "title")
    picture = cv2.imread(str(tmp_path / "new" / "confusion.png"))
    assert picture is not None
    dark_blue = (picture == (107, 48, 8)).all(axis=2)  # the end of the colour map: 100 per cent
    assert dark_blue.mean() > 0.1  # two of the four cells, both in column "a"
    rows, columns = np.nonzero(dark_blue)
    assert columns.max() < picture.shape[1] * 0.6
    assert np.ptp(rows) > picture.shape[0] * 0.4


@pytest.mark.parametrize("names", [("a",), (r"$\frac$", "_b"), tuple(f"class number {i}" for i in range(30))])
def test_any_class_names_can_be_drawn(tmp_path: Path, names: tuple[str, ...]) -> None:
    confusion = ConfusionMatrix(len(names))
    confusion.matrix[0] = 1
    draw_confusion(tmp_path / "confusion.png", confusion, names, r"$\frac$")
    assert cv2.imread(str(tmp_path / "confusion.png")) is not None
    classes = ClassMap(names, tuple((i, i, i) for i in range(len(names))))
    sample = Sample(np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8), np.uint8), r"$\frac$.png")
    draw_worst(tmp_path / "worst.png", [measured(0, sample, sample.label, len(names))], classes, r"$\frac$")
    assert cv2.imread(str(tmp_path / "worst.png")) is not None


def test_the_sheet_shows_label_prediction_and_error(
    tmp_path: Path, make_sample: Callable[..., Sample]
) -> None:
    road, sky = 3, 0
    sample = make_sample(size_hw=(48, 64))
    label, mask = np.full((48, 64), road, np.uint8), np.full((48, 64), road, np.uint8)
    mask[:24] = sky
    label[32:] = 255
    scored = measured(0, Sample(sample.image_bgr, label, "street"), mask, len(CAMVID_CLASSES))
    draw_worst(tmp_path / "worst.png", [scored], CAMVID_CLASSES, "title")
    sheet = cv2.imread(str(tmp_path / "worst.png"))
    assert sheet is not None
    quarter = sheet.shape[1] // 4

    def share(column: int, color_bgr: tuple[int, int, int]) -> float:
        part = sheet[: sheet.shape[0] * 3 // 4, column * quarter : (column + 1) * quarter]
        return float((part == color_bgr).all(axis=2).mean())

    purple, grey, red, black = (128, 64, 128), (128, 128, 128), (60, 20, 230), (0, 0, 0)
    assert share(1, purple) > 0.4
    assert share(1, black) > 0.1
    assert share(1, grey) < 0.05
    assert share(2, purple) > 0.2
    assert share(2, grey) > 0.3
    assert share(3, red) > 0.3
    assert share(3, black) > 0.1


def test_a_sheet_of_no_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="got none"):
        draw_worst(tmp_path / "worst.png", [], CAMVID_CLASSES, "title")
    assert not list(tmp_path.iterdir())
