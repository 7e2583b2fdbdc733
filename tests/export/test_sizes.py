from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from export.module import ExportOptions, ExportReport, export_checkpoint
from export.to_onnx import main
from runtime import Segmenter
from runtime.errors import ConfigError, FrameError
from runtime.network.session import NetworkSession
from training.engine.checkpoint import load_checkpoint

Exported = tuple[Path, ExportReport]


@pytest.fixture(scope="module")
def dynamic(tmp_path_factory: pytest.TempPathFactory, write_checkpoint: Callable[..., Path]) -> Exported:
    checkpoint_path = write_checkpoint(tmp_path_factory.mktemp("dynamic") / "tiny.pt")
    return checkpoint_path, export_checkpoint(checkpoint_path, options=ExportOptions(dynamic=True))


def test_another_size_than_trained(checkpoint_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main([str(checkpoint_path), "--imgsz", "96", "64"]) == 0
    assert "tiny, 96x64, logits" in capfd.readouterr().out
    session = NetworkSession(checkpoint_path.with_suffix(".onnx"))
    assert session.contract.input.size_hw == (96, 64)
    assert session.contract.accuracy is None  # it was measured at 64x96
    assert session.run(np.zeros((96, 64, 3), np.uint8)).shape == (1, 11, 24, 16)


@pytest.mark.parametrize("size_hw", [(64, 100), (0, 32), (-32, 32)])
def test_size_that_is_no_multiple_is_refused(checkpoint_path: Path, size_hw: tuple[int, int]) -> None:
    with pytest.raises(ConfigError, match="imgsz: expected height and width in multiples of 32"):
        export_checkpoint(checkpoint_path, options=ExportOptions(size_hw=size_hw))


def test_free_sizes_are_named(dynamic: Exported) -> None:
    graph = onnx.load(dynamic[1].path).graph
    (image, logits) = (
        [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (graph.input[0], graph.output[0])
    )
    assert image == ["batch", "height", "width", 3]
    assert logits == ["batch", 11, "height/4", "width/4"]


def test_free_sizes_add_nothing_to_the_graph(dynamic: Exported, exported: Exported) -> None:
    free, fixed = (
        Counter(node.op_type for node in onnx.load(report.path).graph.node)
        for _, report in (dynamic, exported)
    )
    assert free == fixed


@pytest.mark.parametrize("shape", [(1, 64, 96, 3), (3, 32, 32, 3), (2, 160, 64, 3)])
def test_any_batch_and_size_gives_the_logits_of_torch(dynamic: Exported, shape: tuple[int, ...]) -> None:
    images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    with torch.inference_mode():
        expected = load_checkpoint(dynamic[0]).build()(torch.from_numpy(images)).numpy()
    found = NetworkSession(dynamic[1].path).run(images)
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


def test_proof_covers_a_batch_at_another_size(dynamic: Exported) -> None:
    names = [frame.name for frame in dynamic[1].parity.frames]
    assert len(names) == 17
    assert names[-1] == "2 frames at 96x128"


@pytest.mark.parametrize("shape", [(64, 100, 3), (31, 32, 3), (0, 64, 96, 3), (1, 1, 64, 96, 3), (64, 96)])
def test_session_names_the_multiple_at_run_time(dynamic: Exported, shape: tuple[int, ...]) -> None:
    with pytest.raises(FrameError, match="multiples of 32, got shape"):
        NetworkSession(dynamic[1].path).run(np.zeros(shape, np.uint8))


@pytest.mark.parametrize("shape", [(64, 128, 3), (2, 64, 96, 3)])
def test_session_of_a_fixed_size_takes_nothing_else(exported: Exported, shape: tuple[int, ...]) -> None:
    with pytest.raises(FrameError, match="expected one image of 64x96"):
        NetworkSession(exported[1].path).run(np.zeros(shape, np.uint8))


def test_segmenter_takes_a_size(dynamic: Exported) -> None:
    with Segmenter(dynamic[1].path, size_hw=(128, 128)) as segment:
        assert segment.size_hw == (128, 128)
        assert segment(np.zeros((100, 90, 3), np.uint8)).mask.shape == (100, 90)


def test_segmenter_refuses_a_size_that_the_file_does_not_take(dynamic: Exported, exported: Exported) -> None:
    with pytest.raises(ConfigError, match="multiples of 32"):
        Segmenter(dynamic[1].path, size_hw=(100, 96))
    with pytest.raises(ConfigError, match="--dynamic"):
        Segmenter(exported[1].path, size_hw=(128, 96))
