import functools
from collections.abc import Callable, Iterator
from pathlib import Path

import onnx_ir as ir
import pytest
import torch
from torch import nn

import export.module
import export.proof.parity
from export.graph.trace import trace
from export.module import ExportReport, export_checkpoint
from runtime.contract import (
    CAMVID_CLASSES,
    Accuracy,
    GraphOutput,
    ImageInput,
    ModelContract,
    Normalization,
    Origin,
)
from training.engine.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from training.network import NetworkConfig
from training.network.build import CameraNetwork, build_network
from training.network.sizes import ResidualConfig

TINY = ResidualConfig(8, (8, 8, 16, 16), (1, 2, 1, 1), decoder_width=8, detail_width=8)
CONTRACT = ModelContract(
    name="tiny",
    input=ImageInput(size_hw=(64, 96)),
    output=GraphOutput(stride=4),
    classes=CAMVID_CLASSES,
    normalization=Normalization((104.0, 110.0, 117.0), (57.0, 61.0, 66.0)),
    accuracy=Accuracy("synthetic", "val", 2, 0.5, 0.75, {"sky": 0.9, "car": None}),
    origin=Origin(tools={"torch": "1.0"}, terms="research use"),
)


def randomize(network: nn.Module) -> None:
    """Give batch norms what a training would: nothing that folding could get right by luck."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.3)
            nn.init.normal_(module.running_mean, std=0.3)
            nn.init.uniform_(module.running_var, 0.5, 2.0)


@pytest.fixture(scope="session", autouse=True)
def spare_the_machine() -> Iterator[None]:
    """Draw each scene of the proof once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export.proof.parity, "render_scene", functools.cache(export.proof.parity.render_scene))
        yield


@pytest.fixture(scope="session")
def write_checkpoint() -> Callable[..., Path]:
    """Write a seeded, untrained network as a checkpoint."""

    def write(
        path: Path,
        kind: str = "residual",
        config: NetworkConfig = TINY,
        contract: ModelContract = CONTRACT,
    ) -> Path:
        torch.manual_seed(0)
        network = CameraNetwork(build_network(kind, config, len(contract.classes)), contract.normalization)
        randomize(network)
        save_checkpoint(path, Checkpoint(kind, config, contract, network.state_dict()))
        return path

    return write


@pytest.fixture
def checkpoint_path(tmp_path: Path, write_checkpoint: Callable[..., Path]) -> Path:
    return write_checkpoint(tmp_path / "tiny.pt")


@pytest.fixture(scope="session")
def exported(
    tmp_path_factory: pytest.TempPathFactory, write_checkpoint: Callable[..., Path]
) -> tuple[Path, ExportReport]:
    """A checkpoint and the report of its export, made once; leave both files as they are."""
    checkpoint_path = write_checkpoint(tmp_path_factory.mktemp("export") / "tiny.pt")
    return checkpoint_path, export_checkpoint(checkpoint_path)


@pytest.fixture(scope="session")
def traced(exported: tuple[Path, ExportReport]) -> ir.Model:
    """The graph of every checkpoint that `write_checkpoint` writes by default."""
    checkpoint = load_checkpoint(exported[0])
    return trace(checkpoint.build().with_std_folded(), checkpoint.contract, 18)


@pytest.fixture
def quick_trace(traced: ir.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Spare a test the seconds that tracing takes; everything after it is real."""
    monkeypatch.setattr(export.module, "trace", lambda *_: traced.clone())
