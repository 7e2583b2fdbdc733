import io
import sys

import pytest

from runtime.base.progress import tracked


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_nothing_is_drawn_where_stderr_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(tracked(range(3), "reading")) == [0, 1, 2]
    assert capsys.readouterr().err == ""


def test_a_terminal_shows_what_is_tracked(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tqdm")
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    assert list(tracked(iter("abc"), "reading", total=3)) == ["a", "b", "c"]
    assert "reading:   0%" in terminal.getvalue()
    assert "0/3" in terminal.getvalue()


def test_a_base_install_tracks_without_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setitem(sys.modules, "tqdm", None)  # as if it were not installed
    assert list(tracked("ab", "reading")) == ["a", "b"]
    assert terminal.getvalue() == ""
