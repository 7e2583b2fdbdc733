import dataclasses
import os
import pickle
from pathlib import Path
from typing import BinaryIO

import pytest
import torch

from runtime.contract import CAMVID_CLASSES, GraphOutput, ImageInput, ModelContract, Normalization, Origin
from runtime.errors import CheckpointError, EdgesegError
from training.engine.checkpoint import FORMAT, Checkpoint, load_checkpoint, save_checkpoint
from training.network.build import CameraNetwork, build_network
from training.network.sizes import ArticlePytorchConfig, ResidualConfig

CONFIG = ResidualConfig(8, (8, 8, 8, 8), (1, 1, 1, 1), decoder_width=8, detail_width=0)
CONTRACT = ModelContract(
    name="tiny",
    input=ImageInput(size_hw=(32, 64)),
    output=GraphOutput(stride=8),
    classes=CAMVID_CLASSES,
    normalization=Normalization((104.0, 110.0, 117.0), (57.0, 61.0, 66.0)),
    origin=Origin(terms="research use"),
)


@pytest.fixture
def network() -> CameraNetwork:
    torch.manual_seed(0)
    return CameraNetwork(build_network("residual", CONFIG, 11), CONTRACT.normalization).eval()


@pytest.fixture
def path(network: CameraNetwork, tmp_path: Path) -> Path:
    save_checkpoint(tmp_path / "best.pt", Checkpoint("residual", CONFIG, CONTRACT, network.state_dict()))
    return tmp_path / "best.pt"


def change(path: Path, **changes: object) -> None:
    torch.save({**torch.load(path, weights_only=True), **changes}, path)


def test_round_trip_keeps_everything_but_the_weights_objects(path: Path) -> None:
    checkpoint = load_checkpoint(path)
    assert (checkpoint.kind, checkpoint.config, checkpoint.contract) == ("residual", CONFIG, CONTRACT)
    assert checkpoint.training is None


def test_training_state_comes_back(network: CameraNetwork, tmp_path: Path) -> None:
    training = {"epoch": 3, "random": torch.arange(5), "history": [{"loss": 0.5}]}
    save_checkpoint(
        tmp_path / "last.pt", Checkpoint("residual", CONFIG, CONTRACT, network.state_dict(), training)
    )
    loaded = load_checkpoint(tmp_path / "last.pt").training
    assert loaded is not None
    assert loaded["history"] == training["history"]
    assert torch.equal(loaded["random"], torch.arange(5))


def test_rebuilt_network_is_the_same_function_in_eval_mode(network: CameraNetwork, path: Path) -> None:
    image = torch.randint(0, 256, (2, 32, 64, 3), dtype=torch.uint8, generator=torch.manual_seed(1))
    rebuilt = load_checkpoint(path).build()
    assert not rebuilt.training
    with torch.inference_mode():
        assert torch.equal(rebuilt(image), network(image))


def test_article_network_is_rebuilt_from_its_own_config(tmp_path: Path) -> None:
    config = ArticlePytorchConfig()
    network = CameraNetwork(build_network("article_pytorch", config, 11), CONTRACT.normalization)
    contract = dataclasses.replace(CONTRACT, output=GraphOutput(config.stride))
    saved = Checkpoint("article_pytorch", config, contract, network.state_dict())
    save_checkpoint(tmp_path / "best.pt", saved)
    loaded = load_checkpoint(tmp_path / "best.pt")
    assert loaded.config == config
    loaded.build()


@pytest.mark.parametrize("kept", [0, 1, 100, 0.5, 0.99])
def test_truncated_file_is_refused(path: Path, kept: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content)) if isinstance(kept, float) else kept])
    with pytest.raises(CheckpointError, match="damaged"):
        load_checkpoint(path)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"none\.pt: expected a checkpoint, found no such file"):
        load_checkpoint(tmp_path / "none.pt")


def test_a_pipe_and_a_device_are_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.pt")
    (tmp_path / "device.pt").symlink_to("/dev/zero")
    for kind in ("pipe", "device"):
        with pytest.raises(CheckpointError, match=f"cannot read it .it is a {kind}, not a regular file"):
            load_checkpoint(tmp_path / f"{kind}.pt")


