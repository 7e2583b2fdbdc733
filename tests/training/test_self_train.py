import dataclasses
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from runtime.contract import CAMVID_CLASSES, GraphOutput, ImageInput, ModelContract, Normalization
from runtime.errors import ConfigError
from runtime.network.resize import fit_image
from training import self_train
from training.data.cityscapes import CITYSCAPES_CLASSES
from training.engine import adaptation
from training.engine.adaptation import Judgement, with_norms_of
from training.engine.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from training.network import SIZES
from training.network.build import CameraNetwork, build_network

SIZE_HW = (32, 64)


@pytest.fixture
def start(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    contract = ModelContract(
        name="start",
        input=ImageInput(size_hw=SIZE_HW),
        output=GraphOutput(stride=4),
        classes=CAMVID_CLASSES,
        normalization=Normalization((0.0, 0.0, 0.0), (57.0, 61.0, 66.0)),
    )
    size = SIZES["residual-n"]
    network = CameraNetwork(build_network(size.kind, size.config, 11), contract.normalization)
    path = tmp_path / "start.pt"
    save_checkpoint(path, Checkpoint(size.kind, size.config, contract, network.state_dict()))
    return path


@pytest.fixture
def drive(tmp_path: Path) -> Path:
    folder = tmp_path / "drive"
    folder.mkdir()
    for index in range(5):
        image_bgr = np.random.default_rng(index).integers(0, 90, (48, 96, 3), np.uint8)
        assert cv2.imwrite(str(folder / f"frame_{index}.png"), image_bgr)
    return folder


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.fixture
def adapt(start: Path, camvid_root: Path, out: Path) -> Callable[..., int]:
    """Run the command on `start`, with what a test adds."""
    argv = [str(start), "--data", "camvid", "--root", str(camvid_root), "--out", str(out)]
    return lambda *more: self_train.main([*argv, *more])


@pytest.fixture
def surer_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Random networks are surer of nothing, so let each look find more."""
    judge, looks = adaptation.judge, itertools.count(1)

    def surer(*arguments: Any, **more: Any) -> Judgement:
        return dataclasses.replace(judge(*arguments, **more), confidence=next(looks) / 10)

    monkeypatch.setattr(adaptation, "judge", surer)


def frames_of(folder: Path) -> list[np.ndarray]:
    return [cv2.imread(str(path)) for path in sorted(folder.glob("*.png"))]


def test_norms_take_the_statistics_of_the_frames(start: Path, drive: Path) -> None:
    network, frames = load_checkpoint(start).build(), frames_of(drive)[:4]
    before = {name: value.clone() for name, value in network.state_dict().items()}
    adapted = with_norms_of(network, frames, SIZE_HW, 1.0)
    fitted = torch.from_numpy(np.stack([fit_image(frame, SIZE_HW) for frame in frames]))
    first = next(module for module in network.modules() if isinstance(module, torch.nn.Conv2d))
    with torch.no_grad():
        said = first(network.normalized(fitted))
    norm = next(module for module in adapted.modules() if isinstance(module, torch.nn.BatchNorm2d))
    torch.testing.assert_close(norm.running_mean, said.mean((0, 2, 3)), rtol=1e-3, atol=1e-3)
    assert not norm.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    half = with_norms_of(network, frames, SIZE_HW, 0.5)
    name = next(name for name in before if name.endswith("running_mean"))
    torch.testing.assert_close(half.state_dict()[name], (before[name] + adapted.state_dict()[name]) / 2)
    kept = with_norms_of(network, frames, SIZE_HW, 0.0).state_dict()
    assert all(torch.equal(kept[one], before[one]) for one in before if "running" in one)
    with pytest.raises(ConfigError, match="at least 2 frames"):
        with_norms_of(network, frames[:1], SIZE_HW, 1.0)


@pytest.mark.parametrize(
    ("miou", "shares", "fault"),
    [
        (0.595, (0.3, 0.3, 0.2, 0.2), ""),
        (0.58, (0.3, 0.3, 0.2, 0.2), "it loses 2.0 points on the labelled images, of at most 1"),
        (0.7, (1.0, 0.0, 0.0, 0.0), "it collapses: of 4 classes that were seen on the new road, 1 are left"),
        (0.7, (0.5, 0.5, 0.0, 0.0), ""),
    ],
)
def test_the_guard(miou: float, shares: tuple[float, ...], fault: str) -> None:
    before = Judgement(0.6, np.full(4, 0.25), 0.5)
    assert before.fault_of(Judgement(miou, np.array(shares), 0.9), 1.0) == fault


def test_statistics_alone_make_a_checkpoint_that_says_so(
    adapt: Callable[..., int],
    start: Path,
    drive: Path,
    out: Path,
    surer_each_time: None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert adapt("--source", str(drive), "--max-loss", "100") == 0
    report = json.loads((out / "adaptation.json").read_text())
    assert report["share_of_statistics"] == 1
    assert report["confidence_after"] > report["confidence_before"]
    assert len(report["classes_after"]) == 11
    assert (out / "before-after.png").exists()
    best = load_checkpoint(out / "best.pt")
    assert best.contract.accuracy is None  # of another network
    before = load_checkpoint(start).weights
    assert not any(
        torch.equal(value, before[name]) for name, value in best.weights.items() if name.endswith("_mean")
    )
    assert "next: python -m export.to_onnx" in capsys.readouterr().out


def test_statistics_that_make_it_less_sure_are_left_alone(
    adapt: Callable[..., int],
    drive: Path,
    out: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    sure = iter([0.9, 0.9, 0.8, 0.7, 0.6, 0.5])
    monkeypatch.setattr(adaptation, "judge", lambda *_, **__: Judgement(0.6, np.full(11, 1 / 11), next(sure)))
    assert adapt("--source", str(drive)) == 1
    assert "use the network as it is, or give --teacher" in capsys.readouterr().err
    assert not (out / "best.pt").exists()


def test_what_forgets_is_refused_and_nothing_is_written(
    adapt: Callable[..., int],
    drive: Path,
    out: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(Judgement, "fault_of", lambda *_: "it loses 9 points")
    assert adapt("--source", str(drive)) == 1
    assert "got none: with 0% of the new road's statistics it loses 9 points" in capsys.readouterr().err
    assert not (out / "best.pt").exists()


def test_a_teacher_of_other_classes_teaches_what_it_sees_on_the_drive(
    adapt: Callable[..., int],
    start: Path,
    drive: Path,
    out: Path,
    tmp_path: Path,
    write_tiny_onnx: Callable[..., Path],
    tiny: object,
    no_curves: None,
) -> None:
    contract = tiny.tiny_contract(size_hw=SIZE_HW, classes=CITYSCAPES_CLASSES)  # type: ignore[attr-defined]
    teacher = write_tiny_onnx(tmp_path / "teacher.onnx", contract=contract)
    more = ["--class-map", "cityscapes-to-camvid", "--epochs", "1", "--max-loss", "100"]
    argv = ["--source", str(drive), "--teacher", str(teacher), *more]
    assert adapt(*argv) == 0
    assert len(list((out / "frames" / "soft").glob("*.npz"))) == 5
    trained = load_checkpoint(out / "training" / "last.pt")
    name = next(name for name, value in trained.weights.items() if name.endswith("weight"))
    assert torch.equal(load_checkpoint(out / "best.pt").weights[name], trained.weights[name])
    assert not torch.equal(load_checkpoint(start).weights[name], trained.weights[name])
    assert adapt(*argv) == 0  # again: what is labelled and trained is not done twice


def test_the_proof_measures_on_the_half_that_it_did_not_see(
    adapt: Callable[..., int],
    camvid_root: Path,
    out: Path,
    surer_each_time: None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for split in ("train", "trainannot"):
        for index in range(3):  # another drive
            path = camvid_root / split / f"0001TP_{index:06d}.png"
            path.rename(path.with_name(f"0006R0_{index:06d}.png"))
    assert adapt("--prove-on", "0006R0", "--limit", "9", "--max-loss", "100") == 1  # half of 3 frames is one
    assert "expected at least 2 frames, got 1" in capsys.readouterr().err
    for split in ("train", "trainannot"):
        path = camvid_root / split / "0001TP_000003.png"
        path.rename(path.with_name("0006R0_000003.png"))
    assert adapt("--prove-on", "0006R0", "--max-loss", "100") == 0
    said = capsys.readouterr().out
    assert "second half of 0006R0, 2 frames, before: mIoU" in said
    assert len(list((out / "first-half").iterdir())) == 2
    with pytest.raises(SystemExit):
        self_train.main(["--help"])
    assert adapt() == 1
    assert "expected either --source or --prove-on" in capsys.readouterr().err
