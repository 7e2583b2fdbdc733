from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from runtime import Segmenter
from runtime.contract import CAMVID_CLASSES, GraphOutput
from runtime.errors import ConfigError, DatasetError
from training.evaluation.measure import Prediction, measure, measure_batches, measure_segmenter


class Pictures:
    name, split, terms = "pictures", "val", ""

    def __init__(self, classes, *samples):
        self.classes = classes
        self._samples = samples

    def __len__(self):
        return len(self._samples)

    def __getitem__(self, index):
        image_bgr, label = self._samples[index]
        return SimpleNamespace(image_bgr=image_bgr, label=label, name=str(index))


def plain(channel, label):
    image_bgr = np.zeros((64, 96, 3), np.uint8)
    image_bgr[..., channel] = 255
    return image_bgr, label


def test_agrees_with_figures_worked_out_by_hand(tiny_onnx, tiny):
    all_blue = np.zeros((64, 96), np.uint8)
    half_green = np.ones((64, 96), np.uint8)
    half_green[:, :48] = 0
    half_void = np.full((64, 96), 255, np.uint8)
    half_void[:32] = 1
    pictures = Pictures(tiny.COLOR_CLASSES, plain(0, all_blue), plain(0, half_green), plain(1, half_void))
    with Segmenter(tiny_onnx) as segment:
        accuracy = measure_segmenter(segment, pictures).accuracy
    # In half pictures: blue is labelled 3, predicted 4, both 3; green labelled 2, predicted 1, both 1.
    assert accuracy.per_class_iou == {"blue": 3 / 4, "green": 1 / 2, "red": None}
    assert accuracy.miou == pytest.approx(5 / 8)
    assert accuracy.pixel_accuracy == pytest.approx(4 / 5)
    assert accuracy.frames == 3


def test_a_limit_takes_the_first_images_only(tiny_onnx, tiny):
    right, wrong = np.zeros((64, 96), np.uint8), np.full((64, 96), 2, np.uint8)
    pictures = Pictures(tiny.COLOR_CLASSES, plain(0, right), plain(0, wrong))
    with Segmenter(tiny_onnx) as segment:
        accuracy = measure_segmenter(segment, pictures, limit=1).accuracy
    assert (accuracy.miou, accuracy.frames) == (1.0, 1)


@pytest.mark.parametrize("limit", [0, -3])
def test_refuses_a_limit_that_measures_nothing(tiny_onnx, tiny, limit):
    with Segmenter(tiny_onnx) as segment, pytest.raises(ConfigError, match="at least 1"):
        measure_segmenter(segment, Pictures(tiny.COLOR_CLASSES), limit=limit)


def test_refuses_data_of_other_classes(tiny_onnx):
    with Segmenter(tiny_onnx) as segment, pytest.raises(DatasetError, match=r"blue.*sky"):
        measure_segmenter(segment, Pictures(CAMVID_CLASSES))


def test_the_ece_agrees_with_figures_worked_out_by_hand(tiny_onnx, tiny):
    half_right = np.zeros((64, 96), np.uint8)
    half_right[:, 48:] = 2
    half_right[0] = 255
    pictures = Pictures(tiny.COLOR_CLASSES, plain(0, half_right))
    with Segmenter(tiny_onnx) as segment:
        confidences = measure_segmenter(segment, pictures, ece=True).confidences
    assert confidences is not None
    sure = np.e / (np.e + 2)  # logits 1, 0, 0 everywhere
    assert confidences.mean_confidence == pytest.approx(sure)
    assert confidences.ece == pytest.approx(sure - 0.5)


def test_the_masks_are_the_same_with_and_without_confidence(tiny_onnx, tiny):
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, high, shape, np.uint8) for high, shape in ((256, (50, 70, 3)), (3, (50, 70)))]
    with Segmenter(tiny_onnx) as segment:
        without, with_confidence = (
            measure_segmenter(segment, Pictures(tiny.COLOR_CLASSES, noise), ece=ece) for ece in (False, True)
        )
    assert np.array_equal(without.confusion.matrix, with_confidence.confusion.matrix)
    assert (without.confidences is None, with_confidence.confidences is None) == (True, False)


