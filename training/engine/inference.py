"""What a network in PyTorch says of images: of one view of each, or as the mean over several."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from runtime.base.progress import tracked
from runtime.contract import STRETCH, ImageFit
from runtime.errors import ConfigError
from runtime.frame import Image
from runtime.network.mask import class_mask
from runtime.network.resize import fit_image, seen
from training.data.dataset import IGNORE, SegmentationDataset
from training.evaluation.measure import Measurement, Prediction, measure_batches
from training.evaluation.pixels import PixelSample
from training.evaluation.probabilities import frame_probabilities
from training.network.build import CameraNetwork

BATCH_SIZE = 4
MIN_SCALE, MAX_SCALE = 0.25, 4.0


@dataclass(frozen=True)
class Views:
    """How an image is shown to a network.

    Attributes:
        sizes_hw: heights and widths in pixels that the image is resized to.
        flip: whether each size is also shown mirrored, left for right.
        fit: how the image is brought to a size.
    """

    sizes_hw: tuple[tuple[int, int], ...]
    flip: bool = False
    fit: ImageFit = STRETCH

    @classmethod
    def of_scales(
        cls,
        size_hw: tuple[int, int],
        scales: Sequence[float],
        multiple: int,
        *,
        flip: bool = False,
        fit: ImageFit = STRETCH,
    ) -> Views:
        """Return the views of a network's input size times each scale, rounded to what the network takes.

        Args:
            size_hw: the network's input size in pixels.
            scales: factors from 0.25 to 4.
            multiple: what the network needs heights and widths to be multiples of; each is rounded to the
                nearest.
            flip: see `Views`.
            fit: see `Views`.

        Raises:
            ConfigError: no scale, one out of range, or two that come to the same size.

        >>> Views.of_scales((352, 480), (0.75, 1.0), multiple=32).sizes_hw
        ((256, 352), (352, 480))
        """
        if not scales or not all(MIN_SCALE <= scale <= MAX_SCALE for scale in scales):
            raise ConfigError(f"scales: expected factors from {MIN_SCALE} to {MAX_SCALE}, got {list(scales)}")
        height, width = size_hw
        sizes_hw = tuple(
            (_nearest(height * scale, multiple), _nearest(width * scale, multiple)) for scale in scales
        )
        if len(set(sizes_hw)) < len(sizes_hw):
            raise ConfigError(
                f"scales: expected each to give another size, got {_sizes(sizes_hw)} from "
                f"{list(scales)} in multiples of {multiple}; leave some out"
            )
        return cls(sizes_hw, flip, fit)

    def __len__(self) -> int:
        """Return the number of views."""
        return len(self.sizes_hw) * (2 if self.flip else 1)

    def __str__(self) -> str:
        """Return the views as text, sizes as height x width.

        >>> str(Views(((256, 352), (352, 480)), flip=True))
        '4 views: 256x352, 352x480, also mirrored'
        """
        number = f"{len(self)} view{'' if len(self) == 1 else 's'}"
        return f"{number}: {_sizes(self.sizes_hw)}{', also mirrored' if self.flip else ''}"


def averaged_probabilities(
    run: Callable[[Image], NDArray[np.float32]], image_bgr: Image, views: Views
) -> NDArray[np.float32]:
    """Return the mean of the class probabilities over all views.

    Args:
        run: a network: uint8 (h, w, 3) of any of the views' sizes → float32 logits
            (1, C, h / stride, w / stride).
        image_bgr: uint8 (H, W, 3).
        views: what `run` is shown.

    Returns:
        float32 (C, H, W), 0..1; 0 where the network saw nothing.
    """
    each = _probabilities_of_each(run, image_bgr, views)
    total = next(each)
    for probabilities in each:
        total += probabilities
    total /= len(views)
    return total


def _probabilities_of_each(
    run: Callable[[Image], NDArray[np.float32]], image_bgr: Image, views: Views
) -> Iterator[NDArray[np.float32]]:
    """Yield the probabilities of one view after the other, since all together may be gigabytes."""
    for size_hw in views.sizes_hw:
        yield _probabilities(run, image_bgr, size_hw, views.fit)
        if views.flip:
            mirrored = np.ascontiguousarray(image_bgr[:, ::-1])
            yield _probabilities(run, mirrored, size_hw, views.fit)[:, :, ::-1]


def _probabilities(
    run: Callable[[Image], NDArray[np.float32]], image_bgr: Image, size_hw: tuple[int, int], fit: ImageFit
) -> NDArray[np.float32]:
    """Return float32 (C, H, W) of one view."""
    frame_hw = (image_bgr.shape[0], image_bgr.shape[1])
    logits = run(fit_image(image_bgr, size_hw, fit))
    return frame_probabilities(logits, frame_hw, seen(frame_hw, size_hw, fit))


def frame_mask(
    logits: NDArray[np.float32], frame_hw: tuple[int, int], size_hw: tuple[int, int], fit: ImageFit
) -> Image:
    """Return the mask uint8 (H, W) of a frame from logits (1, C, h, w), as the runtime makes it.

    What a crop cuts off is void, 255.
    """
    part = seen(frame_hw, size_hw, fit)
    return part.onto(class_mask(logits, part.size_hw, part.window), frame_hw, IGNORE)


def _nearest(pixels: float, multiple: int) -> int:
    return max(1, round(pixels / multiple)) * multiple


def _sizes(sizes_hw: Sequence[tuple[int, int]]) -> str:
    return ", ".join(f"{height}x{width}" for height, width in sizes_hw)


def evaluate(
    network: CameraNetwork,
    dataset: SegmentationDataset,
    size_hw: tuple[int, int],
    *,
    fit: ImageFit = STRETCH,
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
        fit: how images are brought to it.
        indices: which images; None for all. The matrices of parts add up to that of the whole.
        device: where the network is.
        progress: whether to draw a bar, where stderr is a terminal.
    """
    return measure_batches(
        masks_of(network, size_hw, fit=fit, device=device),
        dataset,
        batch_size=BATCH_SIZE,
        indices=indices,
        progress=progress,
    )


