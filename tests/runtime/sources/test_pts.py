import random

import pytest

from runtime.sources.pts import ArrivalClock, StreamTimes, presentation_ns

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


def stream() -> StreamTimes:
    """A network stream whose start is over: its pictures come every 40 ms, 100 ms after they were taken."""
    times = StreamTimes(is_network=True)
    times.connected("h264")
    assert times.captured_ns(0, 100 * MS) is None  # nobody knows how long the first one waited
    assert times.captured_ns(41 * MS, 141 * MS) == 141 * MS
    return times


@pytest.mark.parametrize("held", [1, 5, 100])
def test_what_a_server_or_ffmpeg_held_before_the_first_picture_is_not_fresh(held):
    times = StreamTimes(is_network=True)
    times.connected("MJPG")
    now_ns = 50 * S
    for number in range(held):
        assert times.captured_ns(number * 67 * MS, now_ns + number * MS) is None
    assert times.captured_ns(held * 67 * MS, now_ns + (held + 60) * MS) == now_ns + (held + 60) * MS


def test_a_start_that_never_settles_ends_after_5_s():
    times = StreamTimes(is_network=True)
    times.connected("h264")
    seen = [times.captured_ns(number * S, number * 100 * MS) for number in range(60)]
    assert seen[:50] == [None] * 50
    assert None not in seen[50:]


def test_each_connection_settles_anew():
    times = stream()
    times.connected("h264")
    assert times.captured_ns(9 * S, 20 * S) is None
    assert times.captured_ns(9 * S + 40 * MS, 20 * S + 40 * MS) == 20 * S + 40 * MS


def test_backlog_of_a_stream_shows_as_age():
    times = stream()
    # 3 s of outage: the first picture after it was taken when the outage began.
    assert times.captured_ns(81 * MS, 181 * MS + 3 * S) == 181 * MS
    assert times.captured_ns(121 * MS, 182 * MS + 3 * S) == 221 * MS


@pytest.mark.parametrize(
    ("age_ms", "captured_ms"),
    [(0, 5000), (33, 4967), (400, 4600), (600, 5000), (-5, 5000), (4_000_000, 5000)],
    ids=["now", "33 ms old", "waited", "another clock", "ahead", "far away"],
)
def test_a_cameras_time_stamp_on_this_machines_clock_is_taken_as_it_is(age_ms, captured_ms):
    times = StreamTimes()
    times.connected("MJPG")
    assert times.captured_ns((5000 - age_ms) * MS, 5000 * MS) == captured_ms * MS


@pytest.mark.parametrize(
    ("rate", "period_ms", "believed"),
    [(10, 40, False), (15, 40, False), (24.5, 40, True), (25, 40, True), (30, 40, True), (10, 100, True)],
)
def test_times_that_ffmpeg_made_up_are_found_out(rate, period_ms, believed):
    times = StreamTimes(is_network=True, may_lack_times=True)
    times.connected("h264")
    ages_ms = []
    for number in range(round(12 * rate)):
        arrived_ns = round(S + number * S / rate)
        captured_ns = times.captured_ns(number * period_ms * MS, arrived_ns)
        ages_ms.append((arrived_ns - (captured_ns or 0)) / MS)
    assert times.has_times is believed
    assert ages_ms[-1] < 250  # a raw stream's pictures do not seem to get older and older


def test_motion_jpeg_over_http_has_no_times():
    times = StreamTimes(is_network=True, may_lack_times=True)
    times.connected("mjpg")
    assert [times.captured_ns(number * 40 * MS, number * S) for number in range(3)] == [0, S, 2 * S]
    times.connected("h264")
    assert times.captured_ns(0, 5 * S) is None


def test_a_time_that_stands_still_is_no_time():
    times = StreamTimes()
    assert [times.captured_ns(30 * MS, number * S) for number in range(1, 4)] == [S, 2 * S, 3 * S]


@pytest.mark.parametrize(
    ("stated_ms", "latest_ns", "expected"),
    [
        (0.0, None, 0),
        (40.0, 0, 40 * MS),
        (0.0, 40 * MS, None),  # OpenCV says so of a file's last pictures
        (-1.0, None, None),
        (float("nan"), None, None),
        (float("inf"), 0, None),
    ],
)
def test_time_stamp_of_a_capture(stated_ms, latest_ns, expected):
    class Capture:
        def get(self, _: int) -> float:
            return stated_ms

    assert presentation_ns(Capture(), latest_ns) == expected
