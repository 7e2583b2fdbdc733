from pathlib import Path

import pytest
import torch

import training.engine.checkpoint
from export.to_onnx import main as export_main
from runtime.contract import CAMVID_CLASSES, GraphOutput, ImageInput, ModelContract, Normalization, Origin
from runtime.errors import CheckpointError
from training.engine.checkpoint import (
    Checkpoint,
    bundled_names,
    checkpoint_file,
    load_checkpoint,
    save_checkpoint,
    weights_folder,
)
from training.engine.transfer import load_teacher, read_source
from training.network.build import CameraNetwork, build_network
from training.network.sizes import ResidualConfig

CONFIG = ResidualConfig(8, (8, 8, 8, 8), (0, 1, 1, 1), decoder_width=8, detail_width=0)


@pytest.fixture
def box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A box with one checkpoint, "tiny", and an empty working directory beside it."""
    torch.manual_seed(0)
    contract = ModelContract(
        "tiny",
        ImageInput((32, 64)),
        GraphOutput(8),
        CAMVID_CLASSES,
        Normalization((0.0, 0.0, 0.0), (57.0, 61.0, 66.0)),
        origin=Origin(terms="ours"),
    )
    network = CameraNetwork(build_network("residual", CONFIG, 11), contract.normalization)
    folder = tmp_path / "box"
    folder.mkdir()
    save_checkpoint(folder / "tiny.pt", Checkpoint("residual", CONFIG, contract, network.state_dict()))
    monkeypatch.setattr(training.engine.checkpoint, "WEIGHTS", folder)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return folder


def test_a_name_stands_for_the_file_in_the_box(box: Path) -> None:
    assert bundled_names() == ["tiny"]
    assert checkpoint_file("tiny") == box / "tiny.pt"


def test_a_file_of_that_name_comes_first(box: Path) -> None:
    Path("tiny").touch()
    assert checkpoint_file("tiny") == Path("tiny")


def test_what_is_neither_is_refused_with_the_names_that_there_are(box: Path) -> None:
    with pytest.raises(CheckpointError, match=r"nobody: expected a checkpoint.*name a bundled one \(tiny\)"):
        load_checkpoint(checkpoint_file("nobody"))


def test_an_installation_without_them_says_how_to_get_them(
    box: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training.engine.checkpoint, "WEIGHTS", box / "nothing")
    with pytest.raises(CheckpointError, match=r"camvid-s: expected a checkpoint.*pip install \./weights"):
        load_checkpoint(checkpoint_file("camvid-s"))


def test_a_training_starts_from_it_and_learns_from_it(box: Path) -> None:
    source, sha256 = read_source("tiny")
    assert source is not None
    assert source.contract.name == "tiny"
    teacher = load_teacher("tiny", CAMVID_CLASSES, (32, 64))
    assert (teacher.name, teacher.sha256) == ("tiny", sha256)


def test_it_is_exported_into_the_working_directory(box: Path) -> None:
    assert export_main(["tiny"]) == 0
    assert Path("tiny.onnx").is_file()
    assert sorted(path.name for path in box.iterdir()) == ["tiny.pt"]


def test_the_weights_package_brings_them_where_there_is_no_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not weights_folder(tmp_path).is_dir()
    package = tmp_path / "site-packages" / "edgeseg_weights"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    monkeypatch.syspath_prepend(package.parent)
    assert weights_folder(tmp_path) == package


def test_a_checkout_holds_the_checkpoints_of_the_bundled_models() -> None:
    assert bundled_names() == ["camvid-m", "camvid-n", "camvid-s"]
    classes = load_checkpoint(checkpoint_file("camvid-n")).contract.classes
    assert (classes, classes.traversable) == (CAMVID_CLASSES, ("road",))
