from __future__ import annotations

import numpy as np
import pytest

from runtime.errors import DatasetError
from training.evaluation.biases import fit_biases
from training.evaluation.metrics import ConfusionMatrix
from training.evaluation.pixels import PixelSample


def scene(seed: int, size: int = 3000, classes: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Labels (1, size) of which some classes are rare, drawn from probabilities (classes, 1, size)."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1.5, (classes, 1, size)) - np.arange(classes)[:, None, None]
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=0)
    label = (rng.random((1, size)) < probabilities.cumsum(axis=0)).argmax(axis=0).astype(np.uint8)
    return label, probabilities.astype(np.float32)


def miou(label: np.ndarray, probabilities: np.ndarray, biases: np.ndarray) -> float:
    confusion = ConfusionMatrix(len(probabilities))
    logits = np.log(probabilities) + biases[:, None, None]
    confusion.update(label, logits.argmax(axis=0).astype(np.uint8))
    return float(np.mean([iou for iou in confusion.per_class_iou if iou is not None]))


@pytest.mark.parametrize("seed", range(6))
def test_no_bias_alone_moves_to_a_higher_miou(seed: int) -> None:
    """Against the masks themselves: each class's bias, tried at 81 places, is where it is best."""
    label, probabilities = scene(seed)
    sample = PixelSample(1)
    sample.add(label, probabilities)
    biases = fit_biases(sample)
    reached = miou(label, probabilities, biases)
    assert reached > miou(label, probabilities, np.zeros(5)) + 0.02
    for index in range(5):
        tried = [
            miou(label, probabilities, biases + step * (np.arange(5) == index))
            for step in np.linspace(-1, 1, 41)
        ]
        assert max(tried) <= reached + 1e-3  # within what the last round left


def test_what_helps_on_some_pixels_helps_on_others_of_their_kind() -> None:
    sample = PixelSample(10)
    for seed in range(10):
        sample.add(*scene(seed))
    label, probabilities = scene(10, size=20_000)
    biases = fit_biases(sample)
    assert miou(label, probabilities, biases) > miou(label, probabilities, np.zeros(5)) + 0.02
    assert biases[4] > biases[0]  # the rare class, before the frequent one


def test_a_network_that_is_right_is_left_alone() -> None:
    label, _ = scene(0)
    sample = PixelSample(1)
    sample.add(label, np.where(np.arange(5)[:, None, None] == label, 0.96, 0.01).astype(np.float32))
    assert not fit_biases(sample).any()


def test_a_class_without_a_label_is_no_class_to_gain() -> None:
    label, probabilities = scene(0)
    label[label == 2] = 255
    sample = PixelSample(1)
    sample.add(label, probabilities)
    biases = fit_biases(sample)
    assert np.isfinite(biases).all()
    assert biases[2] == biases.min()


def test_few_pixels_of_many_images_are_kept() -> None:
    """4 million of all: a data set of any size fits into memory."""
    sample = PixelSample(images=400_000)
    for seed in range(3):
        sample.add(*scene(seed))
    assert len(sample.pixels()[1]) == 30


def test_without_a_labelled_pixel_there_are_none() -> None:
    sample = PixelSample(1)
    sample.add(np.full((2, 2), 255, np.uint8), np.full((3, 2, 2), 1 / 3, np.float32))
    with pytest.raises(DatasetError, match="expected labelled pixels"):
        fit_biases(sample)
