"""Who may import whom: read from the source of the four packages, without importing anything."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MAY_IMPORT = {
    "runtime": {"runtime"},
    "training": {"training", "runtime"},
    "export": {"export", "training", "runtime"},
    "benchmarks": {"benchmarks", "export", "training", "runtime"},
}
# Importers of commands that are still to be freed of them; this list only ever gets shorter.
STILL_IMPORT_A_COMMAND: set[tuple[str, str]] = set()


class Graph:
    """The modules below some packages, and what each imports of them.

    An import counts wherever it stands, also inside a function and for type checkers only; with
    `outside_functions` those inside of functions do not, which run later.
    """

    def __init__(self, root: Path, packages: Iterable[str]) -> None:
        self.trees: dict[str, ast.Module] = {}
        for package in packages:
            for path in sorted((root / package).rglob("*.py")):
                name = ".".join(path.relative_to(root).with_suffix("").parts)
                self.trees[name.removesuffix(".__init__")] = ast.parse(path.read_text(encoding="utf-8"))
        self._imports: dict[tuple[str, bool], set[str]] = {}
        self.packages = {name for name in self.trees if (root / Path(*name.split("."))).is_dir()}

    def imports(self, module: str, *, outside_functions: bool = False) -> set[str]:
        """Return the modules that a module imports by name: `from a import b` is a.b where that is one."""
        if (known := self._imports.get((module, outside_functions))) is not None:
            return known
        found: set[str] = set()
        for node in _statements(self.trees[module], outside_functions):
            if isinstance(node, ast.Import):
                found.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                base = self._base(module, node)
                for alias in node.names:
                    inner = f"{base}.{alias.name}"
                    found.add(inner if inner in self.trees else base)
        found = {name for name in found if name in self.trees and name != module}
        self._imports[module, outside_functions] = found
        return found

    def _base(self, module: str, node: ast.ImportFrom) -> str:
        """Return what stands after `from`, with its dots resolved."""
        if not node.level:
            return node.module or ""
        parents = module.split(".")
        keep = len(parents) - node.level + (module in self.packages)
        return ".".join([*parents[:keep], *([node.module] if node.module else [])])

    def commands(self) -> set[str]:
        """Return the modules with a `main` of a command line, or that call `run_command`."""
        return {
            name
            for name, tree in self.trees.items()
            if any(isinstance(node, ast.FunctionDef) and node.name == "main" for node in tree.body)
            or any(
                isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] == "run_command"
                for node in ast.walk(tree)
            )
        }

    def importers_of_commands(self) -> set[tuple[str, str]]:
        """Return who imports a command, and which."""
        commands = self.commands()
        return {(name, found) for name in self.trees for found in self.imports(name) & commands}

    def trespasses(self) -> set[tuple[str, str]]:
        """Return who imports what its package must not."""
        return {
            (name, found)
            for name in self.trees
            for found in self.imports(name)
            if found.split(".")[0] not in MAY_IMPORT[name.split(".")[0]]
        }

    def circles(self) -> list[list[str]]:
        """Return the groups of modules that import each other, directly or by way of others (Tarjan 1972)."""
        index: dict[str, int] = {}
        low: dict[str, int] = {}
        stack: list[str] = []
        circles: list[list[str]] = []

        def visit(name: str) -> None:
            index[name] = low[name] = len(index)
            stack.append(name)
            for found in self.imports(name, outside_functions=True):
                if found not in index:
                    visit(found)
                    low[name] = min(low[name], low[found])
                elif found in stack:
                    low[name] = min(low[name], index[found])
            if low[name] == index[name]:
                group = stack[stack.index(name) :]
                del stack[stack.index(name) :]
                if len(group) > 1:
                    circles.append(sorted(group))

        for name in self.trees:
            if name not in index:
                visit(name)
        return circles


def _statements(node: ast.AST, outside_functions: bool) -> Iterator[ast.AST]:
    """Yield the nodes of a tree."""
    for child in ast.iter_child_nodes(node):
        if outside_functions and isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        yield child
        yield from _statements(child, outside_functions)


@pytest.fixture(scope="module")
def graph() -> Graph:
    return Graph(ROOT, MAY_IMPORT)


def test_no_module_imports_a_command(graph):
    assert graph.importers_of_commands() - STILL_IMPORT_A_COMMAND == set()


def test_the_list_of_those_that_still_do_is_no_longer_than_it_must_be(graph):
    assert STILL_IMPORT_A_COMMAND - graph.importers_of_commands() == set()


def test_no_circle_of_imports(graph):
    assert graph.circles() == []


def test_each_package_imports_only_what_it_may(graph):
    assert graph.trespasses() == set()


def test_every_known_command_is_seen_as_one(graph):
    assert {
        "runtime.camera",
        "runtime.examples.drive",
        "training.train",
        "export.to_onnx",
    } <= graph.commands()
    assert "runtime.base.flags" not in graph.commands()


def fabricated(root: Path, **files: str) -> Graph:
    """Write a tree of modules, `a__b="…"` being a/b.py."""
    for name, text in files.items():
        path = root.joinpath(*name.split("__")).with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        for folder in path.relative_to(root).parents:
            if folder.parts:
                (root / folder / "__init__.py").touch()
    return Graph(root, {path.name for path in root.iterdir()})


COMMANDS = ("def main(argv=None):\n    return 0\n", "def go():\n    flags.run_command('shrink')\n")


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    "importing",
    [
        "import export.shrink",
        "from export import shrink",
        "from export.shrink import main",
        "from .. import shrink",
        "def later():\n    from export import shrink",
        "class Lazy:\n    def __init__(self):\n        import export.shrink as other",
    ],
)
def test_a_module_that_imports_a_command_is_caught(tmp_path, importing, command):
    graph = fabricated(tmp_path, export__shrink=command, export__parts__tool=importing)
    assert graph.importers_of_commands() == {("export.parts.tool", "export.shrink")}


@pytest.mark.parametrize(
    "files",
    [
        {
            "runtime__a": "from runtime.b import x",
            "runtime__b": "import runtime.c",
            "runtime__c": "from . import a",
        },
        {"runtime__a__inner": "from runtime import b", "runtime__b": "from runtime.a import inner"},
        {
            "runtime__a": "try:\n    import runtime.b\nexcept ImportError:\n    pass",
            "runtime__b": "import runtime.a",
        },
        {"runtime__a": "class A:\n    from runtime import b", "runtime__b": "from runtime import a"},
        {
            "runtime__a": "import runtime.b",
            "runtime__b": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from runtime.a import A",
        },
    ],
    ids=["three", "names", "inside try", "inside a class", "for type checkers"],
)
def test_a_circle_is_caught(tmp_path, files):
    (circle,) = fabricated(tmp_path, **files).circles()
    assert len(circle) >= 2


def test_a_circle_through_a_package_is_caught(tmp_path):
    graph = fabricated(tmp_path, runtime__a__part="from runtime.a import name")
    (tmp_path / "runtime" / "a" / "__init__.py").write_text("from runtime.a.part import name")
    assert Graph(tmp_path, graph.packages & {"runtime"}).circles() == [["runtime.a", "runtime.a.part"]]


def test_an_import_inside_of_a_function_closes_no_circle(tmp_path):
    later = "def later():\n    import runtime.a"
    assert fabricated(tmp_path, runtime__a="import runtime.b", runtime__b=later).circles() == []


@pytest.mark.parametrize(
    ("importer", "imported"),
    [
        ("runtime", "training"),
        ("runtime", "export"),
        ("runtime", "benchmarks"),
        ("training", "export"),
        ("training", "benchmarks"),
        ("export", "benchmarks"),
    ],
)
def test_a_package_that_imports_what_it_may_not_is_caught(tmp_path, importer, imported):
    modules = {f"{importer}__a": f"from {imported} import b", f"{imported}__b": ""}
    assert fabricated(tmp_path, **modules).trespasses() == {(f"{importer}.a", f"{imported}.b")}
    allowed = {f"{imported}__a": f"import {importer}.b", f"{importer}__b": ""}
    assert fabricated(tmp_path / "other", **allowed).trespasses() == set()
