"""The way into the console command `edgeseg`: its packages are the ones that lie beside this file.

Their names, such as `runtime`, are those of many folders. Where the working directory is on Python's path, as
an empty part of PYTHONPATH puts it there, a stranger's runtime.py would be imported instead.
"""

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

OURS = ("runtime", "training", "export", "benchmarks")


class _Beside(MetaPathFinder):
    """Finds our packages beside this file, before Python looks along its path."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return where a package of ours lies; None for all others, and what they hold."""
        return PathFinder.find_spec(fullname, [str(Path(__file__).parent)]) if fullname in OURS else None


def main() -> int:
    """Run `edgeseg`; return its exit code."""
    sys.meta_path.insert(0, _Beside())
    from runtime.__main__ import main as run

    return run()
