import subprocess
import sys

import pytest

from runtime.cli import exit_code, make_parser
from runtime.errors import ModelLoadError


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
        "import sys; from runtime.cli import exit_code; sys.exit(exit_code(lambda: print('x' * 10_000_000)))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 1


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
