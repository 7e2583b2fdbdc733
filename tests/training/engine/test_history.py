import csv
from pathlib import Path

import pytest

from training.engine.history import (
    EpochRecord,
    epochs_since_best,
    seconds_left,
    write_results_csv,
)

RECORDS = [
    EpochRecord(1, 2.5, 1e-3, 2.0),
    EpochRecord(
        2, 2.5, 5e-4, 1.0, images_per_s=40.0, miou=0.25, pixel_accuracy=0.5, per_class_iou=(0.5, None)
    ),
]


def test_results_csv_has_a_row_an_epoch_and_empty_cells_for_what_was_not_measured(tmp_path: Path) -> None:
    write_results_csv(tmp_path / "results.csv", RECORDS, ("road", "sky"))
    with (tmp_path / "results.csv").open(newline="") as file:
        first, second = csv.DictReader(file)
    assert (first["epoch"], first["train_loss"], first["miou"], first["iou_road"]) == ("1", "2", "", "")
    assert (first["images_per_s"], second["images_per_s"]) == ("", "40")
    assert (second["miou"], second["iou_road"], second["iou_sky"]) == ("0.25", "0.5", "")


def history(*miou: float | None, seconds: float = 10.0) -> list[EpochRecord]:
    return [EpochRecord(epoch, seconds, 1e-3, 1.0, miou=value) for epoch, value in enumerate(miou, start=1)]


@pytest.mark.parametrize(
    ("miou", "expected"),
    [
        ((), 0),
        ((None, None, None), 0),  # nothing is known yet
        ((0.5,), 0),
        ((0.5, 0.4, 0.3), 2),
        ((0.5, 0.4, 0.6), 0),
        ((0.5, 0.5, 0.5), 2),  # as good is not better
        ((None, 0.5, None, 0.4), 2),  # validated every second epoch: counted in epochs
        ((None, 0.5, None, 0.4, None), 2),  # the fifth may have been better
    ],
)
def test_epochs_since_the_best_are_counted_at_validations(
    miou: tuple[float | None, ...], expected: int
) -> None:
    assert epochs_since_best(history(*miou)) == expected


def test_the_time_left_forgets_a_slow_start_and_one_interruption() -> None:
    records = history(*[0.5] * 8)
    records[0] = EpochRecord(1, 900.0, 1e-3, 1.0, miou=0.5)
    records[6] = EpochRecord(7, 900.0, 1e-3, 1.0, miou=0.5)
    assert seconds_left(records, epochs=10, validate_every=1) == 20.0


def test_the_time_left_follows_a_lasting_change() -> None:
    records = history(*[0.5] * 5) + [EpochRecord(epoch, 30.0, 1e-3, 1.0, miou=0.5) for epoch in (6, 7, 8)]
    assert seconds_left(records, epochs=10, validate_every=1) == 60.0


def test_the_time_left_of_a_finished_training_is_none() -> None:
    assert seconds_left(history(None, 0.5), epochs=2, validate_every=2) == 0.0


def test_before_the_first_validation_the_time_left_is_told_from_the_other_epochs() -> None:
    assert seconds_left(history(None, None), epochs=5, validate_every=5) == 30.0
