import os
import signal
import socket
import subprocess
import sys

import pytest

from runtime.base.files import open_regular, read_regular, replacing, write_text
from runtime.errors import OutputError


def test_writes_the_whole_file_and_nothing_else(tmp_path):
    with replacing(tmp_path / "deep" / "note.txt") as part:
        part.write_text("whole")
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["note.txt"]
    assert (tmp_path / "deep" / "note.txt").read_text() == "whole"


def test_the_temporary_file_lies_beside_its_target_with_its_suffix(tmp_path):
    with replacing(tmp_path / "clip.mp4") as part:
        assert part.parent == tmp_path
        assert part.suffix == ".mp4"
        part.touch()


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_block_that_raises_leaves_the_old_file_and_no_part(tmp_path, error):
    target = tmp_path / "note.txt"
    target.write_text("old")

    def write_half():
        with replacing(target) as part:
            part.write_text("ne")
            raise error

    with pytest.raises(error):
        write_half()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_block_that_writes_nothing_is_an_error_and_leaves_the_old_file(tmp_path):
    target = tmp_path / "note.txt"
    target.write_text("old")
    with pytest.raises(FileNotFoundError), replacing(target):
        pass
    assert target.read_text() == "old"


def test_a_process_killed_while_writing_leaves_the_old_file(tmp_path):
    target = tmp_path / "note.txt"
    target.write_text("old")
    code = f"""
import os, signal
from runtime.base.files import replacing, write_text
from runtime.errors import OutputError
with replacing({str(target)!r}) as part:
    part.write_text("ne")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGKILL
    assert target.read_text() == "old"


def test_a_text_that_cannot_be_written_is_named(tmp_path):
    write_text(tmp_path / "new" / "note.txt", "µ\n")
    assert (tmp_path / "new" / "note.txt").read_text(encoding="utf-8") == "µ\n"
    with pytest.raises(OutputError, match=r"a file that can be written.*choose another"):
        write_text(tmp_path / "new" / "note.txt" / "below.txt", "text")


def test_a_text_file_holds_nothing_that_steers(tmp_path):
    write_text(tmp_path / "report.md", "# caf\udce9 \x1b[2J\n\tévil\u202e\n")
    written = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert written == "# caf\\udce9 \\x1b[2J\n\tévil\\u202e\n"


def made(tmp_path, kind):
    """Make something that is no regular file."""
    path = tmp_path / "model.onnx"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(kind)
    return path


@pytest.mark.skipif(os.name != "posix", reason="pipes and devices of POSIX")
@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("pipe", "it is a pipe, not a regular file"),
        ("socket", "it is a socket"),
        ("/dev/zero", "it is a device"),
        ("/dev/tty", "it is a device"),
        ("folder", "Is a directory"),
        ("nowhere", "No such file"),
        ("model.onnx", "Too many levels of symbolic links"),
    ],
)
def test_what_is_no_regular_file_is_refused_at_once(tmp_path, kind, said):
    path = made(tmp_path, kind)
    for read in (open_regular, read_regular):
        with pytest.raises(OSError, match=said):
            read(path)


@pytest.mark.skipif(os.name != "posix", reason="pipes of POSIX")
def test_a_pipe_that_takes_a_files_place_is_not_waited_for(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    regular = (tmp_path / "file").stat()
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.setattr("pathlib.Path.stat", lambda self, **_: regular)
    with pytest.raises(OSError, match="it is a pipe"):
        open_regular(tmp_path / "pipe")


def test_a_regular_file_is_read(tmp_path):
    (tmp_path / "a").write_bytes(b"all of it")
    (tmp_path / "link").symlink_to("a")
    assert read_regular(tmp_path / "link") == b"all of it"
