import csv
from pathlib import Path

import cv2
import numpy as np

from training.history import EpochRecord, draw_curves, write_results_csv

RECORDS = [
    EpochRecord(1, 2.5, 1e-3, 2.0),
    EpochRecord(2, 2.5, 5e-4, 1.0, miou=0.25, pixel_accuracy=0.5, per_class_iou=(0.5, None)),
]


def test_results_csv_has_a_row_an_epoch_and_empty_cells_for_what_was_not_measured(tmp_path: Path) -> None:
    write_results_csv(tmp_path / "results.csv", RECORDS, ("road", "sky"))
    with (tmp_path / "results.csv").open(newline="") as file:
        first, second = csv.DictReader(file)
    assert (first["epoch"], first["train_loss"], first["miou"], first["iou_road"]) == ("1", "2", "", "")
    assert (second["miou"], second["iou_road"], second["iou_sky"]) == ("0.25", "0.5", "")


def test_curves_are_a_picture_with_something_drawn(tmp_path: Path) -> None:
    draw_curves(tmp_path / "curves.png", RECORDS, "toy")
    picture = cv2.imread(str(tmp_path / "curves.png"))
    assert picture is not None
    blue_line = (picture[:, :, 0] > 150) & (picture[:, :, 2] < 80)
    assert np.count_nonzero(blue_line) > 10
    assert [path.name for path in tmp_path.iterdir()] == ["curves.png"]
