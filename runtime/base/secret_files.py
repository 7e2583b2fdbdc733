"""Secrets from files, so that they stand neither in the list of processes nor in a shell's history."""

from __future__ import annotations

import logging
import os
import stat
from pathlib import Path

from runtime.base.files import open_regular
from runtime.base.shown import shown
from runtime.errors import ConfigError

logger = logging.getLogger(__name__)

_LONGEST_BYTES = 4096


def read_secret(path: Path, what: str) -> str:
    """Return the one line of a file; warns of one that others may read.

    Args:
        path: the file.
        what: that it holds, for messages, such as "a token".

    Raises:
        ConfigError: a file that is missing, cannot be read, or does not hold one line of UTF-8; no message
            holds a part of it.
    """
    try:
        with open_regular(path) as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            content = file.read(_LONGEST_BYTES + 1)
    except OSError as error:
        raise ConfigError(
            f"{shown(path)}: expected a file with {what}, cannot read it ({error.strerror or error})"
        ) from None
    if mode & 0o077 and os.name == "posix":
        logger.warning("%s: other users may read this file with %s; chmod 600 it", path, what)
    try:
        lines = content.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        lines = []
    if len(content) > _LONGEST_BYTES or len(lines) != 1 or not lines[0].strip():
        raise ConfigError(f"{shown(path)}: expected one line with {what}, got something else")
    return lines[0].strip()
