import random

import pytest

from runtime.sources.pts import ArrivalClock

S, MS = 1_000_000_000, 1_000_000


def test_a_backlog_shows_as_age():
    clock = ArrivalClock()
    for number in range(30):
        assert clock.captured_ns(number * 40 * MS, 5 * S + number * 40 * MS) == 5 * S + number * 40 * MS
    # The link is down for 10 s; then 250 buffered pictures come at once.
    arrived_ns = 5 * S + 30 * 40 * MS + 10 * S
    ages_ms = [
        (arrived_ns - clock.captured_ns((30 + number) * 40 * MS, arrived_ns)) / MS for number in range(251)
    ]
    assert ages_ms[0] == 10_000
    assert ages_ms[250] == 0


def test_jitter_makes_no_picture_younger_than_the_fastest_way():
    clock, rng = ArrivalClock(), random.Random(0)
    delays_ms = [100 + rng.expovariate(1 / 20) for _ in range(500)]
    errors_ms = []
    for number, delay_ms in enumerate(delays_ms):
        taken_ns = number * 33 * MS
        captured_ns = clock.captured_ns(taken_ns + 777 * S, taken_ns + round(delay_ms * MS))
        errors_ms.append((captured_ns - taken_ns) / MS)
    assert errors_ms[-1] == pytest.approx(min(delays_ms), abs=1)


@pytest.mark.parametrize("drift_ppm", [-200, 200])
def test_a_sender_whose_clock_drifts_is_followed(drift_ppm):
    clock = ArrivalClock()
    for number in range(36_000):  # an hour at 10 pictures a second
        taken_ns = number * 100 * MS
        captured_ns = clock.captured_ns(round(taken_ns * (1 + drift_ppm / 1e6)), taken_ns + 50 * MS)
    assert abs(captured_ns - (taken_ns + 50 * MS)) <= 15 * MS


@pytest.mark.parametrize("jump_ns", [-3600 * S, -2 * S, 11 * S, 3600 * S])
def test_a_sender_that_restarts_its_clock_begins_anew(jump_ns):
    clock = ArrivalClock()
    for number in range(10):
        clock.captured_ns(number * 40 * MS + 7200 * S, number * 40 * MS)
    assert clock.captured_ns(7200 * S + 400 * MS + jump_ns, 400 * MS) == 400 * MS


def test_a_sender_that_goes_on_after_an_outage_keeps_its_clock():
    clock = ArrivalClock()
    for number in range(10):
        clock.captured_ns(number * 40 * MS, number * 40 * MS)
    # Both clocks are a minute later, but this picture waited for 3 s.
    assert clock.captured_ns(60 * S, 63 * S) == 60 * S


def test_without_a_time_stamp_the_arrival_counts():
    assert ArrivalClock().captured_ns(None, 123) == 123


def test_nothing_is_captured_after_it_arrived():
    clock, rng = ArrivalClock(window_ns=S), random.Random(1)
    arrived_ns = 0
    for _ in range(2000):
        arrived_ns += rng.randrange(100 * MS)
        assert clock.captured_ns(rng.randrange(20 * S), arrived_ns) <= arrived_ns


def test_memory_stays_bounded():
    clock = ArrivalClock(window_ns=S)
    for number in range(10_000):
        clock.captured_ns(number * MS, number * MS + number * 10)  # each offset larger than the one before
    assert len(clock._smallest) <= 1002
