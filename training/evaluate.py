"""Measures a checkpoint in PyTorch: `python -m training.evaluate best.pt --data camvid --root DIR`."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from shlex import quote

import numpy as np
import torch
from tqdm import tqdm

from runtime.cli import exit_code, make_parser
from runtime.mask import class_mask
from runtime.preprocess import fit_image
from training.accuracy import accuracy_json, accuracy_table, check_same_classes, measured_accuracy
from training.checkpoint import load_checkpoint
from training.config import check_device
from training.data import DATASETS, SegmentationDataset, open_dataset
from training.metrics import ConfusionMatrix
from training.network import CameraNetwork

BATCH_SIZE = 4


def evaluate(
    network: CameraNetwork,
    dataset: SegmentationDataset,
    size_hw: tuple[int, int],
    *,
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
        device: where the network is.
        progress: whether to draw a progress bar on stderr.
    """
    network.eval()
    confusion = ConfusionMatrix(len(dataset.classes))
    indices = range(0, len(dataset), BATCH_SIZE)
    with torch.inference_mode():
        for start in tqdm(indices, "evaluate", leave=False, disable=not progress):
            samples = [dataset[i] for i in range(start, min(start + BATCH_SIZE, len(dataset)))]
            fitted = np.stack([fit_image(sample.image_bgr, size_hw) for sample in samples])  # (N, h, w, 3)
            logits = network(torch.from_numpy(fitted).to(device)).cpu().numpy()  # (N, classes, h/s, w/s)
            for sample, sample_logits in zip(samples, logits, strict=True):
                height, width = sample.label.shape
                confusion.update(sample.label, class_mask(sample_logits[None], (height, width)))
    return confusion


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; see `--help`."""
    parser = make_parser("training.evaluate", "Measure a checkpoint's mIoU in PyTorch.")
    parser.add_argument("checkpoint", help="best.pt or last.pt of training.train")
    parser.add_argument("--data", required=True, choices=DATASETS, help="kind of data set")
    parser.add_argument("--root", help="the data set's folder; not needed for synthetic")
    parser.add_argument("--split", default="val", help="part of the data set")
    parser.add_argument("--device", default="cpu", help="torch device, for example cpu or cuda")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    args = parser.parse_args(argv)

    def command() -> None:
        check_device(args.device)
        checkpoint = load_checkpoint(args.checkpoint)
        dataset = open_dataset(args.data, args.root, args.split)
        check_same_classes(checkpoint.contract.classes, dataset)
        network = checkpoint.build().to(args.device)
        size_hw = checkpoint.contract.input.size_hw
        confusion = evaluate(network, dataset, size_hw, device=args.device, progress=sys.stderr.isatty())
        accuracy = measured_accuracy(confusion, dataset)
        if args.json:
            print(json.dumps(accuracy_json(accuracy)))
            return
        print(accuracy_table(accuracy))
        print(f"\nnext: python -m export.to_onnx {quote(args.checkpoint)}")

    return exit_code(command)


if __name__ == "__main__":
    sys.exit(main())
