"""How a measured accuracy is said: one form for the contract, for JSON and for the terminal. No torch."""

from __future__ import annotations

import sys

from runtime.contract import Accuracy, ModelContract
from training.data.dataset import SegmentationDataset
from training.evaluation.measure import Measurement


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


def accuracy_json(measured: Measurement) -> dict[str, object]:
    """Return the object that `--json` prints; what was not measured is None."""
    accuracy, confusion, confidences = measured.accuracy, measured.confusion, measured.confidences
    names = list(accuracy.per_class_iou)
    return {
        "miou": accuracy.miou,
        "pixel_accuracy": accuracy.pixel_accuracy,
        "ece": None if confidences is None else confidences.ece,
        "mean_confidence": None if confidences is None else confidences.mean_confidence,
        "per_class_iou": accuracy.per_class_iou,
        "per_class_precision": dict(zip(names, confusion.per_class_precision, strict=True)),
        "per_class_recall": dict(zip(names, confusion.per_class_recall, strict=True)),
        "per_class_share": dict(zip(names, confusion.per_class_share, strict=True)),
        "dataset": accuracy.dataset,
        "split": accuracy.split,
        "frames": accuracy.frames,
    }


def accuracy_table(accuracy: Accuracy, measured: Measurement | None = None) -> str:
    """Return the numbers as text, one class a line; "-" marks what does not occur.

    Args:
        accuracy: the figures that a contract carries.
        measured: where they come from; adds precision, recall and share of the labelled pixels to each
            class, and the ECE where it was measured.
    """
    columns: dict[str, list[str]] = {"IoU": [_ratio(iou) for iou in accuracy.per_class_iou.values()]}
    if measured is not None:
        confusion = measured.confusion
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
    if measured is not None and measured.confidences is not None:
        rows.append(
            f"{'ECE':<{width}}  {measured.confidences.ece:.4f}, at a mean confidence of "
            f"{measured.confidences.mean_confidence:.4f}"
        )
    return "\n".join(rows)


def _ratio(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
