import os

import pytest

from runtime.base.secret_files import read_secret
from runtime.errors import ConfigError

SECRET = "hunter2Pw"


def written(tmp_path, content: bytes, mode: int = 0o600):
    path = tmp_path / "secret"
    path.write_bytes(content)
    path.chmod(mode)
    return path


@pytest.mark.parametrize(
    "content",
    [b"hunter2Pw", b"hunter2Pw\n", b"hunter2Pw\r\n", b"\xef\xbb\xbfhunter2Pw\n", b"  hunter2Pw  \n"],
)
def test_a_file_of_one_line(tmp_path, caplog, content):
    assert read_secret(written(tmp_path, content), "a token") == SECRET
    assert caplog.text == ""


@pytest.mark.parametrize(
    "content",
    [b"", b"\n", b"  \n", b"hunter2Pw\nhunter2Pw\n", b"hunter2Pw\xff", b"hunter2Pw" * 1000],
    ids=["empty", "no line", "blank", "two lines", "bytes", "long"],
)
def test_other_files_are_refused_without_a_word_of_them(tmp_path, content):
    with pytest.raises(ConfigError, match="expected one line with a token") as caught:
        read_secret(written(tmp_path, content), "a token")
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("kind", ["missing", "folder", "pipe"])
def test_what_is_no_file_is_refused_at_once(tmp_path, kind):
    path = tmp_path / "secret"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    with pytest.raises(ConfigError, match="expected a file with a token, cannot read it"):
        read_secret(path, "a token")


@pytest.mark.parametrize(
    ("mode", "warns"), [(0o600, False), (0o400, False), (0o640, True), (0o604, True), (0o622, True)]
)
def test_a_file_that_others_may_read_gets_a_warning(tmp_path, caplog, mode, warns):
    read_secret(written(tmp_path, b"hunter2Pw", mode), "a token")
    assert ("chmod 600" in caplog.text) == warns
    assert SECRET not in caplog.text
