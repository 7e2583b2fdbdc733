"""Trees of files as a Linux kernel makes them up, for machines that are not at hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from benchmarks.system_files import SystemFiles


@pytest.fixture
def system(tmp_path: Path) -> Callable[..., SystemFiles]:
    """Make trees of files: `system({"proc/stat": "cpu  1 2 …"})`."""
    made = SystemFiles(proc=tmp_path / "proc", sys=tmp_path / "sys")

    def make(texts: Mapping[str, str]) -> SystemFiles:
        for name, text in texts.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return made

    return make
