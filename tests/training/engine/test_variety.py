from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from runtime.errors import ConfigError, DatasetError
from training import train
from training.data import open_dataset
from training.data.pairs import PairedFiles
from training.engine.checkpoint import load_checkpoint
from training.engine.config import TrainConfig
from training.engine.trainer import Trainer

CONFIG = TrainConfig(network="residual-n", size_hw=(64, 96), epochs=1, batch_size=4, synthetic_scenes=3)


def blue_is_the_label(image: NDArray[np.uint8], label: NDArray[np.uint8]) -> bool:
    """Whether an image is of `make_sample`, where blue is 20 times the class."""
    known = label != 255
    exact = image[:, :, 0][known] == 20 * label[known]
    return bool(exact.mean() > 0.3)  # a zoom blends blocks at their edges


def test_a_share_of_each_batch_is_rendered(camvid_root: Path) -> None:
    dataset = open_dataset("camvid", camvid_root, "train")
    own = Trainer(replace(CONFIG, size_hw=(32, 64), color_strength=0.0), dataset).batches
    mixed = Trainer(
        replace(CONFIG, size_hw=(32, 64), color_strength=0.0, synthetic_share=0.5), dataset
    ).batches
    assert (len(own), len(mixed)) == (6 // 4, 6 // 2)
    images, labels = next(mixed.epoch(0))
    assert [blue_is_the_label(*pair) for pair in zip(images, labels, strict=True)][2:] == [False, False]
    images, labels = next(own.epoch(0))
    assert any(blue_is_the_label(*pair) for pair in zip(images, labels, strict=True))


def test_rendered_streets_need_their_own_classes(camvid_root: Path) -> None:
    dataset = open_dataset("camvid", camvid_root, "train")
    assert isinstance(dataset, PairedFiles)
    renamed = replace(dataset.classes, names=(*dataset.classes.names[:-1], "rider"))
    with pytest.raises(DatasetError, match="synthetic: expected the classes of camvid"):
        Trainer(replace(CONFIG, synthetic_share=0.5), replace(dataset, classes=renamed))


def test_crops_may_be_smaller_than_the_networks_input(camvid_root: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    flags = ["--network", "residual-n", "--size", "64", "96", "--crop", "32", "64", "--epochs", "1"]
    data = ["--data", "camvid", "--root", str(camvid_root), "--batch-size", "2"]
    assert train.main([*data, "--out", str(out), *flags]) == 0
    assert load_checkpoint(out / "best.pt").contract.input.size_hw == (64, 96)
    config = replace(CONFIG, crop_hw=(32, 64))
    images, labels = next(Trainer(config, open_dataset("camvid", camvid_root, "train")).batches.epoch(0))
    assert images.shape == (4, 32, 64, 3)
    assert labels.shape == (4, 32, 64)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"style": 1.5}, "style: expected a number from 0 to 1"),
        ({"synthetic_share": 1.0}, "synthetic_share: expected a number of at least 0 and below 1"),
        ({"synthetic_scenes": 0}, "synthetic_scenes: expected a number of at least 1"),
        ({"color_strength": -1.0}, "color_strength: expected a number of at least 0"),
        ({"crop_hw": (32, 50)}, "crop_hw: residual-n needs height and width in multiples of 32"),
    ],
)
def test_a_setting_that_cannot_work_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(CONFIG, **changes)  # type: ignore[arg-type]
