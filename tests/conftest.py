"""What the tests of more than one package share. No torch here: the runtime's tests run without it."""

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
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
# Forks for each line of stdin, since what every module may load takes longest to load.
IMPORTER = f"""
import importlib, os, sys, traceback
import cv2, numpy, onnxruntime
for line in sys.stdin:
    module, *folders = line.rstrip("\\n").split("\\t")
    if os.fork() == 0:
        sys.path[:0] = folders
        try:
            importlib.import_module(module)
            print(*(name for name in {HEAVY} if name in sys.modules), flush=True)
        except BaseException:
            print(traceback.format_exc().replace("\\n", " "), flush=True)
        os._exit(0)
    if os.wait()[1]:
        print("nothing, since its process died", flush=True)
"""


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
def heavy_modules_loaded_by() -> Iterator[Callable[..., list[str]]]:
    """Import a module in a process of its own; return which of `HEAVY` came along."""
    with subprocess.Popen(
        [sys.executable, "-c", IMPORTER],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as importer:
        assert importer.stdin is not None
        assert importer.stdout is not None

        def load(module: str, *folders: Path) -> list[str]:
            print(module, *folders, sep="\t", file=importer.stdin, flush=True)
            return importer.stdout.readline().split()

        yield load
        importer.stdin.close()


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
    profile = f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"
    for switch in (*CHROMIUM_SWITCHES, profile):
        options.add_argument(switch)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=service.Service(driver_binary))
    yield driver

    def leave() -> None:
        with suppress(Exception):  # of a browser that was ended below
            driver.quit()

    leaving = threading.Thread(target=leave, daemon=True)
    leaving.start()
    leaving.join(30)
    if leaving.is_alive():  # it hangs, and every test has passed or failed by now
        for line in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(OSError):
                if profile.encode() in line.read_bytes():
                    os.kill(int(line.parent.name), signal.SIGKILL)
        driver.service.process.kill()
        leaving.join(30)