def masks_of(
    network: CameraNetwork, size_hw: tuple[int, int], *, fit: ImageFit = STRETCH, device: str = "cpu"
) -> Callable[[Sequence[Image]], list[Image]]:
    """Return a function from images uint8 (H, W, 3) BGR to their masks uint8 (H, W), all in one run.

    Args:
        network: is left in eval mode.
        size_hw: the network's input size.
        fit: how images are brought to it.
        device: where the network is.
    """
    network.eval()

    def masks(images_bgr: Sequence[Image]) -> list[Image]:
        fitted = np.stack([fit_image(image_bgr, size_hw, fit) for image_bgr in images_bgr])  # (N, h, w, 3)
        return [
            frame_mask(logits[None], (image_bgr.shape[0], image_bgr.shape[1]), size_hw, fit)
            for image_bgr, logits in zip(images_bgr, _run(network, fitted, device), strict=True)
        ]

    return masks


def predictor(
    network: CameraNetwork, views: Views, *, device: str = "cpu", temperature: float = 1.0
) -> Callable[[Image], Prediction]:
    """Return a function from an image uint8 (H, W, 3) BGR to its mask and the confidence in it.

    With one view the mask is that of `masks_of`; with several it is the class whose probability is the
    highest in the mean over the views.

    Args:
        network: is left in eval mode.
        views: how an image is shown to the network.
        device: where the network is.
        temperature: divides the logits before they become probabilities.
    """
    network.eval()

    def run(fitted: Image) -> NDArray[np.float32]:
        return _run(network, fitted[None], device) / np.float32(temperature)  # (1, classes, h/s, w/s)

    def predict(image_bgr: Image) -> Prediction:
        if len(views) > 1:
            probabilities = averaged_probabilities(run, image_bgr, views)  # (classes, H, W)
            confidence = probabilities.max(axis=0)
            mask = np.where(confidence > 0, probabilities.argmax(axis=0), IGNORE).astype(np.uint8)
            return Prediction(mask, confidence)
        (size_hw,), fit = views.sizes_hw, views.fit
        frame_hw = (image_bgr.shape[0], image_bgr.shape[1])
        logits = run(fit_image(image_bgr, size_hw, fit))
        confidence = frame_probabilities(logits, frame_hw, seen(frame_hw, size_hw, fit)).max(axis=0)
        return Prediction(frame_mask(logits, frame_hw, size_hw, fit), confidence)

    return predict


def sampled_pixels(
    network: CameraNetwork,
    size_hw: tuple[int, int],
    dataset: SegmentationDataset,
    *,
    fit: ImageFit = STRETCH,
    device: str = "cpu",
) -> PixelSample:
    """Return what a network says of some labelled pixels of each image, at temperature 1.

    Args:
        network: is left in eval mode.
        size_hw: the network's input size in pixels.
        dataset: labelled images.
        fit: how they are brought to the input's size.
        device: where the network is.

    Raises:
        DatasetError: a sample that cannot be read.
    """
    network.eval()
    sample = PixelSample(len(dataset))
    for index in tracked(range(len(dataset)), "looking at pixels"):
        one = dataset[index]
        probabilities = _probabilities(
            lambda fitted: _run(network, fitted[None], device), one.image_bgr, size_hw, fit
        )
        sample.add(np.where(probabilities.any(axis=0), one.label, IGNORE), probabilities)
    return sample


def _run(network: CameraNetwork, fitted: Image, device: str) -> NDArray[np.float32]:
    """Return logits (N, classes, h/s, w/s) of images uint8 (N, h, w, 3)."""
    with torch.inference_mode():
        logits: NDArray[np.float32] = network(torch.from_numpy(fitted).to(device)).cpu().numpy()
    return logits
