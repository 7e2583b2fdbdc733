"""The one loop that measures accuracy, and how its result is said. No torch.

It holds any function frame → mask against the labels of a data set: a network in PyTorch, an ONNX file,
another toolkit.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from runtime.base.progress import tracked
from runtime.contract import Accuracy, ClassMap, ModelContract
from runtime.errors import ConfigError, DatasetError
from runtime.frame import Image
from runtime.segmenter import Segmenter
from training.class_maps.translation import Translation
from training.data.dataset import Sample, SegmentationDataset
from training.evaluation.metrics import ConfidenceBins, ConfusionMatrix
from training.evaluation.probabilities import probabilities_of


@dataclass(frozen=True)
class Prediction:
    """A mask with the confidence in it.

    Attributes:
        mask: uint8 (H, W) class indices at the frame's size.
        confidence: float32 (H, W), the probability given to the mask's class, 0..1.
    """

    mask: Image
    confidence: NDArray[np.float32]


@dataclass(frozen=True)
class MeasuredImage:
    """One image of a measurement.

    Attributes:
        index: its place in the data set.
        sample: image and label.
        mask: uint8 (H, W), what was predicted.
        confusion: of this image alone.
    """

    index: int
    sample: Sample
    mask: Image
    confusion: ConfusionMatrix


@dataclass(frozen=True)
class Measurement:
    """What was counted on a data set.

    Attributes:
        dataset: on what.
        frames: how many of its images.
        confusion: of all of them together.
        confidences: beside correctness; None where the masks came without confidence.
    """

    dataset: SegmentationDataset
    frames: int
    confusion: ConfusionMatrix
    confidences: ConfidenceBins | None = None

    @property
    def accuracy(self) -> Accuracy:
        """The numbers in the form that the contract carries.

        Raises:
            DatasetError: no labelled pixel was counted.
        """
        return Accuracy(
            dataset=self.dataset.name,
            split=self.dataset.split,
            frames=self.frames,
            miou=self.confusion.miou,
            pixel_accuracy=self.confusion.pixel_accuracy,
            per_class_iou=dict(zip(self.dataset.classes.names, self.confusion.per_class_iou, strict=True)),
        )


ImageHook = Callable[[MeasuredImage], None]


def measure(
    predict: Callable[[Image], Image | Prediction],
    dataset: SegmentationDataset,
    *,
    limit: int | None = None,
    on_image: ImageHook | None = None,
    progress: bool = True,
) -> Measurement:
    """Compare masks with the labels of a data set, both at the size of its images.

    Args:
        predict: image uint8 (H, W, 3) BGR → mask uint8 (H, W), or that mask with its confidence.
        dataset: images with labels.
        limit: measure on the first so many images only.
        on_image: called after each image.
        progress: whether to draw a bar, where stderr is a terminal.

    Raises:
        ConfigError: a limit below 1.
        DatasetError: a sample that cannot be read, or a mask that does not fit its label.

    >>> from training.data.synthetic import SyntheticStreets
    >>> all_road = lambda image_bgr: np.full(image_bgr.shape[:2], 3, np.uint8)
    >>> measured = measure(all_road, SyntheticStreets("val", (90, 120)), limit=2)
    >>> measured.frames, 0 < measured.accuracy.per_class_iou["road"] < 1
    (2, True)
    """
    if limit is not None and limit < 1:
        raise ConfigError(f"limit: expected at least 1 image, got {limit}; leave it out for all")
    return measure_batches(
        lambda images_bgr: [predict(image_bgr) for image_bgr in images_bgr],
        dataset,
        batch_size=1,
        indices=range(len(dataset) if limit is None else min(limit, len(dataset))),
        on_image=on_image,
        progress=progress,
    )


def measure_batches(
    predict: Callable[[Sequence[Image]], Sequence[Image | Prediction]],
    dataset: SegmentationDataset,
    *,
    batch_size: int,
    indices: Sequence[int] | None = None,
    on_image: ImageHook | None = None,
    progress: bool = True,
) -> Measurement:
    """Do what `measure` does with a function that takes several images at once.

    Args:
        predict: so many images (the last time fewer), of any sizes → as many masks.
        dataset: images with labels.
        batch_size: images a call.
        indices: which images; None for all. The matrices of parts add up to that of the whole.
        on_image: called after each image.
        progress: whether to draw a bar, where stderr is a terminal.

    Raises:
        DatasetError: a sample that cannot be read, or a mask that does not fit its label.
    """
    chosen = range(len(dataset)) if indices is None else indices
    total, confidences = ConfusionMatrix(len(dataset.classes)), ConfidenceBins()
    starts = range(0, len(chosen), batch_size)
    for start in tracked(starts, f"measuring on {dataset.split}") if progress else starts:
        places = chosen[start : start + batch_size]
        samples = [dataset[index] for index in places]
        predictions = predict([sample.image_bgr for sample in samples])
        for index, sample, predicted in zip(places, samples, predictions, strict=True):
            mask = predicted.mask if isinstance(predicted, Prediction) else predicted
            confusion = ConfusionMatrix(len(dataset.classes))
            confusion.update(sample.label, mask)
            total += confusion
            if isinstance(predicted, Prediction):
                confidences.update(sample.label, mask, predicted.confidence)
            if on_image is not None:
                on_image(MeasuredImage(index, sample, mask, confusion))
    return Measurement(dataset, len(chosen), total, confidences if confidences.counts.any() else None)


def measure_segmenter(
    segment: Segmenter,
    dataset: SegmentationDataset,
    *,
    limit: int | None = None,
    ece: bool = False,
    translation: Translation | None = None,
    on_image: ImageHook | None = None,
) -> Measurement:
    """Measure an open model file, see `measure`.

    Args:
        segment: an open model.
        dataset: images with labels.
        limit: measure on the first so many images only.
        ece: whether to compare its confidence with how often it is right, too.
        translation: from the model's classes into the data set's, where they differ. A pixel's class is the
            one with the largest sum of probabilities.
        on_image: called after each image.

    Raises:
        ConfigError: a limit below 1, or an ECE of a file that gives no logits.
        DatasetError: classes other than the model's, or a sample that cannot be read.
    """
    if translation is None:
        check_same_classes(segment.contract.classes, dataset)
    if ece and not segment.contract.output.has_logits:
        raise ConfigError(
            "ece: expected a file that gives logits, got one that gives masks only; "
            "export it with --output logits"
        )

    def sure(image_bgr: Image) -> Prediction:
        inferred = segment.infer(segment.fit(image_bgr))
        probabilities = probabilities_of(segment, inferred)
        if translation is None:
            return Prediction(segment.finish(inferred).mask, probabilities.max(axis=0))
        probabilities = translation.to_target(probabilities)
        return Prediction(probabilities.argmax(axis=0).astype(np.uint8), probabilities.max(axis=0))

    def mask_of(image_bgr: Image) -> Image:
        return segment(image_bgr).mask if translation is None else sure(image_bgr).mask

    predict = sure if ece else mask_of
    return measure(predict, dataset, limit=limit, on_image=on_image)


def check_same_classes(classes: ClassMap, dataset: SegmentationDataset) -> None:
    """Refuse to compare masks and labels whose indices mean different things.

    Raises:
        DatasetError: other class names, or another order.
    """
    if classes.names != dataset.classes.names:
        raise DatasetError(
            f"{dataset.name}: expected the model's classes {list(classes.names)}, got "
            f"{list(dataset.classes.names)}; measure on the data the model was made for, or an ONNX file by "
            "benchmarks.accuracy --class-map"
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
