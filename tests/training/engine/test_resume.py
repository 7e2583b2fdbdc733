import csv
import dataclasses
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from runtime.base.codec import from_plain
from runtime.base.lock import only_run_on
from runtime.errors import TrainingError
from training import train
from training.data import open_dataset
from training.engine.checkpoint import load_checkpoint
from training.engine.config import TrainConfig
from training.engine.losses import SegmentationLoss
from training.engine.trainer import Trainer
from training.network import ResidualConfig

FLAGS = ["--network", "residual-n", "--size", "32", "64", "--batch-size", "2", "--warmup-epochs", "1"]
FLAGS += ["--aux-weight", "0"]  # one loss a step, so that tests can count steps by it
FLAGS += ["--epochs", "3", "--validate-every", "3"]
# All that a training draws from torch's generators, besides the first weights.
FLAGS += ["--loss-stride", "2", "--dropout", "0.2", "--drop-path", "0.5"]
STEPS = 3  # an epoch
SAVED = ("--checkpoint-every-steps", "2")

pytestmark = pytest.mark.usefixtures("no_curves")


def train_command(root: Path, out: Path, *flags: str) -> list[str]:
    return ["--data", "camvid", "--root", str(root), "--out", str(out), *FLAGS, *flags]


def final_state(out: Path) -> dict[str, Any]:
    """Return what last.pt holds, without what a clock measured."""
    training = load_checkpoint(out / "last.pt").training
    assert training is not None
    for record in training["history"]:
        record["seconds"] = record["images_per_s"] = 0.0
    training["train_seconds"] = 0.0
    training["train_config"]["checkpoint_every_steps"] = 0
    return training


def differences(left: Any, right: Any, where: str = "state") -> list[str]:
    """Return where nested containers differ; tensors are compared bit for bit."""
    if type(left) is not type(right):
        return [where]
    if isinstance(left, torch.Tensor):
        return [] if torch.equal(left, right) else [where]
    if isinstance(left, dict):
        if left.keys() != right.keys():
            return [where]
        return [found for key in left for found in differences(left[key], right[key], f"{where}.{key}")]
    if isinstance(left, list | tuple):
        if len(left) != len(right):
            return [where]
        pairs = zip(left, right, strict=True)
        return [
            d for i, (ours, theirs) in enumerate(pairs) for d in differences(ours, theirs, f"{where}[{i}]")
        ]
    return [] if left == right else [where]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, make_camvid: Callable[[Path], Path]) -> tuple[Path, Path]:
    """A data set and an uninterrupted training on it."""
    folder = tmp_path_factory.mktemp("whole")
    root = make_camvid(folder / "camvid")
    assert train.main(train_command(root, folder / "run")) == 0
    return root, folder / "run"


def interrupt(monkeypatch: pytest.MonkeyPatch, step: int, command: list[str]) -> None:
    """Run a training that is interrupted before its step of this number, from 1."""
    original, calls = SegmentationLoss.__call__, 0

    def counted(*args: object) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls == step:
            raise KeyboardInterrupt
        return original(*args)

    with monkeypatch.context() as patch:
        patch.setattr(SegmentationLoss, "__call__", counted)
        assert train.main(command) == 130


# Trainings that kill themselves, so that the moment is the same on any machine: before the `at`-th call. Each
# is a fork of one process, which loads torch for all.
KILLED = """
import json, os, signal, sys
from training import train
from training.engine import loop
from training.engine.losses import SegmentationLoss
places = {"step": (SegmentationLoss, "__call__"), "save": (loop, "save_checkpoint")}
ends = []
for what, at, command in json.loads(sys.argv[1]):
    child = os.fork()
    if not child:
        place, name = places[what]
        original, calls = getattr(place, name), 0
        def counted(*args, **kwargs):
            global calls
            calls += 1
            if calls == at:
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*args, **kwargs)
        setattr(place, name, counted)
        sys.exit(train.main(command))
    ends.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
print(json.dumps(ends))
"""
KILLS = {
    "in a step": ("step", STEPS + 3),  # the last one of the second epoch; every second is kept
    "while it saves": ("save", 7),  # last.pt of the third epoch, after its best.pt
}


