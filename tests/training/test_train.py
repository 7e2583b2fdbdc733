import csv
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from runtime.errors import ConfigError, TrainingError
from training import evaluate, train
from training.checkpoint import load_checkpoint
from training.config import TrainConfig
from training.data import Sample, open_dataset
from training.trainer import Trainer

WHOLE_FLAGS = ("--epochs", "4", "--validate-every", "4")
FLAGS = ["--network", "residual-n", "--size", "64", "96", "--batch-size", "2", "--warmup-epochs", "1"]


def train_command(root: Path, out: Path, *flags: str) -> list[str]:
    return ["--data", "camvid", "--root", str(root), "--out", str(out), *FLAGS, *flags]


def read_rows(out: Path) -> list[dict[str, str]]:
    with (out / "results.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def final_state(out: Path) -> dict[str, object]:
    training = load_checkpoint(out / "last.pt").training
    assert training is not None
    for record in training["history"]:
        record["seconds"] = 0.0
    return training


def assert_same(left: object, right: object, where: str = "state") -> None:
    """Compare nested containers; tensors bit for bit."""
    assert type(left) is type(right), where
    if isinstance(left, torch.Tensor):
        assert torch.equal(left, right), where
    elif isinstance(left, dict):
        assert left.keys() == right.keys(), where
        for key in left:
            assert_same(left[key], right[key], f"{where}.{key}")
    elif isinstance(left, list | tuple):
        assert len(left) == len(right), where
        for index, pair in enumerate(zip(left, right, strict=True)):
            assert_same(*pair, f"{where}[{index}]")
    else:
        assert left == right, where


@pytest.fixture
def trained(camvid_root: Path, tmp_path: Path) -> Path:
    out = tmp_path / "run"
    assert train.main(train_command(camvid_root, out, "--epochs", "2")) == 0
    return out


def test_a_training_leaves_its_four_files_and_names_the_next_command(
    camvid_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert train.main(train_command(camvid_root, out, "--epochs", "3", "--validate-every", "2")) == 0
    assert sorted(path.name for path in out.iterdir()) == ["best.pt", "curves.png", "last.pt", "results.csv"]
    rows = read_rows(out)
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert [bool(row["miou"]) for row in rows] == [False, True, True]  # the last epoch always validates
    assert f"next: python -m export.to_onnx {out / 'best.pt'}" in capsys.readouterr().out


def test_best_is_the_epoch_with_the_highest_miou(trained: Path) -> None:
    accuracy = load_checkpoint(trained / "best.pt").contract.accuracy
    rows = read_rows(trained)
    assert accuracy is not None
    assert accuracy.miou == pytest.approx(max(float(row["miou"]) for row in rows), rel=1e-5)


def test_evaluating_best_gives_the_accuracy_that_its_contract_states(
    trained: Path, camvid_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    data = ["--data", "camvid", "--root", str(camvid_root), "--split", "val"]
    assert evaluate.main([str(trained / "best.pt"), *data, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    accuracy = load_checkpoint(trained / "best.pt").contract.accuracy
    assert accuracy is not None
    assert printed["miou"] == pytest.approx(accuracy.miou, abs=1e-6)
    assert printed["pixel_accuracy"] == pytest.approx(accuracy.pixel_accuracy, abs=1e-6)
    assert set(printed["per_class_iou"]) == set(accuracy.per_class_iou)


# The process kills itself, so that the moment is the same on any machine: before the `at`-th call.
KILLED = """
import os, signal, sys
import training.train as train
import training.trainer as trainer
places = {"step": (trainer.SegmentationLoss, "__call__"), "save": (train, "save_checkpoint")}
place, name = places[sys.argv[1]]
original, calls = getattr(place, name), 0
def counted(*args, **kwargs):
    global calls
    calls += 1
    if calls == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
    return original(*args, **kwargs)
setattr(place, name, counted)
train.main(sys.argv[3:])
"""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, make_camvid: Callable[[Path], Path]) -> tuple[Path, Path]:
    """A data set and an uninterrupted training on it."""
    folder = tmp_path_factory.mktemp("whole")
    root = make_camvid(folder / "camvid")
    assert train.main(train_command(root, folder / "run", *WHOLE_FLAGS)) == 0
    return root, folder / "run"


@pytest.mark.parametrize(
    ("what", "at", "finished"),
    [
        ("step", 5, 1),  # 3 steps an epoch: the middle of the second
        ("step", 10, 3),  # the first step of the fourth
        ("save", 3, 2),  # last.pt of the third epoch; nothing was validated before
        ("save", 5, 3),  # last.pt of the fourth, after best.pt
    ],
)
def test_a_killed_training_resumes_to_the_bits_of_an_uninterrupted_one(
    whole: tuple[Path, Path], tmp_path: Path, what: str, at: int, finished: int
) -> None:
    root, uninterrupted = whole
    killed = tmp_path / "killed"
    command = [sys.executable, "-c", KILLED, what, str(at), *train_command(root, killed, *WHOLE_FLAGS)]
    assert subprocess.run(command, capture_output=True, check=False).returncode == -signal.SIGKILL
    assert len(final_state(killed)["history"]) == finished  # type: ignore[arg-type]

    assert train.main(train_command(root, killed, *WHOLE_FLAGS, "--resume")) == 0
    assert_same(final_state(killed), final_state(uninterrupted))
    best = load_checkpoint(killed / "best.pt"), load_checkpoint(uninterrupted / "best.pt")
    assert_same(best[0].weights, best[1].weights)


def test_resume_takes_the_number_of_threads_since_it_shows_in_the_bits(
    trained: Path, camvid_root: Path
) -> None:
    trainer = Trainer(load_config(trained), open_dataset("camvid", str(camvid_root), "train"))
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        trainer.restore(load_checkpoint(trained / "last.pt"))
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(threads)


def test_resume_refuses_other_settings(
    trained: Path, camvid_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (trained / "last.pt").read_bytes()
    assert train.main(train_command(camvid_root, trained, "--epochs", "4", "--resume")) == 1
    assert "epochs was 2, now 4" in capsys.readouterr().err
    assert (trained / "last.pt").read_bytes() == before


def test_resume_refuses_other_data(trained: Path, camvid_root: Path) -> None:
    trainer = Trainer(load_config(trained), open_dataset("camvid", str(camvid_root), "val"))
    with pytest.raises(TrainingError, match="other classes, colours or terms"):
        trainer.restore(load_checkpoint(trained / "last.pt"))


def test_best_cannot_be_resumed(trained: Path, camvid_root: Path) -> None:
    trainer = Trainer(load_config(trained), open_dataset("camvid", str(camvid_root), "train"))
    with pytest.raises(TrainingError, match="no training state"):
        trainer.restore(load_checkpoint(trained / "best.pt"))


def load_config(out: Path) -> TrainConfig:
    return TrainConfig(**{**final_state(out)["train_config"], "size_hw": (64, 96)})  # type: ignore[dict-item]


def test_a_finished_training_is_not_overwritten(
    trained: Path, camvid_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (trained / "best.pt").read_bytes()
    assert train.main(train_command(camvid_root, trained, "--epochs", "2")) == 1
    assert "--resume" in capsys.readouterr().err
    assert (trained / "best.pt").read_bytes() == before


def test_a_loss_that_is_no_number_ends_the_training_and_keeps_the_last_good_epoch(
    camvid_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    train_epoch = Trainer.train_epoch

    def poison_then_train(trainer: Trainer) -> tuple[float, float]:
        if trainer.epoch == 1:
            with torch.no_grad():
                next(trainer.network.parameters()).fill_(float("nan"))
        return train_epoch(trainer)

    monkeypatch.setattr(Trainer, "train_epoch", poison_then_train)
    out = tmp_path / "run"
    assert train.main(train_command(camvid_root, out, "--epochs", "3")) == 1
    assert "epoch 2, step 1: the loss became nan" in capsys.readouterr().err
    assert len(final_state(out)["history"]) == 1  # type: ignore[arg-type]


def test_ctrl_c_says_how_to_go_on(
    camvid_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(trainer: Trainer) -> tuple[float, float]:
        raise KeyboardInterrupt

    monkeypatch.setattr(Trainer, "train_epoch", interrupt)
    assert train.main(train_command(camvid_root, tmp_path / "run")) == 130
    assert "--resume" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"network": "residual-xl"}, "network: expected one of"),
        ({"loss": "dice"}, "loss: expected one of"),
        ({"optimizer": "lion"}, "optimizer: expected one of"),
        ({"schedule": "step"}, "schedule: expected one of"),
        ({"precision": "fp8"}, "precision: expected one of"),
        ({"epochs": 0}, "epochs: expected at least 1"),
        ({"batch_size": 0}, "batch_size: expected at least 1"),
        ({"workers": -1}, "workers: expected at least 0"),
        ({"learning_rate": float("nan")}, "learning_rate: expected a positive number"),
        ({"seed": 2**63}, "seed: expected at least 0"),
        ({"weight_decay": float("nan")}, "weight_decay: expected at least 0"),
        ({"device": "foo"}, "device: expected one that torch has here, got 'foo'"),
        ({"average_decay": 1.0}, "average_decay: expected from 0 to below 1"),
        ({"size_hw": (360, 480)}, r"multiples of 32, got \(360, 480\); the nearest is \(352, 480\)"),
        ({"size_hw": (0, 480)}, "multiples of 32"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, object], expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        TrainConfig(**settings)  # type: ignore[arg-type]


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_gpu_that_is_not_there_is_refused() -> None:
    with pytest.raises(ConfigError, match="got 'cuda'"):
        TrainConfig(device="cuda")


@pytest.mark.parametrize(
    "argv",
    [
        ["--data", "camvid", "--root", "{nowhere}", "--out", "{out}"],
        ["--data", "camvid", "--root", "{root}", "--out", "{out}", "--batch-size", "100"],
        ["--data", "camvid", "--root", "{root}", "--out", "{out}", "--size", "360", "480"],
    ],
)
def test_known_errors_exit_with_1_and_one_line(
    argv: list[str], camvid_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = {"nowhere": tmp_path / "nowhere", "root": camvid_root, "out": tmp_path / "out"}
    assert train.main([word.format(**places) for word in argv]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("main", [train.main, evaluate.main])
def test_wrong_usage_exits_with_2(main: Callable[[list[str]], int]) -> None:
    with pytest.raises(SystemExit) as exit_info:
        main(["--no-such-flag"])
    assert exit_info.value.code == 2


def test_a_folder_that_cannot_be_made_is_found_before_the_first_epoch(
    camvid_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setattr(Trainer, "train_epoch", lambda trainer: pytest.fail("an epoch ran for nothing"))
    assert train.main(train_command(camvid_root, tmp_path / "file" / "run")) == 1
    assert "expected a folder that can be written" in capsys.readouterr().err


def test_a_bad_validation_label_is_found_before_the_first_epoch(
    camvid_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    label = sorted((camvid_root / "valannot").iterdir())[-1]
    assert cv2.imwrite(str(label), np.full((48, 64), 77, np.uint8))
    monkeypatch.setattr(Trainer, "train_epoch", lambda trainer: pytest.fail("an epoch ran for nothing"))
    assert train.main(train_command(camvid_root, tmp_path / "run")) == 1
    assert "got 77" in capsys.readouterr().err


def test_evaluate_refuses_data_with_other_classes(
    trained: Path, tmp_path: Path, make_sample: Callable[..., Sample], capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "folder"
    for kind in ("images", "labels"):
        (root / kind / "val").mkdir(parents=True)
    (root / "classes.json").write_text(json.dumps({"names": ["floor", "wall"]}))
    cv2.imwrite(str(root / "images" / "val" / "a.png"), make_sample().image_bgr)
    cv2.imwrite(str(root / "labels" / "val" / "a.png"), np.zeros((48, 64), np.uint8))
    assert evaluate.main([str(trained / "best.pt"), "--data", "folder", "--root", str(root)]) == 1
    assert "expected the model's classes" in capsys.readouterr().err


def test_a_network_learns_what_can_be_learned(camvid_root: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    flags = ("--epochs", "30", "--validate-every", "30")
    assert train.main(train_command(camvid_root, out, *flags)) == 0
    history = final_state(out)["history"]
    first, last = history[0]["train_loss"], history[-1]["train_loss"]  # type: ignore[index]
    assert last < 0.8 * first
