"""Every command says what it said, and offers what it offered, unless the changelog tells otherwise."""

import json
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from runtime.__main__ import COMMANDS
from tests.commands.snapshot import FOLDER, help_of

ROOT = Path(__file__).parents[2]
FLAGS = json.loads((Path(__file__).parent / "flags-0.1.0.json").read_text(encoding="utf-8"))
NAMES = {command.module: name for name, command in COMMANDS.items()}


def removed() -> str:
    """Return the changelog's lists of what was removed."""
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    return "\n".join(re.findall(r"^### Removed\n(.*?)(?=^##|\Z)", changelog, re.MULTILINE | re.DOTALL))


def offered(module: str) -> set[str]:
    if module in NAMES:
        text = help_of(NAMES[module])
    else:
        command = [sys.executable, "-m", module, "--help"]
        text = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    positional = re.search(r"^positional arguments:\n(.*?)\n\n", text, re.MULTILINE | re.DOTALL)
    names = re.findall(r"^  (\w+)", positional[1], re.MULTILINE) if positional else []
    return {*re.findall(r"(?<![\w-])--?[a-z][\w-]*", text), *names}


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="argparse writes help differently in each Python")
@pytest.mark.parametrize("name", ["", *COMMANDS], ids=lambda name: name or "edgeseg")
def test_a_help_is_the_one_that_was_reviewed(name: str) -> None:
    reviewed = (FOLDER / f"{name or 'edgeseg'}.txt").read_text(encoding="utf-8")
    assert help_of(name) == reviewed, "if this is meant: python -m tests.commands.snapshot"


def test_there_is_no_help_of_a_command_that_is_gone() -> None:
    assert {path.stem for path in FOLDER.glob("*.txt")} == {"edgeseg", *COMMANDS}


@pytest.mark.parametrize("module", FLAGS)
def test_what_the_first_version_offered_is_offered_or_listed_as_removed(module: str) -> None:
    if find_spec(module) is None:
        assert f"`python -m {module}`" in removed()
        return
    gone = set(FLAGS[module]) - offered(module)
    assert [flag for flag in sorted(gone) if f"`{module} {flag}`" not in removed()] == []


def test_a_flag_that_went_without_a_word_is_noticed() -> None:
    assert "`runtime.camera --source`" not in removed()
