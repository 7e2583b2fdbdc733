from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest

from export.graph.edit import append, replace_output
from export.module import ExportOptions, ExportReport, export_checkpoint
from runtime import Segmenter
from runtime.errors import ContractError, ParityError
from runtime.network.mask import class_mask, fit_mask
from runtime.network.session import NetworkSession
from training.streets import render_scene

Exported = tuple[Path, ExportReport]
SCENE = render_scene(5, (64, 96)).image_bgr


@pytest.fixture
def export_with(quick_trace: None, checkpoint_path: Path) -> Callable[[str], ExportReport]:
    return lambda kind: export_checkpoint(checkpoint_path, options=ExportOptions(output=kind))


def test_mask_in_the_graph_is_the_runtimes_mask_at_the_inputs_size(
    export_with: Callable[[str], ExportReport], exported: Exported
) -> None:
    path = export_with("mask").path
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (mask,) = session.run(None, {"image": SCENE[None]})
    expected = class_mask(NetworkSession(exported[1].path).run(SCENE), (64, 96))
    assert (mask.dtype, mask.shape) == (np.uint8, (1, 64, 96))
    assert (mask[0] == expected).mean() > 0.999
    assert len(np.unique(mask)) > 1


def test_mask_file_runs_in_the_segmenter_at_every_frame_size(
    export_with: Callable[[str], ExportReport],
) -> None:
    with Segmenter(export_with("mask").path) as segment:
        own = segment(SCENE).mask
        doubled = segment(SCENE.repeat(2, axis=0).repeat(2, axis=1)).mask
    assert doubled.shape == (128, 192)
    assert (doubled == fit_mask(own, (128, 192))).mean() > 0.9


def test_file_with_both_gives_the_logits_and_the_mask(
    export_with: Callable[[str], ExportReport], exported: Exported
) -> None:
    path = export_with("both").path
    assert [output.name for output in onnx.load(path).graph.output] == ["logits", "mask"]
    session = NetworkSession(path)
    np.testing.assert_allclose(session.run(SCENE), NetworkSession(exported[1].path).run(SCENE), rtol=1e-5)
    assert (session.run_mask(SCENE)[0] == class_mask(session.run(SCENE), (64, 96))).mean() > 0.999
    with Segmenter(path) as segment, Segmenter(exported[1].path) as of_logits:
        assert (segment(SCENE).mask == of_logits(SCENE).mask).all()


def test_proof_of_a_mask_compares_its_logits_too(
    export_with: Callable[[str], ExportReport], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert 0 < export_with("mask").parity.relative < 1e-5

    def louder(model: ir.Model, _: object) -> ir.Model:
        """Scale all logits: no mask tells."""
        (quiet,) = model.graph.outputs
        quiet.name = "quiet"
        logits = append(model.graph, "Add", [quiet, quiet], "logits")
        logits.type, logits.shape = quiet.type, quiet.shape
        replace_output(quiet, logits)
        return model

    monkeypatch.setattr("export.module.simplify", louder)
    with pytest.raises(ParityError, match="16 of 16"):
        export_with("mask")


def test_proof_sees_a_mask_that_its_logits_do_not_give(
    export_with: Callable[[str], ExportReport], monkeypatch: pytest.MonkeyPatch
) -> None:
    import export.module

    real = export.module.set_outputs

    def nearest(model: ir.Model, contract: object) -> None:
        real(model, contract)
        (node,) = (node for node in model.graph if node.op_type == "ArgMax")
        node.op_type = "ArgMin"

    monkeypatch.setattr(export.module, "set_outputs", nearest)
    with pytest.raises(ParityError, match="masks agree on"):
        export_with("both")


def test_contract_of_a_mask_claims_no_accuracy_of_the_logits(
    export_with: Callable[[str], ExportReport],
) -> None:
    assert export_with("both").contract.accuracy is not None
    assert export_with("mask").contract.accuracy is None


def test_what_a_file_does_not_give_is_refused(
    export_with: Callable[[str], ExportReport], exported: Exported
) -> None:
    with pytest.raises(ContractError, match="export it with --output logits"):
        NetworkSession(export_with("mask").path).run(SCENE)
    with pytest.raises(ContractError, match="export it with --output mask"):
        NetworkSession(exported[1].path).run_mask(SCENE)
