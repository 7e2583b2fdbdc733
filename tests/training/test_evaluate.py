import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from runtime.contract import CAMVID_CLASSES, Accuracy, GraphOutput, ImageInput, ModelContract, Normalization
from runtime.errors import ConfigError
from runtime.network.resize import fit_image
from training.data import open_dataset
from training.engine.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from training.evaluate import evaluate, main, predict
from training.evaluation.confusion import ConfusionMatrix
from training.evaluation.ece import class_probabilities
from training.evaluation.views import Views, averaged_probabilities
from training.network import SIZES, CameraNetwork, build_network

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


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    size = SIZES["residual-n"]
    contract = ModelContract(
        name="camvid-residual-n",
        input=ImageInput(SIZE_HW),
        output=GraphOutput(size.config.stride),
        classes=CAMVID_CLASSES,
        normalization=NORMALIZATION,
    )
    weights = CameraNetwork(build_network(size.kind, size.config, 11), NORMALIZATION).state_dict()
    path = tmp_path_factory.mktemp("run") / "best.pt"
    save_checkpoint(path, Checkpoint(size.kind, size.config, contract, weights))
    return path


def run_of(network: CameraNetwork) -> Callable[[np.ndarray], np.ndarray]:
    def run(fitted: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            logits: np.ndarray = network(torch.from_numpy(fitted[None])).numpy()
            return logits

    return run


def test_the_matrices_of_parts_add_up_to_that_of_the_whole(network: CameraNetwork, camvid: Path) -> None:
    dataset = open_dataset("camvid", camvid, "train")
    whole = evaluate(network, dataset, SIZE_HW)
    parts = [evaluate(network, dataset, SIZE_HW, indices=range(rank, len(dataset), 2)) for rank in range(2)]
    assert np.array_equal((parts[0] + parts[1]).matrix, whole.matrix)
    assert whole.matrix.sum() == 6 * 46 * 64  # two rows of each are void


def test_a_part_without_images_counts_nothing(network: CameraNetwork, camvid: Path) -> None:
    dataset = open_dataset("camvid", camvid, "val")
    assert evaluate(network, dataset, SIZE_HW, indices=()).matrix.sum() == 0


def test_one_view_predicts_the_masks_that_evaluate_counts(network: CameraNetwork, camvid: Path) -> None:
    dataset = open_dataset("camvid", camvid, "val")
    confusion = ConfusionMatrix(11)
    for prediction in predict(network, dataset, Views((SIZE_HW,))):
        confusion.update(prediction.sample.label, prediction.mask)
        probabilities = class_probabilities(
            run_of(network)(fit_image(prediction.sample.image_bgr, SIZE_HW)), prediction.mask.shape
        )
        assert np.array_equal(prediction.confidence, probabilities.max(axis=0))
    assert np.array_equal(confusion.matrix, evaluate(network, dataset, SIZE_HW).matrix)


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
    for prediction in predict(network, dataset, views):
        mean = averaged_probabilities(run_of(network), prediction.sample.image_bgr, views)
        assert np.array_equal(prediction.mask, mean.argmax(axis=0))
        assert prediction.mask.dtype == np.uint8
        assert np.array_equal(prediction.confidence, mean.max(axis=0))


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


def evaluate_command(checkpoint: Path, camvid: Path, *flags: str) -> list[str]:
    return [str(checkpoint), "--data", "camvid", "--root", str(camvid), *flags]


def test_json_is_all_of_stdout(checkpoint: Path, camvid: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(evaluate_command(checkpoint, camvid, "--flip", "--scales", "0.5", "1", "--json")) == 0
    report = json.loads(capsys.readouterr().out)
    for figure in ("miou", "pixel_accuracy", "ece", "mean_confidence"):
        assert 0 <= report[figure] <= 1
    for figure in ("iou", "precision", "recall", "share"):
        assert list(report[f"per_class_{figure}"]) == list(CAMVID_CLASSES.names)
    assert (report["views_hw"], report["flip"]) == ([[32, 64], [64, 96]], True)


def test_the_table_has_a_line_a_class_and_names_the_next_command(
    checkpoint: Path, camvid: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(evaluate_command(checkpoint, camvid)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "camvid val, 3 frames"
    assert lines[1].split() == ["IoU", "precision", "recall", "of", "pixels"]
    assert [line.split()[0] for line in lines[2:13]] == list(CAMVID_CLASSES.names)
    assert [line.split()[0] for line in lines[13:16]] == ["pixel", "mIoU", "ECE"]
    assert len({len(line) for line in lines[1:13]}) == 1
    assert lines[-1] == f"next: python -m export.to_onnx {checkpoint}"
    assert not any("views" in line for line in lines)


@pytest.mark.parametrize(("flags", "views"), [(["--flip"], "2 views: 64x96"), (["--scales", "2"], "128x192")])
def test_says_when_the_figures_are_not_those_of_one_view(
    checkpoint: Path, camvid: Path, capsys: pytest.CaptureFixture[str], flags: list[str], views: str
) -> None:
    assert main(evaluate_command(checkpoint, camvid, *flags)) == 0
    out = capsys.readouterr().out
    assert views in out
    assert "the exported file sees 1 view, 64x96" in out


def test_report_leaves_two_pictures(
    checkpoint: Path, camvid: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "new" / "report"
    assert main(evaluate_command(checkpoint, camvid, "--report", str(report), "--worst", "2")) == 0
    assert sorted(path.name for path in report.iterdir()) == ["confusion.png", "worst.png"]
    assert str(report / "worst.png") in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--scales", "0"], "factors from"),
        (["--worst", "0"], "at least 1"),
        (["--leave-out", "nowhere"], "nowhere"),
        (["--report", "{file}/report"], "expected a folder that can be written"),
        (["--device", "abacus"], "abacus"),
    ],
)
def test_bad_input_gives_1_and_one_line(
    checkpoint: Path,
    camvid: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    flags: list[str],
    says: str,
) -> None:
    (tmp_path / "file").write_text("in the way")
    flags = [flag.format(file=tmp_path / "file") for flag in flags]
    assert main(evaluate_command(checkpoint, camvid, *flags)) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert says in captured.err


@pytest.fixture
def two_drives(tmp_path: Path, make_camvid: Callable[[Path], Path]) -> Path:
    root = make_camvid(tmp_path / "camvid")
    for folder in ("train", "trainannot"):
        for path in sorted((root / folder).iterdir())[:2]:
            path.rename(path.with_name(path.name.replace("0001TP", "0006R0")))
    return root


@pytest.mark.parametrize(("stated", "notes"), [(None, 1), ("val", 1), ("held-out drive 0006R0", 0)])
def test_says_when_a_left_out_drive_may_have_been_trained_on(
    checkpoint: Path,
    two_drives: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    stated: str | None,
    notes: int,
) -> None:
    loaded = load_checkpoint(checkpoint)
    accuracy = None if stated is None else Accuracy("camvid", stated, 2, 0.1, 0.1)
    path = tmp_path / "best.pt"
    save_checkpoint(path, replace(loaded, contract=replace(loaded.contract, accuracy=accuracy)))
    assert main(evaluate_command(path, two_drives, "--leave-out", "0006R0", "--json")) == 0
    captured = capsys.readouterr()
    report = json.loads(captured.out)
    assert (report["split"], report["frames"]) == ("held-out drive 0006R0", 2)
    assert captured.err.count("note: ") == notes


@pytest.mark.skipif("EDGESEG_CAMVID" not in os.environ, reason="needs CamVid, see EDGESEG_CAMVID")
def test_a_mirrored_view_works_on_real_frames(network: CameraNetwork) -> None:
    dataset = open_dataset("camvid", os.environ["EDGESEG_CAMVID"], "val")
    prediction = next(predict(network, dataset, Views((SIZE_HW,), flip=True)))
    assert prediction.mask.shape == prediction.confidence.shape == (360, 480)
