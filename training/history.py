"""What a training did, epoch by epoch: results.csv and curves.png, always written whole."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from runtime.files import replacing


@dataclass(frozen=True)
class EpochRecord:
    """One row of results.csv; accuracies are None in epochs without validation.

    Attributes:
        epoch: from 1.
        seconds: wall time of the epoch, validation included.
        learning_rate: at the epoch's last step.
        train_loss: mean over the epoch's steps.
        miou: on the validation split, of the averaged weights.
        pixel_accuracy: likewise.
        per_class_iou: likewise, in the order of the classes; None where a class does not occur.
    """

    epoch: int
    seconds: float
    learning_rate: float
    train_loss: float
    miou: float | None = None
    pixel_accuracy: float | None = None
    per_class_iou: tuple[float | None, ...] = ()


def write_results_csv(path: Path, records: Sequence[EpochRecord], class_names: Sequence[str]) -> None:
    """Write one row an epoch; an empty cell means not measured."""
    with replacing(path) as part, open(part, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(
            ["epoch", "seconds", "learning_rate", "train_loss", "miou", "pixel_accuracy"]
            + [f"iou_{name}" for name in class_names]
        )
        for record in records:
            per_class = record.per_class_iou or (None,) * len(class_names)
            cells = [record.seconds, record.learning_rate, record.train_loss, record.miou]
            cells += [record.pixel_accuracy, *per_class]
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
