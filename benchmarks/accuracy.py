"""Measures the ONNX file that ships, through `Segmenter` and without torch.

python -m benchmarks.accuracy --model seg.onnx --data camvid --root DIR --split val
"""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from collections.abc import Sequence
from shlex import quote

from runtime import ConfigError, Segmenter
from runtime.cli import exit_code, make_parser
from runtime.contract import Accuracy
from training.accuracy import accuracy_json, accuracy_table, check_same_classes, measured_accuracy
from training.data import DATASETS, SegmentationDataset, open_dataset
from training.metrics import ConfusionMatrix

PROGRESS_EVERY_S = 5.0


def measure_accuracy(segment: Segmenter, dataset: SegmentationDataset, limit: int | None = None) -> Accuracy:
    """Compare a model's masks with the labels, both at the labels' size.

    Args:
        segment: an open model.
        dataset: images with labels.
        limit: measure on the first so many images only.

    Raises:
        ConfigError: a limit below 1.
        DatasetError: classes other than the model's, or a sample that cannot be read.
    """
    if limit is not None and limit < 1:
        raise ConfigError(f"limit: expected at least 1 image, got {limit}; leave it out for all")
    check_same_classes(segment.contract.classes, dataset)
    confusion = ConfusionMatrix(len(dataset.classes))
    frames = len(dataset) if limit is None else min(limit, len(dataset))
    told_s = time.monotonic()
    for index in range(frames):
        sample = dataset[index]
        confusion.update(sample.label, segment(sample.image_bgr).mask)
        if time.monotonic() - told_s > PROGRESS_EVERY_S:
            told_s = time.monotonic()
            print(f"{index + 1} of {frames} images", file=sys.stderr)
    return dataclasses.replace(measured_accuracy(confusion, dataset), frames=frames)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; see `--help`."""
    parser = make_parser("benchmarks.accuracy", "Measure an ONNX file's mIoU through the runtime.")
    parser.add_argument("--model", help="ONNX file of export.to_onnx; without it the bundled camvid-s")
    parser.add_argument("--data", required=True, choices=DATASETS, help="kind of data set")
    parser.add_argument("--root", help="the data set's folder; not needed for synthetic")
    parser.add_argument("--split", default="val", help="part of the data set")
    parser.add_argument("--limit", type=int, help="measure on the first so many images; without it on all")
    parser.add_argument("--threads", type=int, help="worker threads; without it physical cores, at most 4")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    args = parser.parse_args(argv)

    def command() -> None:
        dataset = open_dataset(args.data, args.root, args.split)
        with Segmenter(args.model, threads=args.threads) as segment:
            accuracy = measure_accuracy(segment, dataset, args.limit)
        if args.json:
            print(json.dumps(accuracy_json(accuracy)))
            return
        print(accuracy_table(accuracy))
        chosen = "" if args.model is None else f" --model {quote(args.model)}"
        print(f"\nnext: python -m benchmarks.latency{chosen}")

    return exit_code(command)


if __name__ == "__main__":
    sys.exit(main())