@pytest.mark.parametrize(
    "changes",
    [
        {"format": "edgeseg.checkpoint/99"},
        {"kind": "transformer"},
        {"config": {"widths": 3}},
        {"config": {"unknown": 3}},
        {"contract": "{"},
        {"contract": None},
    ],
)
def test_content_that_cannot_be_used_is_refused(path: Path, changes: dict[str, object]) -> None:
    change(path, **changes)
    with pytest.raises(EdgesegError):
        load_checkpoint(path)


@pytest.mark.parametrize("content", [{"weights": {}}, [1, 2], torch.zeros(3)])
def test_other_peoples_checkpoint_is_refused(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match=FORMAT):
        load_checkpoint(tmp_path / "other.pt")


def test_weights_of_another_network_are_refused(network: CameraNetwork, path: Path) -> None:
    weights = network.state_dict()
    del weights["body.classifier.bias"]
    change(path, weights=weights)
    with pytest.raises(CheckpointError, match=r"body\.classifier\.bias"):
        load_checkpoint(path).build()


class Trap:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.marker,))


def test_pickled_code_is_not_run(tmp_path: Path) -> None:
    marker = tmp_path / "executed"
    torch.save({"format": FORMAT, "weights": Trap(marker)}, tmp_path / "trap.pt")
    with pytest.raises(CheckpointError, match="would run code"):
        load_checkpoint(tmp_path / "trap.pt")
    assert not marker.exists()
    torch.load(tmp_path / "trap.pt", weights_only=False)  # the trap does work
    assert marker.exists()


def test_bare_pickle_is_not_run(tmp_path: Path) -> None:
    marker = tmp_path / "executed"
    (tmp_path / "trap.pt").write_bytes(pickle.dumps(Trap(marker)))
    with pytest.raises(CheckpointError):
        load_checkpoint(tmp_path / "trap.pt")
    assert not marker.exists()


def test_a_flipped_byte_in_the_weights_is_noticed(path: Path) -> None:
    content = bytearray(path.read_bytes())
    weights = load_checkpoint(path).weights["body.smooth_8.0.weight"]
    content[content.index(weights.numpy().tobytes())] ^= 0x40
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="damaged"):
        load_checkpoint(path)


@pytest.mark.parametrize("weights", [None, {}, [1, 2]])
def test_weights_of_another_kind_are_refused(path: Path, weights: object) -> None:
    change(path, weights=weights)
    with pytest.raises(CheckpointError, match="weights"):
        load_checkpoint(path).build()


def test_weights_with_a_name_that_is_none_are_refused(path: Path) -> None:
    change(path, weights={1: torch.zeros(1)})
    with pytest.raises(CheckpointError, match="weights"):
        load_checkpoint(path).build()


@pytest.mark.parametrize(
    "contract",
    [
        dataclasses.replace(CONTRACT, input=ImageInput(size_hw=(40, 64))),
        dataclasses.replace(CONTRACT, output=GraphOutput(stride=4)),
    ],
)
def test_a_contract_that_does_not_fit_the_network_is_refused(path: Path, contract: ModelContract) -> None:
    change(path, contract=contract.to_json())
    with pytest.raises(CheckpointError, match="expected stride 8 and a size in multiples of 32"):
        load_checkpoint(path).build()


def test_equal_checkpoints_have_equal_bytes(network: CameraNetwork, tmp_path: Path) -> None:
    for name in ("a.pt", "b.pt"):
        save_checkpoint(tmp_path / name, Checkpoint("residual", CONFIG, CONTRACT, network.state_dict()))
    assert (tmp_path / "a.pt").read_bytes() == (tmp_path / "b.pt").read_bytes()


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), RuntimeError("unexpected pos 64")])
def test_a_full_disk_keeps_the_checkpoint_before(
    network: CameraNetwork, path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(content: object, file: BinaryIO) -> None:
        file.write(b"half")
        raise error

    before = path.read_bytes()
    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(CheckpointError, match="cannot write the checkpoint"):
        save_checkpoint(path, Checkpoint("residual", CONFIG, CONTRACT, network.state_dict()))
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["best.pt"]
