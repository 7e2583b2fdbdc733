"""What pip installs: the four packages, a base without torch, and the networks in the box."""

import re
import subprocess
import sys
from importlib import import_module
from importlib.metadata import requires
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest

from runtime.contract import ModelContract
from runtime.network.session import NetworkSession
from runtime.segmenter import bundled_model

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
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
    assert {"runtime/py.typed", "runtime/assets/synthetic.avi"} <= set(names)


def test_the_models_in_the_box_are_small() -> None:
    assert sum(path.stat().st_size for path in MODELS) <= 12_000_000


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


def test_the_readmes_embedding_runs_as_it_stands() -> None:
    lines = README.split("## In your own program")[1].split("\n## ")[0].splitlines()
    code = "\n".join(line[4:] for line in lines if line.startswith("    "))
    frame_bgr = np.zeros((48, 64, 3), np.uint8)
    names = {"frame_bgr": frame_bgr}
    exec(code.replace('"seg.onnx"', ""), names)
    assert names["result"].mask.shape == (48, 64)  # type: ignore[attr-defined]


@pytest.mark.parametrize("module", sorted(set(re.findall(r"python -m ([\w.]+)", README))))
def test_the_readmes_commands_exist_with_the_flags_it_names(
    module: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        import_module(module).main(["--help"])
    assert stopped.value.code == 0
    offered = set(re.findall(r"(?<!\w)--?[a-z][\w-]*", capsys.readouterr().out))
    for command in re.findall(rf"python -m {re.escape(module)}([^`\n]*)", README):
        assert set(re.findall(r"(?<!\S)--?[a-z][\w-]*", command)) <= offered
