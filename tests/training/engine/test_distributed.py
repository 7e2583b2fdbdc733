import dataclasses
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from runtime.contract import CAMVID_CLASSES
from runtime.errors import ConfigError, TrainingError
from training.data import open_dataset
from training.engine.checkpoint import load_checkpoint
from training.engine.config import TrainConfig
from training.engine.distributed import Processes, joined_processes
from training.engine.inference import BATCH_SIZE, evaluate
from training.engine.loop import train
from training.engine.trainer import Trainer
from training.evaluation.metrics import ConfusionMatrix
from training.teaching.soft_labels import TeacherFile, write_description, write_soft_labels

# SGD and few large batches: Adam makes whole steps of gradients that differ from 0 by rounding only, and
# batch norms over few pixels make more of it from step to step.
CONFIG = TrainConfig(
    network="residual-n",
    size_hw=(64, 96),
    epochs=2,
    batch_size=6,
    optimizer="sgd",
    learning_rate=0.005,
    loss_stride=2,
    warmup_epochs=0,
    validate_every=2,
)
# One start of two processes for all that needs them to train to the end.
TRAININGS = f"""
import os, sys
from dataclasses import replace
from pathlib import Path
from training.engine import distributed
from training.engine import loop as command
from training.engine.config import TrainConfig
from training.data import open_dataset
from training.engine.losses import SegmentationLoss
root, out = sys.argv[1], Path(sys.argv[2])
config = replace({CONFIG!r}, soft_labels=(str(out / "soft"),))
rank = int(os.environ["RANK"])
command.draw_curves = lambda *_: None  # takes longer than the training
original, calls = SegmentationLoss.__call__, 0
def at_step(number, act):
    def counted(*args):
        global calls
        calls += 1
        if calls == number:
            act()
        return original(*args)
    SegmentationLoss.__call__ = counted
train_set, val_set = (open_dataset("camvid", root, split) for split in ("train", "val"))
with distributed.joined_processes("cpu") as processes:
    def run(name, **options):
        command.train(config, train_set, val_set, out / str(rank) / name, processes=processes, **options)
    run("straight")
    def interrupt():
        raise KeyboardInterrupt
    at_step(3, interrupt)  # the second step: each computes the loss of two heads
    try:
        run("resumed")
    except KeyboardInterrupt:
        run("resumed", resume=True)
    distributed.synchronize_batch_norms = lambda network, device: None
    run("apart")
"""
# A training's talk without the training. Both processes are forks of one, which loads torch for them.
FAILING = """
import os, signal, sys
import torch
from runtime.base.command import exit_code
from runtime.errors import DatasetError
from training.engine.distributed import joined_processes
def command():
    with joined_processes("cpu") as processes:
        processes.total(torch.ones(2))
        if processes.rank == 1:
            {act}
        processes.total(torch.ones(2))
children = []
for rank in ("0", "1"):
    children.append(os.fork())
    if not children[-1]:
        os.environ.update(RANK=rank, LOCAL_RANK=rank)
        sys.exit(exit_code(command))
print(*(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children))
"""


