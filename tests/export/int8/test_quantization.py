import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import onnx_ir as ir
import pytest
from numpy.typing import NDArray

import export.int8.first_look
import export.int8.judge
import export.int8.quantization
import export.to_onnx
from export.graph.finish import write_model
from export.int8.judge import AgreementJudge, PairedSpeed, optimized_graph, paired_speed, source_images
from export.int8.quantization import QuantizeConfig, QuantizeReport, quantize_file
from export.int8.search import REPAIRS, Int8Builder
from export.int8.target import TARGETS, detect_target
from export.module import ExportReport
from export.quantize import main
from runtime.errors import ConfigError, ParityError, SourceError
from runtime.network.resize import fit_image
from runtime.network.session import NetworkSession
from training.streets import render_scene

Image = NDArray[np.uint8]
FAST, SLOW = PairedSpeed(10.0, 5.0, 0.5, 3), PairedSpeed(10.0, 9.6, 0.96, 3)


@pytest.fixture(scope="module")
def float_file(exported: tuple[Path, ExportReport]) -> Path:
    return exported[1].path


@pytest.fixture(scope="module")
def scenes() -> list[Image]:
    return [render_scene(seed, (96, 128)).image_bgr for seed in range(6)]


@pytest.fixture
def judge(float_file: Path, scenes: list[Image]) -> AgreementJudge:
    return AgreementJudge(float_file, scenes, threads=1)


@pytest.fixture
def frames(tmp_path: Path, scenes: list[Image]) -> str:
    for index, scene in enumerate(scenes):
        cv2.imwrite(str(tmp_path / f"scene{index}.png"), scene)
    return str(tmp_path / "scene*.png")


@pytest.fixture(autouse=True)
def set_speed(monkeypatch: pytest.MonkeyPatch) -> Callable[[PairedSpeed], None]:
    """Replace the clock, which says nothing about a network this small; int8 takes half the time."""

    def replace(speed: PairedSpeed) -> None:
        for module in (export.int8.quantization, export.int8.first_look):
            monkeypatch.setattr(module, "paired_speed", lambda *_, **__: speed)

    replace(FAST)
    return replace


@pytest.fixture
def quantize(
    float_file: Path, scenes: list[Image], judge: AgreementJudge, tmp_path: Path
) -> Callable[..., QuantizeReport]:
    def run(**settings: object) -> QuantizeReport:
        config = QuantizeConfig(**{"max_drop": 20.0, "threads": 1, **settings})
        return quantize_file(float_file, tmp_path / "int8.onnx", scenes, judge, config)

    return run


def test_the_file_opens_and_says_what_it_is(
    quantize: Callable[..., QuantizeReport], float_file: Path
) -> None:
    report = quantize()

    contract, before = NetworkSession(report.path).contract, NetworkSession(float_file).contract
    assert contract.origin.quantization == f"int8 qdq, {detect_target().name}, percentile"
    assert contract.classes == before.classes
    assert contract.origin.checkpoint_sha256 == before.origin.checkpoint_sha256
    assert contract.accuracy is None  # not measured: float32's would be a claim


def test_int8_logits_are_near_the_float_ones(
    quantize: Callable[..., QuantizeReport], float_file: Path, scenes: list[Image]
) -> None:
    found, expected = NetworkSession(quantize().path), NetworkSession(float_file)

    for scene in scenes:
        image = fit_image(scene, expected.contract.input.size_hw)
        wanted = expected.run(image)
        error = found.run(image) - wanted
        assert 10 * np.log10((wanted**2).sum() / (error**2).sum()) > 20


def test_only_bilinear_resizing_computes_in_float(quantize: Callable[..., QuantizeReport]) -> None:
    graph = quantize().graph

    assert graph.image_stays_integer
    assert graph.integer["QLinearConv"] > 10
    assert set(graph.floating) == {"Resize"}
    # One of each around a Resize, and the caller's logits.
    assert (graph.quantize, graph.dequantize) == (graph.floating["Resize"], graph.floating["Resize"] + 1)


def test_a_float_file_has_no_integer_path(float_file: Path) -> None:
    graph = optimized_graph(float_file)

    assert not graph.image_stays_integer
    assert graph.integer == {}


