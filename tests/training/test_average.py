import dataclasses
from pathlib import Path

import pytest
import torch

from runtime.contract import CAMVID_CLASSES, GraphOutput, ImageInput, ModelContract, Normalization, Origin
from training.average import main
from training.engine.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from training.network.build import CameraNetwork, build_network
from training.network.sizes import ResidualConfig

CONFIG = ResidualConfig(8, (8, 8, 8, 8), (0, 1, 1, 1), decoder_width=8, detail_width=0)


def tiny(seed: int, terms: str = "ours", temperature: float = 1.0, std: float = 60.0) -> Checkpoint:
    torch.manual_seed(seed)
    contract = ModelContract(
        "tiny",
        ImageInput((32, 64)),
        GraphOutput(8, temperature=temperature),
        CAMVID_CLASSES,
        Normalization((0.0, 0.0, 0.0), (std, std, std)),
        origin=Origin(terms=terms),
    )
    network = CameraNetwork(build_network("residual", CONFIG, 11), contract.normalization)
    return Checkpoint("residual", CONFIG, contract, network.state_dict())


def saved(folder: Path, *checkpoints: Checkpoint) -> list[str]:
    paths = [str(folder / f"{number}.pt") for number in range(len(checkpoints))]
    for path, checkpoint in zip(paths, checkpoints, strict=True):
        save_checkpoint(path, checkpoint)
    return paths


def test_every_weight_is_the_mean_and_what_was_measured_is_forgotten(tmp_path: Path) -> None:
    first, last = tiny(0, "A"), tiny(1, "B", temperature=1.5)
    assert main([*saved(tmp_path, first, last), "--out", str(tmp_path / "mean.pt")]) == 0
    mean = load_checkpoint(tmp_path / "mean.pt")
    for name, tensor in mean.weights.items():
        expected = (first.weights[name].double() + last.weights[name].double()) / 2
        torch.testing.assert_close(tensor.double(), expected, rtol=0, atol=1e-6)
    assert (mean.contract.accuracy, mean.contract.output.temperature) == (None, 1.0)
    assert mean.contract.origin.terms == "A; B"


def plain() -> Checkpoint:
    config, contract = dataclasses.replace(CONFIG, residual=False), tiny(1).contract
    weights = CameraNetwork(build_network("residual", config, 11), contract.normalization).state_dict()
    return Checkpoint("residual", config, contract, weights)


def changed(**parts: object) -> Checkpoint:
    one = tiny(1)
    return dataclasses.replace(one, contract=dataclasses.replace(one.contract, **parts))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        (plain(), "expected the network of"),
        (tiny(1, std=50.0), "expected the normalization of"),
        (changed(input=ImageInput((64, 64))), "expected the input of"),
        (
            changed(classes=dataclasses.replace(CAMVID_CLASSES, names=tuple("abcdefghijk"), traversable=())),
            "expected the classes of",
        ),
    ],
)
def test_another_network_is_refused(
    other: Checkpoint, expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*saved(tmp_path, tiny(0), other), "--out", str(tmp_path / "mean.pt")]) == 1
    assert expected in capsys.readouterr().err
    assert not (tmp_path / "mean.pt").exists()


def test_one_alone_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*saved(tmp_path, tiny(0)), "--out", str(tmp_path / "mean.pt")]) == 1
    assert "expected two or more" in capsys.readouterr().err
