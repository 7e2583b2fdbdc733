import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for path in (ROOT / "runtime").rglob("*.py")
)


@pytest.mark.parametrize("module", MODULES)
def test_a_runtime_module_loads_nothing_heavy(module, heavy_modules_loaded_by):
    assert heavy_modules_loaded_by(module) == []


def test_a_module_that_loads_something_heavy_is_caught(tmp_path, heavy_modules_loaded_by):
    (tmp_path / "leaky.py").write_text("import runtime\nimport onnx\n")
    assert heavy_modules_loaded_by("leaky", tmp_path) == ["onnx"]


def test_a_module_that_cannot_be_imported_alone_is_caught(heavy_modules_loaded_by):
    assert heavy_modules_loaded_by("runtime.nowhere") != []


def test_the_runtime_needs_no_other_package_of_ours():
    names = ", ".join(MODULES)
    others = "[name for name in sys.modules if name.split('.')[0] in ('training', 'export', 'benchmarks')]"
    found = subprocess.run(
        [sys.executable, "-c", f"import sys, {names}; print({others})"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    assert found.stdout == "[]\n"
