from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from runtime.base.lock import only_run_on
from runtime.errors import ConfigError

ROOT = Path(__file__).parents[3]
pytestmark = pytest.mark.skipif(os.name != "posix", reason="flock is of POSIX")
HOLDER = """
import os, sys, time
from runtime.base.lock import only_run_on
with only_run_on(sys.argv[1], is_folder="folder" in sys.argv):
    if "forks" not in sys.argv:
        print("held", flush=True)
    elif os.fork() == 0:
        print("held", flush=True)  # the child runs, and has let go
        time.sleep(60)
    sys.stdin.read()
"""


@pytest.fixture
def hold() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: object) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, *map(str, arguments)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        return process

    yield start
    for process in started:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, 9)
        process.communicate()


@pytest.mark.parametrize("is_folder", [False, True])
def test_a_second_run_is_refused_with_the_first_ones_process(hold, tmp_path, is_folder):
    target = tmp_path / "deep" / "drive.mp4"
    first = hold(target, *(["folder"] if is_folder else []))
    with (
        pytest.raises(ConfigError, match=rf"drive\.mp4: expected no other run .* process {first.pid} does"),
        only_run_on(target, is_folder=is_folder),
    ):
        pass
    first.communicate("")  # it ends
    with only_run_on(target, is_folder=is_folder):
        pass
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("forks", [(), ("forks",)], ids=["alone", "with a child that lives on"])
def test_a_run_that_was_killed_holds_nothing(hold, tmp_path, forks):
    first = hold(tmp_path / "drive.mp4", *forks)
    os.kill(first.pid, 9)
    first.wait()
    with only_run_on(tmp_path / "drive.mp4"):
        assert (tmp_path / ".drive.mp4.lock").read_text() == f"{os.getpid()}\n"


def test_another_name_of_the_same_file_is_the_same_file(hold, tmp_path, monkeypatch):
    hold(tmp_path / "drive.mp4")
    (tmp_path / "link.mp4").symlink_to("drive.mp4")
    monkeypatch.chdir(tmp_path)
    for name in ("drive.mp4", "./drive.mp4", "link.mp4"):
        with pytest.raises(ConfigError), only_run_on(name):
            pass
    with only_run_on("other.mp4"):
        pass


@pytest.mark.parametrize("name", ["file/drive.mp4", "loop", "x" * 255])
def test_what_cannot_be_locked_is_written_without(tmp_path, name):
    (tmp_path / "file").touch()
    (tmp_path / ".loop.lock").symlink_to(".loop.lock")
    ran = []
    with only_run_on(tmp_path / name):
        ran.append(name)
    assert ran


def test_an_error_inside_passes_and_frees(tmp_path):
    with pytest.raises(BlockingIOError), only_run_on(tmp_path / "a"):
        raise BlockingIOError(11, "the work's own")
    with only_run_on(tmp_path / "a"):
        pass


def test_of_many_at_once_one_runs_at_a_time(tmp_path):
    code = """
import sys
from pathlib import Path
from runtime.base.lock import only_run_on
from runtime.errors import ConfigError
target, count = Path(sys.argv[1]), 0
while count < 20:
    try:
        with only_run_on(target):
            number = int(target.read_text() or 0) if target.exists() else 0
            target.write_text(str(number + 1))
            count += 1
    except ConfigError:
        pass
"""
    runs = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "count")], cwd=ROOT) for _ in range(4)
    ]
    assert [run.wait(60) for run in runs] == [0] * 4
    assert (tmp_path / "count").read_text() == "80"
    assert [path.name for path in tmp_path.iterdir()] == ["count"]
