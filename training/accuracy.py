"""How a measured accuracy is said: one form for the contract, for JSON and for the terminal. No torch."""

from __future__ import annotations

from runtime.contract import Accuracy, ClassMap
from runtime.errors import DatasetError
from training.data import SegmentationDataset
from training.metrics import ConfusionMatrix


def check_same_classes(classes: ClassMap, dataset: SegmentationDataset) -> None:
    """Refuse to compare masks and labels whose indices mean different things.

    Raises:
        DatasetError: other class names, or another order.
    """
    if classes.names != dataset.classes.names:
        raise DatasetError(
            f"{dataset.name}: expected the model's classes {list(classes.names)}, got "
            f"{list(dataset.classes.names)}; measure on the data the model was made for"
        )


def measured_accuracy(confusion: ConfusionMatrix, dataset: SegmentationDataset) -> Accuracy:
    """Return the numbers in the form that the contract carries."""
    return Accuracy(
        dataset=dataset.name,
        split=dataset.split,
        frames=len(dataset),
        miou=confusion.miou,
        pixel_accuracy=confusion.pixel_accuracy,
        per_class_iou=dict(zip(dataset.classes.names, confusion.per_class_iou, strict=True)),
    )


def accuracy_json(accuracy: Accuracy) -> dict[str, object]:
    """Return the object that `--json` prints."""
    return {
        "miou": accuracy.miou,
        "pixel_accuracy": accuracy.pixel_accuracy,
        "per_class_iou": accuracy.per_class_iou,
        "dataset": accuracy.dataset,
        "split": accuracy.split,
        "frames": accuracy.frames,
    }


def accuracy_table(accuracy: Accuracy) -> str:
    """Return the numbers as text, one class a line; "-" marks a class that does not occur."""
    width = max(len(name) for name in [*accuracy.per_class_iou, "pixel accuracy"])
    rows = [
        f"{name:<{width}}  {'    -' if iou is None else f'{iou:.3f}'}"
        for name, iou in accuracy.per_class_iou.items()
    ]
    rows.append(f"{'pixel accuracy':<{width}}  {accuracy.pixel_accuracy:.4f}")
    rows.append(f"{'mIoU':<{width}}  {accuracy.miou:.4f}")
    title = f"IoU on {accuracy.dataset} {accuracy.split}, {accuracy.frames} frames"
    return "\n".join([title, *rows])
