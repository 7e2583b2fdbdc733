"""What the command that compares two reports prints, and how it ends."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.compare import main
from benchmarks.results.results import Results, results_json

Make = Callable[..., Results]


@pytest.fixture
def paths(tmp_path: Path, make_results: Make) -> tuple[str, str]:
    (tmp_path / "old.json").write_text(results_json(make_results(1)))
    (tmp_path / "new.json").write_text(results_json(make_results(2, slower=1.3, accuracy_drop=0.05)))
    return str(tmp_path / "old.json"), str(tmp_path / "new.json")


def test_a_regression_fails_only_when_asked(
    paths: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*paths]) == 0
    table = capsys.readouterr().out
    assert "SLOWER" in table
    assert "WORSE" in table
    assert main([*paths, "--fail-on-regression"]) == 1
    captured = capsys.readouterr()
    assert captured.out == table
    assert captured.err.startswith("error: compare: expected nothing slower or worse, got small p50 slower")
    assert main([paths[0], paths[0], "--fail-on-regression"]) == 0


def test_json_is_all_of_stdout(paths: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*paths, "--json"]) == 0
    changes = json.loads(capsys.readouterr().out)["changes"]
    assert [change["verdict"] for change in changes] == ["slower", "slower", "worse", "same", "same", "same"]


@pytest.mark.parametrize(
    ("content", "says"), [(None, "cannot read"), ("{", "results.json"), ('{"schema": 99}', "schema")]
)
def test_a_bad_file_gives_1_and_one_line(
    paths: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str | None, says: str
) -> None:
    bad = tmp_path / "bad.json"
    if content is not None:
        bad.write_text(content)
    assert main([paths[0], str(bad)]) == 1
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert says in captured.err


def test_a_field_that_is_missing_is_named(
    paths: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = json.loads(Path(paths[0]).read_text())
    del plain["settings"]["threads"]
    (tmp_path / "bad.json").write_text(json.dumps(plain))
    assert main([paths[0], str(tmp_path / "bad.json")]) == 1
    assert "settings.threads: missing" in capsys.readouterr().err
