"""The peer's predictor is called as its users call it; a fake stands in for the package."""

import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from benchmarks.report import main
from benchmarks.results.results import read_results
from benchmarks.subjects import peer
from benchmarks.subjects.peer import PeerEntrant, peer_available
from benchmarks.timing.frames import STAGES
from runtime import ConfigError, ModelLoadError

ROOT = Path(__file__).parents[3]
SPEED = {"preprocess": 1.0, "inference": 20.0, "postprocess": 2.0}


class FakeResult:
    def __init__(self, image_bgr):
        self.speed = dict(SPEED)
        self.semantic_mask = np.zeros(image_bgr.shape[:2], np.uint8)
        self.plotted = 0

    def plot(self):
        self.plotted += 1


@pytest.fixture
def fake(monkeypatch):
    """Put a package into sys.modules; return what it was asked for."""
    asked = SimpleNamespace(opened=[], frames=[], results=[], make=FakeResult)

    class Yolo:
        def __init__(self, path, task):
            asked.opened.append((path, task))

        def __call__(self, image_bgr, **options):
            asked.frames.append((image_bgr.shape, options))
            asked.results.append(asked.make(image_bgr))
            return [asked.results[-1]]

    package = ModuleType("ultralytics")
    package.YOLO = Yolo
    package.__version__ = "0.0-fake"
    monkeypatch.setitem(sys.modules, "ultralytics", package)
    return asked


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "peer.onnx"
    path.write_bytes(b"theirs")
    return path


@pytest.fixture
def frames(tmp_path):
    import cv2

    for index in range(3):
        cv2.imwrite(str(tmp_path / f"{index}.png"), np.full((24, 32, 3), index, np.uint8))
    return str(tmp_path / "*.png")


def test_without_the_package_there_is_no_peer(monkeypatch, model):
    monkeypatch.setattr(peer, "PACKAGE", "a_package_that_nobody_has")
    assert not peer_available()
    with pytest.raises(ConfigError, match="pip install a_package_that_nobody_has"):
        PeerEntrant(model)


def test_asking_for_the_peer_does_not_import_it(heavy_modules_loaded_by, tmp_path):
    (tmp_path / "ultralytics.py").write_text("import torch\n")
    (tmp_path / "asks.py").write_text(
        "from benchmarks.subjects.peer import peer_available\nassert peer_available()\n"
    )
    assert heavy_modules_loaded_by("asks", tmp_path) == []


def test_a_frame_goes_through_the_predictor_and_is_drawn(fake, model):
    assert peer_available()
    entrant = PeerEntrant(model)
    times_ms = entrant.time(np.zeros((24, 32, 3), np.uint8))
    assert fake.opened == [(str(model), "semantic")]
    assert fake.frames == [((24, 32, 3), {"verbose": False, "device": "cpu"})]
    assert fake.results[0].plotted == 1
    assert tuple(times_ms) == STAGES
    assert (times_ms["resize"], times_ms["network"], times_ms["mask"]) == (1.0, 20.0, 2.0)
    assert times_ms["total"] >= times_ms["draw"] >= 0
    assert entrant.file.label == "peer (ultralytics 0.0-fake)"


def test_in_a_report_it_runs_in_turn_with_ours_from_frame_to_overlay(
    fake, model, frames, tmp_path, tiny_onnx
):
    out = tmp_path / "report"
    files = ["--models", str(tiny_onnx), "--peers", str(model), "--video", frames, "--out", str(out)]
    assert main([*files, "--rounds", "4", "--frames", "2", "--threads", "1", "--layer-runs", "1"]) == 0
    ours, theirs = read_results(out / "results.json").models
    assert (theirs.file.label, theirs.file.kind) == ("peer (ultralytics 0.0-fake)", "peer")
    assert set(theirs.stages_ms) == set(ours.stages_ms) == set(STAGES)
    assert theirs.stage("network").shape == (4, 2)
    assert len(fake.frames) > 4 * 2  # some to settle
    assert theirs.limits is None
    text = (out / "report.md").read_text()
    assert "peer (ultralytics 0.0-fake)" in text
    assert "--peers peer.onnx" in text


def test_no_mask_is_an_error(fake, model):
    fake.make = lambda image: SimpleNamespace(speed=SPEED, semantic_mask=None, plot=lambda: None)
    with pytest.raises(ModelLoadError, match="expected a mask from the peer, got none"):
        PeerEntrant(model).time(np.zeros((24, 32, 3), np.uint8))


def test_the_peers_own_failure_is_one_line(fake, model):
    def fail(image):
        raise KeyError("two\nlines")

    fake.make = fail
    with pytest.raises(ModelLoadError, match=r"0\.0-fake cannot run it \(KeyError: 'two\\nlines'\)"):
        PeerEntrant(model).time(np.zeros((24, 32, 3), np.uint8))


def test_the_package_is_imported_to_install_nothing_and_to_leave_stdout_alone(tmp_path, model):
    lines = ["import os", "names = ('YOLO_AUTOINSTALL', 'YOLO_OFFLINE', 'YOLO_VERBOSE')"]
    lines += ["seen = [os.environ.get(name) for name in names]", "YOLO = lambda path, task: None"]
    (tmp_path / "ultralytics.py").write_text("\n".join(lines))
    code = "import sys; from pathlib import Path; from benchmarks.subjects.peer import PeerEntrant; "
    code += "PeerEntrant(Path(sys.argv[1])); "
    code += "import ultralytics; print(*ultralytics.seen)"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("YOLO_")}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(tmp_path)])
    done = subprocess.run(
        [sys.executable, "-c", code, str(model)], env=environment, check=True, capture_output=True, text=True
    )
    assert done.stdout.split() == ["false", "true", "false"]


def test_a_missing_file_is_not_left_to_the_peer_to_download(fake, tmp_path):
    with pytest.raises(ModelLoadError, match="found none"):
        PeerEntrant(tmp_path / "yolo26n-sem.onnx")
    assert fake.opened == []
