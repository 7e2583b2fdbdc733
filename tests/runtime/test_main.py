import ast
import os
import re
import subprocess
import sys
from importlib import import_module, metadata
from pathlib import Path

import pytest

from runtime import __main__ as edgeseg
from runtime.base import command

ROOT = Path(__file__).parents[2]


def commands_on_disk():
    """Every module that stands directly in a package and has a command line."""
    for package in ("runtime", "training", "export", "benchmarks"):
        for path in (ROOT / package).glob("*.py"):
            names = {
                node.name for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)
            }
            if "main" in names and path.stem != "__main__":
                yield f"{package}.{path.stem}"


@pytest.fixture(autouse=True)
def _programs(monkeypatch):
    monkeypatch.setattr(command, "PROGRAMS", {})
    monkeypatch.setattr(edgeseg, "PROGRAMS", command.PROGRAMS)


def test_every_command_of_the_packages_is_a_subcommand():
    assert sorted(one.module for one in edgeseg.COMMANDS.values()) == sorted(commands_on_disk())


def test_the_extras_that_commands_name_exist():
    section = (
        (ROOT / "pyproject.toml").read_text().split("[project.optional-dependencies]")[1].split("\n[")[0]
    )
    offered = set(re.findall(r"^(\w+) = ", section, re.MULTILINE))
    assert {one.extra for one in edgeseg.COMMANDS.values()} - {""} <= offered


@pytest.mark.parametrize("argv", [[], ["--help"], ["-h"]])
def test_lists_the_commands_with_one_line_each(argv, capsys):
    assert edgeseg.main(argv) == 0
    lines = capsys.readouterr().out.splitlines()
    listed = [line.split()[0] for line in lines if line.startswith("  ")]
    assert listed == list(edgeseg.COMMANDS)
    assert max(map(len, lines)) <= 90


def test_tells_its_version(capsys):
    assert edgeseg.main(["--version"]) == 0
    assert capsys.readouterr().out == f"edgeseg {metadata.version('edgeseg')}\n"


@pytest.mark.parametrize(
    ("name", "advice"), [("lattency", "did you mean latency?"), ("xyz", "edgeseg --help lists the commands")]
)
def test_an_unknown_command_is_wrong_usage(name, advice, capsys):
    assert edgeseg.main([name]) == 2
    assert capsys.readouterr().err == f"edgeseg: unknown command {name!r}; {advice}\n"


def test_a_command_runs_under_its_own_name(capsys):
    with pytest.raises(SystemExit) as stopped:
        edgeseg.main(["info", "--help"])
    assert stopped.value.code == 0
    assert capsys.readouterr().out.startswith("usage: edgeseg info ")


def test_the_exit_code_is_the_commands(tmp_path, capsys):
    assert edgeseg.main(["info", str(tmp_path / "no.onnx")]) == 1
    assert edgeseg.main(["info"]) == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is of Linux")
@pytest.mark.parametrize("asked", ["--help", "--version"])
def test_a_full_disk_behind_stdout_is_one_line(asked):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "runtime", asked], cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)


def test_the_module_goes_on_working_by_its_path():
    for module, name in (("runtime", "edgeseg"), ("runtime.info", "python -m runtime.info")):
        done = subprocess.run(
            [sys.executable, "-m", module, "--help"], cwd=ROOT, check=True, capture_output=True, text=True
        )
        assert done.stdout.startswith(f"usage: {name} [-h]")


@pytest.mark.parametrize("python_path", ["", ".", os.pathsep])
def test_a_folder_with_a_runtime_of_its_own_does_not_decide_what_the_command_imports(tmp_path, python_path):
    (tmp_path / "runtime.py").write_text("raise SystemExit('a stranger')")
    code = (
        "import sys; from edgeseg_console import main; sys.argv = ['edgeseg', '--version']; sys.exit(main())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join((python_path, str(ROOT)))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("edgeseg ")


def break_import(monkeypatch, missing):
    def load(module):
        raise ModuleNotFoundError(f"No module named {missing!r}", name=missing)

    monkeypatch.setattr(edgeseg, "import_module", load)


@pytest.mark.parametrize(
    ("name", "missing", "said"),
    [
        ("train", "torch", "edgeseg train needs PyTorch; pip install 'edgeseg[train]'"),
        ("quantize", "onnx.helper", "edgeseg quantize needs onnx; pip install 'edgeseg[export]'"),
        ("report", "matplotlib", "edgeseg report needs matplotlib; pip install 'edgeseg[bench]'"),
        ("demo", "torch", "edgeseg demo needs PyTorch; pip install 'edgeseg[all]'"),
    ],
)
def test_a_missing_extra_is_one_line(name, missing, said, monkeypatch, capsys):
    break_import(monkeypatch, missing)
    assert edgeseg.main([name]) == 1
    assert capsys.readouterr().err == f"error: {said}\n"


def test_a_module_of_ours_that_is_missing_is_a_defect(monkeypatch):
    break_import(monkeypatch, "runtime.nowhere")
    with pytest.raises(ModuleNotFoundError):
        edgeseg.main(["camera"])


def test_without_opencv_it_names_the_packages_that_bring_it(monkeypatch, capsys):
    monkeypatch.setattr(edgeseg, "missing_packages", lambda: ["edgeseg needs OpenCV, and there is none"])
    assert edgeseg.main(["camera"]) == 1
    assert capsys.readouterr().err == "error: edgeseg needs OpenCV, and there is none\n"


def test_ctrl_c_while_a_command_is_imported_ends_it_quietly(monkeypatch, capsys):
    def load(module):
        raise KeyboardInterrupt

    monkeypatch.setattr(edgeseg, "import_module", load)
    assert edgeseg.main(["camera"]) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_the_list_needs_neither_opencv_nor_onnxruntime():
    code = "import sys; from runtime.__main__ import main; main(['--help']); print('cv2' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "False"


def test_a_command_that_exists_can_be_imported():
    assert callable(import_module(edgeseg.COMMANDS["camera"].module).main)
