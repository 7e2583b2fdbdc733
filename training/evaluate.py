"""Measures a checkpoint in PyTorch: `python -m training.evaluate best.pt --data camvid --root DIR`."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from runtime.base.command import exit_code, make_parser
from runtime.errors import ConfigError
from runtime.frame import Image
from runtime.network.mask import class_mask
from runtime.network.resize import fit_image
from training.data import DATASETS, Sample, SegmentationDataset, open_dataset
from training.engine.bundled import checkpoint_file
from training.engine.checkpoint import load_checkpoint
from training.engine.config import check_device
from training.evaluation.accuracy import (
    accuracy_json,
    accuracy_table,
    check_same_classes,
    measured_accuracy,
    warn_if_seen,
)
from training.evaluation.confusion import ConfusionMatrix
from training.evaluation.ece import Calibration, class_probabilities
from training.evaluation.views import Views, averaged_probabilities
from training.figures.mistakes import WorstImages, draw_confusion, draw_worst
from training.network import CameraNetwork

BATCH_SIZE = 4


@dataclass(frozen=True)
class Prediction:
    """What a network says about a sample.

    Attributes:
        sample: image and label.
        mask: uint8 (H, W), at the label's size.
        confidence: float32 (H, W), the probability given to the mask's class, 0..1.
    """

    sample: Sample
    mask: Image
    confidence: NDArray[np.float32]


def evaluate(
    network: CameraNetwork,
    dataset: SegmentationDataset,
    size_hw: tuple[int, int],
    *,
    indices: Sequence[int] | None = None,
    device: str = "cpu",
    progress: bool = False,
) -> ConfusionMatrix:
    """Compare the network's masks with the labels, both at the labels' size.

    The frame is resized and the logits are turned into a mask by the runtime's own functions, so that
    this number and that of the exported file can only differ by the network's arithmetic.

    Args:
        network: is left in eval mode.
        dataset: images of any size.
        size_hw: the network's input size.
        indices: which images; None for all. The matrices of parts add up to that of the whole.
        device: where the network is.
        progress: whether to draw a progress bar on stderr.
    """
    network.eval()
    confusion = ConfusionMatrix(len(dataset.classes))
    chosen = range(len(dataset)) if indices is None else indices
    with tqdm(total=len(chosen), desc="evaluate", leave=False, disable=not progress) as bar:
        for start in range(0, len(chosen), BATCH_SIZE):
            samples = [dataset[index] for index in chosen[start : start + BATCH_SIZE]]
            fitted = np.stack([fit_image(sample.image_bgr, size_hw) for sample in samples])  # (N, h, w, 3)
            for sample, logits in zip(samples, _run(network, fitted, device), strict=True):
                height, width = sample.label.shape
                confusion.update(sample.label, class_mask(logits[None], (height, width)))
            bar.update(len(samples))
    return confusion


def predict(
    network: CameraNetwork, dataset: SegmentationDataset, views: Views, *, device: str = "cpu"
) -> Iterator[Prediction]:
    """Yield mask and confidence of every sample.

    With one view the mask is that of `evaluate`; with several it is the class whose probability is the
    highest in the mean over the views.

    Args:
        network: is left in eval mode.
        dataset: images of any size.
        views: how an image is shown to the network.
        device: where the network is.
    """
    network.eval()

    def run(fitted: Image) -> NDArray[np.float32]:
        return _run(network, fitted[None], device)

    for index in range(len(dataset)):
        sample = dataset[index]
        height, width = sample.label.shape
        if len(views) == 1:
            logits = run(fit_image(sample.image_bgr, views.sizes_hw[0]))  # (1, classes, h/s, w/s)
            mask = class_mask(logits, (height, width))
            confidence = class_probabilities(logits, (height, width)).max(axis=0)
        else:
            probabilities = averaged_probabilities(run, sample.image_bgr, views)  # (classes, H, W)
            mask = probabilities.argmax(axis=0).astype(np.uint8)
            confidence = probabilities.max(axis=0)
        yield Prediction(sample, mask, confidence)


def _run(network: CameraNetwork, fitted: Image, device: str) -> NDArray[np.float32]:
    """Return logits (N, classes, h/s, w/s) of images uint8 (N, h, w, 3)."""
    with torch.inference_mode():
        logits: NDArray[np.float32] = network(torch.from_numpy(fitted).to(device)).cpu().numpy()
    return logits


def _make_folder(folder: Path) -> None:
    """Make sure before the measurement that its pictures can be kept."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ConfigError(
            f"report {folder}: expected a folder that can be written, got {error.strerror}; choose another"
        ) from None


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; see `--help`."""
    parser = make_parser("training.evaluate", "Measure a checkpoint's accuracy and calibration in PyTorch.")
    parser.add_argument("checkpoint", help="best.pt or last.pt of training.train")
    parser.add_argument("--data", required=True, choices=DATASETS, help="kind of data set")
    parser.add_argument("--root", help="the data set's folder; not needed for synthetic")
    parser.add_argument("--split", default="val", help="part of the data set")
    parser.add_argument(
        "--leave-out",
        metavar="DRIVE",
        help="measure on this drive, which training.train --leave-out held back",
    )
    parser.add_argument(
        "--scales",
        nargs="+",
        type=float,
        default=[1.0],
        metavar="FACTOR",
        help="average over these sizes of the input, each rounded to a size that the network takes",
    )
    parser.add_argument("--flip", action="store_true", help="average over each image and its mirror image")
    parser.add_argument("--report", type=Path, metavar="DIR", help="write confusion.png and worst.png there")
    parser.add_argument("--worst", type=int, default=6, help="images in worst.png")
    parser.add_argument("--device", default="cpu", help="torch device, for example cpu or cuda")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    args = parser.parse_args(argv)

    def command() -> None:
        check_device(args.device)
        checkpoint = load_checkpoint(checkpoint_file(args.checkpoint))
        dataset = open_dataset(args.data, args.root, args.split, leave_out=args.leave_out)
        classes = dataset.classes
        check_same_classes(checkpoint.contract.classes, dataset)
        if args.leave_out is not None:
            warn_if_seen(checkpoint.contract, dataset)
        size_hw, multiple = checkpoint.contract.input.size_hw, checkpoint.config.size_multiple
        views = Views.of_scales(size_hw, args.scales, multiple, flip=args.flip)
        worst = WorstImages(args.worst, len(classes))
        if args.report is not None:
            _make_folder(args.report)
        confusion, calibration = ConfusionMatrix(len(classes)), Calibration()
        predictions = predict(checkpoint.build().to(args.device), dataset, views, device=args.device)
        bar = tqdm(predictions, "evaluate", len(dataset), leave=False, disable=not sys.stderr.isatty())
        for prediction in bar:
            confusion.update(prediction.sample.label, prediction.mask)
            calibration.update(prediction.sample.label, prediction.mask, prediction.confidence)
            worst.add(prediction.sample, prediction.mask)
        accuracy = measured_accuracy(confusion, dataset)
        as_exported = views == Views((size_hw,))
        if args.report is not None:
            title = (
                f"{checkpoint.contract.name} on {accuracy.dataset} {accuracy.split}, mIoU {accuracy.miou:.3f}"
            )
            title += "" if as_exported else f", mean of {views}"
            draw_confusion(args.report / "confusion.png", confusion, classes.names, title)
            shown = f"{title}: the {len(worst.images)} worst of {accuracy.frames} images"
            draw_worst(args.report / "worst.png", worst.images, classes, shown)
        if args.json:
            report = accuracy_json(accuracy, confusion, calibration)
            print(json.dumps(report | {"views_hw": views.sizes_hw, "flip": views.flip}))
            return
        print(accuracy_table(accuracy, confusion, calibration))
        if not as_exported:
            print(f"mean of {views}; the exported file sees 1 view, {size_hw[0]}x{size_hw[1]}")
        if args.report is not None:
            print(f"see {args.report / 'confusion.png'} and {args.report / 'worst.png'}")
        print(f"\nnext: python -m export.to_onnx {quote(args.checkpoint)}")

    return exit_code(command)


if __name__ == "__main__":
    sys.exit(main())
