from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from runtime.base.flags import check_fields, described_values, flag, nested, run_command, with_values
from runtime.errors import ConfigError


@dataclass(frozen=True)
class Timing:
    frames: int = flag("frames that count", default=100, at_least=1)
    size_hw: tuple[int, int] = flag("size", default=(4, 6), at_least=1, unit="pixels", name="--size")
    share: float = flag("of a batch", default=0.5, at_least=0, below=1)

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class DataSet:
    data: Literal["camvid", "folder"] = flag("kind of data set")
    root: Path | None = flag("its folder", default=None, unset="here")


def seconds(text: str) -> float:
    if not text.endswith("s"):
        raise ValueError(f"expected seconds such as 5s, got {text!r}")
    return float(text[:-1])


@dataclass(frozen=True)
class Options:
    model: str = flag("file", name="model")
    data: DataSet = nested(DataSet, group="data")
    timing: Timing = nested(lambda: Timing(frames=7), without=("share",), group="timing")
    output: Path | None = flag("file to write", default=None, name=("-o", "--output"))
    wait_s: float = flag("how long", default=5.0, parse=seconds, show=lambda value: f"{value:g}s")
    simplify: bool = flag("keep the graph as traced", default=True)
    as_json: bool = flag("print JSON", default=False, name="--json")
    tried_hw: tuple[tuple[int, int], ...] = flag("to try", default=(), repeated=True, name="--imgsz")
    named: tuple[tuple[str, str], ...] = flag(
        "named values", default=(), repeated=True, name="--name", parse=lambda text: tuple(text.split("=", 1))
    )
    factors: tuple[float, ...] = flag("of the size", default=(1.0,), above=0)
    every: tuple[float, Path] | None = flag("time", default=None, above=0, metavar=("S", "DIR"))
    opset: int = flag("version", default=18, choices=(18, 21))
    page: str | None = flag("address", default=None, if_bare="here", unit="100 %")


def run(*argv: str, settings: type = Options) -> tuple[int, list]:
    taken: list = []
    return run_command("some.command", "Does something.", settings, taken.append, argv), taken


def options(*argv: str) -> Options:
    code, taken = run("m.onnx", "--data", "camvid", *argv)
    assert code == 0
    return taken[0]


def test_what_is_not_given_keeps_the_dataclasses_default():
    assert options() == Options("m.onnx", DataSet("camvid"), Timing(frames=7))


@pytest.mark.parametrize(
    ("argv", "name", "value"),
    [
        (["-o", "a.onnx"], "output", Path("a.onnx")),
        (["--output", "a.onnx"], "output", Path("a.onnx")),
        (["--wait-s", "2.5s"], "wait_s", 2.5),
        (["--no-simplify"], "simplify", False),
        (["--json"], "as_json", True),
        (["--imgsz", "1", "2", "--imgsz", "3", "4"], "tried_hw", ((1, 2), (3, 4))),
        (["--name", "a=1", "--name", "b=2"], "named", (("a", "1"), ("b", "2"))),
        (["--factors", "0.5", "2"], "factors", (0.5, 2.0)),
        (["--every", "2", "there"], "every", (2.0, Path("there"))),
        (["--opset", "21"], "opset", 21),
        (["--page"], "page", "here"),
        (["--page", "there"], "page", "there"),
    ],
)
def test_the_annotation_decides_how_a_text_is_read(argv, name, value):
    assert getattr(options(*argv), name) == value


def test_a_nested_dataclass_is_filled_by_the_same_command():
    given = options("--frames", "3", "--size", "8", "9", "--root", "there")
    assert given.timing == Timing(3, (8, 9))
    assert given.data == DataSet("camvid", Path("there"))


@pytest.mark.parametrize(
    "argv",
    [
        ["m.onnx"],
        ["--data", "camvid"],
        ["m.onnx", "--data", "another"],
        ["m.onnx", "--data", "camvid", "--opset", "19"],
        ["m.onnx", "--data", "camvid", "--frames", "many"],
        ["m.onnx", "--data", "camvid", "--wait-s", "5"],
        ["m.onnx", "--data", "camvid", "--every", "soon", "there"],
        ["m.onnx", "--data", "camvid", "--share", "0.1"],
        ["m.onnx", "--data", "camvid", "--fram", "1"],
    ],
    ids=lambda argv: " ".join(argv[-2:]),
)
def test_wrong_usage_exits_with_2(argv, capsys):
    with pytest.raises(SystemExit) as stopped:
        run(*argv)
    assert stopped.value.code == 2


def test_what_a_reader_refuses_is_said_in_its_words(capsys):
    with pytest.raises(SystemExit):
        options("--wait-s", "5")
    assert "argument --wait-s: expected seconds such as 5s, got '5'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--frames", "0"], "frames: expected a number of at least 1, got 0"),
        (["--size", "1", "0"], "size_hw: expected a number of at least 1 pixels, got 1 0"),
        (["--factors", "1", "0"], "factors: expected a number above 0, got 1.0 0.0"),
        (["--every", "0", "there"], "every: expected a number above 0, got 0.0 there"),
        (["--factors", "nan"], "factors: expected a number above 0, got nan"),
        (["--factors", "inf"], "factors: expected a number above 0, got inf"),
    ],
)
def test_a_number_out_of_its_range_exits_with_1_and_one_line(argv, said, capsys):
    code, taken = run("m.onnx", "--data", "camvid", *argv)
    assert (code, taken) == (1, [])
    assert capsys.readouterr().err == f"error: {said}\n"


@pytest.mark.parametrize("share", [-0.1, 1.0, float("nan")])
def test_a_dataclass_made_in_a_program_is_checked_too(share):
    with pytest.raises(ConfigError, match="share: expected a number of at least 0 and below 1, got"):
        Timing(share=share)


def test_the_help_states_unit_range_and_default_once(capsys):
    with pytest.raises(SystemExit) as stopped:
        run("--help")
    assert stopped.value.code == 0
    shown = re.sub(r"\s+", " ", capsys.readouterr().out)
    assert "--frames FRAMES frames that count (at least 1, default: 7)" in shown
    assert "size (pixels, at least 1, default: 4 6)" in shown
    assert "how long (default: 5s)" in shown
    assert "address (100 %)" in shown
    assert "its folder (default: here)" in shown
    assert "-o OUTPUT, --output OUTPUT" in shown
    assert "--share" not in shown


@dataclass(frozen=True)
class Place:
    where: Path | None = flag("file", name="where", default=None)
    how: str = flag("way", name="how", default="slow")


@pytest.mark.parametrize(
    ("argv", "expected"),
    [([], Place()), (["a"], Place(Path("a"))), (["a", "fast"], Place(Path("a"), "fast"))],
)
def test_a_positional_with_a_default_may_be_left_out(argv, expected):
    given = []
    assert run_command("tests.place", "Go.", Place, given.append, argv) == 0
    assert given == [expected]


def test_values_are_told_and_changed_by_name_also_of_nested_ones():
    found = options()
    told = {name: (value, text) for name, value, text in described_values(found)}
    assert told["frames"] == (7, "frames that count (at least 1)")
    assert told["root"][0] is None
    assert told["page"] == (None, "address (100 %)")
    assert "share" not in told  # it has no flag
    changed = with_values(found, {"frames": 9, "model": "b.onnx", "opset": 21})
    assert (changed.timing.frames, changed.model, changed.opset) == (9, "b.onnx", 21)
    assert changed.data == found.data
    with pytest.raises(ConfigError, match="frames: expected a number"):
        with_values(found, {"frames": 0})
