import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from runtime.errors import ConfigError
from training import train
from training.engine import loop
from training.engine.checkpoint import load_checkpoint
from training.engine.config import TrainConfig
from training.engine.trainer import Trainer

FLAGS = ["--network", "residual-n", "--size", "32", "64", "--batch-size", "6", "--warmup-epochs", "0"]

pytestmark = pytest.mark.usefixtures("no_curves")


@pytest.fixture
def set_miou(monkeypatch: pytest.MonkeyPatch) -> object:
    """Make the next validations give these mIoUs."""
    validate = loop._validate

    def set_values(*values: float) -> None:
        rest: Iterator[float] = iter(values)
        monkeypatch.setattr(
            loop, "_validate", lambda *args: dataclasses.replace(validate(*args), miou=next(rest))
        )

    return set_values


def run(root: Path, out: Path, *flags: str) -> int:
    return train.main(["--data", "camvid", "--root", str(root), "--out", str(out), *FLAGS, *flags])


def finished_epochs(out: Path) -> int:
    training = load_checkpoint(out / "last.pt").training
    assert training is not None
    return len(training["history"])


def interrupt_before(epoch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    train_epoch = Trainer.train_epoch

    def interrupted(trainer: Trainer, *args: object) -> tuple[float, float]:
        if trainer.epoch + 1 == epoch:
            raise KeyboardInterrupt
        return train_epoch(trainer, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(Trainer, "train_epoch", interrupted)


def test_a_training_ends_when_nothing_got_better_for_its_patience(
    camvid_root: Path, tmp_path: Path, set_miou: object, capsys: pytest.CaptureFixture[str]
) -> None:
    set_miou(0.1, 0.3, 0.2, 0.3, 0.9)  # type: ignore[operator]
    assert run(camvid_root, tmp_path / "run", "--epochs", "9", "--patience", "2") == 0
    assert finished_epochs(tmp_path / "run") == 4
    printed = capsys.readouterr()
    assert "no better mIoU for 2 epochs: stopped after epoch 4" in printed.err
    assert "next: python -m export.to_onnx" in printed.out
    accuracy = load_checkpoint(tmp_path / "run" / "best.pt").contract.accuracy
    assert accuracy is not None
    assert accuracy.miou == 0.3


def test_patience_waits_for_validations(camvid_root: Path, tmp_path: Path, set_miou: object) -> None:
    set_miou(0.3, 0.2, 0.2)  # type: ignore[operator]  # of the epochs 2, 4 and 6
    flags = ("--epochs", "12", "--validate-every", "2", "--patience", "3")
    assert run(camvid_root, tmp_path / "run", *flags) == 0
    assert finished_epochs(tmp_path / "run") == 6


def test_patience_outlives_an_interruption_and_more_of_it_goes_on(
    camvid_root: Path, tmp_path: Path, set_miou: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, flags = tmp_path / "run", ("--epochs", "6", "--patience", "2")
    with monkeypatch.context() as patch:
        interrupt_before(3, patch)
        set_miou(0.3, 0.2)  # type: ignore[operator]
        assert run(camvid_root, out, *flags) == 130
    set_miou(0.2)  # type: ignore[operator]
    assert run(camvid_root, out, *flags, "--resume") == 0
    assert finished_epochs(out) == 3
    assert run(camvid_root, out, *flags, "--resume") == 0  # it has ended, and ends again at once
    set_miou(0.1, 0.1)  # type: ignore[operator]
    assert run(camvid_root, out, "--epochs", "6", "--patience", "4", "--resume") == 0
    assert finished_epochs(out) == 5


def test_a_training_that_ran_to_its_end_does_not_say_that_it_ended_early(
    camvid_root: Path, tmp_path: Path, set_miou: object, capsys: pytest.CaptureFixture[str]
) -> None:
    set_miou(0.3, 0.2)  # type: ignore[operator]
    assert run(camvid_root, tmp_path / "run", "--epochs", "2", "--patience", "1") == 0
    assert "no better" not in capsys.readouterr().err


@pytest.mark.parametrize("name", ["patience", "samples_every"])
def test_numbers_of_epochs_below_zero_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name}: expected a number of at least 0, got -1"):
        TrainConfig(**{name: -1})  # type: ignore[arg-type]


def test_sample_predictions_are_drawn_every_few_epochs(camvid_root: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert run(camvid_root, out, "--epochs", "5", "--samples-every", "2") == 0
    assert sorted(path.name for path in (out / "samples").iterdir()) == ["epoch-0002.png", "epoch-0004.png"]
    events = EventAccumulator(str(out / "tensorboard")).Reload()
    assert [image.step for image in events.Images("samples")] == [2, 4]


def test_no_samples_are_drawn_where_none_are_wanted(camvid_root: Path, tmp_path: Path) -> None:
    assert run(camvid_root, tmp_path / "run", "--epochs", "1", "--samples-every", "0") == 0
    assert not (tmp_path / "run" / "samples").exists()


def test_tensorboard_has_one_point_an_epoch_though_the_training_was_interrupted(
    camvid_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        save = loop.save_checkpoint

        def full_disk(path: Path, checkpoint: object) -> None:
            if path.name == "last.pt" and finished(path) == 1:
                raise KeyboardInterrupt  # after TensorBoard got the epoch that will be run again
            save(path, checkpoint)  # type: ignore[arg-type]

        def finished(path: Path) -> int:
            return finished_epochs(path.parent) if path.exists() else 0

        patch.setattr(loop, "save_checkpoint", full_disk)
        assert run(camvid_root, out, "--epochs", "3") == 130
    (interrupted,) = (out / "tensorboard").iterdir()
    interrupted.rename(out / "tensorboard" / "events.out.tfevents.0000000001")
    assert run(camvid_root, out, "--epochs", "3", "--resume") == 0
    events = EventAccumulator(str(out / "tensorboard")).Reload()
    assert [event.step for event in events.Scalars("training/loss")] == [1, 2, 3]
    assert [event.step for event in events.Scalars("validation/miou")] == [1, 2, 3]
