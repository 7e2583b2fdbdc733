"""What a training did, epoch by epoch: results.csv and curves.png, always written whole.

Also what it tells: how long the rest will take, and since when nothing got better.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from runtime.base.files import replacing

RECENT_EPOCHS = 5  # of each kind, that the time left is told from


@dataclass(frozen=True)
class EpochRecord:
    """One row of results.csv; accuracies are None in epochs without validation.

    Attributes:
        epoch: from 1.
        seconds: wall time of the epoch, validation included.
        learning_rate: at the epoch's last step.
        train_loss: mean over the epoch's steps.
        images_per_s: training images a second of the epoch's steps, with their loading, without validation.
        miou: on the validation split, of the averaged weights.
        pixel_accuracy: likewise.
        per_class_iou: likewise, in the order of the classes; None where a class does not occur.
    """

    epoch: int
    seconds: float
    learning_rate: float
    train_loss: float
    images_per_s: float | None = None
    miou: float | None = None
    pixel_accuracy: float | None = None
    per_class_iou: tuple[float | None, ...] = ()


def seconds_left(records: Sequence[EpochRecord], epochs: int, validate_every: int) -> float:
    """Return how long the remaining epochs will take, in seconds.

    Epochs with and without validation are told apart; each takes the median of the latest of its kind, so
    that neither a slow first epoch nor one interruption counts.

    Args:
        records: the finished epochs, at least one.
        epochs: all epochs of the training.
        validate_every: epochs from one validation to the next; the last epoch always validates.

    >>> history = [EpochRecord(1, 60.0, 0.1, 2.0), EpochRecord(2, 15.0, 0.1, 1.0, miou=0.5)]
    >>> history += [EpochRecord(3, 10.0, 0.1, 1.0), EpochRecord(4, 15.0, 0.1, 1.0, miou=0.5)]
    >>> history += [EpochRecord(5, 10.0, 0.1, 1.0)]
    >>> seconds_left(history, epochs=8, validate_every=2)  # 15 + 10 + 15
    40.0
    """
    remaining = range(records[-1].epoch + 1, epochs + 1)
    validating = sum(epoch % validate_every == 0 or epoch == epochs for epoch in remaining)
    with_validation = [record.seconds for record in records if record.miou is not None][-RECENT_EPOCHS:]
    without = [record.seconds for record in records if record.miou is None][-RECENT_EPOCHS:]
    return validating * median(with_validation or without) + (len(remaining) - validating) * median(
        without or with_validation
    )


def epochs_since_best(records: Sequence[EpochRecord]) -> int:
    """Return the epochs from the best validation to the latest one; 0 before the first.

    An equal mIoU is not a better one. Epochs after the latest validation do not count, since nothing is
    known of them.
    """
    measured = [(record.miou, record.epoch) for record in records if record.miou is not None]
    if not measured:
        return 0
    best_miou = max(miou for miou, _ in measured)
    first_best = next(epoch for miou, epoch in measured if miou == best_miou)
    return measured[-1][1] - first_best


def write_results_csv(path: Path, records: Sequence[EpochRecord], class_names: Sequence[str]) -> None:
    """Write one row an epoch; an empty cell means not measured."""
    with replacing(path) as part, open(part, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(
            ["epoch", "seconds", "learning_rate", "train_loss", "images_per_s", "miou", "pixel_accuracy"]
            + [f"iou_{name}" for name in class_names]
        )
        for record in records:
            per_class = record.per_class_iou or (None,) * len(class_names)
            cells = [record.seconds, record.learning_rate, record.train_loss, record.images_per_s]
            cells += [record.miou, record.pixel_accuracy, *per_class]
            writer.writerow([record.epoch, *("" if cell is None else f"{cell:.6g}" for cell in cells)])


def draw_curves(path: Path, records: Sequence[EpochRecord], title: str) -> None:
    """Draw loss, validation mIoU and learning rate against the epoch as a PNG."""
    from matplotlib.figure import Figure  # slow to import, and only needed here

    figure = Figure(figsize=(9, 3.2), layout="constrained")
    loss_axes, miou_axes, rate_axes = figure.subplots(1, 3)
    epochs = [record.epoch for record in records]
    measured = [record for record in records if record.miou is not None]
    loss_axes.plot(epochs, [record.train_loss for record in records], color="tab:red")
    loss_axes.set_title("training loss")
    miou_axes.plot(
        [record.epoch for record in measured],
        [record.miou for record in measured],
        color="tab:blue",
        marker="." if len(measured) < 60 else None,
    )
    best = max(measured, key=lambda record: record.miou or 0.0, default=None)
    label = f"validation mIoU, best {best.miou:.3f} at epoch {best.epoch}" if best else "validation mIoU"
    miou_axes.set_title(label)
    miou_axes.set_ylim(bottom=0)
    rate_axes.plot(epochs, [record.learning_rate for record in records], color="tab:green")
    rate_axes.set_title("learning rate")
    for axes in (loss_axes, miou_axes, rate_axes):
        axes.set_xlabel("epoch")
        axes.title.set_fontsize(10)
        axes.grid(alpha=0.3)
    figure.suptitle(title, fontsize=10)
    with replacing(path) as part:
        figure.savefig(part, dpi=120, format="png")
