import pickle
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch

import export.module
from export.graph.edit import append, numbers, set_array
from export.module import ExportReport, export_checkpoint
from export.to_onnx import main
from runtime import Segmenter
from runtime.errors import EdgesegError, ParityError, SourceError
from training.engine.checkpoint import FORMAT, Checkpoint, load_checkpoint, save_checkpoint

Exported = tuple[Path, ExportReport]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def add_to_first_weight(model: ir.Model, value: float) -> ir.Model:
    """Do what a faulty rewriter would."""
    tensor = next(value for value in model.graph.initializers.values() if numbers(value).ndim == 4)
    weights = numbers(tensor).copy()
    weights.flat[0] += value
    set_array(tensor, weights)
    return model


@pytest.fixture
def faulty_simplify(quick_trace: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export.module, "simplify", lambda model, _: add_to_first_weight(model, 0.5))


def test_command_writes_beside_the_checkpoint_and_names_the_next_step(
    checkpoint_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main([str(checkpoint_path)]) == 0
    output = checkpoint_path.with_suffix(".onnx")
    printed = capfd.readouterr()
    assert printed.out.splitlines()[0].startswith(f"{output}: tiny, 64x96")
    assert printed.out.splitlines()[-1] == f"next: python -m runtime.camera --model {output} --source 0"
    assert printed.err == ""
    with Segmenter(output) as segment:
        assert segment(np.zeros((50, 70, 3), np.uint8)).mask.shape == (50, 70)


def test_proof_covers_sixteen_scenes_within_rounding(exported: Exported) -> None:
    parity = exported[1].parity
    assert len(parity.frames) == 16
    assert parity.relative < 1e-5
    assert parity.mask_agreement > 0.999


@pytest.mark.usefixtures("quick_trace")
def test_own_frames_can_prove(checkpoint_path: Path, tmp_path: Path) -> None:
    for index in range(3):
        image = np.random.default_rng(index).integers(0, 256, (40 + index, 60, 3), np.uint8)
        cv2.imwrite(str(tmp_path / f"frame_{index}.png"), image)
    report = export_checkpoint(checkpoint_path, frames=str(tmp_path / "frame_*.png"))
    frames = [frame.name for frame in report.parity.frames]
    assert frames[:4] == ["frame 0", "frame 1", "frame 2", "scene 3000000"]
    assert len(frames) == 16


@pytest.mark.usefixtures("quick_trace")
def test_frames_that_are_not_there_and_cameras_leave_no_file(checkpoint_path: Path) -> None:
    with pytest.raises(SourceError):
        export_checkpoint(checkpoint_path, frames=str(checkpoint_path.parent / "none_*.png"))
    with pytest.raises(SourceError, match=r"^frames: expected images or a recording, got a camera"):
        export_checkpoint(checkpoint_path, frames="1")
    assert names(checkpoint_path.parent) == ["tiny.pt"]


@pytest.mark.usefixtures("faulty_simplify")
def test_failed_proof_lists_every_frame_exits_1_and_leaves_no_file(
    checkpoint_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main([str(checkpoint_path)]) == 1
    error = capfd.readouterr().err.splitlines()[-1]
    assert error.startswith("error: proof: 16 of 16 frames differ")
    assert error.count("logits differ by") == 16
    assert names(checkpoint_path.parent) == ["tiny.pt"]


@pytest.mark.usefixtures("faulty_simplify")
def test_failed_proof_keeps_an_older_file(checkpoint_path: Path, tmp_path: Path) -> None:
    output = tmp_path / "older.onnx"
    output.write_bytes(b"older")
    with pytest.raises(ParityError):
        export_checkpoint(checkpoint_path, output)
    assert output.read_bytes() == b"older"
    assert names(tmp_path) == ["older.onnx", "tiny.pt"]


@pytest.mark.usefixtures("quick_trace")
def test_successful_export_replaces_an_older_file(checkpoint_path: Path, tmp_path: Path) -> None:
    output = tmp_path / "older.onnx"
    output.write_bytes(b"older")
    export_checkpoint(checkpoint_path, output)
    assert onnx.load(output).graph.node


def test_network_that_gives_nan_is_refused(checkpoint_path: Path, tmp_path: Path) -> None:
    checkpoint = load_checkpoint(checkpoint_path)
    weights = {name: value.clone() for name, value in checkpoint.weights.items()}
    weights["body.classifier.bias"][0] = float("nan")
    save_checkpoint(
        checkpoint_path, Checkpoint(checkpoint.kind, checkpoint.config, checkpoint.contract, weights)
    )
    with pytest.raises(ParityError):
        export_checkpoint(checkpoint_path)
    assert names(tmp_path) == ["tiny.pt"]


@pytest.mark.usefixtures("quick_trace")
def test_invalid_graph_is_refused(checkpoint_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def add_unknown(model: ir.Model, _: object) -> ir.Model:
        append(model.graph, "NoSuchOperation", [model.graph.inputs[0]], "nothing")
        return model

    monkeypatch.setattr(export.module, "simplify", add_unknown)
    with pytest.raises(ParityError, match=r"onnx\.checker says"):
        export_checkpoint(checkpoint_path)
    assert names(checkpoint_path.parent) == ["tiny.pt"]


@pytest.mark.parametrize("fault", ["missing", "truncated", "not a checkpoint"])
def test_bad_checkpoint_is_one_line_and_exit_1(
    fault: str, checkpoint_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    if fault == "missing":
        checkpoint_path.unlink()
    elif fault == "truncated":
        checkpoint_path.write_bytes(checkpoint_path.read_bytes()[:-1000])
    else:
        torch.save({"weights": torch.zeros(2)}, checkpoint_path)
    assert main([str(checkpoint_path)]) == 1
    lines = capfd.readouterr().err.splitlines()
    assert [line for line in lines if not line.startswith("exporting")] == lines[-1:]
    assert str(checkpoint_path) in lines[-1]
    assert not checkpoint_path.with_suffix(".onnx").exists()


class _Evil:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.marker,))


def test_checkpoint_that_would_run_code_does_not(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    marker, checkpoint_path = tmp_path / "executed", tmp_path / "evil.pt"
    torch.save({"format": FORMAT, "weights": _Evil(marker)}, checkpoint_path)
    assert main([str(checkpoint_path)]) == 1
    assert "would run code" in capfd.readouterr().err
    assert names(tmp_path) == ["evil.pt"]
    torch.load(checkpoint_path, weights_only=False)  # the trap does work
    assert marker.exists()


def test_bare_pickle_does_not_run_either(tmp_path: Path) -> None:
    marker, checkpoint_path = tmp_path / "executed", tmp_path / "evil.pt"
    checkpoint_path.write_bytes(pickle.dumps(_Evil(marker)))
    assert main([str(checkpoint_path)]) == 1
    assert names(tmp_path) == ["evil.pt"]


def test_output_must_end_in_onnx(checkpoint_path: Path) -> None:
    with pytest.raises(EdgesegError, match=r"ends in \.onnx"):
        export_checkpoint(checkpoint_path, checkpoint_path.parent / "model.pb")


@pytest.mark.usefixtures("quick_trace")
def test_folder_that_cannot_be_written_is_one_line_and_exit_1(
    checkpoint_path: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert main([str(checkpoint_path), "-o", str(tmp_path / "file" / "seg.onnx")]) == 1
    assert "cannot write it" in capfd.readouterr().err.splitlines()[-1]
    assert names(tmp_path) == ["file", "tiny.pt"]


@pytest.mark.usefixtures("quick_trace")
def test_missing_output_folder_is_made(checkpoint_path: Path, tmp_path: Path) -> None:
    export_checkpoint(checkpoint_path, tmp_path / "new" / "folder" / "seg.onnx")
    assert names(tmp_path / "new" / "folder") == ["seg.onnx"]


@pytest.mark.parametrize("arguments", [[], ["tiny.pt", "--opset", "9"], ["tiny.pt", "--no-such-flag"]])
def test_wrong_usage_exits_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2


@pytest.mark.usefixtures("quick_trace")
def test_ctrl_c_exits_130_and_leaves_no_file(checkpoint_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(export.module, "prove_parity", interrupt)
    assert main([str(checkpoint_path)]) == 130
    assert names(checkpoint_path.parent) == ["tiny.pt"]


KILLED_IN_THE_PROOF = """
import os, signal, sys
import export.module, export.to_onnx
export.module.prove_parity = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
export.to_onnx.main(sys.argv[1:])
"""


def test_killed_export_leaves_the_older_file(checkpoint_path: Path, tmp_path: Path) -> None:
    output = tmp_path / "seg.onnx"
    output.write_bytes(b"older")
    killed = subprocess.run(
        [sys.executable, "-c", KILLED_IN_THE_PROOF, str(checkpoint_path), "-o", str(output)], check=False
    )
    assert killed.returncode == -signal.SIGKILL
    assert output.read_bytes() == b"older"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="names are bytes on Linux only")
def test_a_checkpoint_and_a_model_whose_names_are_not_utf8(
    checkpoint_path: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "d\udce9r"
    folder.mkdir()
    checkpoint = folder / "caf\udce9.pt"
    checkpoint.write_bytes(checkpoint_path.read_bytes())
    assert main([str(checkpoint), "-o", str(folder / "m\udcff.onnx")]) == 0, capfd.readouterr().err
    with Segmenter(folder / "m\udcff.onnx") as segment:
        assert segment(np.zeros((50, 70, 3), np.uint8)).mask.shape == (50, 70)
