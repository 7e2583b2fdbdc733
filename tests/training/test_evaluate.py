import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from runtime.contract import CAMVID_CLASSES, Accuracy, GraphOutput, ImageInput, ModelContract, Normalization
from training.engine.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from training.evaluate import main
from training.network import SIZES
from training.network.build import CameraNetwork, build_network

NORMALIZATION = Normalization((110.0, 110.0, 110.0), (60.0, 60.0, 60.0))
SIZE_HW = (64, 96)


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


@pytest.fixture
def own(checkpoint: Path, tmp_path: Path) -> Path:
    """A copy that may be written into."""
    path = tmp_path / "own.pt"
    path.write_bytes(checkpoint.read_bytes())
    return path


def evaluated(path: Path, camvid: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert main(evaluate_command(path, camvid, "--json")) == 0
    report: dict[str, Any] = json.loads(capsys.readouterr().out)
    return report


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


def test_the_temperature_is_fitted_and_stays_in_the_checkpoint(
    checkpoint: Path, own: Path, camvid: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = evaluated(own, camvid, capsys)
    assert main(evaluate_command(own, camvid, "--fit-temperature", "--json")) == 0
    out, err = capsys.readouterr()
    after, temperature = json.loads(out), load_checkpoint(own).contract.output.temperature
    assert temperature != 1.0
    assert f"temperature {temperature:g}, written into {own}" in err
    assert after["miou"] == before["miou"]
    assert after["ece"] < before["ece"]
    weights, kept = load_checkpoint(checkpoint).weights, load_checkpoint(own).weights
    assert all(torch.equal(weights[name], kept[name]) for name in weights)
    assert evaluated(own, camvid, capsys)["ece"] == after["ece"]


def test_the_biases_are_fitted_and_stay_in_the_checkpoint(
    checkpoint: Path, own: Path, camvid: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = evaluated(own, camvid, capsys)
    assert main(evaluate_command(own, camvid, "--fit-biases", "--json")) == 0
    out, err = capsys.readouterr()
    after = json.loads(out)
    assert "biases moved by sky " in err
    assert f"written into {own}" in err
    assert after["miou"] > before["miou"]
    first, kept = load_checkpoint(checkpoint), load_checkpoint(own)
    assert [name for name in kept.weights if not torch.equal(first.weights[name], kept.weights[name])] == [
        "body.classifier.bias"
    ]
    assert (kept.contract.accuracy, kept.contract.output.temperature) == (None, 1.0)
    assert main(evaluate_command(own, camvid, "--fit-temperature", "--scales", "0.5")) == 0
    assert load_checkpoint(own).contract.accuracy is None  # that of another size
    assert main(evaluate_command(own, camvid, "--fit-temperature")) == 0
    stated = load_checkpoint(own).contract.accuracy
    assert stated is not None
    assert stated.miou == pytest.approx(after["miou"])
    capsys.readouterr()
    assert evaluated(own, camvid, capsys)["miou"] == after["miou"]


@pytest.mark.parametrize("fit", ["--fit-biases", "--fit-temperature"])
def test_a_bundled_checkpoint_is_not_written_into(
    checkpoint: Path,
    camvid: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    fit: str,
) -> None:
    monkeypatch.setattr("training.engine.checkpoint.WEIGHTS", tmp_path)
    bundled = tmp_path / "camvid-x.pt"
    bundled.write_bytes(checkpoint.read_bytes())
    assert main(evaluate_command(Path("camvid-x"), camvid)) == 0
    assert main(evaluate_command(Path("camvid-x"), camvid, fit)) == 1
    assert f"got a bundled one; copy {bundled} first" in capsys.readouterr().err
    assert bundled.read_bytes() == checkpoint.read_bytes()
