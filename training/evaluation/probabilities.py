"""What an ONNX file gives each class at each pixel of a frame, or in each cell of a grid. No torch."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from runtime.network.mask import Window
from runtime.network.resize import Seen, seen
from runtime.segmenter import Inferred, Segmenter
from training.evaluation.metrics import class_probabilities

MASK_CONFIDENCE = 0.9  # what a file that gives masks only is taken to be sure of


def probabilities_of(
    segment: Segmenter, inferred: Inferred, size_hw: tuple[int, int] | None = None
) -> NDArray[np.float32]:
    """Return the probabilities of a network's classes over a whole frame.

    Where the grid is finer than the logits, these are interpolated and then made probabilities, as for a
    mask; where it is coarser, a cell gets the mean of the probabilities in it.

    Args:
        segment: an open file; one that gives masks only counts as 90 % sure of each pixel.
        inferred: what it made of the frame.
        size_hw: height and width of the grid that covers the frame; None for the frame's own pixels.

    Returns:
        float32 (C, h, w), 0..1; a cell's classes add up to 1, or all are 0 where the network saw nothing of
        it, since its contract says that frames are cropped.

    Raises:
        ContractError: classes that the contract does not name.
    """
    frame_hw, contract = inferred.fitted.frame_hw, segment.contract
    size_hw = size_hw or frame_hw
    if not contract.output.has_logits:
        mask = segment.finish(inferred).mask
        votes = np.stack([mask == index for index in range(len(contract.classes))]).astype(np.float32)
        rest = (1 - MASK_CONFIDENCE) / max(1, len(votes) - 1)
        return _shrunk(np.where(votes.any(axis=0), votes * (MASK_CONFIDENCE - rest) + rest, 0), size_hw)
    logits = (inferred.output / contract.output.temperature).astype(np.float32)  # (1, C, h, w)
    return frame_probabilities(logits, frame_hw, seen(frame_hw, segment.size_hw, contract.input.fit), size_hw)


def frame_probabilities(
    logits: NDArray[np.float32],
    frame_hw: tuple[int, int],
    part: Seen,
    size_hw: tuple[int, int] | None = None,
) -> NDArray[np.float32]:
    """Return the probabilities over a frame of which a network saw a part, see `probabilities_of`.

    Args:
        logits: float32 (1, C, h, w).
        frame_hw: the frame's height and width.
        part: what the network saw of it.
        size_hw: of the grid that covers the frame; None for the frame's own pixels.
    """
    size_hw = size_hw or frame_hw
    if part.size_hw == frame_hw:
        return _seen(logits, size_hw, part.window)
    wide = np.zeros((logits.shape[1], *frame_hw), np.float32)
    wide[(slice(None), *part.inside)] = _seen(logits, part.size_hw, part.window)
    return _shrunk(wide, size_hw)


def _seen(logits: NDArray[np.float32], size_hw: tuple[int, int], window: Window) -> NDArray[np.float32]:
    """Return probabilities over a grid of what the logits show through a window."""
    own_hw = (
        math.ceil(logits.shape[2] * (window.bottom - window.top)),
        math.ceil(logits.shape[3] * (window.right - window.left)),
    )
    fine_hw = (max(size_hw[0], own_hw[0]), max(size_hw[1], own_hw[1]))
    return _shrunk(class_probabilities(logits, fine_hw, window), size_hw)


def _shrunk(probabilities: NDArray[np.float32], size_hw: tuple[int, int]) -> NDArray[np.float32]:
    """Return the means over the cells of a grid; cells of which nothing was seen stay 0."""
    if probabilities.shape[1:] == size_hw:
        return probabilities.astype(np.float32)
    coarse = np.stack(
        [
            cv2.resize(plane.astype(np.float32), size_hw[::-1], interpolation=cv2.INTER_AREA)
            for plane in probabilities
        ]
    )
    total = coarse.sum(axis=0)
    return np.asarray(np.divide(coarse, total, out=np.zeros_like(coarse), where=total > 0), np.float32)