def test_a_file_that_is_not_faster_is_refused_with_both_numbers(
    quantize: Callable[..., QuantizeReport], set_speed: Callable[[PairedSpeed], None], tmp_path: Path
) -> None:
    set_speed(SLOW)
    (tmp_path / "int8.onnx").write_bytes(b"older")

    with pytest.raises(ConfigError, match=r"got 9\.60 ms against 10\.00 ms \(96%"):
        quantize()

    assert (tmp_path / "int8.onnx").read_bytes() == b"older"


def test_force_writes_a_file_that_is_not_faster_here(
    quantize: Callable[..., QuantizeReport], set_speed: Callable[[PairedSpeed], None]
) -> None:
    set_speed(SLOW)

    assert quantize(force=True, target="arm").contract.origin.quantization.startswith("int8 qdq, arm")


def test_a_budget_that_nothing_holds_leaves_no_file(
    quantize: Callable[..., QuantizeReport], set_speed: Callable[[PairedSpeed], None], tmp_path: Path
) -> None:
    set_speed(SLOW)  # so that leaving layers out stops at the first

    with pytest.raises(ParityError, match="expected at most 0 points lost, the best of 4 candidates"):
        quantize(max_drop=0.0)

    assert list(tmp_path.glob("*.onnx")) == []


def test_layers_left_out_are_counted_in_the_contract(quantize: Callable[..., QuantizeReport]) -> None:
    straight = quantize().search.chosen

    report = quantize(max_drop=straight.drop * 0.9)

    left_out = report.search.chosen.excluded
    assert len(left_out) > 0
    assert report.search.chosen.drop < straight.drop
    assert report.contract.origin.quantization.endswith(f", {len(left_out)} layers in float32")
    assert [error.sqnr_db for error in report.search.ranking] == sorted(
        error.sqnr_db for error in report.search.ranking
    )


@pytest.mark.parametrize("form", REPAIRS)
def test_repaired_forms_are_as_near(
    form: str, float_file: Path, scenes: list[Image], judge: AgreementJudge, tmp_path: Path
) -> None:
    contract = NetworkSession(float_file).contract
    images = [fit_image(scene, contract.input.size_hw) for scene in scenes]
    builder = Int8Builder(ir.load(float_file), images, "minmax", TARGETS["x86-vnni"], "logits")

    built = builder.build(form)
    write_model(built, contract, tmp_path / "repaired.onnx")

    points, _ = judge.points(tmp_path / "repaired.onnx")
    assert points > 80


def test_an_int8_file_is_not_quantized_again(
    quantize: Callable[..., QuantizeReport], scenes: list[Image], judge: AgreementJudge
) -> None:
    with pytest.raises(ConfigError, match="expected a float32 file, got one that is int8 qdq"):
        quantize_file(quantize().path, None, scenes, judge, QuantizeConfig())


@pytest.mark.parametrize(
    ("name", "says"),
    [("seg.tflite", r"ends in \.onnx"), ("tiny.onnx", "another output name than the model's")],
)
def test_the_output_must_be_another_onnx_file(
    name: str, says: str, float_file: Path, scenes: list[Image], judge: AgreementJudge
) -> None:
    with pytest.raises(ConfigError, match=says):
        quantize_file(float_file, float_file.with_name(name), scenes, judge, QuantizeConfig())


def test_an_operator_set_without_scales_per_channel_is_refused(float_file: Path, scenes: list[Image]) -> None:
    model = ir.load(float_file)
    model.opset_imports[""] = 12

    with pytest.raises(ConfigError, match="operator set 13 or newer for x86, got 12"):
        Int8Builder(model, scenes, "minmax", TARGETS["x86"], "logits")


@pytest.mark.parametrize(
    "settings",
    [{"calibration": "mean"}, {"target": "mips"}, {"calibration_frames": 0}, {"max_drop": -1.0}],
    ids=lambda settings: next(iter(settings)),
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="expected"):
        QuantizeConfig(**settings)


def test_every_second_frame_judges(frames: str, scenes: list[Image]) -> None:
    calibration, judging = source_images(frames)

    np.testing.assert_array_equal(calibration, scenes[::2])
    np.testing.assert_array_equal(judging, scenes[1::2])


def test_a_camera_cannot_calibrate() -> None:
    with pytest.raises(SourceError, match=r"^frames: expected images or a recording"):
        source_images("1")


