"""What every edgeseg command shares: exit codes and a `--help` that states defaults."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable

from runtime.errors import EdgesegError

EXIT_OK, EXIT_ERROR, EXIT_INTERRUPTED = 0, 1, 130


class _HelpWithDefaults(argparse.ArgumentDefaultsHelpFormatter):
    """States a default where there is one to state; `None` and `False` tell a reader nothing."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if action.default is None or action.default is False:
            return action.help
        return super()._get_help_string(action)


def make_parser(module: str, description: str) -> argparse.ArgumentParser:
    """Return a parser for `python -m module` whose help shows every default."""
    return argparse.ArgumentParser(
        prog=f"python -m {module}",
        description=description,
        formatter_class=_HelpWithDefaults,
        allow_abbrev=False,
    )


def exit_code(command: Callable[[], None]) -> int:
    """Run a command and turn its outcome into an exit code.

    Returns:
        0 when it finished, 1 after a known error (one line on stderr) or a closed output pipe,
        130 after Ctrl-C. Wrong usage exits with 2 inside argparse. Unknown exceptions pass through
        with their traceback, since they are defects.
    """
    try:
        command()
        sys.stdout.flush()
    except EdgesegError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return EXIT_ERROR
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader of a pipe went away; without this the interpreter would complain once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_ERROR
    return EXIT_OK
