"""The biases of a classifier at which its masks have the highest mIoU.

Cross-entropy asks for probabilities that are right, and the most probable class of each pixel is the best
for pixel accuracy, not for mIoU: there a pixel should go to a rare class at less than even odds (Nowozin,
"Optimal Decisions from Probabilistic Models: the Intersection-over-Union Case", CVPR 2014; thresholds that
fall with what is reached, Lipton et al., "Optimal Thresholding of Classifiers to Maximize F1 Measure", 2014).
A bias a class is such a threshold, and costs nothing in the exported file.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from training.evaluation.pixels import PixelSample

FARTHEST = 2.0  # that a bias is moved
_STEPS = np.linspace(-FARTHEST, FARTHEST, 81)
_ROUNDS = 6
_GAIN = 1e-5  # of the mIoU, under which nothing is moved


def fit_biases(sample: PixelSample) -> NDArray[np.float32]:
    """Return what to add to each class's logit, float32 (C,), for the highest mIoU on some pixels.

    One class after the other is moved to where the mIoU is highest with the others as they are, until none
    gains. Only differences count, so their mean is 0.

    Raises:
        DatasetError: no labelled pixel.

    >>> sample = PixelSample(images=1)
    >>> rare = np.full((2, 1, 8), 0.4, np.float32)  # right three times of four, but never the likelier
    >>> rare[1] = 0.6
    >>> sure = np.stack([np.zeros((1, 16)), np.ones((1, 16))]).astype(np.float32)
    >>> label = np.array([[0] * 6 + [1] * 2 + [1] * 16], np.uint8)
    >>> sample.add(label, np.concatenate([rare, sure], axis=2))
    >>> first, second = fit_biases(sample)
    >>> bool(first - second > np.log(0.6 / 0.4))
    True
    """
    logits, labels = sample.pixels()
    biases = np.zeros(logits.shape[1], np.float32)
    for _ in range(_ROUNDS):
        moved = False
        for index in range(len(biases)):
            step, gain = _best_step(logits + biases, labels, index)
            if gain > _GAIN and abs(biases[index] + step) <= FARTHEST:
                biases[index] += step
                moved = True
        if not moved:
            break
    centred: NDArray[np.float32] = biases - biases.mean()
    return centred


def _best_step(
    logits: NDArray[np.float32], labels: NDArray[np.intp], index: int
) -> tuple[np.float64, np.float64]:
    """Return by how much to move the logit of one class, and what the mIoU gains.

    A pixel goes over to the class at the step at which its logit passes the highest of the others, and is
    taken from the class that had that one: so counts by step and by that class give every step's mIoU.
    """
    classes, size = logits.shape[1], len(_STEPS) + 1
    own = logits[:, index].copy()
    logits[:, index] = -np.inf
    other = logits.argmax(axis=1)
    at = np.searchsorted(_STEPS, logits[np.arange(len(labels)), other] - own, side="right")  # 81: at no step
    taken = np.bincount(other * size + at, minlength=classes * size).reshape(classes, size)
    lost = np.bincount((other * size + at)[other == labels], minlength=classes * size).reshape(classes, size)
    won = np.bincount(at[labels == index], minlength=size)
    predicted = taken[:, ::-1].cumsum(axis=1)[:, ::-1][:, 1:]  # (classes, steps): what is left to the others
    hits = lost[:, ::-1].cumsum(axis=1)[:, ::-1][:, 1:]
    predicted[index] = taken.sum(axis=0).cumsum()[:-1]
    hits[index] = won.cumsum()[:-1]
    labelled = np.bincount(labels, minlength=classes)[:, None]
    there = labelled[:, 0] > 0
    iou = hits[there] / (predicted[there] + labelled[there] - hits[there])
    miou = iou.mean(axis=0)
    now = len(_STEPS) // 2
    best = max(range(len(_STEPS)), key=lambda step: (miou[step], -abs(step - now)))
    return _STEPS[best], miou[best] - miou[now]
