"""The process that a fault strikes: the camera's own command, with a clock or a disk that misbehaves.

    python -m benchmarks.stress.child clock=5 -- --source synthetic --realtime --headless --save drive.mp4

Real kills, signals and full disks come from outside; a clock that jumps and a disk that hangs would need the
machine, so this process replaces the wall clock and the write to a file by ones that do. Not for people.
"""

from __future__ import annotations

import importlib
import os
import sys
import threading
import time
from collections.abc import Callable

from runtime.outputs import containers

YEAR_S = 31_557_600.0


def jump_clock(after_s: float) -> None:
    """Let the wall clock go back by a year and forth by two, again and again, from so many seconds on."""
    real, started_s = time.time, time.monotonic()

    def jumping() -> float:
        beat = int((time.monotonic() - started_s) / max(after_s, 0.1))
        return real() + YEAR_S * (0, -1, 1)[beat % 3]

    time.time = jumping


def stall_disk(every_s: float, for_s: float) -> None:
    """Let every write of a recording hang for a while, at a steady beat."""
    write, started_s = os.write, time.monotonic()

    def stalling(descriptor: int, data: bytes) -> int:
        into_s = (time.monotonic() - started_s) % every_s
        if into_s > every_s - for_s:
            time.sleep(every_s - into_s)
        return write(descriptor, data)

    class Disk:
        """The module `os`, but for its write."""

        write = staticmethod(stalling)

        def __getattr__(self, name: str) -> object:
            return getattr(os, name)

    vars(containers)["os"] = Disk()


FAULTS: dict[str, Callable[..., None]] = {"clock": jump_clock, "stall": stall_disk}


def main() -> int:
    """Read `NAME=NUMBER[,NUMBER] … -- flags of runtime.camera`, prepare the faults, run the camera."""
    divider = sys.argv.index("--")
    for fault in sys.argv[1:divider]:
        name, _, numbers = fault.partition("=")
        FAULTS[name](*map(float, numbers.split(",")))
    threading.current_thread().name = "camera"
    camera = importlib.import_module("runtime.camera")
    return int(camera.main(sys.argv[divider + 1 :]))


if __name__ == "__main__":
    sys.exit(main())
