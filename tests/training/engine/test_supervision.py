"""What training adds to the labels' loss and to the network: through the trainer, and gone afterwards."""

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from runtime.errors import ConfigError, TrainingError
from training import train
from training.data import SegmentationDataset, open_dataset
from training.engine.checkpoint import load_checkpoint, save_checkpoint
from training.engine.config import TrainConfig
from training.engine.history import EpochRecord
from training.engine.trainer import Trainer

BASE = TrainConfig(network="residual-n", size_hw=(32, 64), epochs=2, batch_size=2, warmup_epochs=0)

pytestmark = pytest.mark.usefixtures("no_curves")


@pytest.fixture(scope="module")
def train_set(tmp_path_factory: pytest.TempPathFactory, make_camvid: Callable[[Path], Path]):
    return open_dataset("camvid", make_camvid(tmp_path_factory.mktemp("supervision")), "train")


@pytest.fixture(scope="module")
def teacher_path(train_set: SegmentationDataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A teacher of another stride than the student's, so that its logits are resized."""
    trainer = Trainer(dataclasses.replace(BASE, network="residual-s", seed=7), train_set)
    path = tmp_path_factory.mktemp("teacher") / "best.pt"
    save_checkpoint(path, trainer.checkpoint(trainer.contract, with_training=False))
    return path


@pytest.fixture
def everything(teacher_path: Path) -> TrainConfig:
    return dataclasses.replace(BASE, dropout=0.3, drop_path=0.3, aux_weight=0.4, teacher=str(teacher_path))


def run_epoch(trainer: Trainer) -> float:
    loss, rate = trainer.train_epoch()
    trainer.finish_epoch(EpochRecord(trainer.epoch + 1, 0.0, rate, loss))
    trainer.close()
    return loss


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_resumed_training_with_all_of_it_ends_with_the_same_bits(
    train_set: SegmentationDataset, everything: TrainConfig, tmp_path: Path, optimizer: str
) -> None:
    everything = dataclasses.replace(everything, optimizer=optimizer)
    whole = Trainer(everything, train_set)
    run_epoch(whole)
    save_checkpoint(tmp_path / "last.pt", whole.checkpoint(whole.contract, with_training=True))
    whole = Trainer(everything, train_set)
    for _ in range(2):
        loss, rate = whole.train_epoch()
        whole.finish_epoch(EpochRecord(whole.epoch + 1, 0.0, rate, loss))
    whole.close()
    resumed = Trainer(everything, train_set)
    resumed.restore(load_checkpoint(tmp_path / "last.pt"))
    run_epoch(resumed)
    expected = whole.supervised.state_dict()
    assert any(name.startswith("auxiliary.") for name in expected)
    for name, value in resumed.supervised.state_dict().items():
        assert torch.equal(value, expected[name]), name


def test_auxiliary_head_is_trained_and_is_in_no_weights_to_export(train_set: SegmentationDataset) -> None:
    trainer = Trainer(dataclasses.replace(BASE, aux_weight=0.4), train_set)
    before = {name: value.clone() for name, value in trainer.supervised.heads_state().items()}
    run_epoch(trainer)
    after = trainer.supervised.heads_state()
    assert not torch.equal(after["auxiliary.1.weight"], before["auxiliary.1.weight"])
    weights = trainer.checkpoint(trainer.contract, with_training=False).weights
    assert weights.keys() == Trainer(BASE, train_set).network.state_dict().keys()


def test_the_head_is_there_by_default_where_a_network_has_the_place(train_set: SegmentationDataset) -> None:
    def has_head(**changes: object) -> bool:
        config = dataclasses.replace(BASE, **changes)  # type: ignore[arg-type]
        return bool(Trainer(config, train_set).supervised.heads_state())

    assert has_head(aux_weight=None)
    assert has_head(aux_weight=0.1)
    assert not has_head(aux_weight=0.0)
    assert not has_head(network="article_keras")


@pytest.mark.parametrize(
    "changes", [{"dropout": 0.5}, {"drop_path": 0.9}, {"aux_weight": 1.0}, {"teacher": "its path"}]
)
def test_each_setting_changes_what_is_learnt(
    train_set: SegmentationDataset, teacher_path: Path, changes: dict[str, object]
) -> None:
    if "teacher" in changes:
        changes = {"teacher": str(teacher_path)}
    bare, changed = (Trainer(dataclasses.replace(BASE, **one), train_set) for one in ({}, changes))
    start = zip(bare.network.state_dict().values(), changed.network.state_dict().values(), strict=True)
    assert all(torch.equal(one, other) for one, other in start)
    run_epoch(bare)
    run_epoch(changed)
    name = "body.stage_16.0.conv1.0.weight"
    assert not torch.equal(bare.network.state_dict()[name], changed.network.state_dict()[name])


def test_the_teacher_learns_nothing(train_set: SegmentationDataset, teacher_path: Path) -> None:
    trainer = Trainer(dataclasses.replace(BASE, teacher=str(teacher_path)), train_set)
    run_epoch(trainer)
    assert trainer.teacher is not None
    for name, value in load_checkpoint(teacher_path).weights.items():
        assert torch.equal(trainer.teacher.network.state_dict()[name], value), name


def test_resuming_with_another_teacher_in_the_same_place_is_refused(
    train_set: SegmentationDataset, teacher_path: Path, tmp_path: Path
) -> None:
    config = dataclasses.replace(BASE, teacher=str(tmp_path / "teacher.pt"))
    shutil.copy(teacher_path, tmp_path / "teacher.pt")
    trainer = Trainer(config, train_set)
    save_checkpoint(tmp_path / "last.pt", trainer.checkpoint(trainer.contract, with_training=True))
    other = Trainer(dataclasses.replace(BASE, network="residual-s", seed=8), train_set)
    save_checkpoint(tmp_path / "teacher.pt", other.checkpoint(other.contract, with_training=False))
    with pytest.raises(TrainingError, match="--teacher"):
        Trainer(config, train_set).restore(load_checkpoint(tmp_path / "last.pt"))


@pytest.mark.parametrize(
    "changes",
    [{"depths": (1, 1, 1, 1)}, {"plain": True}, {"dropout": 0.1}, {"drop_path": 0.1}, {"aux_weight": 0.1}],
)
def test_a_network_without_residual_blocks_refuses_their_settings(changes: dict[str, object]) -> None:
    (name,) = changes
    with pytest.raises(ConfigError, match=name):
        TrainConfig(network="article_keras", **changes)


@pytest.mark.parametrize(
    "changes", [{"aux_weight": -0.1}, {"distill_weight": float("nan")}, {"dropout": 1.0}]
)
def test_weights_and_rates_out_of_range_are_refused(changes: dict[str, object]) -> None:
    (name,) = changes
    with pytest.raises(ConfigError, match=name):
        TrainConfig(**changes)


def test_flags_reach_the_network_that_the_checkpoint_rebuilds(
    tmp_path: Path, make_camvid: Callable[[Path], Path], teacher_path: Path
) -> None:
    data = [
        "--data",
        "camvid",
        "--root",
        str(make_camvid(tmp_path / "camvid")),
        "--out",
        str(tmp_path / "run"),
    ]
    small = ["--network", "residual-n", "--size", "32", "64", "--epochs", "1", "--batch-size", "2"]
    shape = ["--depths", "2", "1", "1", "1", "--dropout", "0.2", "--drop-path", "0.1"]
    taught = ["--aux-weight", "0.4", "--teacher", str(teacher_path), "--distill-weight", "0.5"]
    assert train.main([*data, *small, *shape, *taught]) == 0
    checkpoint = load_checkpoint(tmp_path / "run" / "best.pt")
    assert checkpoint.config.depths == (2, 1, 1, 1)
    assert (checkpoint.config.dropout, checkpoint.config.drop_path) == (0.2, 0.1)
    settings = load_checkpoint(tmp_path / "run" / "last.pt").training["train_config"]
    assert (settings["aux_weight"], settings["distill_weight"]) == (0.4, 0.5)
    checkpoint.build()
