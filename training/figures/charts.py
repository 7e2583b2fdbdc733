"""Charts: a training's curves, as a picture and for TensorBoard, and a network's confusion matrix."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import numpy as np

from runtime.base.files import replacing
from runtime.frame import Image
from training.engine.history import EpochRecord
from training.evaluation.metrics import ConfusionMatrix
from training.figures.fonts import lettering

_INCHES_A_CLASS = 0.56
_DPI = 120


def draw_curves(path: Path, records: Sequence[EpochRecord], title: str) -> None:
    """Draw loss, validation mIoU and learning rate against the epoch as a PNG."""
    letters = lettering(title)
    with letters.used():
        _draw_curves(path, records, letters.text(title))


def _draw_curves(path: Path, records: Sequence[EpochRecord], title: str) -> None:
    """Draw it in the fonts of the title."""
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
    figure.suptitle(title, fontsize=10, parse_math=False)
    with replacing(path) as part:
        figure.savefig(part, dpi=_DPI, format="png")


def draw_confusion(path: Path, confusion: ConfusionMatrix, class_names: Sequence[str], title: str) -> None:
    """Draw the matrix as a PNG: each row is a labelled class, its cells per cent of that class's pixels.

    Args:
        path: of the PNG.
        confusion: what was counted.
        class_names: in the order of the classes.
        title: the text above the matrix.
    """
    letters = lettering(title, *class_names)
    with letters.used():
        _draw_confusion(path, confusion, letters.names(class_names), letters.text(title))


def _draw_confusion(path: Path, confusion: ConfusionMatrix, class_names: Sequence[str], title: str) -> None:
    """Draw it in the fonts of the names."""
    from matplotlib.figure import Figure  # slow to import, and only needed here

    pixels = confusion.matrix.sum(axis=1, keepdims=True)
    percent = 100 * confusion.matrix / np.maximum(pixels, 1)  # (label, prediction)
    side = max(7.0, 2.2 + _INCHES_A_CLASS * len(class_names))
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(percent, cmap="Blues", vmin=0, vmax=100)
    places = range(len(class_names))
    axes.set_xticks(places, class_names, rotation=45, ha="right", rotation_mode="anchor", parse_math=False)
    axes.set_yticks(places, class_names, parse_math=False)
    axes.set_xticks(np.arange(len(class_names) + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(len(class_names) + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="0.85", linewidth=0.8)
    axes.tick_params(which="both", length=0)
    axes.set_xlabel("predicted")
    axes.set_ylabel("labelled")
    heading = textwrap.fill(f"{title}; per cent of each labelled class", int(side * 11))
    figure.suptitle(heading, fontsize=10, parse_math=False)
    for row, column in np.ndindex(percent.shape):
        if not pixels[row, 0]:
            continue
        value = percent[row, column]
        axes.text(
            column,
            row,
            f"{value:.0f}" if value >= 0.5 else "·",
            ha="center",
            va="center",
            fontsize=9,
            fontfamily="sans-serif",  # digits alone: a font for names may have no bold ones
            fontweight="bold" if row == column else "normal",
            color="white" if value > 55 else "0.15" if value >= 0.5 else "0.6",
        )
    with replacing(path) as part:
        figure.savefig(part, dpi=_DPI, format="png")


class TensorBoard:
    """Writes a folder that `tensorboard --logdir` shows; use it in a with statement.

    A resumed training writes on in the same folder. What the interrupted one wrote of epochs that are run
    again is hidden, so that no epoch has two points.
    """

    def __init__(self, folder: Path, *, first_epoch: int) -> None:
        """Open the folder.

        Args:
            folder: made if need be.
            first_epoch: the epoch that will be written first, from 1.
        """
        from torch.utils.tensorboard import SummaryWriter  # slow to import, and only needed in a training

        self._writer = SummaryWriter(str(folder), purge_step=first_epoch)

    def write_epoch(self, record: EpochRecord, class_names: Sequence[str]) -> None:
        """Write an epoch's numbers; those that were not measured are left out."""
        scalars = {
            "training/loss": record.train_loss,
            "training/learning_rate": record.learning_rate,
            "training/images_per_s": record.images_per_s,
            "validation/miou": record.miou,
            "validation/pixel_accuracy": record.pixel_accuracy,
        }
        ious = zip(class_names, record.per_class_iou, strict=True) if record.per_class_iou else ()
        scalars.update({f"class_iou/{name}": iou for name, iou in ious})
        for tag, value in scalars.items():
            if value is not None:
                self._writer.add_scalar(tag, value, record.epoch)
        self._writer.flush()

    def write_samples(self, sheet_bgr: Image, epoch: int) -> None:
        """Write a sheet of sample predictions, uint8 (H, W, 3)."""
        self._writer.add_image("samples", sheet_bgr[:, :, ::-1], epoch, dataformats="HWC")
        self._writer.flush()

    def __enter__(self) -> TensorBoard:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Write out what is left and close."""
        self._writer.close()
