"""What every edgeseg command shares: exit codes and a `--help` that states defaults."""

from __future__ import annotations

import argparse
import difflib
import errno
import io
import itertools
import logging
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn, TypeVar

from runtime.base.shown import ShownStream, printable_lines, shown, without_secrets
from runtime.errors import EdgesegError

EXIT_OK, EXIT_ERROR, EXIT_INTERRUPTED = 0, 1, 130
EXIT_HUNG_UP, EXIT_TERMINATED = 129, 143  # 128 + the number of the signal, as shells say it
PROGRAMS: dict[str, str] = {}  # what a user typed for a module, such as "edgeseg latency"
_ENDING = (signal.SIGTERM, *((signal.SIGHUP,) if hasattr(signal, "SIGHUP") else ()))
_STOP_SIGNALS = (signal.SIGINT, *_ENDING)
_LONGEST_MESSAGE = 2000
_Item = TypeVar("_Item")


class _HelpWithDefaults(argparse.ArgumentDefaultsHelpFormatter):
    """States a default where there is one to state; `None` and `False` tell a reader nothing."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if action.default is None or action.default is False:
            return action.help
        return super()._get_help_string(action)


class _Parser(argparse.ArgumentParser):
    """Tells of wrong usage without showing a secret, also one behind a flag that was mistyped."""

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse; refuse what is unknown, flags by name and their values not at all."""
        given, unknown = self.parse_known_args(args, namespace)
        if unknown:
            flags = [part.split("=")[0] for part in unknown if part.startswith("-")]
            before = itertools.takewhile(lambda part: not part.startswith("-"), unknown)
            names = [*before, *flags]  # what follows a flag may be its value
            known = [name for action in self._actions for name in action.option_strings]
            close = difflib.get_close_matches(names[0], known, 1) if names[0].startswith("-") else []
            meant = f"; did you mean {close[0]}?" if close else ""
            self.error(f"unrecognized arguments: {' '.join(names)}{meant}")
        return given

    def error(self, message: str) -> NoReturn:
        """Exit with 2 after the usage and a message."""
        super().error(_one_line(message))


def _one_line(said: object) -> str:
    return shown(" ".join(str(said).split()), _LONGEST_MESSAGE)


def make_parser(module: str, description: str) -> argparse.ArgumentParser:
    """Return a parser for a module's command line whose help shows every default.

    It calls itself `python -m module`, or by the name in `PROGRAMS`. Also makes stdout and stderr take every
    text: what steers a terminal is escaped, what their encoding lacks becomes `?`, and what is written to one
    that was closed goes nowhere.
    """
    prepare_output()
    return _Parser(
        prog=PROGRAMS.get(module, f"python -m {module}"),
        description=description,
        formatter_class=_HelpWithDefaults,
        allow_abbrev=False,
    )


def exit_code(command: Callable[[], None], *, uses_opencv: bool = True) -> int:
    """Run a command and turn its outcome into an exit code.

    Args:
        command: what to run.
        uses_opencv: whether OpenCV is to be silenced, which imports it.

    Returns:
        0 when it finished, 1 after a known error or a full disk (one line on stderr) or a closed output
        pipe, 130 after Ctrl-C. Wrong usage exits with 2 inside argparse. Unknown exceptions pass through
        with their traceback, since they are defects.

    Raises:
        SystemExit: with 143 after SIGTERM and 129 after SIGHUP (the terminal was closed), so that what the
            command has open is closed on the way out. Under nohup SIGHUP stays ignored.
    """
    if uses_opencv:
        _silence_opencv()
    _show_logs()
    try:
        with _unwinding():
            command()
            sys.stdout.flush()
    except EdgesegError as error:
        print(f"error: {_one_line(error)}", file=sys.stderr)
        return EXIT_ERROR
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        _drop_output()  # the reader of a pipe went away
        return EXIT_ERROR
    except OSError as error:
        if error.errno == errno.ENOENT and not has_working_directory():
            print("error: the working directory is gone; change to one that is there", file=sys.stderr)
            return EXIT_ERROR
        if error.errno != errno.ENOSPC:
            raise
        print("error: no space left on the disk; free some and run this again", file=sys.stderr)
        try:
            sys.stdout.flush()
        except OSError:
            _drop_output()  # it was stdout that could not be written
        return EXIT_ERROR
    return EXIT_OK


class Stopped(BaseException):
    """Ctrl-C, SIGTERM or SIGHUP came; outside Exception, so that nothing takes it for an error."""


