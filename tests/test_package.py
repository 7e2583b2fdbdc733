"""What pip installs: the four packages, a base without torch, and the networks in the box."""

import re
import subprocess
import sys
from importlib.metadata import requires
from pathlib import Path
from zipfile import ZipFile

import pytest

from runtime.contract import ModelContract
from runtime.segmenter import bundled_model
from runtime.session import NetworkSession

ROOT = Path(__file__).parent.parent
MODELS = sorted((ROOT / "runtime" / "models").glob("*.onnx"))


def test_the_base_install_is_numpy_opencv_and_onnxruntime() -> None:
    base = [line for line in requires("edgeseg") or [] if "extra ==" not in line]
    assert sorted(re.match(r"[\w-]+", line).group() for line in base) == [  # type: ignore[union-attr]
        "numpy",
        "onnxruntime",
        "opencv-python",
    ]


def test_the_wheel_holds_exactly_the_four_packages_and_the_models(tmp_path: Path) -> None:
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if tracked.returncode:
        pytest.skip("needs a git checkout")
    source = tmp_path / "source"
    for name in filter(None, tracked.stdout.decode().split("\0")):
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    code = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, str(tmp_path)],
        cwd=source,
        capture_output=True,
        check=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    with ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {
        "training",
        "export",
        "runtime",
        "benchmarks",
    }
    assert {f"runtime/models/{path.name}" for path in MODELS} <= set(names)
    assert "runtime/py.typed" in names


def test_the_models_in_the_box_are_small() -> None:
    assert sum(path.stat().st_size for path in MODELS) <= 10_000_000


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.stem)
def test_a_model_in_the_box_says_how_good_it_is_and_what_it_may_be_used_for(path: Path) -> None:
    contract: ModelContract = NetworkSession(path, threads=1).contract
    assert contract.accuracy is not None
    assert (contract.accuracy.dataset, contract.accuracy.split) == ("camvid", "val")
    assert 0.5 < contract.accuracy.miou < 1
    assert "research" in contract.origin.terms
    assert re.fullmatch(r"[0-9a-f]{64}", contract.origin.checkpoint_sha256)


def test_the_default_model_is_in_the_box() -> None:
    assert bundled_model() in MODELS
