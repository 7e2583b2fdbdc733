from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest


def _load_tiny() -> ModuleType:
    path = Path(__file__).parents[1] / "runtime" / "tiny_onnx.py"
    spec = importlib.util.spec_from_file_location("tiny_onnx", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def tiny() -> ModuleType:
    return _load_tiny()


@pytest.fixture(scope="session")
def write_tiny_onnx(tiny: ModuleType) -> Callable[..., Path]:
    return tiny.write_tiny_onnx


@pytest.fixture
def tiny_onnx(tmp_path: Path, write_tiny_onnx: Callable[..., Path]) -> Path:
    return write_tiny_onnx(tmp_path / "tiny.onnx")
