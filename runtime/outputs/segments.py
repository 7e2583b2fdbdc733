"""Files of a recording, one after the other: names that never collide, and the oldest removed by rule.

    drive.mp4 → drive-000001-20261126T144512Z.mp4, drive-000002-20261126T144612Z.mp4, …

The number orders them, since a robot's clock may jump; the time is for people. A file is made with O_EXCL, so
nothing is ever written over, and nothing that plays is removed but by retention.
"""

from __future__ import annotations

import logging
import os
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from runtime.base.flags import check_fields, flag

logger = logging.getLogger(__name__)

SEGMENT_S = 60.0
_SPACE_EVERY_S = 2.0
# A clock that was never set says 1970; the age of a file from such a time is unknown.
_PLAUSIBLE_S = 1_577_836_800.0  # 2020-01-01


@dataclass(frozen=True)
class SegmentOptions:
    """How a recording is cut, and how much of it is kept."""

    segment_s: float | None = flag(
        "length of a recording's files",
        default=None,
        above=0,
        unit="seconds",
        unset=f"{SEGMENT_S:g} of a camera or stream; of a video one whole file",
    )
    keep_gb: float | None = flag(
        "remove the oldest files of a recording beyond this size",
        default=None,
        above=0,
        unit="gigabytes",
        unset="keep all",
    )
    keep_hours: float | None = flag(
        "remove files of a recording that are older",
        default=None,
        above=0,
        unit="hours",
        unset="keep all",
    )

    def __post_init__(self) -> None:
        """Check the numbers."""
        check_fields(self)


@dataclass(frozen=True)
class Removed:
    """A file that retention removed.

    Attributes:
        path: its path.
        size_bytes: its size.
        reason: "keep_gb" or "keep_hours".
    """

    path: Path
    size_bytes: int
    reason: str


class Segments:
    """Makes the files of one recording and applies its retention.

    Attributes:
        pattern: the path that the user named; its folder, stem and suffix make up the files' names.
        options: length and retention.
        removed: how many files retention removed so far.
    """

    def __init__(
        self,
        pattern: str | Path,
        options: SegmentOptions = SegmentOptions(),  # frozen
        *,
        wall_s: Callable[[], float] = time.time,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """Find the files that earlier runs left; make the folder.

        Args:
            pattern: such as runs/drive.mp4.
            options: retention.
            wall_s: the clock of names and of earlier files' ages.
            monotonic_s: the clock of ages, which never jumps.

        Raises:
            OSError: the folder cannot be made or read.
        """
        self.pattern = Path(pattern)
        self.removed = 0
        self.options = options
        self._wall_s = wall_s
        self._monotonic_s = monotonic_s
        self.pattern.parent.mkdir(parents=True, exist_ok=True)
        stem, suffix = re.escape(self.pattern.stem), re.escape(self.pattern.suffix)
        self._name = re.compile(rf"{stem}-(\d{{6,}})-\d{{8}}T\d{{6}}Z{suffix}")
        existing = self.existing()
        self._number = max((number for number, _ in existing), default=0)
        # From here on ages grow with the monotonic clock, whatever the wall clock does.
        started_s, wall = monotonic_s(), wall_s()
        self._ended_s: dict[Path, float] = {}
        for _, path in existing:
            modified_s = _modified_s(path)
            if modified_s is not None and modified_s >= _PLAUSIBLE_S:
                self._ended_s[path] = started_s - (wall - modified_s)

    @property
    def segment_s(self) -> float:
        """Seconds that a file lasts."""
        return SEGMENT_S if self.options.segment_s is None else self.options.segment_s

    def existing(self) -> list[tuple[int, Path]]:
        """Return number and path of this recording's files, oldest first."""
        found = [
            (int(match[1]), path)
            for path in self.pattern.parent.iterdir()
            if (match := self._name.fullmatch(path.name))
        ]
        return sorted(found)

    def create(self) -> tuple[Path, int]:
        """Make the next file; return its path and an open descriptor for writing.

        Raises:
            OSError: it cannot be made.
        """
        while True:
            self._number += 1
            stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(max(0.0, self._wall_s())))
            path = self.pattern.with_name(
                f"{self.pattern.stem}-{self._number:06d}-{stamp}{self.pattern.suffix}"
            )
            if any(number == self._number for number, _ in self.existing()):
                continue  # another run records here too; its number is taken even at another second
            try:
                return path, os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
            except FileExistsError:
                continue

    def finished(self, path: Path) -> list[Removed]:
        """Note that a file is complete and remove what retention no longer keeps; never the newest one."""
        self._ended_s[path] = self._monotonic_s()
        return self.apply_retention(in_use=path)

    def apply_retention(self, in_use: Path | None = None) -> list[Removed]:
        """Remove the files that the options do not keep, oldest first, and return them.

        Args:
            in_use: is never removed.
        """
        options, removed = self.options, []
        if options.keep_gb is None and options.keep_hours is None:
            return []
        held = [(path, size) for _, path in self.existing() if (size := _size(path)) is not None]
        total = sum(size for _, size in held)
        now_s = self._monotonic_s()
        for path, size in held[:-1]:  # the newest always stays
            ended_s = self._ended_s.get(path)
            if options.keep_gb is not None and total > options.keep_gb * 1e9:
                reason = "keep_gb"
            elif (
                options.keep_hours is not None
                and ended_s is not None
                and now_s - ended_s > options.keep_hours * 3600
            ):
                reason = "keep_hours"
            else:
                continue
            if path == in_use:
                continue
            try:
                path.unlink()
            except OSError as error:
                logger.warning("%s: retention cannot remove it (%s)", path, error.strerror)
                continue
            total -= size
            self.removed += 1
            self._ended_s.pop(path, None)
            removed.append(Removed(path, size, reason))
            logger.info("%s: removed by --%s", path, reason.replace("_", "-"))
        return removed


class FreeSpace:
    """How many bytes are left on the disk of a folder, asked for now and then and never waited for.

    A disk that hangs lets nobody ask either; the last answer stays then.
    """

    def __init__(self, folder: Path) -> None:
        """Choose the folder; the first question is asked at once, in a thread."""
        self._folder = folder
        self._bytes: int | None = None
        self._due_s = 0.0
        self._asking = threading.Lock()  # held by the thread that asks

    @property
    def bytes(self) -> int | None:
        """The last answer, a few seconds old at most unless the disk hangs; None before the first."""
        if time.monotonic() >= self._due_s and self._asking.acquire(blocking=False):
            self._due_s = time.monotonic() + _SPACE_EVERY_S
            threading.Thread(target=self._ask, name="free space", daemon=True).start()
        return self._bytes

    def _ask(self) -> None:
        try:
            state = os.statvfs(self._folder)
            self._bytes = state.f_bavail * state.f_frsize
        except OSError:
            self._bytes = None
        finally:
            self._asking.release()


def _size(path: Path) -> int | None:
    """Return a file's size in bytes, None where it is gone."""
    try:
        return path.stat().st_size
    except OSError:
        return None


def _modified_s(path: Path) -> float | None:
    """Return when a file was last written, None where it is gone."""
    try:
        return path.stat().st_mtime
    except OSError:
        return None
