"""The proof on labelled images: the file's mIoU is its network's."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from export.proof.parity import Tolerance
from runtime import Segmenter
from runtime.contract import Accuracy
from runtime.errors import ParityError
from runtime.frame import Image
from runtime.network.mask import class_mask, fit_mask
from runtime.network.resize import fit_image, seen
from training.data import SegmentationDataset
from training.evaluation.measure import measure, measure_segmenter


@dataclass(frozen=True)
class AccuracyComparison:
    """The accuracy of a network and of its file on the same images."""

    network: Accuracy
    file: Accuracy

    @property
    def difference(self) -> float:
        """The file's mIoU minus its network's."""
        return self.file.miou - self.network.miou


def prove_accuracy(
    path: Path, network: nn.Module, dataset: SegmentationDataset, tolerance: Tolerance
) -> AccuracyComparison:
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

        def network_mask(image_bgr: Image) -> Image:
            frame_hw = (image_bgr.shape[0], image_bgr.shape[1])
            size_hw, fit = contract.input.size_hw, contract.input.fit
            fitted, part = fit_image(image_bgr, size_hw, fit), seen(frame_hw, size_hw, fit)
            with torch.inference_mode():
                logits = network(torch.from_numpy(fitted[None])).numpy()  # (1, C, h, w)
            if contract.output.has_logits:
                found = class_mask(logits, part.size_hw, part.window)
            else:
                found = fit_mask(class_mask(logits, size_hw), part.size_hw, part.window)
            return part.onto(found, frame_hw, contract.classes.ignore_index)

        of_file = measure_segmenter(segment, dataset)
    result = AccuracyComparison(measure(network_mask, dataset).accuracy, of_file.accuracy)
    if not np.abs(result.difference) <= tolerance.miou:
        raise ParityError(
            f"proof: expected the network's mIoU of {result.network.miou:.4f} on {dataset.name} "
            f"{dataset.split}, the file has {result.file.miou:.4f} (allowed difference {tolerance.miou}), so "
            "no file was written; export in float32, or report it if that fails too"
        )
    return result
