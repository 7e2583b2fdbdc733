"""When a live source worries, tries again and gives up."""

from __future__ import annotations

from dataclasses import dataclass, field

from runtime.base.flags import check_fields, flag
from runtime.errors import ConfigError
from runtime.sources.backoff import Backoff


@dataclass(frozen=True)
class LivePolicy:
    """When a live source worries, tries again and gives up.

    Attributes:
        open_s: seconds that the first opening may take.
        stall_s: seconds without a frame after which it counts as stalled.
        reopen_s: seconds without a frame after which the capture is given up and opened again, whether or
            not its read returns. OpenCV's own limits on reads (10 s) are shorter, so that normally it does.
        give_up_s: seconds without a frame after which it fails; None for never.
        bad_in_a_row: empty or damaged pictures in a row that are too many.
        most_hanging: reads that never returned at which it fails, since each holds a thread.
        backoff: waits between attempts to open it again.
    """

    open_s: float = 15.0
    stall_s: float = 3.0
    reopen_s: float = 15.0
    give_up_s: float | None = flag(
        "fail after this long without a frame of a camera or stream",
        default=None,
        unset="retry for ever",
        above=0,
        unit="seconds",
    )
    bad_in_a_row: int = 60
    most_hanging: int = 4
    backoff: Backoff = field(default_factory=Backoff)

    def __post_init__(self) -> None:
        """Check the numbers."""
        check_fields(self)
        if not (self.open_s > 0 and 0 < self.stall_s <= self.reopen_s):
            raise ConfigError(
                "live source: expected open_s > 0 and 0 < stall_s <= reopen_s, got open_s "
                f"{self.open_s}, stall_s {self.stall_s} and reopen_s {self.reopen_s}"
            )
        if self.bad_in_a_row < 1 or self.most_hanging < 1:
            raise ConfigError(
                "live source: expected bad_in_a_row and most_hanging of at least 1, got "
                f"{self.bad_in_a_row} and {self.most_hanging}"
            )
