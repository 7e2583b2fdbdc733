import dataclasses
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from export.module import ExportOptions, ExportReport, export_checkpoint
from runtime import Segmenter
from runtime.base.files import file_sha256
from runtime.contract import METADATA_KEY, GraphOutput, ImageInput, ModelContract, Normalization
from runtime.network.onnx_file import SEAL_KEY
from training.engine.checkpoint import load_checkpoint
from training.network.sizes import ArticleKerasConfig, ArticlePytorchConfig

Exported = tuple[Path, ExportReport]


def logits_of_both(
    checkpoint_path: Path, onnx_path: Path, images: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    network = load_checkpoint(checkpoint_path).build()
    with torch.inference_mode():
        expected = network(torch.from_numpy(images)).numpy()
    session = onnxruntime.InferenceSession(onnx_path, providers=["CPUExecutionProvider"])
    return expected, np.concatenate([session.run(None, {"image": image[None]})[0] for image in images])


def test_onnxruntime_gives_the_logits_of_torch(exported: Exported) -> None:
    checkpoint_path, report = exported
    images = np.random.default_rng(0).integers(0, 256, (4, 64, 96, 3), np.uint8)
    expected, found = logits_of_both(checkpoint_path, report.path, images)
    assert expected.shape == found.shape == (4, 11, 16, 24)
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


def test_a_mean_of_zero_costs_nothing(tmp_path: Path, write_checkpoint: Callable[..., Path]) -> None:
    contract = load_checkpoint(write_checkpoint(tmp_path / "any.pt")).contract
    centred = dataclasses.replace(contract, normalization=Normalization((0.0,) * 3, (57.0, 61.0, 66.0)))
    checkpoint_path = write_checkpoint(tmp_path / "centred.pt", contract=centred)
    graph = onnx.load(export_checkpoint(checkpoint_path).path).graph
    assert [node.op_type for node in graph.node][:3] == ["Transpose", "Cast", "Conv"]


def test_black_and_white_images_agree_to_the_border(exported: Exported) -> None:
    checkpoint_path, report = exported
    images = np.stack([np.zeros((64, 96, 3), np.uint8), np.full((64, 96, 3), 255, np.uint8)])
    expected, found = logits_of_both(checkpoint_path, report.path, images)
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("kind", "config", "stride"),
    [("article_pytorch", ArticlePytorchConfig(), 2), ("article_keras", ArticleKerasConfig(), 4)],
)
def test_article_networks_export_too(
    tmp_path: Path, write_checkpoint: Callable[..., Path], kind: str, config: object, stride: int
) -> None:
    source = load_checkpoint(write_checkpoint(tmp_path / "any.pt")).contract
    contract = ModelContract(
        kind, ImageInput((64, 96)), GraphOutput(stride), source.classes, source.normalization
    )
    checkpoint_path = write_checkpoint(tmp_path / "article.pt", kind, config, contract)
    report = export_checkpoint(checkpoint_path)
    images = np.random.default_rng(0).integers(0, 256, (1, 64, 96, 3), np.uint8)
    expected, found = logits_of_both(checkpoint_path, report.path, images)
    assert found.shape == contract.logits_shape
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


def test_contract_travels_from_checkpoint_to_runtime(exported: Exported) -> None:
    checkpoint_path, report = exported
    before = load_checkpoint(checkpoint_path).contract
    with Segmenter(report.path) as segment:
        after = segment.contract
    assert after == report.contract
    assert after.input.size_multiple == 32
    as_before = after.with_input(size_multiple=1)
    assert as_before.with_origin(checkpoint_sha256="", tools=before.origin.tools) == before


def test_contract_says_where_the_file_came_from(exported: Exported) -> None:
    checkpoint_path, report = exported
    origin = report.contract.origin
    assert origin.checkpoint_sha256 == file_sha256(checkpoint_path)
    assert set(origin.tools) == {"edgeseg", "onnx", "onnxscript", "onnxsim", "torch"}
    assert origin.tools["torch"] == torch.__version__  # the exporting one
    assert (origin.quantization, origin.terms) == ("none", "research use")


def test_graph_holds_only_operations_that_are_fast_and_known_everywhere(exported: Exported) -> None:
    checkpoint_path, report = exported
    operations = Counter(node.op_type for node in onnx.load(report.path).graph.node)
    network = load_checkpoint(checkpoint_path).build()
    layers = Counter(type(module) for module in network.modules())
    assert operations.pop("Conv") == layers[nn.Conv2d]
    assert operations.pop("Relu") == layers[nn.ReLU]
    assert operations == {
        "Transpose": 1,
        "Cast": 1,
        "Sub": 1,
        "Add": 5 + 4,  # a residual block each, and the decoder's sums
        "GlobalAveragePool": 1,
        "Resize": 3,
    }


def test_image_is_transposed_while_it_is_still_bytes(exported: Exported) -> None:
    nodes = onnx.load(exported[1].path).graph.node
    assert [node.op_type for node in nodes[:4]] == ["Transpose", "Cast", "Sub", "Conv"]


def test_every_upsampling_is_exactly_twofold(exported: Exported) -> None:
    graph = onnx.load(exported[1].path).graph
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Resize":
            assert constants[node.input[2]].tolist() == [1, 1, 2, 2]


def test_file_opens_in_runtimes_of_its_operator_set(exported: Exported) -> None:
    model = onnx.load(exported[1].path)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 18)]
    assert model.ir_version == 8


def test_newer_operator_set_on_request(tmp_path: Path, checkpoint_path: Path) -> None:
    report = export_checkpoint(checkpoint_path, options=ExportOptions(opset=21))
    model = onnx.load(report.path)
    assert (model.opset_import[0].version, model.ir_version) == (21, 10)


def test_file_names_nothing_of_the_machine_that_made_it(exported: Exported) -> None:
    path = exported[1].path
    assert [entry.key for entry in onnx.load(path).metadata_props] == [METADATA_KEY, SEAL_KEY]
    content = path.read_bytes()
    assert b".py" not in content
    assert str(Path.cwd()).encode() not in content


def test_weights_are_inside_the_file(exported: Exported) -> None:
    checkpoint_path, report = exported
    assert sorted(path.name for path in report.path.parent.iterdir()) == ["tiny.onnx", "tiny.pt"]
    parameters = sum(value.numel() for value in load_checkpoint(checkpoint_path).weights.values())
    assert report.size_bytes == report.path.stat().st_size > 4 * 0.8 * parameters
