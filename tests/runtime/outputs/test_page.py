"""Where the page's token comes from, and that nothing shows it."""

from pathlib import Path

import pytest

from runtime.errors import ConfigError
from runtime.outputs import Page
from runtime.outputs.options import TOKEN_VARIABLE, OutputOptions
from runtime.serve.address import Address

OPEN_TO_OTHERS = Address("0.0.0.0", 0)
TOKENS = {"flag": "token-of-the-flag", "file": "token-of-the-file", "variable": "token-of-the-variable"}


def options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *given: str) -> OutputOptions:
    path = tmp_path / "token"
    path.write_text(TOKENS["file"] + "\n")
    path.chmod(0o600)
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    if "variable" in given:
        monkeypatch.setenv(TOKEN_VARIABLE, TOKENS["variable"])
    return OutputOptions(
        serve=OPEN_TO_OTHERS,
        token=TOKENS["flag"] if "flag" in given else None,
        token_file=path if "file" in given else None,
    )


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        (("flag",), "flag"),
        (("file",), "file"),
        (("variable",), "variable"),
        (("flag", "variable"), "flag"),
        (("file", "variable"), "file"),
    ],
)
def test_the_command_line_goes_before_the_environment(tmp_path, monkeypatch, given, taken):
    made = options(tmp_path, monkeypatch, *given)
    (page,) = made.make()
    assert isinstance(page, Page)
    assert page._guard.admits(None, [TOKENS[taken]])
    assert not page._guard.admits(None, [token for name, token in TOKENS.items() if name != taken])
    assert not any(token in f"{made!r} {page.name} {page.url}" for token in TOKENS.values())


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"token": "x" * 12, "token_file": Path("token"), "serve": OPEN_TO_OTHERS}, "got both"),
        ({"token": "x" * 12}, "expected --serve"),
        ({"token_file": Path("token")}, "expected --serve"),
    ],
)
def test_contradictions(more, said):
    with pytest.raises(ConfigError, match=said) as caught:
        OutputOptions(**more)
    assert "x" * 12 not in str(caught.value)


def test_a_token_file_that_is_missing(tmp_path):
    with pytest.raises(ConfigError, match="cannot read it"):
        OutputOptions(serve=OPEN_TO_OTHERS, token_file=tmp_path / "none").make()
