"""The losses of an epoch's steps, and what in them ends a training."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Sequence

from torch import Tensor

from runtime.errors import TrainingError
from training.engine.history import EpochRecord

DIVERGED = 4.0  # times the lowest loss of an epoch so far


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