def start_two(script: str) -> tuple[list[int], str]:
    """Run two processes; return the exit code of each, and the stderr of both."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    place = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, **place},
        check=True,
        capture_output=True,
        text=True,
        timeout=240,
    )
    return [int(code) for code in done.stdout.split()], done.stderr


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, make_camvid: Callable[[Path], Path]) -> Path:
    """Trainings by one process (`alone`) and by two that torchrun started (`0`: what the first wrote)."""
    folder = tmp_path_factory.mktemp("runs")
    root = make_camvid(folder / "camvid")
    (folder / "soft").mkdir()
    write_description(
        folder / "soft", TeacherFile(CAMVID_CLASSES.names, 4, features=(3, 2), features_of="a" * 64)
    )
    images = open_dataset("camvid", str(root), "train")
    for index in range(1, len(images)):  # of the first one nobody says anything
        label = images[index].label[2::4, 2::4]
        said = np.stack([label == name for name in range(11)]) * np.float32(0.8) + np.float32(0.01)
        features = np.random.default_rng(index).integers(1, 256, (5, *label.shape), np.uint8)
        write_soft_labels(folder / "soft", Path(images[index].name).stem, said, features)
    script = folder / "trainings.py"
    script.write_text(TRAININGS)
    torchrun = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    subprocess.run(
        [sys.executable, "-m", *torchrun, str(script), str(root), str(folder)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
        check=True,
        capture_output=True,
        timeout=240,
    )
    sets = [open_dataset("camvid", str(root), split) for split in ("train", "val")]
    train(taught(folder), *sets, folder / "alone")
    return folder


def taught(folder: Path) -> TrainConfig:
    return dataclasses.replace(CONFIG, soft_labels=(str(folder / "soft"),))


def trained(out: Path) -> dict[str, torch.Tensor]:
    training = load_checkpoint(out / "last.pt").training
    assert training is not None
    return {name: value for name, value in training["network"].items() if value.is_floating_point()}


def largest_difference(left: Path, right: Path) -> float:
    ours, theirs = trained(left), trained(right)
    assert ours.keys() == theirs.keys()
    return max((ours[name] - theirs[name]).abs().max().item() for name in ours)


def test_two_processes_end_with_the_weights_and_statistics_of_one(runs: Path) -> None:
    start = Trainer(taught(runs), open_dataset("camvid", str(runs / "camvid"), "train")).network.state_dict()
    moved = max((value - start[name]).abs().max().item() for name, value in trained(runs / "alone").items())
    assert largest_difference(runs / "0" / "straight", runs / "alone") < 2e-3 * moved  # sums in another order


def test_the_comparison_sees_batch_norms_that_measure_their_own_rows_only(runs: Path) -> None:
    assert largest_difference(runs / "0" / "apart", runs / "alone") > 1e-2


def test_two_processes_report_the_numbers_of_one(runs: Path) -> None:
    two, one = (
        load_checkpoint(out / "last.pt").training for out in (runs / "0" / "straight", runs / "alone")
    )
    assert two is not None
    assert one is not None
    for ours, theirs in zip(two["history"], one["history"], strict=True):
        for name in ("train_loss", "miou", "pixel_accuracy"):
            assert (ours[name] is None) == (theirs[name] is None), name
            assert ours[name] is None or ours[name] == pytest.approx(theirs[name], rel=1e-3), name


def test_two_processes_resume_to_the_bits_of_an_uninterrupted_training(runs: Path) -> None:
    assert largest_difference(runs / "0" / "resumed", runs / "0" / "straight") == 0


def test_only_the_first_process_writes(runs: Path) -> None:
    assert (runs / "0").exists()
    assert not (runs / "1").exists()


def test_shares_of_a_validation_add_up_to_exactly_the_whole(camvid_root: Path) -> None:
    dataset = open_dataset("camvid", str(camvid_root), "train")
    network = Trainer(CONFIG, dataset).averaged_network()
    whole = evaluate(network, dataset, (64, 96)).confusion
    total = ConfusionMatrix(len(dataset.classes))
    for rank in range(2):
        indices = Processes(rank, 2).share(len(dataset), BATCH_SIZE)
        assert 0 < len(indices) < len(dataset)
        total += evaluate(network, dataset, (64, 96), indices=indices).confusion
    assert np.array_equal(total.matrix, whole.matrix)


@pytest.mark.parametrize(
    ("act", "code", "expected"),
    [
        ("raise DatasetError('0007.png: broken')", 1, "error: 0007.png: broken"),
        (
            "os.kill(os.getpid(), signal.SIGKILL)",
            -signal.SIGKILL,
            "error: process 0 of 2 lost contact with another one",
        ),
    ],
)
def test_what_ends_one_process_ends_all_with_one_line(act: str, code: int, expected: str) -> None:
    codes, said = start_two(FAILING.format(act=act))
    assert codes == [1, code], said
    errors = said.splitlines()
    assert len(errors) == 1
    assert errors[0].startswith(expected)


def test_one_process_needs_no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with joined_processes("cpu") as processes:
        assert processes == Processes()


def test_half_an_environment_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    with (
        pytest.raises(TrainingError, match="expected LOCAL_RANK, MASTER_ADDR, MASTER_PORT too"),
        joined_processes("cpu"),
    ):
        pass


def test_a_batch_that_cannot_be_dealt_out_is_refused(camvid_root: Path) -> None:
    dataset = open_dataset("camvid", str(camvid_root), "train")
    processes = Processes(0, 4)
    with pytest.raises(ConfigError, match="expected a multiple of the 4 processes, got 6; the next is 8"):
        Trainer(CONFIG, dataset, _without_talk(processes))


def _without_talk(processes: Processes) -> Processes:
    class Silent(Processes):
        def from_first(self, make: Callable[[], object]) -> object:  # type: ignore[override]
            return make()

    return Silent(processes.rank, processes.world_size)


@pytest.mark.parametrize(
    ("name", "local_rank", "world_size", "expected"),
    [("cuda", 3, 4, "cuda:3"), ("cuda", 0, 1, "cuda"), ("cpu", 1, 2, "cpu")],
)
def test_each_process_has_its_own_gpu(name: str, local_rank: int, world_size: int, expected: str) -> None:
    assert Processes(0, world_size, local_rank).device(name) == expected
