from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from runtime.contract import CAMVID_CLASSES, Normalization
from training.data import IGNORE, Sample, open_dataset
from training.figures.samples import PANEL_WIDTH, sample_predictions, sample_sheet, write_sheet
from training.network import SIZES, CameraNetwork, build_network


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
