"""The freshest frame on a made-up clock: what is decoded, how old it is, what is dropped."""

from __future__ import annotations

import heapq

import numpy as np
import pytest

from runtime.frame import Frame
from runtime.sources.reader import FreshestSlot

MS = 1_000_000
PICTURE = np.zeros((8, 8, 3), np.uint8)


class Drive:
    """A camera and a network on one clock: the camera grabs, the network takes what is freshest."""

    def __init__(self, period_ms: float, network_ms: float, duration_ms: float) -> None:
        self.slot = FreshestSlot()
        self.ages_ms: list[float] = []
        self.waits_ms: list[float] = []
        self.grabbed = self.decoded = 0
        events = [(0.0, 0, "grab")]
        heapq.heappush(events, (0.0, 1, "ask"))
        asked_ms: float | None = None
        while events[0][0] <= duration_ms:
            now_ms, _, what = heapq.heappop(events)
            now_ns = round(now_ms * MS)
            if what == "grab":
                heapq.heappush(events, (now_ms + period_ms, 0, "grab"))
                if self.slot.grabbed(now_ns):
                    self.slot.put(Frame(PICTURE, self.grabbed, now_ns))
                    self.decoded += 1
                self.grabbed += 1
                if asked_ms is None:
                    continue
            else:
                asked_ms = now_ms
            frame = self.slot.take(now_ns)
            if frame is not None:
                self.waits_ms.append(now_ms - asked_ms)
                self.ages_ms.append(now_ms + network_ms - frame.captured_ns / MS)
                heapq.heappush(events, (now_ms + network_ms, 1, "ask"))
                asked_ms = None


@pytest.mark.parametrize(("period_ms", "network_ms"), [(10, 30), (33.3, 100), (7, 30), (10, 29.9)])
def test_three_times_too_fast_a_camera_never_makes_frames_old(period_ms, network_ms):
    drive = Drive(period_ms, network_ms, duration_ms=60_000)
    assert max(drive.ages_ms) < 2 * network_ms
    assert max(drive.ages_ms) <= network_ms + period_ms + 1e-6
    assert len(drive.ages_ms) + drive.slot.dropped == pytest.approx(drive.grabbed, abs=1)


@pytest.mark.parametrize(("times", "share"), [(3, 0.7), (5, 0.5), (10, 0.25)])
def test_pictures_that_nobody_could_take_are_not_decoded(times, share):
    drive = Drive(period_ms=10, network_ms=10 * times, duration_ms=10_000)
    assert drive.decoded <= share * drive.grabbed


@pytest.mark.parametrize("times", [0.3, 1.0, 1.2, 2.5, 3, 7.7])
def test_passing_over_pictures_never_makes_the_caller_wait(times):
    drive = Drive(period_ms=10, network_ms=10 * times, duration_ms=10_000)
    assert max(drive.waits_ms) <= 10
    if times >= 1:
        assert max(drive.waits_ms[1:]) <= 1e-6


def test_network_that_becomes_faster_waits_for_one_picture_at_most():
    slot = FreshestSlot()
    now_ms = 0
    for _ in range(8):  # slow: away for 100 ms each time
        slot.grabbed(now_ms * MS)
        slot.put(Frame(PICTURE, now_ms, now_ms * MS))
        assert slot.take(now_ms * MS) is not None
        for _ in range(9):
            now_ms += 10
            if slot.grabbed(now_ms * MS):
                slot.put(Frame(PICTURE, now_ms, now_ms * MS))
        now_ms += 10
    slot.take(now_ms * MS)
    slot.grabbed((now_ms + 10) * MS)  # passed over, but now the caller is back at once
    assert slot.take((now_ms + 15) * MS) is None
    assert slot.grabbed((now_ms + 20) * MS)


def test_frames_before_the_first_question_do_not_count_as_dropped():
    slot = FreshestSlot()
    for index in range(5):
        assert slot.grabbed(index * MS)
        slot.put(Frame(PICTURE, index, index * MS))
    assert slot.take(5 * MS).frame_id == 4
    assert slot.dropped == 0
