from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from runtime.contract import CAMVID_CLASSES, ClassMap, Normalization
from runtime.errors import ConfigError
from training.data import IGNORE, Sample, open_dataset
from training.evaluation.measure import MeasuredImage
from training.evaluation.metrics import ConfusionMatrix
from training.figures.charts import draw_confusion
from training.figures.sheets import (
    WorstImages,
    label_sheet,
    prediction_sheet,
    sample_predictions,
    write_sheet,
)
from training.network import SIZES
from training.network.build import CameraNetwork, build_network


@pytest.fixture(scope="module")
def network() -> CameraNetwork:
    torch.manual_seed(0)
    body = build_network("residual", SIZES["residual-n"].config, len(CAMVID_CLASSES))
    return CameraNetwork(body, Normalization((90.0, 90.0, 90.0), (60.0, 60.0, 60.0)))


def measured(index: int, sample: Sample, mask: np.ndarray, num_classes: int = 2) -> MeasuredImage:
    confusion = ConfusionMatrix(num_classes)
    confusion.update(sample.label, mask)
    return MeasuredImage(index, sample, mask, confusion)


def quarter(sheet: np.ndarray, column: int) -> np.ndarray:
    """The pictures of a column, without the legend."""
    width = sheet.shape[1] // 4
    return sheet[: sheet.shape[0] * 3 // 4, column * width : (column + 1) * width]


def share(part: np.ndarray, color_bgr: tuple[int, int, int]) -> float:
    return float((part == color_bgr).all(axis=2).mean())


def test_void_is_black_in_the_label_only(make_sample: Callable[..., Sample]) -> None:
    sample = make_sample(size_hw=(60, 80))
    sample.label[:] = IGNORE  # and a sheet can be drawn though nothing can be measured
    sample.image_bgr[:] = 100
    mask = np.zeros_like(sample.label)
    sheet = prediction_sheet([measured(0, sample, mask, 11)], CAMVID_CLASSES, "title")
    assert share(quarter(sheet, 0), (100, 100, 100)) > 0.5
    assert share(quarter(sheet, 1), (0, 0, 0)) > 0.5
    assert share(quarter(sheet, 2), (0, 0, 0)) < 0.1


def test_images_of_different_sizes_share_a_sheet_with_a_legend_below(
    make_sample: Callable[..., Sample],
) -> None:
    samples = [make_sample(0, (48, 64)), make_sample(1, (40, 80))]
    images = [measured(index, sample, sample.label, 11) for index, sample in enumerate(samples)]
    sheet, first = (prediction_sheet(some, CAMVID_CLASSES, "title") for some in (images, images[:1]))
    assert sheet.shape[1] == first.shape[1]
    assert sheet.shape[0] > 1.5 * first.shape[0]
    road = CAMVID_CLASSES.palette_rgb[3][::-1]
    assert (sheet[-sheet.shape[0] // 8 :] == road).all(axis=2).sum() > 50


def test_the_same_images_are_drawn_every_time_and_nothing_random_is_used(
    network: CameraNetwork, camvid_root: Path
) -> None:
    dataset = open_dataset("camvid", camvid_root, "train")
    before = torch.get_rng_state()
    first, second = (sample_predictions(network, dataset, (64, 96)) for _ in range(2))
    assert np.array_equal(first, second)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_small_data_set_is_shown_whole(network: CameraNetwork, camvid_root: Path) -> None:
    dataset = open_dataset("camvid", camvid_root, "val")  # 3 images of 48x64
    sheet = sample_predictions(network, dataset, (64, 96))
    of_one = prediction_sheet([measured(0, dataset[0], dataset[0].label, 11)], dataset.classes, "camvid val")
    row = sheet.shape[1] / 4 * 48 / 64
    assert 1.9 * row < sheet.shape[0] - of_one.shape[0] < 2.6 * row


def test_a_sheet_is_written_as_a_png_and_nothing_else(tmp_path: Path) -> None:
    sheet = np.arange(60, dtype=np.uint8).reshape(4, 5, 3)
    write_sheet(tmp_path / "samples" / "epoch-0010.png", sheet)
    assert np.array_equal(cv2.imread(str(tmp_path / "samples" / "epoch-0010.png")), sheet)
    assert [path.name for path in (tmp_path / "samples").iterdir()] == ["epoch-0010.png"]


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


@pytest.mark.parametrize("names", [("a",), (r"$\frac$", "_b"), tuple(f"class number {i}" for i in range(30))])
def test_any_class_names_can_be_drawn(tmp_path: Path, names: tuple[str, ...]) -> None:
    confusion = ConfusionMatrix(len(names))
    confusion.matrix[0] = 1
    draw_confusion(tmp_path / "confusion.png", confusion, names, r"$\frac$")
    assert cv2.imread(str(tmp_path / "confusion.png")) is not None
    classes = ClassMap(names, tuple((i, i, i) for i in range(len(names))))
    sample = Sample(np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8), np.uint8), r"$\frac$.png")
    assert prediction_sheet([measured(0, sample, sample.label, len(names))], classes, r"$\frac$").std() > 0


def test_the_sheet_shows_label_prediction_and_error(make_sample: Callable[..., Sample]) -> None:
    road, sky = 3, 0
    sample = make_sample(size_hw=(48, 64))
    label, mask = np.full((48, 64), road, np.uint8), np.full((48, 64), road, np.uint8)
    mask[:24] = sky
    label[32:] = 255
    image = measured(0, Sample(sample.image_bgr, label, "street"), mask, len(CAMVID_CLASSES))
    sheet = prediction_sheet([image], CAMVID_CLASSES, "title")
    purple, grey, red, black = (128, 64, 128), (128, 128, 128), (60, 20, 230), (0, 0, 0)
    _, of_label, of_mask, of_errors = (quarter(sheet, column) for column in range(4))
    assert share(of_label, purple) > 0.4
    assert share(of_label, black) > 0.1
    assert share(of_label, grey) < 0.05
    assert share(of_mask, purple) > 0.2
    assert share(of_mask, grey) > 0.3
    assert share(of_errors, red) > 0.3
    assert share(of_errors, black) > 0.1


def test_a_sheet_of_labels_shows_what_occurs_and_hatches_void(make_sample: Callable[..., Sample]) -> None:
    sample = make_sample(size_hw=(48, 64))
    sample.label[:], sample.image_bgr[:] = 3, 100  # road
    sample.label[:24] = 255
    sheet = label_sheet([sample], CAMVID_CLASSES, "title")
    road = tuple(round(0.4 * 100 + 0.6 * channel) for channel in CAMVID_CLASSES.palette_rgb[3][::-1])
    assert share(quarter(sheet, 0), (100, 100, 100)) > 0.5
    assert share(quarter(sheet, 1), road) > 0.3
    assert (quarter(sheet, 1) == (255, 0, 255)).all(axis=2).any()


@pytest.mark.parametrize("sheet_of", [prediction_sheet, label_sheet])
def test_a_sheet_of_nothing_is_refused(sheet_of: Callable[..., np.ndarray]) -> None:
    with pytest.raises(ConfigError, match="got none"):
        sheet_of([], CAMVID_CLASSES, "title")
