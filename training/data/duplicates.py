"""Finds images that are there twice: the very same pixels, or nearly the same picture.

A validation image that training has seen measures memory. Nearly the same is told by difference hashes
(dHash: the picture shrunk to 9x8 grey pixels, one bit for each pixel that is brighter than its left
neighbour), which stay close when a picture is compressed, resized or lit differently.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from runtime.frame import Image

HASH_BITS = 64
# Frames 1/15 s apart in CamVid's val differ in 3 bits (median), and no two of different drives in less than
# 10.
NEAR_BITS = 6
_ROWS_AT_A_TIME = 4096  # of a distance table, so that it stays small


@dataclass(frozen=True)
class Fingerprint:
    """What an image is recognised by.

    Attributes:
        exact: digest of size and pixels.
        bits: dHash, float32 (64,), each -1 or 1, so that a product of two gives their distance.
    """

    exact: str
    bits: NDArray[np.float32]


@dataclass(frozen=True)
class Twin:
    """A pair of similar images, by their places in two lists, and in how many of 64 bits they differ."""

    first: int
    second: int
    differing_bits: int


def fingerprint(image_bgr: Image) -> Fingerprint:
    """Return the fingerprint of an image, uint8 (H, W, 3)."""
    digest = hashlib.blake2b(repr(image_bgr.shape).encode(), digest_size=16)
    digest.update(image_bgr.tobytes())
    small_bgr = cv2.resize(image_bgr, (9, 8), interpolation=cv2.INTER_AREA)
    grey = cv2.cvtColor(small_bgr, cv2.COLOR_BGR2GRAY).astype(np.int16)  # (8, 9)
    bits = np.where(grey[:, 1:] > grey[:, :-1], 1, -1).astype(np.float32).ravel()
    return Fingerprint(digest.hexdigest(), bits)


def same_images(first: Sequence[Fingerprint], second: Sequence[Fingerprint]) -> list[Twin]:
    """Return, for each of `first` whose pixels are also in `second`, the earliest such place."""
    places: dict[str, int] = {}
    for place, image in enumerate(second):
        places.setdefault(image.exact, place)
    return [Twin(index, places[image.exact], 0) for index, image in enumerate(first) if image.exact in places]


def near_images(first: Sequence[Fingerprint], second: Sequence[Fingerprint]) -> list[Twin]:
    """Return, for each of `first`, its nearest in `second` if they differ in at most `NEAR_BITS` of 64 bits.

    Those with the same pixels are left out, since `same_images` finds them.
    """
    if not first or not second:
        return []
    second_bits = np.stack([image.bits for image in second])  # (M, 64)
    twins = []
    for start in range(0, len(first), _ROWS_AT_A_TIME):
        first_bits = np.stack([image.bits for image in first[start : start + _ROWS_AT_A_TIME]])
        differing = (HASH_BITS - first_bits @ second_bits.T) / 2  # (N, M)
        nearest = differing.argmin(axis=1)
        for row, place in enumerate(nearest.tolist()):
            bits = round(float(differing[row, place]))
            if bits <= NEAR_BITS and first[start + row].exact != second[place].exact:
                twins.append(Twin(start + row, place, bits))
    return twins
