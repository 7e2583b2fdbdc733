"""What a training did, step by step and epoch by epoch, and what that tells.

How long the rest will take, since when nothing got better, and what in the losses ends a training.
"""

from __future__ import annotations

import csv
import math
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from runtime.base.files import replacing
from runtime.errors import TrainingError

if TYPE_CHECKING:
    from torch import Tensor

DIVERGED = 4.0  # times the lowest loss of an epoch so far
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


class StepLosses:
    """The losses of one epoch's steps, fetched when asked for, since to fetch one waits for its step.

    Attributes:
        epoch: its number, from 1.
        values: of the steps that were fetched, over the whole batch of all processes.
    """

    def __init__(self, epoch: int, values: Iterable[float] = (), *, check_gradients: bool = True) -> None:
        """Start after the steps of which `values` are the losses.

        Args:
            epoch: its number, from 1.
            values: losses of the steps that were done before.
            check_gradients: whether a gradient that is not a finite number is an error.
        """
        self.epoch = epoch
        self.values = list(values)
        self._check_gradients = check_gradients
        self._unread: deque[Tensor] = deque()

    def __len__(self) -> int:
        """Return the number of finished steps."""
        return len(self.values) + len(self._unread)

    def append(self, measured: Tensor) -> None:
        """Note what a step gave: float (2,), its loss and its gradient's norm."""
        self._unread.append(measured)

    def fetch(self, but: int = 0) -> None:
        """Fetch and check what the steps gave, except the last `but`.

        Raises:
            TrainingError: a loss or a gradient that is not a finite number.
        """
        while len(self._unread) > but:
            loss, norm = self._unread[0].tolist()
            number = len(self.values) + 1
            for name, value in (("loss", loss), ("gradient", norm if self._check_gradients else 0.0)):
                if not math.isfinite(value):
                    raise TrainingError(
                        f"epoch {self.epoch}, step {number}: the {name} became {value}; best.pt and "
                        "last.pt are from before; train again with a lower --learning-rate"
                    )
            self._unread.popleft()
            self.values.append(loss)

    def diverge(self, history: Sequence[EpochRecord]) -> bool:
        """Return whether the fetched losses are far above the best epoch's, and the first one's too."""
        if not self.values or not history:
            return False
        before = [record.train_loss for record in history]
        return sum(self.values) / len(self.values) > max(DIVERGED * min(before), before[0])
