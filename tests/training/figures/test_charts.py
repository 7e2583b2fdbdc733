from pathlib import Path

import cv2
import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from training.engine.history import EpochRecord
from training.evaluation.metrics import ConfusionMatrix
from training.figures.charts import TensorBoard, draw_confusion, draw_curves

CLASSES = ("road", "sky")


def record(epoch: int, loss: float = 1.0, **measured: object) -> EpochRecord:
    return EpochRecord(epoch, 2.5, 1e-3, loss, **measured)  # type: ignore[arg-type]


def points(folder: Path, tag: str) -> list[tuple[int, float]]:
    """What TensorBoard shows of a tag, read by its own reader."""
    events = EventAccumulator(str(folder)).Reload()
    return [(event.step, pytest.approx(event.value)) for event in events.Scalars(tag)]  # type: ignore[misc]


def write(folder: Path, *records: EpochRecord) -> None:
    with TensorBoard(folder, first_epoch=records[0].epoch) as board:
        for each in records:
            board.write_epoch(each, CLASSES)


def test_every_number_of_an_epoch_is_a_point(tmp_path: Path) -> None:
    measured = record(3, images_per_s=20.0, miou=0.25, pixel_accuracy=0.75, per_class_iou=(0.5, 0.125))
    write(tmp_path, measured)
    expected = {
        "training/loss": 1.0,
        "training/learning_rate": 1e-3,
        "training/images_per_s": 20.0,
        "validation/miou": 0.25,
        "validation/pixel_accuracy": 0.75,
        "class_iou/road": 0.5,
        "class_iou/sky": 0.125,
    }
    assert set(EventAccumulator(str(tmp_path)).Reload().Tags()["scalars"]) == set(expected)
    for tag, value in expected.items():
        assert points(tmp_path, tag) == [(3, value)]


def test_what_was_not_measured_has_no_point(tmp_path: Path) -> None:
    write(tmp_path, record(1), record(2, miou=0.5, pixel_accuracy=0.5, per_class_iou=(0.5, None)))
    assert points(tmp_path, "validation/miou") == [(2, 0.5)]
    assert "class_iou/sky" not in EventAccumulator(str(tmp_path)).Reload().Tags()["scalars"]


@pytest.mark.parametrize(("finished", "resumed_at"), [(3, 3), (3, 2), (1, 1)])
def test_an_epoch_that_is_run_again_after_a_resume_has_one_point(
    tmp_path: Path, finished: int, resumed_at: int
) -> None:
    write(tmp_path, *(record(epoch, loss=10.0 + epoch) for epoch in range(1, finished + 1)))
    (interrupted,) = tmp_path.iterdir()
    interrupted.rename(tmp_path / "events.out.tfevents.0000000001")  # not of the same second, as in a test
    write(tmp_path, *(record(epoch, loss=20.0 + epoch) for epoch in range(resumed_at, 5)))
    kept = [(epoch, 10.0 + epoch) for epoch in range(1, resumed_at)]
    again = [(epoch, 20.0 + epoch) for epoch in range(resumed_at, 5)]
    assert points(tmp_path, "training/loss") == kept + again


def test_an_epoch_is_on_the_disk_before_the_training_ends(tmp_path: Path) -> None:
    with TensorBoard(tmp_path, first_epoch=1) as board:
        board.write_epoch(record(1), CLASSES)
        assert points(tmp_path, "training/loss") == [(1, 1.0)]


def test_a_sheet_of_samples_is_shown_in_its_colours(tmp_path: Path) -> None:
    sheet_bgr = np.zeros((4, 6, 3), np.uint8)
    sheet_bgr[:, :, 0] = 200
    with TensorBoard(tmp_path, first_epoch=10) as board:
        board.write_samples(sheet_bgr, 10)
    (image,) = EventAccumulator(str(tmp_path)).Reload().Images("samples")
    assert image.step == 10
    shown = cv2.imdecode(np.frombuffer(image.encoded_image_string, np.uint8), cv2.IMREAD_COLOR)
    assert np.array_equal(shown, sheet_bgr)


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


def test_curves_are_a_picture_with_something_drawn(tmp_path: Path) -> None:
    records = [record(1, 2.0), record(2, 1.0, miou=0.25)]
    draw_curves(tmp_path / "curves.png", records, "toy")
    picture = cv2.imread(str(tmp_path / "curves.png"))
    assert picture is not None
    blue_line = (picture[:, :, 0] > 150) & (picture[:, :, 2] < 80)
    assert np.count_nonzero(blue_line) > 10
    assert [path.name for path in tmp_path.iterdir()] == ["curves.png"]
