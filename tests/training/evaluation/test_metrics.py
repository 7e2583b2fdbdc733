import subprocess
import sys

import numpy as np
import pytest
import torch

from runtime.errors import DatasetError
from runtime.network.mask import class_mask
from training.evaluation.metrics import ConfidenceBins, ConfusionMatrix, class_probabilities


def iou_by_sets(labels: list[np.ndarray], masks: list[np.ndarray], num_classes: int) -> list[float | None]:
    """The textbook definition over sets of (image, row, column)."""
    result: list[float | None] = []
    for index in range(num_classes):
        truth, guess = set(), set()
        for image, (label, mask) in enumerate(zip(labels, masks, strict=True)):
            for place in np.ndindex(label.shape):
                if label[place] != 255:
                    if label[place] == index:
                        truth.add((image, *place))
                    if mask[place] == index:
                        guess.add((image, *place))
        result.append(len(truth & guess) / len(truth | guess) if truth | guess else None)
    return result


def random_images(seed: int, num_classes: int, count: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    rng = np.random.default_rng(seed)
    labels, masks = [], []
    for _ in range(count):
        shape = tuple(rng.integers(1, 30, 2))
        label = rng.integers(0, num_classes, shape).astype(np.uint8)
        mask = np.where(rng.random(shape) < 0.6, label, rng.integers(0, num_classes, shape)).astype(np.uint8)
        label[rng.random(shape) < 0.1] = 255
        labels.append(label)
        masks.append(mask)
    return labels, masks


@pytest.mark.parametrize("num_classes", [1, 2, 11, 19])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_iou_agrees_with_sets_of_pixels(seed: int, num_classes: int) -> None:
    labels, masks = random_images(seed, num_classes, count=4)
    confusion = ConfusionMatrix(num_classes)
    for label, mask in zip(labels, masks, strict=True):
        confusion.update(label, mask)
    expected = iou_by_sets(labels, masks, num_classes)
    assert confusion.per_class_iou == pytest.approx(expected)
    assert confusion.miou == pytest.approx(np.mean([iou for iou in expected if iou is not None]))
    right = sum(
        int(((label == mask) & (label != 255)).sum()) for label, mask in zip(labels, masks, strict=True)
    )
    assert confusion.pixel_accuracy == pytest.approx(
        right / sum(int((label != 255).sum()) for label in labels)
    )


def test_rows_are_labels_and_columns_predictions() -> None:
    confusion = ConfusionMatrix(3)
    confusion.update(np.array([0, 0, 2], np.uint8), np.array([1, 1, 2], np.uint8))
    assert confusion.matrix.tolist() == [[0, 2, 0], [0, 0, 0], [0, 0, 1]]
    assert confusion.matrix.dtype == np.int64


def test_a_class_that_occurs_nowhere_has_no_iou_and_no_part_in_the_mean() -> None:
    confusion = ConfusionMatrix(3)
    confusion.update(np.array([0, 0, 1, 1], np.uint8), np.array([0, 0, 1, 0], np.uint8))
    assert confusion.per_class_iou == [pytest.approx(2 / 3), 0.5, None]
    assert confusion.miou == pytest.approx((2 / 3 + 1 / 2) / 2)


def test_a_class_that_is_only_predicted_counts_as_zero() -> None:
    confusion = ConfusionMatrix(2)
    confusion.update(np.array([0, 0], np.uint8), np.array([0, 1], np.uint8))
    assert confusion.per_class_iou == [0.5, 0.0]
    assert confusion.miou == 0.25


def test_precision_recall_and_share_of_each_class() -> None:
    confusion = ConfusionMatrix(4)
    label = np.array([0, 0, 0, 0, 1, 1, 1, 2, 255], np.uint8)
    confusion.update(label, np.array([0, 0, 0, 1, 1, 0, 0, 1, 3], np.uint8))
    assert confusion.per_class_precision == [3 / 5, pytest.approx(1 / 3), None, None]
    assert confusion.per_class_recall == [3 / 4, pytest.approx(1 / 3), 0.0, None]
    assert confusion.per_class_share == [4 / 8, 3 / 8, 1 / 8, 0.0]


def test_void_pixels_count_nowhere() -> None:
    confusion = ConfusionMatrix(2)
    confusion.update(np.array([0, 255, 255], np.uint8), np.array([0, 0, 1], np.uint8))
    assert confusion.matrix.tolist() == [[1, 0], [0, 0]]


def test_a_pixel_of_which_the_mask_says_nothing_is_a_miss() -> None:
    confusion = ConfusionMatrix(2)
    confusion.update(np.array([0, 0, 1, 255], np.uint8), np.array([0, 255, 1, 255], np.uint8))
    confusion += ConfusionMatrix(2)
    assert confusion.per_class_iou == [0.5, 1.0]
    assert confusion.per_class_recall == [0.5, 1.0]
    assert confusion.per_class_precision == [1.0, 1.0]
    assert confusion.pixel_accuracy == pytest.approx(2 / 3)


def test_merged_matrices_equal_one_matrix_of_all_images() -> None:
    labels, masks = random_images(3, 5, count=2)
    parts = [ConfusionMatrix(5), ConfusionMatrix(5)]
    whole = ConfusionMatrix(5)
    for part, label, mask in zip(parts, labels, masks, strict=True):
        part.update(label, mask)
        whole.update(label, mask)
    before = parts[0].matrix.copy()
    assert np.array_equal((parts[0] + parts[1]).matrix, whole.matrix)
    assert np.array_equal(parts[0].matrix, before)


def test_matrices_of_different_classes_do_not_merge() -> None:
    with pytest.raises(DatasetError, match="got 2 and 3"):
        ConfusionMatrix(2) + ConfusionMatrix(3)


ZEROS = np.zeros((2, 2), np.uint8)


@pytest.mark.parametrize(
    ("label", "mask", "message"),
    [
        (ZEROS, np.zeros((2, 3), np.uint8), "label's shape"),
        (ZEROS, ZEROS.astype(np.int64), "mask int64"),
        (ZEROS.astype(np.float32), ZEROS, "label float32"),
        (ZEROS + np.uint8(2), ZEROS, "from 0 to 1, got labels up to 2"),
        (ZEROS, ZEROS + np.uint8(2), "predictions up to 2"),
        (ZEROS, ZEROS + np.uint8(254), "predictions up to 254"),
    ],
)
def test_images_that_do_not_fit_are_refused_and_not_counted(
    label: np.ndarray, mask: np.ndarray, message: str
) -> None:
    confusion = ConfusionMatrix(2)
    with pytest.raises(DatasetError, match=message):
        confusion.update(label, mask)
    assert confusion.matrix.sum() == 0


@pytest.mark.parametrize("figure", ["miou", "pixel_accuracy", "per_class_share"])
def test_no_labelled_pixel_gives_an_error_and_no_number(figure: str) -> None:
    confusion = ConfusionMatrix(2)
    confusion.update(ZEROS + np.uint8(255), ZEROS)
    with pytest.raises(DatasetError, match="expected labelled pixels, found none"):
        getattr(confusion, figure)


def test_data_and_metrics_need_no_torch() -> None:
    code = "import sys, training.data, training.evaluation.metrics; print('torch' in sys.modules)"
    answer = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert answer.stdout.strip() == "False"


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
def test_no_labelled_pixel_gives_an_error_and_no_ece(figure: str) -> None:
    bins = ConfidenceBins()
    bins.update(ONE + np.uint8(255), ONE, np.ones((2, 2), np.float32))
    with pytest.raises(DatasetError, match="expected labelled pixels, found none"):
        getattr(bins, figure)
