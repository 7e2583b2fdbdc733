import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "onnx", "matplotlib")
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for path in (ROOT / "runtime").rglob("*.py")
)


def heavy_modules_loaded_by(module, *folders):
    code = f"import sys, {module}; print(*(name for name in {HEAVY} if name in sys.modules))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (ROOT, *folders)))}
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True
    ).stdout.split()


@pytest.mark.parametrize("module", MODULES)
def test_a_runtime_module_loads_nothing_heavy(module):
    assert heavy_modules_loaded_by(module) == []


def test_a_module_that_loads_something_heavy_is_caught(tmp_path):
    (tmp_path / "leaky.py").write_text("import runtime\nimport onnx\n")
    assert heavy_modules_loaded_by("leaky", tmp_path) == ["onnx"]
