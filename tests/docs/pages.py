"""Reads the documentation as its tests need it: blocks of code, and the commands in them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from runtime.__main__ import COMMANDS

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    path.relative_to(ROOT)
    for path in (*ROOT.glob("*.md"), *ROOT.glob("weights/*.md"), *(ROOT / "docs").rglob("*.md"))
)
_FENCE = re.compile(r"^(?:<!-- (run) -->\n)?```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`((?:edgeseg|python -m) [^`\n]+)`")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page.

    Attributes:
        page: relative to the repository.
        language: after the fence.
        text: between the fences.
        is_run: whether a comment before it asks for every command in it to be run.
    """

    page: Path
    language: str
    text: str
    is_run: bool


@dataclass(frozen=True)
class Call:
    """A command of ours somewhere in the documentation.

    Attributes:
        page: relative to the repository.
        module: whose command line it is.
        arguments: after it.
    """

    page: Path
    module: str
    arguments: tuple[str, ...]

    def __str__(self) -> str:
        """Return the command, for the name of a test."""
        return f"{self.page.stem}: {self.module} {' '.join(self.arguments)}"


def blocks(page: Path) -> list[Block]:
    """Return the fenced blocks of a page."""
    found = _FENCE.findall((ROOT / page).read_text(encoding="utf-8"))
    return [Block(page, language, text, bool(run)) for run, language, text in found]


def shell_lines(text: str) -> Iterator[list[str]]:
    """Yield the words of each command of a shell block."""
    for line in text.replace("\\\n", " ").splitlines():
        if words := shlex.split(line.replace("$(", "").replace("`", ""), comments=True):
            yield words


def calls(page: Path) -> Iterator[Call]:
    """Yield every command of ours on a page, in its blocks and in its sentences."""
    for block in blocks(page):
        if block.language == "sh":
            for words in shell_lines(block.text):
                yield from _ours(page, words)
    for code in _INLINE.findall((ROOT / page).read_text(encoding="utf-8")):
        yield from _ours(page, shlex.split(code.replace("…", "")))


def _ours(page: Path, words: list[str]) -> Iterator[Call]:
    """Yield what a line runs of ours; variables that hold flags count as flags of a training."""
    assigned = re.fullmatch(r"[A-Z]+=(--.*)", words[0])
    if assigned:
        yield Call(page, "training.train", tuple(shlex.split(assigned[1])))
        return
    for place, word in enumerate(words):
        rest = tuple(words[place + 1 :])
        if Path(word).name == "edgeseg" and rest and not rest[0].startswith("-"):
            name = rest[0]
            assert name in COMMANDS, f"{page}: no command edgeseg {name}"
            yield Call(page, COMMANDS[name].module, rest[1:])
            return
        if word == "-m" and rest:
            if rest[0].split(".")[0] in ("training", "export", "runtime", "benchmarks", "tests"):
                yield Call(page, rest[0], rest[1:])
            return
        if word == "stage" and place == 0 and rest[0] != "()":  # the results' short word for a training
            yield Call(page, "training.train", rest)
            return
