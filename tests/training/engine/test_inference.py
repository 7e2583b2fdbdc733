import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from runtime.contract import Normalization
from runtime.errors import ConfigError
from runtime.network.resize import fit_image
from training.data import open_dataset
from training.engine.inference import Views, averaged_probabilities, evaluate, predictor
from training.evaluation.measure import measure
from training.evaluation.metrics import class_probabilities
from training.network.build import CameraNetwork

NORMALIZATION = Normalization((110.0, 110.0, 110.0), (60.0, 60.0, 60.0))
SIZE_HW = (64, 96)


@pytest.fixture(scope="module")
def network() -> CameraNetwork:
    """Looks to the left, so that a mirrored image gives something else."""
    torch.manual_seed(0)
    convolution = nn.Conv2d(3, 11, (1, 3), padding=(0, 1))
    nn.init.normal_(convolution.weight)
    return CameraNetwork(nn.Sequential(nn.AvgPool2d(8), convolution), NORMALIZATION).eval()


@pytest.fixture(scope="module")
def camvid(tmp_path_factory: pytest.TempPathFactory, make_camvid: Callable[[Path], Path]) -> Path:
    return make_camvid(tmp_path_factory.mktemp("camvid"))


def run_of(network: CameraNetwork) -> Callable[[np.ndarray], np.ndarray]:
    def run(fitted: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            logits: np.ndarray = network(torch.from_numpy(fitted[None])).numpy()
            return logits

    return run


def test_the_matrices_of_parts_add_up_to_that_of_the_whole(network: CameraNetwork, camvid: Path) -> None:
    dataset = open_dataset("camvid", camvid, "train")
    whole = evaluate(network, dataset, SIZE_HW).confusion
    parts = [
        evaluate(network, dataset, SIZE_HW, indices=range(rank, len(dataset), 2)).confusion
        for rank in range(2)
    ]
    assert np.array_equal((parts[0] + parts[1]).matrix, whole.matrix)
    assert whole.matrix.sum() == 6 * 46 * 64  # two rows of each are void


def test_a_part_without_images_counts_nothing(network: CameraNetwork, camvid: Path) -> None:
    dataset = open_dataset("camvid", camvid, "val")
    assert evaluate(network, dataset, SIZE_HW, indices=()).confusion.matrix.sum() == 0


def test_one_view_predicts_the_masks_that_evaluate_counts(network: CameraNetwork, camvid: Path) -> None:
    dataset = open_dataset("camvid", camvid, "val")
    predict = predictor(network, Views((SIZE_HW,)))
    for sample in (dataset[index] for index in range(len(dataset))):
        prediction = predict(sample.image_bgr)
        probabilities = class_probabilities(
            run_of(network)(fit_image(sample.image_bgr, SIZE_HW)), prediction.mask.shape
        )
        assert np.array_equal(prediction.confidence, probabilities.max(axis=0))
    counted = measure(predict, dataset).confusion
    assert np.array_equal(counted.matrix, evaluate(network, dataset, SIZE_HW).confusion.matrix)


def test_several_views_give_the_mean_of_their_probabilities(network: CameraNetwork, camvid: Path) -> None:
    sample = open_dataset("camvid", camvid, "val")[0]
    size_hw, run = sample.label.shape, run_of(network)
    expected = []
    for view_hw in ((32, 64), SIZE_HW):
        fitted = fit_image(sample.image_bgr, view_hw)
        expected.append(class_probabilities(run(fitted), size_hw))
        mirrored = class_probabilities(run(np.ascontiguousarray(np.fliplr(fitted))), size_hw)
        expected.append(np.stack([np.fliplr(plane) for plane in mirrored]))
    views = Views(((32, 64), SIZE_HW), flip=True)
    found = averaged_probabilities(run, sample.image_bgr, views)
    np.testing.assert_allclose(found, sum(expected) / 4, atol=1e-6)
    np.testing.assert_allclose(found.sum(axis=0), 1, atol=1e-5)
    assert not np.allclose(found, expected[2], atol=1e-3)  # the views do not agree, or nothing was tested


def test_with_flip_a_mirrored_image_gives_the_mirrored_answer(network: CameraNetwork, camvid: Path) -> None:
    image_bgr = open_dataset("camvid", camvid, "val")[0].image_bgr
    mirrored_bgr = np.ascontiguousarray(image_bgr[:, ::-1])
    for flip in (True, False):
        views = Views((SIZE_HW,), flip=flip)
        answer, other = (
            averaged_probabilities(run_of(network), image, views) for image in (image_bgr, mirrored_bgr)
        )
        assert np.allclose(answer, other[:, :, ::-1], atol=1e-5) == flip


def test_several_views_predict_the_most_probable_class(network: CameraNetwork, camvid: Path) -> None:
    dataset, views = open_dataset("camvid", camvid, "val"), Views((SIZE_HW,), flip=True)
    predict = predictor(network, views)
    for image_bgr in (dataset[index].image_bgr for index in range(len(dataset))):
        prediction = predict(image_bgr)
        mean = averaged_probabilities(run_of(network), image_bgr, views)
        assert np.array_equal(prediction.mask, mean.argmax(axis=0))
        assert prediction.mask.dtype == np.uint8
        assert np.array_equal(prediction.confidence, mean.max(axis=0))


@pytest.mark.skipif("EDGESEG_CAMVID" not in os.environ, reason="needs CamVid, see EDGESEG_CAMVID")
def test_a_mirrored_view_works_on_real_frames(network: CameraNetwork) -> None:
    dataset = open_dataset("camvid", os.environ["EDGESEG_CAMVID"], "val")
    prediction = predictor(network, Views((SIZE_HW,), flip=True))(dataset[0].image_bgr)
    assert prediction.mask.shape == prediction.confidence.shape == (360, 480)


@pytest.mark.parametrize(
    ("scales", "sizes_hw"),
    [
        ([1.0], ((352, 480),)),
        ([0.5, 2], ((192, 256), (704, 960))),  # 5.5 and 7.5 steps of 32: halves go to the even number
        ([0.75, 1.0, 1.25], ((256, 352), (352, 480), (448, 608))),
    ],
)
def test_scaled_sizes_are_ones_that_the_network_takes(
    scales: list[float], sizes_hw: tuple[tuple[int, int], ...]
) -> None:
    assert Views.of_scales((352, 480), scales, multiple=32).sizes_hw == sizes_hw


def test_no_side_is_rounded_to_nothing() -> None:
    assert Views.of_scales((32, 64), [0.25], multiple=32).sizes_hw == ((32, 32),)


@pytest.mark.parametrize(
    ("scales", "message"),
    [
        ([], "factors from"),
        ([1.0, 0.0], "factors from"),
        ([-1.0], "factors from"),
        ([float("nan")], "factors from"),
        ([100.0], "factors from"),
        ([1.0, 1.01], "another size, got 352x480, 352x480"),
    ],
)
def test_scales_that_cannot_work_are_refused(scales: list[float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Views.of_scales((352, 480), scales, multiple=32)
