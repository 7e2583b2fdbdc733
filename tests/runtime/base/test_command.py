import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from runtime.base import command as cli
from runtime.base.command import exit_code, make_parser
from runtime.errors import ModelLoadError

FOLDER = Path(cli.__file__).parents[2]
POSIX = pytest.mark.skipif(os.name != "posix", reason="POSIX signals and shells")


def raising(error):
    def command():
        raise error

    return command


def test_a_finished_command_gives_0(capsys):
    assert exit_code(lambda: print("done")) == 0
    assert capsys.readouterr() == ("done\n", "")


def test_a_known_error_gives_1_and_one_line(capsys):
    assert exit_code(raising(ModelLoadError("no file,\n  check the path"))) == 1
    assert capsys.readouterr() == ("", "error: no file, check the path\n")


def test_ctrl_c_gives_130(capsys):
    assert exit_code(raising(KeyboardInterrupt())) == 130
    assert capsys.readouterr() == ("", "interrupted\n")


def test_a_defect_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        exit_code(raising(ZeroDivisionError()))


def test_a_reader_that_went_away_gives_1_without_a_traceback():
    code = (
        "import sys; from runtime.base.command import exit_code\n"
        "sys.exit(exit_code(lambda: print('x' * 10_000_000)))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 1


@POSIX
@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGHUP", 129)])
def test_signal_unwinds_once_and_gives_its_code(capsys, name, code):
    seen = []

    def command():
        try:
            os.kill(os.getpid(), getattr(signal, name))
            time.sleep(60)
        finally:
            os.kill(os.getpid(), signal.SIGHUP)
            os.kill(os.getpid(), signal.SIGTERM)
            seen.append("closed")

    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGHUP)
    with pytest.raises(SystemExit) as stopped:
        exit_code(command)
    assert stopped.value.code == code
    assert seen == ["closed"]
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGHUP)) == before


@POSIX
@pytest.mark.parametrize("block", ["exit_code(work)", "StopSignals().__enter__(); work()"])
def test_under_nohup_a_closed_terminal_ends_nothing(block):
    code = (
        "import os, signal, sys\nfrom runtime.base.command import StopSignals, exit_code\n"
        f"def work(): os.kill(os.getpid(), signal.SIGHUP); print('worked')\n{block}"
    )
    done = subprocess.run(
        ["sh", "-c", 'trap "" HUP; exec "$0" -c "$1"', sys.executable, code],
        cwd=FOLDER,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "worked\n", "")


@POSIX
@pytest.mark.parametrize("closed", ["stdout", "stderr", "both"])
def test_work_goes_on_after_its_terminal_was_closed(tmp_path, closed):
    import pty

    code = (
        "import pathlib, sys, time\nfrom runtime.base.command import exit_code, prepare_output\n"
        "prepare_output()\n"
        "def work():\n"
        "    print('out', flush=True); print('err', file=sys.stderr, flush=True)\n"
        "    while not pathlib.Path('closed').exists(): time.sleep(0.01)\n"
        "    for _ in range(3):\n"
        "        print('out', flush=True); print('err', file=sys.stderr, flush=True)\n"
        "    pathlib.Path('done').touch()\n"
        "sys.exit(exit_code(work))"
    )
    master, slave = pty.openpty()
    streams = {name: slave for name in ("stdout", "stderr") if closed in (name, "both")}
    with subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(FOLDER)},
        start_new_session=True,  # no SIGHUP: what is left is EIO
        **{"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, **streams},
    ) as process:
        os.close(slave)
        os.read(master, 3)
        os.close(master)
        (tmp_path / "closed").touch()
    assert process.returncode == 0
    assert (tmp_path / "done").exists()


def test_a_thread_may_run_a_command():
    codes = []
    thread = threading.Thread(target=lambda: codes.append(exit_code(lambda: None)))
    thread.start()
    thread.join()
    assert codes == [0]