@pytest.fixture(scope="module")
def killed(whole: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What trainings left that were killed at the moments of `KILLS`."""
    folder = tmp_path_factory.mktemp("killed")
    outs = {moment: folder / str(index) for index, moment in enumerate(KILLS)}
    plan = [(*KILLS[moment], train_command(whole[0], out, *SAVED)) for moment, out in outs.items()]
    process = [sys.executable, "-c", KILLED, json.dumps(plan)]
    ended = subprocess.run(process, capture_output=True, check=True, text=True)
    assert json.loads(ended.stdout) == [-signal.SIGKILL] * len(plan)
    return outs


@pytest.mark.parametrize(("moment", "epochs", "steps"), [("in a step", 1, 2), ("while it saves", 2, 2)])
def test_a_killed_training_resumes_to_the_bits_of_an_uninterrupted_one(
    whole: tuple[Path, Path], killed: dict[str, Path], moment: str, epochs: int, steps: int
) -> None:
    (root, uninterrupted), out = whole, killed[moment]
    state = final_state(out)
    assert (len(state["history"]), len(state["losses"])) == (epochs, steps)

    assert train.main([*train_command(root, out, *SAVED), "--resume"]) == 0
    assert differences(final_state(out), final_state(uninterrupted)) == []
    best = load_checkpoint(out / "best.pt"), load_checkpoint(uninterrupted / "best.pt")
    assert differences(best[0].weights, best[1].weights) == []


@pytest.mark.parametrize("step", [3, 5, 3 * STEPS])
def test_a_training_resumes_at_any_step(
    whole: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    root, uninterrupted = whole
    command = train_command(root, tmp_path / "run", "--checkpoint-every-steps", "1")
    interrupt(monkeypatch, step, command)
    state = final_state(tmp_path / "run")
    assert STEPS * len(state["history"]) + len(state["losses"]) == step - 1
    assert train.main([*command, "--resume", "--workers", "2"]) == 0  # which change no bit
    resumed = final_state(tmp_path / "run")
    resumed["train_config"]["workers"] = 1
    assert differences(resumed, final_state(uninterrupted)) == []


def test_the_comparison_sees_steps_that_depend_on_what_ran_before(
    whole: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, _ = whole
    monkeypatch.setattr(Trainer, "_seed", lambda *_: None)
    assert train.main(train_command(root, tmp_path / "straight")) == 0
    command = train_command(root, tmp_path / "resumed", "--checkpoint-every-steps", "1")
    interrupt(monkeypatch, STEPS + 2, command)
    assert train.main([*command, "--resume"]) == 0
    found = differences(final_state(tmp_path / "resumed"), final_state(tmp_path / "straight"))
    assert any(where.startswith("state.network") for where in found)


def test_a_resumed_epoch_is_one_row_of_the_table(
    whole: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, uninterrupted = whole
    command = train_command(root, tmp_path / "run", "--checkpoint-every-steps", "1")
    interrupt(monkeypatch, STEPS + 2, command)
    assert train.main([*command, "--resume"]) == 0

    def losses(out: Path) -> list[str]:
        with (out / "results.csv").open(newline="") as file:
            return [row["train_loss"] for row in csv.DictReader(file)]

    assert losses(tmp_path / "run") == losses(uninterrupted)


def test_resuming_a_finished_training_changes_nothing(whole: tuple[Path, Path]) -> None:
    root, out = whole
    before = (out / "last.pt").read_bytes(), (out / "best.pt").read_bytes()
    assert train.main(train_command(root, out, "--resume")) == 0
    assert ((out / "last.pt").read_bytes(), (out / "best.pt").read_bytes()) == before


def test_resume_without_a_last_pt_starts_and_says_so(
    whole: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, uninterrupted = whole
    out = tmp_path / "run"
    out.mkdir()
    assert train.main(train_command(root, out, "--resume")) == 0
    assert f"nothing to resume in {out}: it holds no last.pt, so training starts" in capsys.readouterr().err
    assert differences(final_state(out), final_state(uninterrupted)) == []


def test_two_trainings_never_share_a_folder(
    whole: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, _ = whole
    out = tmp_path / "run"
    with only_run_on(out, is_folder=True):
        assert train.main(train_command(root, out, "--resume")) == 1
    assert f"expected no other run to write it, but process {os.getpid()} does" in capsys.readouterr().err
    assert list(out.iterdir()) == []


def new_trainer(out: Path, root: Path, split: str = "train") -> Trainer:
    config = from_plain(TrainConfig, final_state(out)["train_config"])
    return Trainer(config, open_dataset("camvid", root, split))


def test_resume_takes_the_scale_of_fp16_gradients(whole: tuple[Path, Path]) -> None:
    root, out = whole
    first, second = (new_trainer(out, root) for _ in range(2))
    first.scaler, second.scaler = (torch.amp.GradScaler("cpu", init_scale=scale) for scale in (8.0, 2.0))
    second.restore(first.checkpoint(first.contract, with_training=True))
    assert second.scaler.get_scale() == 8


def test_resume_takes_the_number_of_threads_since_it_shows_in_the_bits(whole: tuple[Path, Path]) -> None:
    root, out = whole
    resumed = new_trainer(out, root)
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        resumed.restore(load_checkpoint(out / "last.pt"))
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(threads)


def test_resume_refuses_other_settings(whole: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    root, out = whole
    before = (out / "last.pt").read_bytes()
    assert train.main(train_command(root, out, "--epochs", "5", "--resume")) == 1
    assert "epochs was 3, now 5" in capsys.readouterr().err
    assert (out / "last.pt").read_bytes() == before


def test_resume_refuses_another_number_of_processes(whole: tuple[Path, Path]) -> None:
    root, out = whole
    checkpoint = load_checkpoint(out / "last.pt")
    assert checkpoint.training is not None
    checkpoint.training["processes"] = 2
    with pytest.raises(TrainingError, match="processes were 2, now 1"):
        new_trainer(out, root).restore(checkpoint)


def test_resume_refuses_other_data(whole: tuple[Path, Path]) -> None:
    root, out = whole
    with pytest.raises(TrainingError, match="other classes, colours or terms"):
        new_trainer(out, root, "val").restore(load_checkpoint(out / "last.pt"))


def test_resume_refuses_the_state_of_another_version(whole: tuple[Path, Path]) -> None:
    root, out = whole
    checkpoint = load_checkpoint(out / "last.pt")
    assert checkpoint.training is not None
    del checkpoint.training["losses"]
    with pytest.raises(TrainingError, match=r"by another version of edgeseg \(it differs in losses\)"):
        new_trainer(out, root).restore(checkpoint)


def test_resume_refuses_settings_of_another_version(whole: tuple[Path, Path]) -> None:
    root, out = whole
    checkpoint = load_checkpoint(out / "last.pt")
    assert checkpoint.training is not None
    checkpoint.training["train_config"]["gone"] = 1
    with pytest.raises(TrainingError, match="by another version of edgeseg"):
        new_trainer(out, root).restore(checkpoint)


def test_resume_refuses_the_network_that_a_size_was_in_another_version(whole: tuple[Path, Path]) -> None:
    root, out = whole
    checkpoint = load_checkpoint(out / "last.pt")
    assert isinstance(checkpoint.config, ResidualConfig)
    narrower = dataclasses.replace(checkpoint.config, decoder_width=8)
    with pytest.raises(TrainingError, match="whose residual-n was another network"):
        new_trainer(out, root).restore(dataclasses.replace(checkpoint, config=narrower))


def test_best_cannot_be_resumed(whole: tuple[Path, Path]) -> None:
    root, out = whole
    with pytest.raises(TrainingError, match="no training state"):
        new_trainer(out, root).restore(load_checkpoint(out / "best.pt"))