@pytest.mark.parametrize("limit", [0, -3])
def test_refuses_a_limit_without_images_for_the_ece(tiny_onnx, tiny, limit):
    with Segmenter(tiny_onnx) as segment, pytest.raises(ConfigError, match="at least 1"):
        measure_segmenter(segment, Pictures(tiny.COLOR_CLASSES), limit=limit, ece=True)


def test_refuses_an_ece_on_data_of_other_classes(tiny_onnx):
    with Segmenter(tiny_onnx) as segment, pytest.raises(DatasetError, match=r"blue.*sky"):
        measure_segmenter(segment, Pictures(CAMVID_CLASSES), ece=True)


def test_refuses_an_ece_of_a_file_without_logits(tiny):
    masks_only = replace(tiny.tiny_contract(), output=GraphOutput(8, kind="mask"))
    with pytest.raises(ConfigError, match="expected a file that gives logits"):
        measure_segmenter(SimpleNamespace(contract=masks_only), Pictures(tiny.COLOR_CLASSES), ece=True)


def blue_is_the_class(image_bgr):
    return image_bgr[:, :, 0] // 100


@pytest.fixture
def five_pictures(tiny):
    rng = np.random.default_rng(0)
    sizes_hw = [(8, 12), (8, 12), (6, 4), (10, 10), (8, 12)]
    return Pictures(
        tiny.COLOR_CLASSES,
        *((rng.integers(0, 256, (*hw, 3), np.uint8), rng.integers(0, 3, hw, np.uint8)) for hw in sizes_hw),
    )


def test_any_function_of_an_image_is_measured_and_agrees_with_a_count_by_hand(five_pictures):
    measured = measure(blue_is_the_class, five_pictures)
    counts = np.zeros((3, 3), int)
    for index in range(5):
        sample = five_pictures[index]
        np.add.at(counts, (sample.label, blue_is_the_class(sample.image_bgr)), 1)
    assert np.array_equal(measured.confusion.matrix, counts)
    assert measured.confidences is None


@pytest.mark.parametrize("batch_size", [1, 2, 5, 7])
def test_batches_count_what_single_images_do(five_pictures, batch_size):
    sizes = []

    def predict(images_bgr):
        sizes.append(len(images_bgr))
        return [blue_is_the_class(image_bgr) for image_bgr in images_bgr]

    measured = measure_batches(predict, five_pictures, batch_size=batch_size)
    assert np.array_equal(
        measured.confusion.matrix, measure(blue_is_the_class, five_pictures).confusion.matrix
    )
    assert sum(sizes) == 5
    assert set(sizes[:-1]) <= {batch_size}


def test_each_image_is_handed_over_with_its_own_counts(five_pictures):
    seen = []
    measured = measure_batches(
        lambda images_bgr: [blue_is_the_class(image) for image in images_bgr],
        five_pictures,
        batch_size=2,
        indices=(4, 0, 2),
        on_image=seen.append,
    )
    assert [(image.index, image.sample.name) for image in seen] == [(4, "4"), (0, "0"), (2, "2")]
    assert all(image.confusion.matrix.sum() == image.sample.label.size for image in seen)
    assert np.array_equal(sum(image.confusion.matrix for image in seen), measured.confusion.matrix)
    assert measured.frames == 3


def test_confidences_are_counted_where_masks_come_with_them(five_pictures):
    def sure(image_bgr):
        return Prediction(blue_is_the_class(image_bgr), np.full(image_bgr.shape[:2], 0.5, np.float32))

    measured = measure(sure, five_pictures)
    assert measured.confidences is not None
    assert measured.confidences.ece == pytest.approx(abs(measured.confusion.pixel_accuracy - 0.5))


def test_a_mask_of_another_size_is_refused(five_pictures):
    with pytest.raises(DatasetError, match="resize the mask"):
        measure(lambda image_bgr: blue_is_the_class(image_bgr)[1:], five_pictures)