def in_shell(code, redirection, **environment):
    """Run Python with a parser and `exit_code` at hand; return its exit code and what stderr got."""
    code = (
        f"import sys; from runtime.base.command import exit_code, make_parser; make_parser('m', 'd'); {code}"
    )
    done = subprocess.run(
        ["sh", "-c", f'exec "$0" -c "$1" {redirection}', sys.executable, code],
        cwd=FOLDER,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stderr


@POSIX
def test_closed_stdout():
    assert in_shell("sys.exit(exit_code(lambda: print('x')))", ">&-") == (0, "")


@POSIX
@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", "<&- >&-", "<&- >&- 2>&-"])
def test_no_file_gets_the_number_of_a_stream_that_the_shell_closed(tmp_path, closed):
    """Else what the program or a library says would be written into a recording."""
    code = (
        "make_parser('m', 'd'); import gc, os; gc.collect(); file = open(sys.argv[1], 'w'); "
        "assert file.fileno() > 2; [os.write(number, b'said') for number in (1, 2)]; "
        "sys.exit(exit_code(lambda: print('x')))"
    )
    assert in_shell(code, f'"{tmp_path}/drive.avi" >/dev/null {closed}')[0] == 0
    assert (tmp_path / "drive.avi").read_bytes() == b""


@POSIX
def test_a_working_directory_that_is_gone_is_one_line(tmp_path):
    code = f"import os; os.chdir({str(tmp_path)!r}); os.rmdir('.' + '/../{tmp_path.name}'); "
    code += "from pathlib import Path; sys.exit(exit_code(lambda: Path('a').resolve()))"
    assert in_shell(code, "") == (1, "error: the working directory is gone; change to one that is there\n")


@POSIX
def test_closed_stderr_does_not_move_errors_to_stdout():
    code = "from runtime.errors import OutputError\ndef f(): raise OutputError('no')\nsys.exit(exit_code(f))"
    done = in_shell(code, "2>&- | grep -c . >&2")
    assert done == (1, "0\n")  # grep's own exit code: it found nothing


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is of Linux")
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_full_disk_behind_stdout(unbuffered):
    done = in_shell("sys.exit(exit_code(lambda: print('x')))", ">/dev/full", PYTHONUNBUFFERED=unbuffered)
    assert done == (1, "error: no space left on the disk; free some and run this again\n")


def test_other_os_errors_keep_their_traceback():
    with pytest.raises(PermissionError):
        exit_code(raising(PermissionError(13, "denied")))


@POSIX
@pytest.mark.parametrize("where", ["exit_code(f)", "import threading; threading.Thread(target=f).start()"])
def test_a_traceback_shows_no_secret_of_any_cause(where):
    code = (
        "\ndef f():\n try: raise KeyError('rtsp://robot:s3cr3t@cam/1')\n"
        " except KeyError as error: raise ValueError('cannot open http://cam/?token=s3cr3t') from error\n"
        f"exit_code(lambda: None)\n{where}"
    )
    _, said = in_shell(code, "")
    assert "direct cause" in said
    assert ("rtsp://***@cam/1" in said, "s3cr3t" in said) == (True, False)


@POSIX
def test_text_that_stdout_cannot_encode():
    assert in_shell(r"print('rtsp://\u2026')", ">/dev/null", PYTHONIOENCODING="ascii") == (0, "")


def test_help_states_defaults_and_the_command_to_type(capsys):
    parser = make_parser("runtime.camera", "Segments.")
    parser.add_argument("--age-ms", type=int, default=80, help="limit in milliseconds")
    with pytest.raises(SystemExit) as stopped:
        parser.parse_args(["--help"])
    assert stopped.value.code == 0
    text = capsys.readouterr().out
    assert "python -m runtime.camera" in text
    assert "limit in milliseconds (default: 80)" in text


@pytest.mark.parametrize("arguments", [["--unknown"], ["--age", "3"]])
def test_wrong_usage_gives_2(arguments, capsys):
    parser = make_parser("runtime.camera", "Segments.")
    parser.add_argument("--age-ms", type=int, default=80, help="limit in milliseconds")
    with pytest.raises(SystemExit) as stopped:
        parser.parse_args(arguments)
    assert stopped.value.code == 2
    assert "unrecognized arguments" in capsys.readouterr().err


SECRET = "hunter2Pw"


@pytest.mark.parametrize(
    "arguments",
    [
        ["--tokn", SECRET],
        ["--tokn=" + SECRET],
        ["--tokn", "two", SECRET],
        ["--source", "0", "--pasword", SECRET, "--json"],
        ["--alpha", f"rtsp://admin:{SECRET}@cam/live"],
        [f"rtsp://admin:{SECRET}@cam/live"],
        ["--frames", f"https://cam/live?token={SECRET}"],
        ["--kind", f"rtsp://admin:{SECRET}@cam/live"],
        ["--token", "a", SECRET[:0], "--tokens", SECRET],
    ],
)
def test_wrong_usage_shows_no_secret(capsys, arguments):
    parser = make_parser("runtime.camera", "For tests.")
    parser.add_argument("--token")
    parser.add_argument("--source")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--alpha", type=float)
    parser.add_argument("--frames", type=int)
    parser.add_argument("--kind", choices=["a", "b"])
    with pytest.raises(SystemExit) as caught:
        parser.parse_args(arguments)
    assert caught.value.code == 2
    said = capsys.readouterr().err
    assert SECRET not in said
    assert "error: " in said


def test_a_flag_that_was_mistyped_is_named_with_the_one_that_was_meant(capsys):
    parser = make_parser("runtime.camera", "For tests.")
    parser.add_argument("--token")
    with pytest.raises(SystemExit):
        parser.parse_args(["--tokn", "x"])
    assert "unrecognized arguments: --tokn; did you mean --token?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("said", "seen"),
    [
        (f"rtsp://admin:{SECRET}@cam: cannot open it", "rtsp://***@cam: cannot open it"),
        ("evil\x1b[2J\u202e.mp4: no video", "evil\\x1b[2J\\u202e.mp4: no video"),
        ("caf\udce9.mp4:\n no video", "caf\\udce9.mp4: no video"),
    ],
)
def test_errors_logs_and_prints_are_fit_to_be_seen(said, seen):
    code = (
        "import logging, sys\n"
        "from runtime.base.command import exit_code, make_parser\n"
        "from runtime.errors import SourceError\n"
        "make_parser('runtime.camera', '')\n"
        f"said = {said!a}\n"
        "def command():\n"
        "    logging.getLogger('runtime.x').warning('%s', said)\n"
        f"    print(said.replace({SECRET!r}, '').split(chr(10))[0])\n"
        "    raise SourceError(said)\n"
        "sys.exit(exit_code(command))\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, cwd=FOLDER, check=False)
    assert ran.returncode == 1
    assert ran.stderr.decode() == f"{seen}\nerror: {seen}\n"
    assert not set(ran.stdout) - set(range(32, 127)) - {10}


def test_the_streams_stay_usable_and_keep_their_order():
    code = (
        "import sys; from runtime.base.command import prepare_output\n"
        "before = sys.stdout; print('one'); prepare_output(); prepare_output(); print('two')\n"
        "print('three', file=sys.stderr); sys.stdout.flush(); print('four', file=before)"
    )
    ran = subprocess.run(
        [sys.executable, "-X", "dev", "-c", code], capture_output=True, text=True, cwd=FOLDER, check=True
    )
    assert (ran.stdout.split(), ran.stderr) == (["one", "two", "four"], "three\n")
