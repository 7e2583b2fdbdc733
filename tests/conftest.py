"""What the tests of more than one package share. No torch here: the runtime's tests run without it."""

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from selenium import webdriver

# Tiny networks gain nothing from threads that wait for each other. Set before torch is loaded, so that
# it holds in the tests and in the processes they start.
os.environ.setdefault("OMP_NUM_THREADS", "1")

ROOT = Path(__file__).parent.parent
CHROMIUM_SWITCHES = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)
HEAVY = ("torch", "onnx", "matplotlib")


@pytest.fixture(scope="session")
def tiny() -> ModuleType:
    """The module tests/runtime/tiny_onnx.py."""
    path = ROOT / "tests" / "runtime" / "tiny_onnx.py"
    spec = importlib.util.spec_from_file_location("tiny_onnx", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def write_tiny_onnx(tiny: ModuleType) -> Callable[..., Path]:
    return tiny.write_tiny_onnx


@pytest.fixture
def tiny_onnx(tmp_path: Path, write_tiny_onnx: Callable[..., Path]) -> Path:
    return write_tiny_onnx(tmp_path / "tiny.onnx")


@pytest.fixture(scope="session")
def heavy_modules_loaded_by() -> Callable[..., list[str]]:
    """Import a module in a fresh interpreter; return which of `HEAVY` came along."""

    def load(module: str, *folders: Path) -> list[str]:
        code = f"import sys, {module}; print(*(name for name in {HEAVY} if name in sys.modules))"
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (ROOT, *folders)))}
        return subprocess.run(
            [sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True
        ).stdout.split()

    return load


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator["webdriver.Chrome"]:
    """Debian's chromium and chromium-driver, steered by selenium; skips where they are not installed."""
    webdriver = pytest.importorskip("selenium.webdriver")
    service = pytest.importorskip("selenium.webdriver.chrome.service")
    binary, driver_binary = shutil.which("chromium"), shutil.which("chromedriver")
    if not (binary and driver_binary):
        pytest.skip("needs Debian's chromium and chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for switch in (*CHROMIUM_SWITCHES, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(switch)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=service.Service(driver_binary))
    yield driver
    driver.quit()
