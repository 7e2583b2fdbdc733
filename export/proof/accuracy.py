"""The proof on labelled images: the file's mIoU is its network's."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from export.proof.parity import Tolerance
from runtime import Segmenter
from runtime.contract import Accuracy
from runtime.errors import ParityError
from runtime.network.mask import class_mask, fit_mask
from runtime.network.resize import fit_image
from training.data import SegmentationDataset
from training.evaluation.accuracy import check_same_classes, measured_accuracy
from training.evaluation.confusion import ConfusionMatrix

PROGRESS_EVERY_S = 5.0


@dataclass(frozen=True)
class AccuracyParity:
    """The accuracy of a network and of its file on the same images."""

    network: Accuracy
    file: Accuracy

    @property
    def difference(self) -> float:
        """The file's mIoU minus its network's."""
        return self.file.miou - self.network.miou


def prove_accuracy(
    path: Path, network: nn.Module, dataset: SegmentationDataset, tolerance: Tolerance
) -> AccuracyParity:
    """Measure a file and its network on a data set, and compare.

    The network's logits become masks in the way that the file's kind of output does.

    Args:
        path: ONNX file with a contract.
        network: what it was made from; in eval mode.
        dataset: images with labels.
        tolerance: says how far the mIoU may differ, either way.

    Raises:
        DatasetError: classes other than the model's, or a sample that cannot be read.
        ParityError: the mIoU differs by more.
    """
    with Segmenter(path) as segment:
        contract = segment.contract
        check_same_classes(contract.classes, dataset)
        of_network, of_file = ConfusionMatrix(len(dataset.classes)), ConfusionMatrix(len(dataset.classes))
        told_s = time.monotonic()
        for index in range(len(dataset)):
            sample = dataset[index]
            size_hw = (sample.label.shape[0], sample.label.shape[1])
            fitted = fit_image(sample.image_bgr, contract.input.size_hw)
            with torch.inference_mode():
                logits = network(torch.from_numpy(fitted[None])).numpy()  # (1, C, h, w)
            if contract.output.has_logits:
                mask = class_mask(logits, size_hw)
            else:
                mask = fit_mask(class_mask(logits, contract.input.size_hw), size_hw)
            of_network.update(sample.label, mask)
            of_file.update(sample.label, segment(sample.image_bgr).mask)
            if time.monotonic() - told_s > PROGRESS_EVERY_S:
                told_s = time.monotonic()
                print(f"{index + 1} of {len(dataset)} labelled images", file=sys.stderr)
    result = AccuracyParity(measured_accuracy(of_network, dataset), measured_accuracy(of_file, dataset))
    if not np.abs(result.difference) <= tolerance.miou:
        raise ParityError(
            f"proof: expected the network's mIoU of {result.network.miou:.4f} on {dataset.name} "
            f"{dataset.split}, the file has {result.file.miou:.4f} (allowed difference {tolerance.miou}), so "
            "no file was written; export in float32, or report it if that fails too"
        )
    return result
