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
    PANEL_WIDTH,
    WorstImages,
    draw_worst,
    sample_predictions,
    sample_sheet,
    write_sheet,
)
from training.network import SIZES
from training.network.build import CameraNetwork, build_network


@pytest.fixture(scope="module")
def network() -> CameraNetwork:
    torch.manual_seed(0)
    body = build_network("residual", SIZES["residual-n"].config, len(CAMVID_CLASSES))
    return CameraNetwork(body, Normalization((90.0, 90.0, 90.0), (60.0, 60.0, 60.0)))


def test_a_row_holds_the_image_its_label_and_the_prediction(make_sample: Callable[..., Sample]) -> None:
    sample = make_sample(size_hw=(60, 80))
    sample.label[:] = 3  # road
    sample.image_bgr[:] = 100
    mask = np.full_like(sample.label, 0)  # sky
    sheet = sample_sheet([sample], [mask], CAMVID_CLASSES)
    middle = 22 + 150
    image, label, prediction = (sheet[middle, (2 * column + 1) * PANEL_WIDTH // 2] for column in range(3))
    assert image.tolist() == [100, 100, 100]
    for pixel, index in ((label, 3), (prediction, 0)):
        expected = 0.3 * 100 + 0.7 * np.array(CAMVID_CLASSES.palette_rgb[index][::-1])
        assert np.abs(pixel - expected).max() <= 1


def test_void_is_black_in_the_label_only(make_sample: Callable[..., Sample]) -> None:
    sample = make_sample(size_hw=(60, 80))
    sample.label[:] = IGNORE  # and a sheet can be drawn though nothing can be measured
    sheet = sample_sheet([sample], [np.zeros_like(sample.label)], CAMVID_CLASSES)
    row = sheet[22 : 22 + 300]
    image, label, prediction = np.split(row, 3, axis=1)
    assert not label.any()
    assert image.any()
    assert prediction.any()


def test_images_of_different_sizes_share_a_sheet_with_a_legend_below(
    make_sample: Callable[..., Sample],
) -> None:
    samples = [make_sample(0, (48, 64)), make_sample(1, (40, 80))]
    sheet = sample_sheet(samples, [sample.label for sample in samples], CAMVID_CLASSES)
    panels = 2 * 22 + 300 + 200
    assert sheet.shape[1] == 3 * PANEL_WIDTH
    assert panels < sheet.shape[0] < panels + 80
    assert sheet[panels:].any()


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
    assert 3 * 322 < sheet.shape[0] < 4 * 322


def test_a_sheet_is_written_as_a_png_and_nothing_else(tmp_path: Path) -> None:
    sheet = np.arange(60, dtype=np.uint8).reshape(4, 5, 3)
    write_sheet(tmp_path / "samples" / "epoch-0010.png", sheet)
    assert np.array_equal(cv2.imread(str(tmp_path / "samples" / "epoch-0010.png")), sheet)
    assert [path.name for path in (tmp_path / "samples").iterdir()] == ["epoch-0010.png"]


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
