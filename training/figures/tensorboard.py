"""TensorBoard's view of a training: one point an epoch, and the sheets of sample predictions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from runtime.frame import Image
from training.engine.history import EpochRecord


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
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Write out what is left and close."""
        self._writer.close()
