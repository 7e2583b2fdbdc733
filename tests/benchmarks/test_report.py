"""From files to the folder, by the command a user types."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest

from benchmarks.report import main
from benchmarks.results.measuring import ReportConfig
from benchmarks.results.results import read_results
from benchmarks.results.statistics import mean_iou
from runtime import Segmenter
from runtime.contract import CAMVID_CLASSES
from training.data import open_dataset
from training.evaluation.measure import measure_segmenter

LABELLED = ["--data", "synthetic", "--limit", "2"]


@pytest.fixture(scope="module")
def models(
    tmp_path_factory: pytest.TempPathFactory, tiny: ModuleType, write_tiny_onnx: Callable[..., Path]
) -> list[str]:
    """Two of ours in CamVid's classes, and one of somebody else's."""
    folder = tmp_path_factory.mktemp("models")
    contract = tiny.tiny_contract((64, 96), classes=CAMVID_CLASSES)
    paths = [write_tiny_onnx(folder / f"{name}.onnx", contract=contract) for name in ("one", "two")]
    paths.append(write_tiny_onnx(folder / "theirs.onnx", contract=contract, metadata=None))
    return list(map(str, paths))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, models: list[str], quick: list[str]) -> Path:
    out = tmp_path_factory.mktemp("report") / "bench"
    assert main(["--models", *models, *LABELLED, *quick, "--layer-runs", "1", "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Few and small frames."""
    folder = tmp_path_factory.mktemp("frames")
    for index in range(7):
        cv2.imwrite(str(folder / f"{index}.png"), np.full((48, 64, 3), 30 * index, np.uint8))
    return [
        "--rounds",
        "4",
        "--frames",
        "2",
        "--threads",
        "1",
        "--layer-runs",
        "0",
        "--video",
        str(folder / "*.png"),
    ]


def test_the_folder_holds_texts_figures_and_samples(folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} == {
        "report.html",
        "report.md",
        "readme.md",
        "results.json",
        "pareto.svg",
        "stages.svg",
        "distribution.svg",
        "drift.svg",
        "operators.svg",
        "classes.svg",
    }


def test_every_sample_is_kept(folder: Path) -> None:
    results = read_results(folder / "results.json")
    assert [model.label for model in results.models] == ["one", "two", "theirs"]
    for model in results.models[:2]:
        assert list(model.stages_ms) == ["resize", "network", "mask", "draw", "total"]
        assert all(model.stage(name).shape == (4, 2) for name in model.stages_ms)
    assert list(results.models[2].stages_ms) == ["network"]
    assert results.yardstick.shape == (4, 6)
    assert (results.settings.threads, results.settings.frame_size_hw) == (1, (48, 64))


def test_networks_are_held_against_the_machine_and_without_its_folders(folder: Path) -> None:
    results = read_results(folder / "results.json")
    assert results.machine_limits is not None
    for model in results.models:
        assert model.limits is not None
        assert model.limits.file == model.file.file
        assert sum(model.limits.gmacs.values()) > 0
        assert any(op.operator == "Conv" for op in model.limits.ops)


def test_the_accuracy_is_that_of_the_accuracy_benchmark(folder: Path, models: list[str]) -> None:
    results = read_results(folder / "results.json")
    with Segmenter(models[0]) as segment:
        expected = measure_segmenter(segment, open_dataset("synthetic", None, "val"), limit=2).accuracy
    accuracy = results.models[0].accuracy
    assert accuracy is not None
    assert accuracy.summary == expected
    assert float(mean_iou(accuracy.counts)) == pytest.approx(expected.miou)
    assert results.models[2].accuracy is None
    assert results.settings.data == "synthetic val (2 images)"


def test_no_folder_of_this_machine_is_in_the_texts(folder: Path, models: list[str]) -> None:
    for path in folder.iterdir():
        assert str(Path(models[0]).parent) not in path.read_text(), path.name
    assert "one.onnx two.onnx theirs.onnx --data synthetic" in (folder / "report.md").read_text()


def test_the_table_is_printed_and_the_next_command(
    models: list[str], quick: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "bench"
    assert main(["--models", *models[:2], *quick, "--out", str(out)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:2] == ["model", "mIoU"]
    assert [line.split()[0] for line in lines[1:3]] == ["one", "two"]
    assert lines[-1] == f"next: python -m benchmarks.compare OLD/results.json {out / 'results.json'}"
    assert not (out / "pareto.svg").exists()  # no labels, no accuracy
    assert not (out / "operators.svg").exists()


def test_a_report_can_be_written_again_from_its_samples(folder: Path, tmp_path: Path) -> None:
    assert main(["--from", str(folder / "results.json"), "--out", str(tmp_path)]) == 0
    for path in folder.iterdir():
        assert (tmp_path / path.name).read_text() == path.read_text(), path.name


def test_a_model_of_other_classes_is_refused_before_anything_is_measured(
    tiny_onnx: Path, models: list[str], quick: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--models", models[0], str(tiny_onnx), *LABELLED, *quick, "--out", str(tmp_path / "bench")]
    assert main(arguments) == 1
    captured = capsys.readouterr()
    assert "blue" in captured.err
    assert captured.err.count("\n") == 1
    assert list((tmp_path / "bench").iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--models", "gone.onnx"], "gone.onnx"),
        (["--video", "gone.mp4"], "gone.mp4"),
        (["--rounds", "1"], "rounds: expected a number of at least 4"),
        (["--data", "camvid"], "--root"),
        (["--from", "gone.json"], "gone.json"),
        ([*LABELLED[:2], "--limit", "0"], "limit"),
    ],
)
def test_bad_input_gives_1_and_one_line(
    models: list[str],
    quick: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    says: str,
) -> None:
    assert main(["--models", models[0], *quick, *arguments, "--out", str(tmp_path)]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ")
    assert says in error


def test_a_folder_that_cannot_be_written_is_found_before_the_measurement(
    models: list[str], quick: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert main(["--models", models[0], *quick, "--out", str(tmp_path / "file" / "bench")]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_a_failed_measurement_leaves_the_earlier_report(
    folder: Path, models: list[str], quick: list[str], tmp_path: Path
) -> None:
    (tmp_path / "results.json").write_text("earlier")
    (tmp_path / "report.md").write_text("earlier")
    assert main(["--models", models[0], *quick, "--video", "gone.mp4", "--out", str(tmp_path)]) == 1
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "results.json": "earlier",
        "report.md": "earlier",
    }


def test_without_models_the_bundled_ones_are_compared() -> None:
    names = [path.stem for path in ReportConfig().files]
    assert names == sorted(names)
    assert {"camvid-n", "camvid-n-int8", "camvid-s", "camvid-s-int8"} <= set(names)


def test_results_are_json_without_nan(folder: Path) -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    json.loads((folder / "results.json").read_text(), parse_constant=refuse)
