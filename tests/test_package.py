"""What pip installs: the four packages, a base without torch, and the networks in the box."""

import json
import os
import re
import subprocess
import sys
import venv
from importlib.metadata import requires
from pathlib import Path
from zipfile import ZipFile

import cv2
import numpy as np
import onnxruntime
import pytest

from runtime.base.files import file_sha256
from runtime.contract import ModelContract
from runtime.network.session import NetworkSession
from runtime.segmenter import bundled_model

ROOT = Path(__file__).parent.parent
MODELS = sorted((ROOT / "runtime" / "models").glob("*.onnx"))


def test_the_base_install_is_numpy_opencv_and_onnxruntime() -> None:
    base = [line for line in requires("edgeseg") or [] if "extra ==" not in line]
    assert sorted(re.match(r"[\w-]+", line).group() for line in base) == [  # type: ignore[union-attr]
        "numpy",
        "onnxruntime",
        "opencv-python",
    ]


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what git tracks, since building leaves folders behind."""
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if tracked.returncode:
        pytest.skip("needs a git checkout")
    copy = tmp_path_factory.mktemp("checkout")
    for name in filter(None, tracked.stdout.decode().split("\0")):
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            (copy / name).write_bytes((ROOT / name).read_bytes())
    return copy


def build_wheel(project: Path, folder: Path) -> Path:
    code = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
    command = [sys.executable, "-W", "ignore", "-c", code, str(folder)]
    subprocess.run(command, cwd=project, capture_output=True, check=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="session")
def wheel(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(checkout, tmp_path_factory.mktemp("wheel"))


def files_of(wheel: Path) -> set[str]:
    with ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_the_wheel_holds_exactly_the_four_packages_their_command_and_the_models(wheel: Path) -> None:
    names = files_of(wheel)
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {
        "training",
        "export",
        "runtime",
        "benchmarks",
        "edgeseg_console.py",
    }
    assert {f"runtime/models/{path.name}" for path in MODELS} <= names
    assert {"runtime/py.typed", "runtime/assets/synthetic.avi"} <= names


def test_the_wheel_is_small_and_holds_no_checkpoint(wheel: Path) -> None:
    assert wheel.stat().st_size <= 12_000_000
    assert [name for name in files_of(wheel) if name.endswith(".pt")] == []


def test_the_wheel_carries_its_licence_and_the_notice_of_the_weights(wheel: Path) -> None:
    with ZipFile(wheel) as archive:
        (info,) = {name.split("/")[0] for name in archive.namelist() if ".dist-info" in name}
        assert b"Apache License" in archive.read(f"{info}/licenses/LICENSE")
        assert b"research" in archive.read(f"{info}/licenses/NOTICE")
        assert b"License-Expression: Apache-2.0" in archive.read(f"{info}/METADATA")


@pytest.fixture(scope="session")
def robot(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of an environment with the base install and nothing else."""
    environment = tmp_path_factory.mktemp("robot") / "venv"
    venv.create(environment)
    (packages,) = environment.glob("lib/python*/site-packages")
    for module in (np, cv2, onnxruntime):  # those of this environment, instead of a download
        folder = Path(module.__file__ or "").parent
        for part in (folder, *folder.parent.glob(f"{folder.name}*.libs"), *_metadata_of(module.__name__)):
            (packages / part.name).symlink_to(part)
    for libraries in Path(cv2.__file__ or "").parents[1].glob("opencv*.libs"):
        (packages / libraries.name).symlink_to(libraries)
    pip = [sys.executable, "-m", "pip", "--python", environment / "bin" / "python"]
    subprocess.run([*pip, "install", "--no-index", "--no-deps", wheel], check=True, capture_output=True)
    return environment / "bin"


def _metadata_of(module: str) -> list[Path]:
    names = {"cv2": "opencv_python"}.get(module, module)
    return list(Path(sys.modules[module].__file__ or "").parents[1].glob(f"{names}-*.dist-info"))


def run_on(robot: Path, *command: str) -> str:
    """Run a command outside of the checkout, seeing nothing of this environment's packages."""
    clean = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [robot / command[0], *command[1:]], cwd=robot, env=clean, check=True, capture_output=True, text=True
    )
    return done.stdout


@pytest.mark.parametrize("module", ["torch", "onnx", "matplotlib", "edgeseg_weights"])
def test_the_base_install_has_nothing_heavy(robot: Path, module: str) -> None:
    code = f"from importlib.util import find_spec; print(find_spec({module!r}))"
    assert run_on(robot, "python", "-c", code) == "None\n"


def test_the_base_install_segments_frames(robot: Path) -> None:
    drive = ("--source", "synthetic", "--headless", "--max-frames", "3", "--json")
    assert json.loads(run_on(robot, "edgeseg", "camera", *drive))["frames"] == 3


def test_the_base_install_tells_the_terms(robot: Path) -> None:
    assert "terms      CamVid: research use" in run_on(robot, "edgeseg", "info")


def test_the_console_command_takes_no_package_from_the_folder_it_is_called_in(
    robot: Path, tmp_path: Path
) -> None:
    (tmp_path / "runtime.py").write_text("raise SystemExit('a stranger')")
    for name in ("training", "export", "benchmarks"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit('a stranger')")
    for python_path in (
        "",
        ".",
        f"{os.pathsep}/nowhere",
        str(tmp_path),
    ):  # an empty part is the working folder
        done = subprocess.run(
            [robot / "edgeseg", "info"],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": python_path},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert "terms      CamVid: research use" in done.stdout


def test_the_base_install_says_what_training_needs(robot: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError) as failed:
        run_on(robot, "edgeseg", "train", "--data", "synthetic", "--out", "run")
    assert failed.value.returncode == 1
    assert failed.value.stderr == "error: edgeseg train needs PyTorch; pip install 'edgeseg[train]'\n"


def test_the_weights_are_a_wheel_of_their_own(checkout: Path, tmp_path: Path) -> None:
    names = files_of(build_wheel(checkout / "weights", tmp_path))
    assert {name for name in names if ".dist-info" not in name} == {
        "edgeseg_weights/__init__.py",
        "edgeseg_weights/camvid-m.pt",
        "edgeseg_weights/camvid-n.pt",
        "edgeseg_weights/camvid-s.pt",
    }


def test_the_models_in_the_box_are_small() -> None:
    assert sum(path.stat().st_size for path in MODELS) <= 12_000_000


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.stem)
def test_a_model_in_the_box_says_how_good_it_is_and_what_it_may_be_used_for(path: Path) -> None:
    contract: ModelContract = NetworkSession(path, threads=1).contract
    assert contract.accuracy is not None
    assert (contract.accuracy.dataset, contract.accuracy.split) == ("camvid", "val")
    assert 0.5 < contract.accuracy.miou < 1
    assert "research" in contract.origin.terms
    assert contract.classes.traversable == ("road",)
    checkpoint = ROOT / "weights" / "edgeseg_weights" / f"{path.stem.removesuffix('-int8')}.pt"
    assert contract.origin.checkpoint_sha256 == file_sha256(checkpoint)


def test_the_default_model_is_in_the_box() -> None:
    assert bundled_model() in MODELS