def test_one_frame_cannot_calibrate_and_judge(frames: str) -> None:
    with pytest.raises(ConfigError, match="at least 2 frames"):
        source_images(frames.replace("*", "0"))


def test_runs_of_both_files_take_turns_in_both_orders(
    float_file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    other = tmp_path / "other.onnx"
    other.write_bytes(float_file.read_bytes())
    order: list[str] = []

    class Recorder(export.int8.judge.Segmenter):
        def __init__(self, model: Path, **settings: int) -> None:
            super().__init__(model, **settings)
            self.stem = model.stem

        def __call__(self, frame: Image):  # type: ignore[no-untyped-def]
            order.append(self.stem)
            return super().__call__(frame)

    monkeypatch.setattr(export.int8.judge, "Segmenter", Recorder)

    speed = paired_speed(float_file, other, pairs=4, threads=1)

    timed = order[-8:]
    assert timed == [*["other", "tiny", "tiny", "other"] * 2]
    assert speed.pairs == 4
    assert min(speed.reference_ms, speed.candidate_ms, speed.ratio) > 0


@pytest.fixture
def command(float_file: Path, tmp_path: Path) -> list[str]:
    return [str(float_file), "-o", str(tmp_path / "out.onnx"), "--max-drop", "20", "--threads", "1"]


def test_the_command_prints_the_steps_and_what_to_do_next(
    command: list[str], frames: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, "--frames", frames, "--report", str(tmp_path / "report.md")]) == 0

    out = capsys.readouterr().out
    assert "| as exported ← | none |" in out
    assert "the image reaches the first convolution as uint8" in out
    assert out.endswith(f"next: python -m benchmarks.latency --model {tmp_path / 'out.onnx'}\n")
    assert (tmp_path / "report.md").read_text().strip() in out


def test_labels_give_miou_and_the_contract_the_int8_files_own_accuracy(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, "--data", "synthetic", "--calibration-frames", "2", "--limit", "2", "--json"]) == 0

    printed = json.loads(capsys.readouterr().out)
    accuracy = NetworkSession(tmp_path / "out.onnx").contract.accuracy
    assert accuracy is not None
    assert (accuracy.dataset, accuracy.split, accuracy.frames) == ("synthetic", "val", 2)
    assert printed["search"]["chosen"]["points"] == pytest.approx(100 * accuracy.miou)
    assert printed["measure"] == "mIoU on 2 images of synthetic val"


def test_the_command_refuses_in_one_line(
    command: list[str],
    frames: str,
    set_speed: Callable[[PairedSpeed], None],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    set_speed(SLOW)

    assert main([*command, "--frames", frames]) == 1

    assert "error: quantize: expected int8 to take less than 95% of float32's time" in capsys.readouterr().err
    assert not (tmp_path / "out.onnx").exists()


@pytest.mark.parametrize(
    ("pictures", "got"), [([], "neither"), (["--data", "synthetic", "--frames", "scene*.png"], "both")]
)
def test_either_labels_or_frames_calibrate(
    command: list[str], frames: str, pictures: list[str], got: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, *(frames if item == "scene*.png" else item for item in pictures)]) == 1

    assert f"expected --data or --frames, got {got}; choose one" in capsys.readouterr().err


def test_the_export_goes_on_to_int8(
    exported: tuple[Path, ExportReport],
    frames: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(export.to_onnx, "QuantizeConfig", lambda: QuantizeConfig(max_drop=20.0, threads=1))
    output = tmp_path / "seg.onnx"

    assert export.to_onnx.main([str(exported[0]), "-o", str(output), "--frames", frames, "--int8"]) == 0

    assert NetworkSession(output).contract.origin.quantization == "none"
    assert NetworkSession(tmp_path / "seg-int8.onnx").contract.origin.quantization.startswith("int8")
    assert "times as fast" in capsys.readouterr().out


def test_an_export_to_int8_needs_pictures(
    exported: tuple[Path, ExportReport], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export.to_onnx.main([str(exported[0]), "-o", str(tmp_path / "seg.onnx"), "--int8"]) == 1
    assert "int8: expected pictures to calibrate on" in capsys.readouterr().err
    assert not list(tmp_path.glob("*.onnx"))