class StopSignals:
    """Notes Ctrl-C, SIGTERM and SIGHUP while the block runs, and raises `Stopped` where that costs nothing.

    That is while everything is opened and while the loop waits for a frame, and only once: never while a
    frame is on its way into the video, or while the video is finished.
    """

    def __init__(self) -> None:
        """Start without a signal."""
        self.received: int | None = None
        self._raises = False

    def __enter__(self) -> StopSignals:
        """Take over the signals, but for a SIGHUP that nohup ignores."""
        self._previous = {
            number: signal.signal(number, self._handle) for number in _STOP_SIGNALS if not _is_ignored(number)
        }
        return self

    def __exit__(self, *_: object) -> None:
        """Give them back."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def between(self, items: Iterator[_Item]) -> Iterator[_Item]:
        """Yield the items; a signal ends the wait for the next one, and nothing else."""
        while True:
            try:
                self.release()
                item = next(items, None)
            finally:
                self.hold()
            if item is None:
                return
            yield item

    def hold(self) -> None:
        """From now on only note signals."""
        self._raises = False

    def release(self) -> None:
        """From now on raise, also for a signal that was noted before."""
        self._raises = True
        if self.received is not None:
            self._stop()

    def _handle(self, number: int, _: FrameType | None) -> None:
        self.received = number
        if self._raises:
            self._stop()

    def _stop(self) -> None:
        self._raises = False  # a second signal must not cut the closing short
        raise Stopped


def prepare_output() -> None:
    """Replace closed output streams, and let open ones escape what steers a terminal or cannot be encoded.

    What is written to a terminal that was closed goes nowhere, and so does what cannot be written to stderr:
    no message is worth the end of the work that it is about.
    """
    _occupy_standard_descriptors()
    for name, number in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        if stream is None:  # closed by the shell's >&-
            stream = open(number, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
            setattr(sys, f"__{name}__", stream)
        if type(stream) is io.TextIOWrapper:  # a test's or a notebook's own is left alone
            stream.flush()  # it stays as sys.__stdout__
            shown_stream = ShownStream(
                _forgiving(stream, None if name == "stderr" else errno.EIO),
                stream.encoding,
                errors="replace",
                line_buffering=stream.line_buffering,
                write_through=stream.write_through,
            )
            setattr(sys, name, shown_stream)
        elif isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="replace")


def _occupy_standard_descriptors() -> None:
    """Open what the shell closed, to nowhere; else a recording would get its number, and messages inside."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free


class _Forgiving(io.FileIO):
    """A stream whose failures to write are passed over, or only those with one number."""

    forgiven: int | None = None

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data) or 0
        except BlockingIOError:
            raise
        except OSError as error:
            if self.forgiven not in (None, error.errno):
                raise
            return memoryview(data).nbytes


def _forgiving(stream: io.TextIOWrapper, forgiven: int | None) -> Any:
    """Return a buffer to the same place whose failures to write are passed over."""
    if forgiven is not None and not stream.isatty():
        return stream.buffer
    try:
        raw = _Forgiving(stream.fileno(), "w", closefd=False)
    except (OSError, ValueError):  # no descriptor behind it
        return stream.buffer
    raw.forgiven = forgiven
    return io.BufferedWriter(raw)


class _LogFormatter(logging.Formatter):
    """One line a record, fit to be seen; a traceback keeps its lines."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Return the message in one line."""
        return _one_line(record.getMessage())

    def formatException(self, info: Any) -> str:
        """Return a traceback."""
        return printable_lines(without_secrets(super().formatException(info)))


def _show_logs() -> None:
    """Let the warnings and tracebacks that nobody else handles come out as messages do."""
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(_LogFormatter())
    if sys.excepthook is sys.__excepthook__:
        sys.excepthook = _show_traceback
    if threading.excepthook is threading.__excepthook__:
        threading.excepthook = lambda raised: _show_traceback(*raised[:3])


def _show_traceback(kind: type[BaseException], error: BaseException | None, place: Any) -> None:
    lines = "".join(traceback.format_exception(kind, error, place))
    print(printable_lines(without_secrets(lines)), end="", file=sys.stderr)


def _drop_output() -> None:
    """Send what is left for stdout nowhere; else the interpreter would complain once more at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _silence_opencv() -> None:
    """Leave stderr to our own one-line errors, unless the user asked OpenCV and its parts to speak."""
    import cv2  # here, so that --help need not wait for it

    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # FFmpeg's quiet; read at the first video
    os.environ.setdefault("QT_LOGGING_RULES", "*.warning=false")  # of the window; read when it opens
    if "OPENCV_LOG_LEVEL" not in os.environ:
        # OpenCV 5 moved the function.
        set_level = getattr(cv2, "setLogLevel", None) or cv2.utils.logging.setLogLevel
        set_level(0)


def has_working_directory() -> bool:
    """Whether nobody removed it."""
    try:
        Path.cwd()
    except FileNotFoundError:
        return False
    return True


def _is_ignored(number: int) -> bool:
    """Whether whoever started this program wants it to outlive its terminal."""
    return number not in (signal.SIGINT, signal.SIGTERM) and signal.getsignal(number) is signal.SIG_IGN


@contextmanager
def _unwinding() -> Iterator[None]:
    """Turn SIGTERM and SIGHUP into SystemExit while the block runs, so that half-written files go."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set handlers
        return
    previous = {number: signal.signal(number, _end) for number in _ENDING if not _is_ignored(number)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _end(number: int, _: FrameType | None) -> None:
    for each in _ENDING:
        signal.signal(each, signal.SIG_IGN)  # a second one must not cut the cleaning short
    raise SystemExit(128 + number)
