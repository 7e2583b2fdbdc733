import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from runtime.errors import ConfigError, TrainingError
from training import train
from training.data import Sample, channel_statistics, open_dataset
from training.engine.checkpoint import load_checkpoint
from training.engine.config import TrainConfig
from training.engine.trainer import Trainer

SMALL = {"network": "residual-n", "size_hw": (64, 96), "batch_size": 2, "warmup_epochs": 0, "epochs": 1}
FLAGS = ["--network", "residual-n", "--size", "64", "96", "--batch-size", "2", "--warmup-epochs", "0"]
CLASSES = ("lamp", "car", "road")  # two that the source knows, in another order

pytestmark = pytest.mark.usefixtures("no_curves")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory, make_camvid: Callable[[Path], Path]) -> Path:
    """The best.pt of a training on CamVid's classes."""
    folder = tmp_path_factory.mktemp("source")
    root = make_camvid(folder / "camvid")
    command = ["--data", "camvid", "--root", str(root), "--out", str(folder / "run"), *FLAGS]
    assert train.main([*command, "--epochs", "1"]) == 0
    return folder / "run" / "best.pt"


@pytest.fixture
def folder_root(tmp_path: Path, make_sample: Callable[..., Sample]) -> Path:
    """A folder data set of darker images and other classes: 4 to train, 2 to validate."""
    root = tmp_path / "folder"
    for split, count in {"train": 4, "val": 2}.items():
        for kind in ("images", "labels"):
            (root / kind / split).mkdir(parents=True)
        for index in range(count):
            sample = make_sample(seed=50 + index)
            cv2.imwrite(str(root / "images" / split / f"{index}.png"), sample.image_bgr // 2)
            cv2.imwrite(str(root / "labels" / split / f"{index}.png"), sample.label % len(CLASSES))
    (root / "classes.json").write_text(json.dumps({"names": CLASSES, "terms": "ours"}))
    return root


def fine_tune(root: Path, out: Path, *flags: str) -> int:
    data = ["--data", "folder", "--root", str(root), "--out", str(out)]
    return train.main([*data, *FLAGS, "--epochs", "1", *flags])


def test_a_checkpoint_is_fine_tuned_on_other_classes(
    source: Path, folder_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "tuned"
    assert fine_tune(folder_root, out, "--init-from", str(source)) == 0
    told = (out / "init-from.txt").read_text()
    assert told in capsys.readouterr().err
    assert "rows kept by name: car, road" in told
    assert "rows re-initialised: lamp" in told
    channels = load_checkpoint(source).weights["body.classifier.weight"].shape[1]
    assert f"body.classifier.weight  here 3x{channels}x1x1, there 11x{channels}x1x1" in told
    ours, theirs = load_checkpoint(out / "best.pt").contract, load_checkpoint(source).contract
    assert ours.classes.names == CLASSES
    assert ours.normalization == theirs.normalization
    assert ours.origin.terms.startswith("ours; started from camvid-residual-n: ")
    assert theirs.origin.terms in ours.origin.terms


def test_before_the_first_step_the_network_gives_the_logits_of_its_source(
    source: Path, camvid_root: Path
) -> None:
    other_data = open_dataset("camvid", camvid_root, "val")
    checkpoint = load_checkpoint(source)
    assert channel_statistics(other_data)[0] != checkpoint.contract.normalization.mean_bgr
    trainer = Trainer(TrainConfig(**SMALL, init_from=str(source)), other_data)  # type: ignore[arg-type]
    images = torch.from_numpy(np.stack([other_data[index].image_bgr[:32] for index in range(2)]))
    with torch.inference_mode():
        expected = checkpoint.build()(images)
        assert torch.equal(trainer.network.eval()(images), expected)
        assert torch.equal(trainer.averaged_network()(images), expected)


@pytest.mark.parametrize(
    ("part", "frozen_names"), [("stem", ("body.stem",)), ("encoder", ("body.stem", "body.stage_"))]
)
def test_frozen_tensors_keep_every_bit_and_the_others_move(
    part: str, frozen_names: tuple[str, ...], source: Path, folder_root: Path, tmp_path: Path
) -> None:
    out = tmp_path / "tuned"
    assert fine_tune(folder_root, out, "--init-from", str(source), "--freeze", part) == 0
    before, last = load_checkpoint(source).weights, load_checkpoint(out / "last.pt")
    assert last.training is not None
    for weights in (last.training["network"], last.weights):
        for name, value in weights.items():
            if name.startswith(frozen_names):
                assert torch.equal(value, before[name]), name
            elif not name.startswith("body.classifier"):
                assert not torch.equal(value, before[name]), name


def test_a_training_resumes_from_its_own_source_only(
    source: Path, folder_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "tuned"
    assert fine_tune(folder_root, out, "--init-from", str(source), "--freeze", "encoder") == 0
    moved = tmp_path / "moved.pt"
    moved.write_bytes(source.read_bytes())
    assert fine_tune(folder_root, out, "--init-from", str(moved), "--freeze", "encoder", "--resume") == 0
    capsys.readouterr()
    another = str(out / "best.pt")
    assert fine_tune(folder_root, out, "--init-from", another, "--freeze", "encoder", "--resume") == 1
    assert "started from other weights" in capsys.readouterr().err
    plain = Trainer(TrainConfig(**SMALL), open_dataset("folder", folder_root, "train"))  # type: ignore[arg-type]
    with pytest.raises(
        TrainingError, match=r"freeze was 'encoder', now 'none'; it started from other weights"
    ):
        plain.restore(load_checkpoint(out / "last.pt"))


def test_freezing_random_weights_is_refused() -> None:
    with pytest.raises(ConfigError, match="got encoder without a checkpoint; give --init-from"):
        TrainConfig(freeze="encoder")


@pytest.mark.parametrize("network", ["residual-s", "article_keras"])
def test_a_source_of_another_size_or_kind_is_one_line(
    network: str, source: Path, folder_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--init-from", str(source), "--network", network]
    assert fine_tune(folder_root, tmp_path / "tuned", *flags) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "got those of camvid-residual-n" in line
    assert not (tmp_path / "tuned").exists()


def test_a_source_that_is_not_there_is_one_line(
    folder_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fine_tune(folder_root, tmp_path / "tuned", "--init-from", str(tmp_path / "none.pt")) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "none.pt: expected a checkpoint, found no such file" in line
