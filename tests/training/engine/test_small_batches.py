"""Batches and data sets that are too small end with one line before the first step."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from runtime.errors import ConfigError, DatasetError
from training import train
from training.data import open_dataset
from training.engine.config import TrainConfig
from training.engine.trainer import Trainer

CONFIG = TrainConfig(network="residual-n", size_hw=(32, 32), epochs=1, batch_size=1)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"aux_weight": 0.0},
        {"size_hw": (64, 96), "crop_hw": (32, 32)},
        {"network": "residual-s"},
    ],
)
def test_a_batch_of_one_pixel_is_refused_before_the_first_step(
    camvid_root: Path, changes: dict[str, object]
) -> None:
    with pytest.raises(
        ConfigError, match=r"batch_size: expected at least 2 .* of one image of 32x32 .*got 1;"
    ):
        Trainer(replace(CONFIG, **changes), open_dataset("camvid", camvid_root, "train"))  # type: ignore[arg-type]


@pytest.mark.parametrize("changes", [{"size_hw": (32, 64)}, {"size_hw": (64, 64)}, {"batch_size": 2}])
def test_what_batch_norm_can_measure_is_trained(camvid_root: Path, changes: dict[str, object]) -> None:
    trainer = Trainer(replace(CONFIG, **changes), open_dataset("camvid", camvid_root, "train"))  # type: ignore[arg-type]
    images, labels = next(trainer.batches.epoch(0))
    trainer._to_train_mode(trainer.model)
    assert np.isfinite(trainer._train_step(*map(trainer._to_device, (images, labels)), place=0).numpy()).all()


def test_the_check_changes_neither_weights_nor_statistics(camvid_root: Path) -> None:
    train_set = open_dataset("camvid", camvid_root, "train")
    one = Trainer(replace(CONFIG, size_hw=(64, 64)), train_set).network.state_dict()
    two = Trainer(replace(CONFIG, size_hw=(64, 64), batch_size=2), train_set).network.state_dict()
    assert all((one[name] == two[name]).all() for name in one)


def test_the_command_says_it_in_one_line(
    camvid_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = [
        "--data",
        "camvid",
        "--root",
        str(camvid_root),
        "--out",
        str(tmp_path / "run"),
        "--size",
        "32",
        "32",
    ]
    assert train.main([*flags, "--batch-size", "1", "--network", "residual-n", "--epochs", "1"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: batch_size: expected at least 2 images")
    assert said.count("\n") == 1
    assert train.main([*flags, "--batch-size", "7", "--network", "residual-n", "--epochs", "1"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: batch_size: expected at most the 6 samples of camvid train, got 7; ")
    assert said.count("\n") == 1


def test_a_training_on_masks_is_refused(tmp_path: Path) -> None:
    for split in ("train", "val"):
        for name in "abcd":
            for kind, pixels in (
                ("images", np.random.default_rng(ord(name)).integers(0, 255, (64, 64, 3), np.uint8)),
                ("labels", np.where(np.eye(64) > 0, 255, 0).astype(np.uint8)),
            ):
                path = tmp_path / kind / split / f"{name}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(path), pixels)
    (tmp_path / "classes.json").write_text('{"names": ["ground", "person"]}')
    sets = [open_dataset("folder", tmp_path, split) for split in ("train", "val")]
    from training.engine.loop import train as run

    with pytest.raises(DatasetError, match=r"'person' is never learnt: write .*\"255\": \"person\""):
        run(replace(CONFIG, size_hw=(64, 64), batch_size=2), *sets, tmp_path / "run")
