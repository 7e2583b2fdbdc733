import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "onnx", "matplotlib")


def heavy_modules_loaded_by(module, *folders):
    code = f"import sys, {module}; print(*(name for name in {HEAVY} if name in sys.modules))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (ROOT, *folders)))}
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True
    ).stdout.split()


@pytest.mark.parametrize(
    "module",
    [
        "benchmarks.accuracy",
        "benchmarks.conv_rate",
        "benchmarks.latency",
        "benchmarks.machine",
        "training.data",
        "training.metrics",
    ],
)
def test_measuring_needs_only_the_base_install(module):
    assert heavy_modules_loaded_by(module) == []


def test_a_module_that_needs_more_is_caught(tmp_path):
    (tmp_path / "leaky.py").write_text("import benchmarks.machine\nimport onnx\n")
    assert heavy_modules_loaded_by("leaky", tmp_path) == ["onnx"]
