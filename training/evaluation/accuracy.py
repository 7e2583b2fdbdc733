"""How a measured accuracy is said: one form for the contract, for JSON and for the terminal. No torch."""

from __future__ import annotations

import sys

from runtime.contract import Accuracy, ClassMap, ModelContract
from runtime.errors import DatasetError
from training.data import SegmentationDataset
from training.evaluation.confusion import ConfusionMatrix
from training.evaluation.ece import Calibration


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


def warn_if_seen(contract: ModelContract, dataset: SegmentationDataset) -> None:
    """Say on stderr when nothing shows that a network was trained without the drive it is measured on."""
    stated = contract.accuracy
    if stated is None or (stated.dataset, stated.split) != (dataset.name, dataset.split):
        where = "nowhere" if stated is None else f"on {stated.dataset} {stated.split}"
        print(
            f"note: the model's contract was measured {where}, so it may have been trained on "
            f"{dataset.split}; the figures hold for unseen data only with training.train --leave-out",
            file=sys.stderr,
        )


def measured_accuracy(
    confusion: ConfusionMatrix, dataset: SegmentationDataset, frames: int | None = None
) -> Accuracy:
    """Return the numbers in the form that the contract carries.

    Args:
        confusion: what was counted.
        dataset: on what.
        frames: how many of its images were counted; None for all.
    """
    return Accuracy(
        dataset=dataset.name,
        split=dataset.split,
        frames=len(dataset) if frames is None else frames,
        miou=confusion.miou,
        pixel_accuracy=confusion.pixel_accuracy,
        per_class_iou=dict(zip(dataset.classes.names, confusion.per_class_iou, strict=True)),
    )


def accuracy_json(
    accuracy: Accuracy, confusion: ConfusionMatrix, calibration: Calibration | None = None
) -> dict[str, object]:
    """Return the object that `--json` prints; what was not measured is None."""
    names = list(accuracy.per_class_iou)
    return {
        "miou": accuracy.miou,
        "pixel_accuracy": accuracy.pixel_accuracy,
        "ece": None if calibration is None else calibration.ece,
        "mean_confidence": None if calibration is None else calibration.mean_confidence,
        "per_class_iou": accuracy.per_class_iou,
        "per_class_precision": dict(zip(names, confusion.per_class_precision, strict=True)),
        "per_class_recall": dict(zip(names, confusion.per_class_recall, strict=True)),
        "per_class_share": dict(zip(names, confusion.per_class_share, strict=True)),
        "dataset": accuracy.dataset,
        "split": accuracy.split,
        "frames": accuracy.frames,
    }


def accuracy_table(
    accuracy: Accuracy, confusion: ConfusionMatrix | None = None, calibration: Calibration | None = None
) -> str:
    """Return the numbers as text, one class a line; "-" marks what does not occur.

    Args:
        accuracy: the figures that a contract carries.
        confusion: adds precision, recall and share of the labelled pixels to each class.
        calibration: adds the calibration error.
    """
    columns: dict[str, list[str]] = {"IoU": [_ratio(iou) for iou in accuracy.per_class_iou.values()]}
    if confusion is not None:
        columns["precision"] = [_ratio(value) for value in confusion.per_class_precision]
        columns["recall"] = [_ratio(value) for value in confusion.per_class_recall]
        columns["of pixels"] = [f"{share:.1%}" for share in confusion.per_class_share]
    names = list(accuracy.per_class_iou)
    width = max(len(name) for name in [*names, "pixel accuracy"])
    rows = [f"{accuracy.dataset} {accuracy.split}, {accuracy.frames} frames"]
    for name, *cells in zip(
        ["", *names], *([title, *cells] for title, cells in columns.items()), strict=True
    ):
        aligned = (cell.rjust(max(5, len(title))) for title, cell in zip(columns, cells, strict=True))
        rows.append("  ".join([name.ljust(width), *aligned]))
    rows.append(f"{'pixel accuracy':<{width}}  {accuracy.pixel_accuracy:.4f}")
    rows.append(f"{'mIoU':<{width}}  {accuracy.miou:.4f}")
    if calibration is not None:
        rows.append(
            f"{'ECE':<{width}}  {calibration.ece:.4f}, at a mean confidence of "
            f"{calibration.mean_confidence:.4f}"
        )
    return "\n".join(rows)


def _ratio(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
