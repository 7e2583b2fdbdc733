"""What a network in PyTorch says of images, for the loop that measures."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from runtime.frame import Image
from runtime.network.mask import class_mask
from runtime.network.resize import fit_image
from training.data.dataset import SegmentationDataset
from training.evaluation.measure import Measurement, Prediction, measure_batches
from training.evaluation.metrics import class_probabilities
from training.evaluation.views import Views, averaged_probabilities
from training.network.build import CameraNetwork

BATCH_SIZE = 4


def evaluate(
    network: CameraNetwork,
    dataset: SegmentationDataset,
    size_hw: tuple[int, int],
    *,
    indices: Sequence[int] | None = None,
    device: str = "cpu",
    progress: bool = False,
) -> Measurement:
    """Compare the network's masks with the labels, both at the labels' size.

    The frame is resized and the logits are turned into a mask by the runtime's own functions, so that
    this number and that of the exported file can only differ by the network's arithmetic.

    Args:
        network: is left in eval mode.
        dataset: images of any size.
        size_hw: the network's input size.
        indices: which images; None for all. The matrices of parts add up to that of the whole.
        device: where the network is.
        progress: whether to draw a bar, where stderr is a terminal.
    """
    return measure_batches(
        masks_of(network, size_hw, device=device),
        dataset,
        batch_size=BATCH_SIZE,
        indices=indices,
        progress=progress,
    )


def masks_of(
    network: CameraNetwork, size_hw: tuple[int, int], *, device: str = "cpu"
) -> Callable[[Sequence[Image]], list[Image]]:
    """Return a function from images uint8 (H, W, 3) BGR to their masks uint8 (H, W), all in one run.

    Args:
        network: is left in eval mode.
        size_hw: the network's input size.
        device: where the network is.
    """
    network.eval()

    def masks(images_bgr: Sequence[Image]) -> list[Image]:
        fitted = np.stack([fit_image(image_bgr, size_hw) for image_bgr in images_bgr])  # (N, h, w, 3)
        return [
            class_mask(logits[None], (image_bgr.shape[0], image_bgr.shape[1]))
            for image_bgr, logits in zip(images_bgr, _run(network, fitted, device), strict=True)
        ]

    return masks


def predictor(network: CameraNetwork, views: Views, *, device: str = "cpu") -> Callable[[Image], Prediction]:
    """Return a function from an image uint8 (H, W, 3) BGR to its mask and the confidence in it.

    With one view the mask is that of `masks_of`; with several it is the class whose probability is the
    highest in the mean over the views.

    Args:
        network: is left in eval mode.
        views: how an image is shown to the network.
        device: where the network is.
    """
    network.eval()

    def run(fitted: Image) -> NDArray[np.float32]:
        return _run(network, fitted[None], device)  # (1, classes, h/s, w/s)

    def predict(image_bgr: Image) -> Prediction:
        if len(views) > 1:
            probabilities = averaged_probabilities(run, image_bgr, views)  # (classes, H, W)
            return Prediction(probabilities.argmax(axis=0).astype(np.uint8), probabilities.max(axis=0))
        height, width = image_bgr.shape[:2]
        logits = run(fit_image(image_bgr, views.sizes_hw[0]))
        confidence = class_probabilities(logits, (height, width)).max(axis=0)
        return Prediction(class_mask(logits, (height, width)), confidence)

    return predict


def _run(network: CameraNetwork, fitted: Image, device: str) -> NDArray[np.float32]:
    """Return logits (N, classes, h/s, w/s) of images uint8 (N, h, w, 3)."""
    with torch.inference_mode():
        logits: NDArray[np.float32] = network(torch.from_numpy(fitted).to(device)).cpu().numpy()
    return logits
