"""Test-time augmentation: the mean of what a network says about several views of one image."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from runtime.errors import ConfigError
from runtime.frame import Image
from runtime.network.resize import fit_image
from training.evaluation.metrics import class_probabilities

MIN_SCALE, MAX_SCALE = 0.25, 4.0


@dataclass(frozen=True)
class Views:
    """How an image is shown to a network.

    Attributes:
        sizes_hw: heights and widths in pixels that the image is resized to.
        flip: whether each size is also shown mirrored, left for right.
    """

    sizes_hw: tuple[tuple[int, int], ...]
    flip: bool = False

    @classmethod
    def of_scales(
        cls, size_hw: tuple[int, int], scales: Sequence[float], multiple: int, *, flip: bool = False
    ) -> Views:
        """Return the views of a network's input size times each scale, rounded to what the network takes.

        Args:
            size_hw: the network's input size in pixels.
            scales: factors from 0.25 to 4.
            multiple: what the network needs heights and widths to be multiples of; each is rounded to the
                nearest.
            flip: see `Views`.

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
        return cls(sizes_hw, flip)

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
        float32 (C, H, W), 0..1.
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
    height, width = image_bgr.shape[:2]
    for size_hw in views.sizes_hw:
        fitted = fit_image(image_bgr, size_hw)
        yield class_probabilities(run(fitted), (height, width))
        if views.flip:
            mirrored = class_probabilities(run(fitted[:, ::-1].copy()), (height, width))
            yield mirrored[:, :, ::-1]


def _nearest(pixels: float, multiple: int) -> int:
    return max(1, round(pixels / multiple)) * multiple


def _sizes(sizes_hw: Sequence[tuple[int, int]]) -> str:
    return ", ".join(f"{height}x{width}" for height, width in sizes_hw)
