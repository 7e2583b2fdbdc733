"""The frames that a person corrects: evenly spaced, or unsure and unlike each other; in any case none twice.

How unsure a frame is, is the mean entropy of its soft label. That of several networks is high where each of
them is unsure, and where they contradict each other. What a frame shows is the share of each class in the
whole picture, where its root counts so that rare classes do, and in each of its parts.
`runtime.masks.selection` takes the frames by both; a picture that looks like a chosen one
(`training.data.duplicates`) is passed over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from runtime.base.progress import tracked
from runtime.frame import Image
from runtime.masks.selection import CELLS, select_frames
from training.data.duplicates import Fingerprint, fingerprint, near_images, same_images
from training.teaching.soft_labels import SoftLabels


def select_to_correct(
    soft: SoftLabels,
    count: int,
    read_image: Callable[[str], Image],
    taken: Iterable[str] = (),
    by: Literal["evenly", "unsure"] = "evenly",
) -> list[tuple[str, float]]:
    """Return the frames to correct, each with how unsure it is, 0 to 1.

    Args:
        soft: what the networks say of each frame.
        count: how many; fewer where the rest are copies of these.
        read_image: returns a frame's picture by its name.
        taken: frames that were chosen in earlier rounds; neither these nor what looks like them come again.
        by: "evenly" spaces them over the frames in their order, "unsure" takes the most unsure and unlike
            ones, the most valuable first.

    Raises:
        DatasetError: a soft label that cannot be read, and what `read_image` raises.
    """
    taken = [name for name in taken if name in soft]
    names = [name for name in soft.names if name not in set(taken)]
    if not names:
        return []
    described = [_described(soft.read(name)) for name in tracked(names, "comparing")]
    unsure = np.array([each for each, _ in described])  # (N,)
    features = np.stack([feature for _, feature in described])  # (N, F)
    known = np.stack([_described(soft.read(name))[1] for name in taken]) if taken else None
    seen: list[Fingerprint] = [fingerprint(read_image(name)) for name in taken]
    chosen: list[int] = []
    looked_at: set[int] = set()
    ranked = 0
    while len(chosen) < count and ranked < len(names):
        ranked = min(len(names), max(2 * ranked, count if by == "evenly" else 2 * count))
        if by == "evenly":
            order = np.unique(np.linspace(0, len(names) - 1, ranked).round().astype(np.int64))
        else:
            order = select_frames(unsure, features, ranked, known)
        for place in order.tolist():
            if len(chosen) == count:
                break
            if place in looked_at:
                continue
            looked_at.add(place)
            own = fingerprint(read_image(names[place]))
            if not same_images([own], seen) and not near_images([own], seen):
                chosen.append(place)
                seen.append(own)
    return [(names[place], float(unsure[place])) for place in chosen]


def _described(scores: NDArray[np.uint8]) -> tuple[float, NDArray[np.float32]]:
    """Return how unsure a soft label is, and the feature (F,) that it is compared by."""
    shares = scores.astype(np.float32)  # (C, h, w)
    shares /= np.maximum(shares.sum(axis=0), 1)
    entropy = -(shares * np.log(np.maximum(shares, 1e-6))).sum(axis=0).mean() / np.log(max(2, len(shares)))
    rows, columns = CELLS
    parts = np.stack([cv2.resize(plane, (columns, rows), interpolation=cv2.INTER_AREA) for plane in shares])
    whole = np.sqrt(shares.mean(axis=(1, 2))) * (rows * columns)  # as much as all parts together
    return float(entropy), np.concatenate([whole, parts.ravel()]).astype(np.float32)
