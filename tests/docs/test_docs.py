"""What the documentation says can be typed: every command, flag, Python block and link."""

import functools
import json
import re
import shlex
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from runtime.__main__ import COMMANDS
from runtime.segmenter import bundled_model
from tests.commands.snapshot import reference
from tests.docs.pages import PAGES, ROOT, Block, Call, blocks, calls, shell_lines

HELP = ROOT / "tests" / "commands" / "help"
# The changelog also names what is gone.
CALLS = sorted({call for page in PAGES if page.stem != "CHANGELOG" for call in calls(page)}, key=str)
BLOCKS = [block for page in PAGES for block in blocks(page)]
PYTHON = [page for page in PAGES if any(block.language == "python" for block in blocks(page))]
RUN = [block for block in BLOCKS if block.is_run]
_FLAG = re.compile(r"(?<![\w-])--?[a-z][\w-]*")


@functools.cache
def offered(module: str) -> frozenset[str]:
    """Return the flags that a command's help lists."""
    for name, command in COMMANDS.items():
        if command.module == module:  # tests/commands keeps these up to date
            return frozenset(_FLAG.findall((HELP / f"{name}.txt").read_text(encoding="utf-8")))
    printed = subprocess.run(
        [sys.executable, "-m", module, "--help"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    return frozenset(_FLAG.findall(printed.stdout))


def test_the_documentation_is_read_at_all() -> None:
    assert len(CALLS) > 60
    assert len(RUN) >= 5
    assert len(PYTHON) >= 3


@pytest.mark.parametrize("call", CALLS, ids=str)
def test_a_command_exists_with_the_flags_it_is_given(call: Call) -> None:
    assert find_spec(call.module) is not None
    flags = {word.strip("[]").split("=")[0] for word in call.arguments if word.strip("[").startswith("-")}
    flags = {flag for flag in flags if _FLAG.fullmatch(flag)}
    assert not flags or flags <= offered(call.module)


def test_a_flag_that_nobody_offers_is_noticed() -> None:
    assert "--no-such-flag" not in offered("runtime.info")


@pytest.mark.parametrize("block", RUN, ids=lambda block: block.page.stem)
def test_a_block_that_says_so_runs(block: Block, tmp_path: Path) -> None:
    for words in shell_lines(block.text):
        assert words[0] == "edgeseg"
        command = [sys.executable, "-m", "runtime", *words[1:]]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{shlex.join(words)}: {done.stderr}"


@pytest.mark.parametrize("page", PYTHON, ids=str)
def test_the_python_on_a_page_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(bundled_model("camvid-n"), tmp_path / "seg.onnx")
    monkeypatch.chdir(tmp_path)
    for block in blocks(page):
        if block.language == "python":
            names: dict[str, object] = {"frame_bgr": np.zeros((48, 64, 3), np.uint8)}
            exec(compile(block.text, str(page), "exec"), names)


@pytest.mark.parametrize("page", [*PAGES, Path("CHANGELOG.md")], ids=str)
def test_no_page_holds_half_of_a_merge(page: Path) -> None:
    assert not re.search(
        r"^(<<<<<<<|=======|>>>>>>>)", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE
    )


def test_json_on_a_page_is_json() -> None:
    found = [json.loads(block.text) for block in BLOCKS if block.language == "json"]
    assert all(isinstance(one, dict) for one in found)


def test_make_targets_and_extras_that_are_named_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    project = (ROOT / "pyproject.toml").read_text()
    for page in PAGES:
        text = (ROOT / page).read_text(encoding="utf-8")
        for target in re.findall(r"(?:^|`)make ([a-z-]+)", text, re.MULTILINE):
            assert f"\n{target}:" in makefile, f"{page}: make {target}"
        for extras in re.findall(r"pip install '(?:\.|edgeseg)\[([a-z,]+)\]'", text):
            for extra in extras.split(","):
                assert f"\n{extra} = [" in project, f"{page}: extra {extra}"


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_relative_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
        assert (ROOT / page.parent / target).exists(), f"{page}: {target}"


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").split()) <= 1500


def test_the_reference_lists_every_command() -> None:
    page = (ROOT / "docs/reference/commands.md").read_text(encoding="utf-8")
    assert page == reference(), "python -m tests.commands.snapshot writes it"
    assert re.findall(r"^## edgeseg (\S+)$", page, re.MULTILINE) == list(COMMANDS)


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    if find_spec("mkdocs") is None or find_spec("material") is None:
        pytest.skip("needs the extra docs")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", tmp_path],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "index.html").is_file()


def test_the_files_that_a_newcomer_is_sent_to_are_there() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    named = re.findall(r"`((?:runtime|training|export|benchmarks|tests|weights|docs|deploy)/[\w./-]*)`", text)
    assert len(named) > 20
    assert [name for name in named if not (ROOT / name).exists()] == []
