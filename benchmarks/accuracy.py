"""Measures the ONNX file that ships, through `Segmenter` and without torch.

python -m benchmarks.accuracy --model seg.onnx --data camvid --root DIR --split val
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from shlex import quote

from runtime import ConfigError, Segmenter
from runtime.base.command import exit_code, make_parser
from runtime.contract import Accuracy
from runtime.network.mask import class_mask
from runtime.network.resize import fit_image
from runtime.network.session import NetworkSession
from runtime.segmenter import bundled_model
from training.data import DATASETS, Sample, SegmentationDataset, open_dataset
from training.evaluation.accuracy import (
    accuracy_json,
    accuracy_table,
    check_same_classes,
    measured_accuracy,
    warn_if_seen,
)
from training.evaluation.confusion import ConfusionMatrix
from training.evaluation.ece import Calibration, class_probabilities

PROGRESS_EVERY_S = 5.0


def measure_accuracy(segment: Segmenter, dataset: SegmentationDataset, limit: int | None = None) -> Accuracy:
    """Compare a model's masks with the labels, both at the labels' size; see `measure_confusion`."""
    confusion = measure_confusion(segment, dataset, limit)
    return measured_accuracy(confusion, dataset, _frames(dataset, limit))


def measure_confusion(
    segment: Segmenter, dataset: SegmentationDataset, limit: int | None = None
) -> ConfusionMatrix:
    """Count labelled and predicted classes.

    Args:
        segment: an open model.
        dataset: images with labels.
        limit: measure on the first so many images only.

    Raises:
        ConfigError: a limit below 1.
        DatasetError: classes other than the model's, or a sample that cannot be read.
    """
    return sum(image_confusions(segment, dataset, limit), ConfusionMatrix(len(dataset.classes)))


def image_confusions(
    segment: Segmenter, dataset: SegmentationDataset, limit: int | None = None
) -> Iterator[ConfusionMatrix]:
    """Yield what `measure_confusion` adds up, image by image."""
    check_same_classes(segment.contract.classes, dataset)
    for sample in _samples(dataset, limit):
        confusion = ConfusionMatrix(len(dataset.classes))
        confusion.update(sample.label, segment(sample.image_bgr).mask)
        yield confusion


def measure_calibration(
    session: NetworkSession, dataset: SegmentationDataset, limit: int | None = None
) -> Calibration:
    """Compare a model's confidence with how often it is right, at the labels' size.

    Args:
        session: the network alone, since a `Segmenter` keeps its logits to itself.
        dataset: images with labels.
        limit: measure on the first so many images only.

    Raises:
        ConfigError: a limit below 1.
        DatasetError: classes other than the model's, or a sample that cannot be read.
    """
    check_same_classes(session.contract.classes, dataset)
    calibration = Calibration()
    for sample in _samples(dataset, limit):
        logits = session.run(fit_image(sample.image_bgr, session.contract.input.size_hw))
        size_hw = (sample.label.shape[0], sample.label.shape[1])
        confidence = class_probabilities(logits, size_hw).max(axis=0)
        calibration.update(sample.label, class_mask(logits, size_hw), confidence)
    return calibration


def _frames(dataset: SegmentationDataset, limit: int | None) -> int:
    """Return how many images a measurement looks at."""
    if limit is not None and limit < 1:
        raise ConfigError(f"limit: expected at least 1 image, got {limit}; leave it out for all")
    return len(dataset) if limit is None else min(limit, len(dataset))


def _samples(dataset: SegmentationDataset, limit: int | None) -> Iterator[Sample]:
    """Yield the images to measure on, and say on stderr how far it is."""
    frames = _frames(dataset, limit)
    told_s = time.monotonic()
    for index in range(frames):
        yield dataset[index]
        if time.monotonic() - told_s > PROGRESS_EVERY_S:
            told_s = time.monotonic()
            print(f"{index + 1} of {frames} images", file=sys.stderr)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; see `--help`."""
    parser = make_parser("benchmarks.accuracy", "Measure an ONNX file's accuracy through the runtime.")
    parser.add_argument("--model", help="ONNX file of export.to_onnx; without it the bundled s")
    parser.add_argument("--data", required=True, choices=DATASETS, help="kind of data set")
    parser.add_argument("--root", help="the data set's folder; not needed for synthetic")
    parser.add_argument("--split", default="val", help="part of the data set")
    parser.add_argument(
        "--leave-out",
        metavar="DRIVE",
        help="measure on this drive, which training.train --leave-out held back",
    )
    parser.add_argument(
        "--ece",
        action="store_true",
        help="also measure the calibration error; runs the network a second time",
    )
    parser.add_argument("--limit", type=int, help="measure on the first so many images; without it on all")
    parser.add_argument("--threads", type=int, help="worker threads; without it physical cores, at most 4")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    args = parser.parse_args(argv)

    def command() -> None:
        dataset = open_dataset(args.data, args.root, args.split, leave_out=args.leave_out)
        with Segmenter(args.model, threads=args.threads) as segment:
            if args.leave_out is not None:
                warn_if_seen(segment.contract, dataset)
            confusion = measure_confusion(segment, dataset, args.limit)
        calibration = None
        if args.ece:
            session = NetworkSession(args.model or bundled_model(), threads=args.threads)
            calibration = measure_calibration(session, dataset, args.limit)
        accuracy = measured_accuracy(confusion, dataset, _frames(dataset, args.limit))
        if args.json:
            print(json.dumps(accuracy_json(accuracy, confusion, calibration)))
            return
        print(accuracy_table(accuracy, confusion, calibration))
        chosen = "" if args.model is None else f" --model {quote(args.model)}"
        print(f"\nnext: python -m benchmarks.latency{chosen}")

    return exit_code(command)


if __name__ == "__main__":
    sys.exit(main())
