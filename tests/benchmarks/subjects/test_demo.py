import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import pytest

from benchmarks.render.document import to_text
from benchmarks.subjects import demo as demo_module
from benchmarks.subjects.demo import FILES, DemoConfig, DemoResult, result_table, run_demo
from runtime.errors import ConfigError
from training.data.synthetic import SPLITS
from training.engine.config import TrainConfig

SMALL = DemoConfig(
    train=TrainConfig(network="residual-n", size_hw=(64, 96), epochs=1, batch_size=2, workers=0),
    train_scenes=4,
    val_scenes=2,
    drive_size_hw=(96, 128),
    drive_frames=6,
    warmup_frames=1,
    sheet_rows=2,
)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, DemoResult]:
    """One very small demo beside a file of the user's."""
    out = tmp_path_factory.mktemp("demo")
    (out / "notes.txt").write_text("mine")
    return out, run_demo(out, SMALL)


def test_demo_leaves_its_files(demo: tuple[Path, DemoResult]) -> None:
    assert sorted(path.name for path in demo[0].iterdir()) == sorted([*FILES, "notes.txt", "tensorboard"])


def test_a_repeated_demo_replaces_its_own_files_and_no_other(
    demo: tuple[Path, DemoResult], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    out = tmp_path / "demo"
    shutil.copytree(demo[0], out)
    monkeypatch.setattr(demo_module, "train", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run_demo(out, SMALL)
    assert [path.name for path in out.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("missing", ["notes.txt", "last.pt"])
def test_a_training_of_the_users_is_not_taken_for_an_earlier_demo(
    demo: tuple[Path, DemoResult], tmp_path: Path, missing: str
) -> None:
    out = tmp_path / "run"
    shutil.copytree(demo[0], out)
    (out / missing).unlink()
    names = sorted(path.name for path in out.iterdir())
    other = replace(SMALL, train=replace(SMALL.train, seed=1))
    with pytest.raises(ConfigError, match="of something else"):
        run_demo(out, other)
    assert sorted(path.name for path in out.iterdir()) == names


def test_torch_and_onnxruntime_reach_the_same_miou(demo: tuple[Path, DemoResult]) -> None:
    result = demo[1]
    assert 0 < result.torch_miou < 1
    assert result.onnx_miou == pytest.approx(result.torch_miou, abs=0.001)


def test_video_plays_all_frames_of_the_drive(demo: tuple[Path, DemoResult]) -> None:
    video = cv2.VideoCapture(str(demo[0] / "overlay.mp4"))
    frames = 0
    while video.read()[0]:
        frames += 1
    assert frames == SMALL.drive_frames


def test_sheet_has_frame_truth_and_prediction_in_rows(demo: tuple[Path, DemoResult]) -> None:
    sheet = cv2.imread(str(demo[0] / "contact_sheet.png"))
    height, width = SMALL.drive_size_hw
    assert 2 * height <= sheet.shape[0] < 2.5 * height
    assert 3 * width <= sheet.shape[1] < 3.5 * width


def test_table_shows_what_was_measured(demo: tuple[Path, DemoResult]) -> None:
    result = demo[1]
    table = to_text([result_table(result)])
    assert f"mIoU in onnxruntime     {result.onnx_miou:.4f}" in table
    assert f"p50 {result.latency_ms['p50']:.2f} ms" in table
    assert f"{result.export.path.stat().st_size / 1e6:.2f} MB" in table


def test_drive_is_along_a_street_of_no_data_set() -> None:
    assert all(not first <= DemoConfig().drive_seed < first + 1_000_000 for first, _ in SPLITS.values())


@pytest.mark.parametrize("changes", [{"drive_frames": 10, "warmup_frames": 10}, {"sheet_rows": 0}])
def test_config_that_cannot_work_is_refused(changes: dict[str, int]) -> None:
    with pytest.raises(ConfigError):
        DemoConfig(**changes)
