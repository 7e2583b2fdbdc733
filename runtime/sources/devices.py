"""Which program has a camera open, so that the second reader of one camera learns why it gets nothing."""

from __future__ import annotations

import os
from pathlib import Path


def users_of(device: str | Path) -> list[str]:
    """Return the programs that have a device open, as `name (process 123)`; `this program` for our own.

    Only Linux tells, and only of processes that we may look into; elsewhere the list is empty.
    """
    wanted = os.path.realpath(device)
    users = []
    for process in sorted(Path("/proc").glob("[0-9]*"), key=lambda path: int(path.name)):
        try:
            is_open = any(os.path.realpath(link) == wanted for link in (process / "fd").iterdir())
            name = (process / "comm").read_text(errors="replace").strip()
        except OSError:  # another user's, or gone meanwhile
            continue
        if is_open:
            own = process.name == str(os.getpid())
            users.append("this program" if own else f"{name} (process {process.name})")
    return users
