"""What the page shows, and who looks at it: the part of the server that answering a request needs."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from runtime.serve.address import Guard, is_loopback_host
from runtime.serve.gauges import Gauges
from runtime.serve.viewfinder import Viewfinder

MAX_VIEWERS = 24  # pictures and streams that are under way
MAX_VIEWERS_OF_PEER = 12


class Board:
    """Numbers, pictures and controls for those whom the guard admits.

    Attributes:
        guard: who is answered.
        gauges: the numbers.
        viewfinder: the pictures.
        alpha: share of the class colour that the page begins with, 0 to 1.
        control: pauses (True) or resumes the output of a number; tells whether there is such a one.
        streams: that are open.
    """

    def __init__(
        self,
        guard: Guard,
        gauges: Gauges,
        viewfinder: Viewfinder,
        *,
        alpha: float = 0.5,
        control: Callable[[int, bool], bool] = lambda number, pause: False,
    ) -> None:
        """Begin without a viewer."""
        self.guard = guard
        self.gauges = gauges
        self.viewfinder = viewfinder
        self.alpha = alpha
        self.control = control
        self.streams = 0
        self._lock = threading.Lock()  # guards streams and the next
        self._viewers: Counter[str] = Counter()

    @contextmanager
    def viewing(self, peer: str, *, stream: bool = False) -> Iterator[bool]:
        """Hold a viewer's place while the block runs; yields whether there was one."""
        most = MAX_VIEWERS if is_loopback_host(peer) else min(MAX_VIEWERS, MAX_VIEWERS_OF_PEER)
        with self._lock:  # a proxy or a tunnel brings everybody from loopback
            has_place = self._viewers.total() < MAX_VIEWERS and self._viewers[peer] < most
            self._viewers[peer] += has_place
            self.streams += has_place and stream
        try:
            yield has_place
        finally:
            with self._lock:
                self._viewers[peer] -= has_place
                self.streams -= has_place and stream
                if not self._viewers[peer]:
                    del self._viewers[peer]
