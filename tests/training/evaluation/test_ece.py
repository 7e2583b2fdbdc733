import numpy as np
import pytest
import torch

from runtime.errors import DatasetError
from runtime.network.mask import class_mask
from training.evaluation.ece import ConfidenceBins, class_probabilities


def ece_by_definition(labels: list[int], masks: list[int], confidences: list[float]) -> float:
    """Guo et al. 2017, equation 3, pixel after pixel."""
    error, total = 0.0, sum(label != 255 for label in labels)
    for place in range(15):
        members = [
            (label == mask, sure)
            for label, mask, sure in zip(labels, masks, confidences, strict=True)
            if label != 255 and place / 15 < sure <= (place + 1) / 15
        ]
        if members:
            accuracy = sum(right for right, _ in members) / len(members)
            confidence = sum(sure for _, sure in members) / len(members)
            error += len(members) / total * abs(accuracy - confidence)
    return error


def random_pixels(seed: int, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    confidence = rng.uniform(1 / 7, 1, shape).astype(np.float32)
    label = rng.integers(0, 7, shape).astype(np.uint8)
    mask = np.where(rng.random(shape) < confidence**2, label, rng.integers(0, 7, shape)).astype(np.uint8)
    label[rng.random(shape) < 0.1] = 255
    return label, mask, confidence


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_ece_agrees_with_the_definition_over_all_images_together(seed: int) -> None:
    images = [random_pixels(10 * seed + place, shape) for place, shape in enumerate([(20, 31), (7, 5)])]
    bins = ConfidenceBins()
    for image in images:
        bins.update(*image)
    labels, masks, confidences = (
        [value for part in parts for value in part.ravel().tolist()] for parts in zip(*images, strict=True)
    )
    assert bins.ece == pytest.approx(ece_by_definition(labels, masks, confidences), abs=1e-9)
    assert bins.ece > 0.05
    sure = [c for c, label in zip(confidences, labels, strict=True) if label != 255]
    assert bins.mean_confidence == pytest.approx(np.mean(sure))


def test_a_confidence_that_is_as_often_right_has_no_error() -> None:
    bins = ConfidenceBins()
    label = np.zeros((1, 4), np.uint8)
    bins.update(label, np.array([[0, 0, 0, 1]], np.uint8), np.full((1, 4), 0.75, np.float32))
    assert bins.ece == pytest.approx(0)


@pytest.mark.parametrize(("confidence", "place"), [(0.0, 0), (1 / 15, 0), (0.0667, 1), (1.0, 14)])
def test_a_bin_reaches_up_to_its_upper_end(confidence: float, place: int) -> None:
    bins = ConfidenceBins()
    one = np.zeros((1, 1), np.uint8)
    bins.update(one, one, np.full((1, 1), confidence))
    assert np.flatnonzero(bins.counts).tolist() == [place]


@pytest.mark.parametrize("size_hw", [(24, 40), (25, 33), (3, 5)])
def test_probabilities_agree_with_torch(size_hw: tuple[int, int]) -> None:
    logits = np.random.default_rng(0).normal(scale=4, size=(1, 6, 3, 5)).astype(np.float32)
    upsampled = torch.nn.functional.interpolate(torch.from_numpy(logits), size_hw, mode="bilinear")
    expected = upsampled.softmax(dim=1)[0].numpy()
    probabilities = class_probabilities(logits, size_hw)
    np.testing.assert_allclose(probabilities, expected, atol=2e-5)
    assert np.array_equal(probabilities.argmax(axis=0), class_mask(logits, size_hw))


def test_large_logits_do_not_overflow() -> None:
    probabilities = class_probabilities(np.array([[[[1e4]], [[0.0]]]], np.float32), (2, 2))
    assert probabilities[:, 0, 0].tolist() == [1.0, 0.0]


ONE = np.zeros((2, 2), np.uint8)


@pytest.mark.parametrize(
    ("mask", "confidence", "message"),
    [
        (np.zeros((2, 3), np.uint8), np.zeros((2, 2), np.float32), "label's shape"),
        (ONE, np.zeros((2, 3), np.float32), "label's shape"),
        (ONE, np.full((2, 2), 1.5, np.float32), "from 0 to 1"),
        (ONE, np.full((2, 2), -0.1, np.float32), "from 0 to 1"),
        (ONE, np.full((2, 2), np.nan, np.float32), "from 0 to 1"),
    ],
)
def test_what_is_no_confidence_is_refused_and_not_counted(
    mask: np.ndarray, confidence: np.ndarray, message: str
) -> None:
    bins = ConfidenceBins()
    with pytest.raises(DatasetError, match=message):
        bins.update(ONE, mask, confidence)
    assert bins.counts.sum() == 0


@pytest.mark.parametrize("figure", ["ece", "mean_confidence"])
def test_no_labelled_pixel_gives_an_error_and_no_number(figure: str) -> None:
    bins = ConfidenceBins()
    bins.update(ONE + np.uint8(255), ONE, np.ones((2, 2), np.float32))
    with pytest.raises(DatasetError, match="expected labelled pixels, found none"):
        getattr(bins, figure)
