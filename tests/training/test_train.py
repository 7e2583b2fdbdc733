import contextlib
import csv
import io
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from runtime.errors import ConfigError
from training import evaluate, train
from training.data import Sample
from training.engine.checkpoint import load_checkpoint
from training.engine.config import TrainConfig
from training.engine.losses import SegmentationLoss
from training.engine.trainer import Trainer

FLAGS = ["--network", "residual-n", "--size", "32", "64", "--batch-size", "2", "--warmup-epochs", "1"]
FLAGS += ["--aux-weight", "0"]  # one loss a step, so that tests can count steps by it

pytestmark = pytest.mark.usefixtures("no_curves")


def train_command(root: Path, out: Path, *flags: str) -> list[str]:
    return ["--data", "camvid", "--root", str(root), "--out", str(out), *FLAGS, *flags]


def read_rows(out: Path) -> list[dict[str, str]]:
    with (out / "results.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def final_state(out: Path) -> dict[str, object]:
    training = load_checkpoint(out / "last.pt").training
    assert training is not None
    return training


@pytest.fixture(scope="module")
def finished(
    tmp_path_factory: pytest.TempPathFactory, make_camvid: Callable[[Path], Path]
) -> tuple[Path, Path, str]:
    """A data set, the folder of a whole training on it, curves and all, and what that printed on stdout."""
    folder = tmp_path_factory.mktemp("trained")
    root, printed = make_camvid(folder / "camvid"), io.StringIO()
    with contextlib.redirect_stdout(printed):
        command = train_command(root, folder / "run", "--epochs", "3", "--validate-every", "2")
        assert train.main(command) == 0
    return root, folder / "run", printed.getvalue()


@pytest.fixture
def trained(finished: tuple[Path, Path, str]) -> Path:
    return finished[1]


def test_a_training_leaves_its_files_and_names_the_next_command(finished: tuple[Path, Path, str]) -> None:
    _, out, printed = finished
    expected = ["best.pt", "curves.png", "last.pt", "results.csv", "tensorboard"]
    assert sorted(path.name for path in out.iterdir()) == expected
    rows = read_rows(out)
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert [bool(row["miou"]) for row in rows] == [False, True, True]  # the last epoch always validates
    assert all(float(row["images_per_s"]) > 0 for row in rows)
    assert re.search(r"loop \d+\.\d images/s, bare step \d+\.\d images/s, ratio \d", printed)
    assert f"next: python -m export.to_onnx {out / 'best.pt'}" in printed


def test_best_is_the_epoch_with_the_highest_miou(trained: Path) -> None:
    accuracy = load_checkpoint(trained / "best.pt").contract.accuracy
    mious = [float(row["miou"]) for row in read_rows(trained) if row["miou"]]
    assert accuracy is not None
    assert accuracy.miou == pytest.approx(max(mious), rel=1e-5)


def test_evaluating_best_gives_the_accuracy_that_its_contract_states(
    finished: tuple[Path, Path, str], capsys: pytest.CaptureFixture[str]
) -> None:
    root, trained, _ = finished
    capsys.readouterr()
    data = ["--data", "camvid", "--root", str(root), "--split", "val"]
    assert evaluate.main([str(trained / "best.pt"), *data, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    accuracy = load_checkpoint(trained / "best.pt").contract.accuracy
    assert accuracy is not None
    assert printed["miou"] == pytest.approx(accuracy.miou, abs=1e-6)
    assert printed["pixel_accuracy"] == pytest.approx(accuracy.pixel_accuracy, abs=1e-6)
    assert set(printed["per_class_iou"]) == set(accuracy.per_class_iou)


def test_a_finished_training_is_not_overwritten(
    trained: Path, camvid_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (trained / "best.pt").read_bytes()
    assert train.main(train_command(camvid_root, trained, "--epochs", "2")) == 1
    assert "--resume" in capsys.readouterr().err
    assert (trained / "best.pt").read_bytes() == before


@pytest.mark.parametrize("every", ["0", "1"])
def test_a_loss_that_is_no_number_ends_the_training_and_keeps_the_last_good_weights(
    every: str,
    camvid_root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    spoil_loss(monkeypatch, {5: float("nan")})
    out = tmp_path / "run"
    flags = ("--epochs", "3", "--checkpoint-every-steps", every)
    assert train.main(train_command(camvid_root, out, *flags)) == 1
    assert "epoch 2, step 2: the loss became nan" in capsys.readouterr().err
    state = final_state(out)
    assert len(state["history"]) == 1  # type: ignore[arg-type]
    assert len(state["losses"]) == int(every)  # type: ignore[arg-type]
    assert all(value.isfinite().all() for value in state["network"].values())  # type: ignore[attr-defined]
    assert (out / "best.pt").exists()


def test_a_gradient_that_is_no_number_ends_the_training_before_its_weights_are_kept(
    camvid_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil_loss(monkeypatch, {3: float("inf")}, gradient_only=True)
    out = tmp_path / "run"
    assert train.main(train_command(camvid_root, out, "--checkpoint-every-steps", "1")) == 1
    assert "epoch 1, step 3: the gradient became" in capsys.readouterr().err
    assert len(final_state(out)["losses"]) == 2  # type: ignore[arg-type]


def test_a_diverging_loss_ends_the_training_and_keeps_what_was_before(
    camvid_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil_loss(monkeypatch, dict.fromkeys(range(7, 10), 10.0))
    out = tmp_path / "run"
    flags = ("--epochs", "4", "--checkpoint-every-steps", "1")
    assert train.main(train_command(camvid_root, out, *flags)) == 1
    assert "epoch 3: the training diverges, its mean loss rose to" in capsys.readouterr().err
    state = final_state(out)
    assert (len(state["history"]), state["losses"]) == (2, [])  # type: ignore[arg-type]


def test_one_bad_batch_is_not_a_divergence(
    camvid_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil_loss(monkeypatch, {8: 4.0})
    assert train.main(train_command(camvid_root, tmp_path / "run", "--epochs", "3")) == 0


def spoil_loss(
    monkeypatch: pytest.MonkeyPatch, factors: dict[int, float], *, gradient_only: bool = False
) -> None:
    """Multiply the loss, or its gradient alone, in the steps of these numbers, from 1."""
    original, calls = SegmentationLoss.__call__, 0

    def spoiled(loss: SegmentationLoss, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        factor = factors.get(calls, 1.0)
        if gradient_only:
            logits = logits.clone()
            if logits.requires_grad:
                logits.register_hook(lambda gradient: gradient * factor)
            return original(loss, logits, labels)
        return original(loss, logits, labels) * factor

    monkeypatch.setattr(SegmentationLoss, "__call__", spoiled)


def test_ctrl_c_says_how_to_go_on(
    camvid_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: object) -> tuple[float, float]:
        raise KeyboardInterrupt

    monkeypatch.setattr(Trainer, "train_epoch", interrupt)
    assert train.main(train_command(camvid_root, tmp_path / "run")) == 130
    assert "--resume" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"network": "residual-xl"}, "network: expected one of"),
        ({"loss": "hinge"}, "loss: expected one of"),
        ({"optimizer": "lion"}, "optimizer: expected one of"),
        ({"schedule": "step"}, "schedule: expected one of"),
        ({"precision": "fp8"}, "precision: expected one of"),
        ({"precision": "fp16"}, "precision: expected fp32 or bf16 on cpu, got fp16"),
        ({"epochs": 0}, "epochs: expected a number of at least 1"),
        ({"batch_size": 0}, "batch_size: expected a number of at least 1"),
        ({"loss_stride": 0}, "loss_stride: expected a number of at least 1"),
        ({"checkpoint_every_steps": -1}, "checkpoint_every_steps: expected a number of at least 0"),
        ({"workers": -1}, "workers: expected a number of at least 0"),
        ({"learning_rate": float("nan")}, "learning_rate: expected a number above 0"),
        ({"seed": 2**63}, "seed: expected a number of at least 0"),
        ({"weight_decay": float("nan")}, "weight_decay: expected a number of at least 0"),
        ({"device": "foo"}, "device: expected one that torch has here, got 'foo'"),
        ({"average_decay": 1.0}, "average_decay: expected a number of at least 0 and below 1"),
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


def test_a_gpu_that_is_there_is_not_touched_to_check_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch, "zeros", lambda *_, **__: pytest.fail("takes memory of another process's GPU"))
    assert TrainConfig(device="cuda:1", precision="fp16").device == "cuda:1"


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
    monkeypatch.setattr(Trainer, "train_epoch", lambda *_: pytest.fail("an epoch ran for nothing"))
    assert train.main(train_command(camvid_root, tmp_path / "file" / "run")) == 1
    assert "expected a folder that can be written" in capsys.readouterr().err


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="names are bytes on Linux only")
def test_an_output_folder_that_tensorboard_cannot_take_is_refused(
    camvid_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = tmp_path / "caf\udce9"
    assert train.main(train_command(camvid_root, odd / "run")) == 1
    assert "rename it, or choose another --out" in capsys.readouterr().err
    assert not odd.exists()


def test_a_bad_validation_label_is_found_before_the_first_epoch(
    camvid_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    label = sorted((camvid_root / "valannot").iterdir())[-1]
    assert cv2.imwrite(str(label), np.full((48, 64), 77, np.uint8))
    monkeypatch.setattr(Trainer, "train_epoch", lambda *_: pytest.fail("an epoch ran for nothing"))
    assert train.main(train_command(camvid_root, tmp_path / "run")) == 1
    assert "got 77" in capsys.readouterr().err


# In a process of its own: where torch.compile has worked, Python counts references otherwise, and processes
# stay behind. Traced, but run as it is: a C++ compiler would take a minute.
COMPILE = """
import sys
from functools import partial
import torch
from training import train

def broken(*_):
    raise RuntimeError("no working C++ compiler")

compile, folder = torch.compile, sys.argv.pop(1)
torch.compile = partial(compile, backend="eager")
assert train.main([*sys.argv[1:], "--out", folder + "/run"]) == 0
torch.compile = partial(compile, backend=broken)
sys.exit(train.main([*sys.argv[1:], "--out", folder + "/broken"]))
"""


def test_a_compiled_training_leaves_an_ordinary_checkpoint_or_ends_in_one_line(
    camvid_root: Path, tmp_path: Path
) -> None:
    flags = ["--data", "camvid", "--root", str(camvid_root), *FLAGS, "--epochs", "1", "--compile"]
    ended = subprocess.run(
        [sys.executable, "-c", COMPILE, str(tmp_path), *flags], capture_output=True, text=True, timeout=300
    )
    assert ended.returncode == 1, ended.stderr
    checkpoint = load_checkpoint(tmp_path / "run" / "best.pt")
    assert checkpoint.weights.keys() == checkpoint.build().state_dict().keys()
    error = ended.stderr.splitlines()[-1]
    assert error.startswith("error: compile: torch could not compile the network")
    assert "no working C++ compiler" in error


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
    flags = ("--size", "64", "96", "--epochs", "16", "--validate-every", "16")
    assert train.main(train_command(camvid_root, out, *flags)) == 0
    history = final_state(out)["history"]
    first, last = history[0]["train_loss"], history[-1]["train_loss"]  # type: ignore[index]
    assert last < 0.8 * first
