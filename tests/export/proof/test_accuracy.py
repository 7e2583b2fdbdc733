from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import onnx_ir as ir
import pytest

import export.proof.accuracy
from export.module import ExportOptions, ExportReport, export_checkpoint
from export.to_onnx import main
from runtime import Segmentation, Segmenter
from runtime.contract import ClassMap, ImageFit
from runtime.errors import DatasetError, ParityError
from runtime.frame import Image
from tests.export.conftest import CONTRACT
from training.data import Sample, open_dataset
from training.engine.checkpoint import load_checkpoint
from training.engine.config import TrainConfig
from training.engine.inference import Views, evaluate, masks_of, predictor, sampled_pixels
from training.engine.start import build_contract
from training.evaluation.temperature import fit_temperature

Exported = tuple[Path, ExportReport]


class Few:
    """Two images of the synthetic data set."""

    def __init__(self, classes: ClassMap | None = None) -> None:
        self._all = open_dataset("synthetic", None, "val")
        self.name, self.split, self.terms = "few", "val", ""
        self.classes = classes or self._all.classes

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> Sample:
        if index >= len(self):
            raise IndexError(index)
        return self._all[index]


@pytest.mark.usefixtures("quick_trace")
@pytest.mark.parametrize("kind", ["logits", "mask"])
def test_measured_accuracy_goes_into_the_contract(
    checkpoint_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("training.data.catalog.open_dataset", lambda data, root, split: Few())
    assert main([str(checkpoint_path), "--data", "synthetic", "--output", kind]) == 0
    printed = capfd.readouterr()
    assert "in PyTorch" in printed.out
    assert "2 images of few val" in printed.out
    with Segmenter(checkpoint_path.with_suffix(".onnx")) as segment:
        accuracy = segment.contract.accuracy
    assert accuracy is not None
    assert (accuracy.dataset, accuracy.split, accuracy.frames) == ("few", "val", 2)
    assert f"{accuracy.miou:.4f} in the file" in printed.out


@pytest.mark.usefixtures("quick_trace")
@pytest.mark.parametrize("kind", ["logits", "mask"])
@pytest.mark.parametrize("mode", ["letterbox", "crop"])
def test_a_network_is_measured_on_what_its_file_sees_of_a_frame(
    tmp_path: Path,
    write_checkpoint: Callable[..., Path],
    mode: Literal["letterbox", "crop"],
    kind: Literal["logits", "mask"],
) -> None:
    data = Few()
    config = TrainConfig(fit=mode, size_hw=CONTRACT.input.size_hw)
    fit = build_contract(config, data, CONTRACT.normalization, (1.2, 2.0, 3.6), "").input.fit
    assert fit == ImageFit(mode, fill_bgr=(1, 2, 4))
    path = write_checkpoint(tmp_path / "tiny.pt", contract=CONTRACT.with_input(fit=fit))
    report = export_checkpoint(path, options=ExportOptions(output=kind), dataset=data)
    network, size_hw, images = load_checkpoint(path).build(), config.size_hw, [one.image_bgr for one in data]
    with Segmenter(report.path) as segment:
        masks = np.stack([segment(image).mask for image in images])
    assert (masks == 255).any() == (mode == "crop")
    if kind == "logits":
        assert (np.stack(masks_of(network, size_hw, fit=fit)(images)) == masks).mean() > 0.999
        measured = evaluate(network, data, size_hw, fit=fit).accuracy
        assert report.contract.accuracy is not None
        assert measured.miou == pytest.approx(report.contract.accuracy.miou, abs=1e-3)
        for flip in (False, True):
            said = predictor(network, Views((size_hw,), flip=flip, fit=fit))(images[0])
            assert np.array_equal(said.mask == 255, masks[0] == 255)
        assert fit_temperature(sampled_pixels(network, size_hw, data, fit=fit)) > 0


@pytest.mark.usefixtures("quick_trace")
def test_file_of_another_accuracy_is_refused(
    checkpoint_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Constant(Segmenter):
        def __call__(self, frame: Image) -> Segmentation:
            result = super().__call__(frame)
            result.mask[:] = 3
            return result

    monkeypatch.setattr(export.proof.accuracy, "Segmenter", Constant)
    with pytest.raises(ParityError, match=r"mIoU of .* the file has"):
        export_checkpoint(checkpoint_path, dataset=Few())
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.pt"]


@pytest.mark.usefixtures("quick_trace")
def test_labels_of_other_classes_are_refused(checkpoint_path: Path, tmp_path: Path) -> None:
    other = ClassMap(("a", "b"), ((0, 0, 0), (1, 1, 1)))
    with pytest.raises(DatasetError, match="expected the model's classes"):
        export_checkpoint(checkpoint_path, dataset=Few(other))
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.pt"]


def test_root_without_a_kind_of_data_is_refused(
    checkpoint_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main([str(checkpoint_path), "--root", "somewhere"]) == 1
    assert "expected --data" in capfd.readouterr().err


@pytest.mark.usefixtures("quick_trace")
def test_graph_that_onnxsim_changes_is_kept_as_traced_on_request_only(
    checkpoint_path: Path,
    traced: ir.Model,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("onnxsim.simplify", lambda model, check_n, test_input_shapes: (model, False))
    assert main([str(checkpoint_path)]) == 1
    assert "with --no-simplify" in capfd.readouterr().err
    assert main([str(checkpoint_path), "--no-simplify"]) == 0
    nodes = len(traced.graph)
    assert f"{nodes} nodes traced, {nodes} in the file, not simplified" in capfd.readouterr().out


@pytest.mark.usefixtures("quick_trace")
def test_graph_as_traced_goes_to_half_too(checkpoint_path: Path) -> None:
    report = export_checkpoint(checkpoint_path, options=ExportOptions(half=True, simplify=False))
    assert report.parity.mask_agreement > 0.99
