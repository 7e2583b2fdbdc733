"""Live sources on scripted captures and a clock that stands still until every thread waits."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence

import cv2
import numpy as np
import pytest

from runtime.errors import ConfigError, FrameError, SourceError
from runtime.frame import Frame
from runtime.sources import TRANSITIONS, Backoff, Clock, LivePolicy, LiveSource, SourceState, live, reader
from runtime.sources.pts import StreamTimes

WAIT_S = 60.0
STEADY = Backoff(first_s=1, cap_s=8, jitter=0)
LOST, SILENT, DAMAGED = "lost", "silent", "damaged"


def grey_level(level: int, shape: tuple[int, ...] = (48, 64, 3)) -> np.ndarray:
    return np.full(shape, level, np.uint8)


class Server:
    """Opens captures, each with a script of its own, and knows whether any of them is at work."""

    def __init__(self, *scripts: Sequence[object] | Exception) -> None:
        self.scripts = list(scripts)
        self.captures: list[ScriptedCapture] = []
        self.finished = threading.Event()

    def open(self) -> ScriptedCapture:
        script = self.scripts.pop(0) if self.scripts else SourceError("camera 0: still away")
        if isinstance(script, Exception):
            raise script
        capture = ScriptedCapture(script, self.finished)
        self.captures.append(capture)
        return capture

    @property
    def is_quiet(self) -> bool:
        return all(capture.is_quiet for capture in self.captures)


class ScriptedCapture:
    """Gives the pictures of its script at once; `SILENT` is a read that returns only when it is set free."""

    def __init__(self, script: Sequence[object], finished: threading.Event, announced: int = 0) -> None:
        self.script = list(script)
        self.announced = announced
        self.is_quiet = self.released = False
        self.is_free = threading.Event()
        self.finished = finished
        self.retrieved = 0
        self.pts_ms = 0.0
        self.current: object = None

    def isOpened(self) -> bool:
        return True

    def grab(self) -> bool:
        self.current = self.script.pop(0) if self.script else SILENT
        if isinstance(self.current, threading.Event):
            self.is_quiet = True
            assert self.current.wait(WAIT_S)
            self.is_quiet = False
            return self.grab()
        if self.current is SILENT:
            self.is_quiet = True
            while not (self.is_free.wait(0.005) or self.finished.is_set()):
                pass
            return False
        if isinstance(self.current, Exception):
            raise self.current
        if self.current is LOST:
            self.script.insert(0, LOST)  # for good
        return not isinstance(self.current, str)

    def retrieve(self) -> tuple[bool, np.ndarray | None]:
        self.retrieved += 1
        if self.current is None:
            return False, None
        if callable(self.current):
            self.current()
        return True, self.current

    def get(self, prop: int) -> float:
        stated = {cv2.CAP_PROP_FRAME_COUNT: self.announced, cv2.CAP_PROP_POS_MSEC: self.pts_ms}
        return float(stated.get(prop, 30.0))

    def release(self) -> None:
        self.is_quiet = self.released = True


class StoppedClock(Clock):
    """Time that passes only while the caller waits and all captures are silent."""

    def __init__(self, server: Server) -> None:
        self.time_ns = 1_000_000_000
        self.server = server

    def now_ns(self) -> int:
        return self.time_ns

    def wait(self, news: threading.Condition, timeout_s: float | None) -> None:
        deadline = time.monotonic() + WAIT_S
        while not news.wait(0.01):
            assert time.monotonic() < deadline
            if self.server.is_quiet and timeout_s is not None:
                self.time_ns += round(timeout_s * 1e9)
                return


@pytest.fixture
def watch() -> Iterator[Callable[..., LiveSource]]:
    made: list[tuple[LiveSource, Server]] = []

    def make(server: Server, *, name: str = "camera 0", **policy: object) -> LiveSource:
        rules = LivePolicy(**{"backoff": STEADY, **policy})  # type: ignore[arg-type]
        source = LiveSource(server.open, name, rules, StoppedClock(server))
        made.append((source, server))
        return source

    yield make
    for source, server in made:
        server.finished.set()
        source.close()


def threads_named(name: str) -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == name]


def seconds(source: LiveSource) -> float:
    return source._clock.now_ns() / 1e9 - 1.0


def test_reconnects_after_a_lost_capture_and_counts_on(watch):
    source = watch(Server([grey_level(1), LOST], [grey_level(2)]))
    frames = iter(source)
    assert next(frames).frame_id == 0
    frame = next(frames)
    assert (frame.frame_id, int(frame.image_bgr[0, 0, 0])) == (1, 2)
    assert source.status.state is SourceState.RUNNING
    assert source.status.reconnects == 1
    assert "stream lost after 1 frames" in source.status.problem


def test_waits_between_attempts_double_up_to_the_cap(watch):
    away = SourceError("camera 0: away")
    source = watch(Server([grey_level(1), LOST], *[away] * 5, [grey_level(2)]))
    frames = iter(source)
    next(frames)
    next(frames)
    assert source.status.reconnects == 6
    assert seconds(source) == pytest.approx(1 + 2 + 4 + 8 + 8 + 8)


def test_read_that_never_returns_is_left_behind(watch):
    server = Server([grey_level(1), SILENT], [grey_level(2)])
    source = watch(server, stall_s=2, reopen_s=10)
    frames = iter(source)
    next(frames)
    assert next(frames).frame_id == 1
    assert seconds(source) == pytest.approx(11)
    assert source.status.hanging == 1
    assert "no frame for 10 s" in source.status.problem


def test_hanging_read_that_returns_gives_its_thread_and_capture_back(watch):
    server = Server([grey_level(1), SILENT], [grey_level(2)])
    source = watch(server)
    frames = iter(source)
    next(frames)
    next(frames)
    server.captures[0].is_free.set()
    deadline = time.monotonic() + WAIT_S
    while source.status.hanging:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    assert source.status.state is SourceState.RUNNING


def test_open_that_never_returns_is_left_behind_too(watch):
    server = Server([grey_level(1), LOST])
    stuck, first_open = threading.Event(), server.open
    calls: list[int] = []

    def open_capture() -> ScriptedCapture:
        calls.append(1)
        if len(calls) == 2:
            stuck.wait(WAIT_S)
            raise SourceError("late")
        if len(calls) == 3:
            server.scripts.append([grey_level(2)])
        return first_open()

    server.open = open_capture  # type: ignore[method-assign]
    source = watch(server, reopen_s=10)
    frames = iter(source)
    next(frames)
    assert next(frames).frame_id == 1
    assert source.status.hanging == 1
    stuck.set()


def test_too_many_hanging_reads_fail_instead_of_eating_threads(watch):
    source = watch(Server(*[[grey_level(1), SILENT]] * 9), name="hung", most_hanging=3)
    with pytest.raises(SourceError, match="3 never did; the driver or the server hangs"):
        list(source)
    assert len(threads_named("read hung")) == 3
    assert source.status.state is SourceState.FAILED


def test_stall_shows_and_passes(watch):
    server = Server([grey_level(1), again := threading.Event(), grey_level(2)])
    source = watch(server, stall_s=2, reopen_s=1000)
    seen: list[SourceState] = []
    clock_wait = source._clock.wait

    def wait(news: threading.Condition, timeout_s: float | None) -> None:
        seen.append(source._life.state)
        if seen[-1] is SourceState.STALLED:
            again.set()
        clock_wait(news, timeout_s)

    source._clock.wait = wait  # type: ignore[method-assign]
    frames = iter(source)
    next(frames)
    next(frames)
    assert SourceState.STALLED in seen
    assert source.status.state is SourceState.RUNNING
    assert source.status.reconnects == 0


def test_gives_up_where_it_is_told_to(watch):
    source = watch(Server([grey_level(1), LOST]), give_up_s=20)
    frames = iter(source)
    next(frames)
    with pytest.raises(SourceError, match=r"camera 0: gave up after 20 s without a frame \(latest: camera 0"):
        next(frames)
    assert source.status.state is SourceState.FAILED
    assert seconds(source) == pytest.approx(20)


@pytest.mark.parametrize(
    "bad",
    [None, np.empty((0, 0, 3), np.uint8), grey_level(1, (48, 64)), cv2.error("cannot decode")],
    ids=["nothing", "empty", "grey", "damaged"],
)
def test_bad_pictures_are_counted_and_passed_over(watch, bad):
    def fail() -> None:
        raise bad

    source = watch(Server([fail if isinstance(bad, Exception) else bad, grey_level(7)]))
    frame = next(iter(source))
    assert (frame.frame_id, int(frame.image_bgr[0, 0, 0])) == (1, 7)
    assert source.status.skipped == 1


def test_too_many_empty_pictures_open_it_again(watch):
    source = watch(Server([grey_level(1), *[None] * 5], [grey_level(2)]), bad_in_a_row=5)
    frames = iter(source)
    next(frames)
    assert next(frames).image_bgr[0, 0, 0] == 2
    assert "5 empty or damaged ones in a row" in source.status.problem


def test_pictures_of_a_wrong_kind_fail_with_what_is_wrong(watch):
    source = watch(Server([grey_level(1, (48, 64))] * 5), bad_in_a_row=5)
    with pytest.raises(FrameError, match="COLOR_GRAY2BGR"):
        next(iter(source))


def test_frames_may_change_their_size(watch):
    source = watch(Server([grey_level(1), LOST], [grey_level(2, (96, 128, 3))]))
    frames = iter(source)
    assert [next(frames).image_bgr.shape for _ in range(2)] == [(48, 64, 3), (96, 128, 3)]


def test_opencv_error_in_grab_is_a_lost_capture(watch):
    source = watch(Server([grey_level(1), cv2.error("ioctl")], [grey_level(2)]))
    frames = iter(source)
    next(frames)
    assert next(frames).frame_id == 1


def test_unknown_errors_of_the_thread_reach_the_caller(watch):
    with pytest.raises(RuntimeError, match="driver"):
        next(iter(watch(Server([RuntimeError("driver")]))))


def test_last_frame_comes_before_the_failure(watch):
    source = watch(Server([grey_level(1), RuntimeError("driver")]))
    frames = iter(source)
    assert next(frames).frame_id == 0
    with pytest.raises(RuntimeError):
        next(frames)


def test_camera_that_is_switched_on_later_is_waited_for(watch, caplog):
    caplog.set_level(logging.WARNING)
    away = SourceError("camera 0: away")
    source = watch(Server(*[away] * 4, [grey_level(1)]))
    assert source.status.state is SourceState.RECONNECTING
    assert next(iter(source)).frame_id == 0
    assert seconds(source) == pytest.approx(1 + 2 + 4 + 8)
    assert [record.getMessage() for record in caplog.records] == [
        "camera 0: away; waiting for it",
        "camera 0: opened",
    ]


def test_camera_that_never_comes_is_given_up_in_time(watch):
    source = watch(Server(SourceError("gone: does not open")), name="gone", give_up_s=20)
    with pytest.raises(SourceError, match=r"gone: gave up after 20 s without a frame \(latest: .*still away"):
        next(iter(source))
    assert seconds(source) == pytest.approx(20)
    source.close()
    assert threads_named("read gone") == []


def test_first_opening_that_hangs_holds_up_the_start_for_a_while_only(monkeypatch, watch, caplog):
    server = Server()
    stuck, first_open = threading.Event(), server.open
    calls: list[int] = []

    def open_capture() -> ScriptedCapture:
        calls.append(1)
        if len(calls) == 1:
            stuck.wait(WAIT_S)
            raise SourceError("late")
        server.scripts.append([grey_level(2)])
        return first_open()

    server.open = open_capture  # type: ignore[method-assign]
    source = watch(server, open_s=7, reopen_s=10)
    assert seconds(source) == pytest.approx(7)
    assert "not open after 7 s; waiting for it" in caplog.text
    assert next(iter(source)).image_bgr[0, 0, 0] == 2
    assert seconds(source) == pytest.approx(11)
    stuck.set()


def test_error_that_trying_again_cannot_help_is_raised_at_once(watch):
    with pytest.raises(RuntimeError, match="no such backend"):
        watch(Server(RuntimeError("no such backend")), name="gone")
    assert threads_named("read gone") == []


def test_recording_behind_an_address_ends(watch):
    server = Server([grey_level(level) for level in range(9)] + [LOST])
    opened, release = server.open, threading.Event()

    def open_recording() -> ScriptedCapture:
        capture = opened()
        capture.announced = 9
        capture.script.insert(0, release)
        return capture

    server.open = open_recording  # type: ignore[method-assign]
    source = watch(server)
    release.set()
    frames = list(source)
    assert frames[-1].frame_id == 8
    assert source.status.state is SourceState.ENDED


def test_pictures_that_cannot_be_decoded_are_no_lost_stream(watch, caplog):
    source = watch(Server([grey_level(1), DAMAGED, DAMAGED, grey_level(2)]))
    frames = iter(source)
    while next(frames).image_bgr[0, 0, 0] != 2:
        pass
    status = source.status
    assert (status.captured, status.skipped, status.reconnects) == (2, 2, 0)
    assert caplog.text == ""


def test_outage_is_logged_once_and_so_is_its_end(watch, caplog):
    caplog.set_level(logging.WARNING)
    away = SourceError("camera 0: away")
    frames = iter(watch(Server([grey_level(1), LOST], *[away] * 5, [grey_level(2)])))
    next(frames)
    next(frames)
    assert [record.getMessage().split(";")[-1] for record in caplog.records] == [
        " reconnecting",
        "camera 0: reconnected",
    ]


@pytest.mark.parametrize(
    "wrong",
    [{"open_s": 0}, {"stall_s": 20}, {"give_up_s": -1}, {"bad_in_a_row": 0}, {"most_hanging": 0}],
    ids=lambda wrong: next(iter(wrong)),
)
def test_policy_that_cannot_work(wrong):
    with pytest.raises(ConfigError, match=rf"(live source|{next(iter(wrong))}): expected"):
        LivePolicy(**wrong)


def test_nothing_follows_the_last_states():
    for state in SourceState:
        assert bool(TRANSITIONS[state]) == (state not in (SourceState.ENDED, SourceState.FAILED))


def test_close_wakes_a_caller_who_waits(watch):
    server = Server([SILENT])
    source = watch(server)
    source._clock = Clock()
    seen: list[Frame] = []
    waiting = threading.Thread(target=lambda: seen.extend(source))
    waiting.start()
    server.finished.set()
    source.close()
    waiting.join(WAIT_S)
    assert not waiting.is_alive()
    assert seen == []
    assert source.status.state is SourceState.ENDED


def test_close_ends_the_thread_and_releases(watch):
    server = Server([grey_level(1)])
    with watch(server, name="closed") as source:
        next(iter(source))
        server.finished.set()
    assert threads_named("read closed") == []
    assert server.captures[0].released
    assert list(source) == []


def test_close_does_not_wait_for_ever_for_a_read_that_hangs(watch, monkeypatch, caplog):
    monkeypatch.setattr(live, "_CLOSE_WAIT_S", 0.01)
    source = watch(Server([grey_level(1), SILENT]))
    next(iter(source))
    source.close()
    assert "still inside a read" in caplog.text


class Link:
    """A stream whose pictures arrive at stated times; each shows when it was taken, in tenths of a second."""

    def __init__(self, taken_and_arrived_ms: Sequence[tuple[int, int]], clock: Clock) -> None:
        self.pictures = list(taken_and_arrived_ms)
        self.clock = clock
        self.retrieved: list[int] = []
        self.taken_ms = 0
        self.buffer: np.ndarray | None = None

    def isOpened(self) -> bool:
        return True

    def grab(self) -> bool:
        if not self.pictures:
            return False
        self.taken_ms, arrived_ms = self.pictures.pop(0)
        self.clock.time_ns = arrived_ms * 1_000_000
        return True

    def retrieve(self) -> tuple[bool, np.ndarray | None]:
        self.retrieved.append(self.taken_ms)
        picture = grey_level(self.taken_ms // 100)
        if self.buffer is None:
            return True, picture
        self.buffer[:] = picture
        return True, self.buffer

    def get(self, prop: int) -> float:
        return {cv2.CAP_PROP_POS_MSEC: self.taken_ms + 5000.0, cv2.CAP_PROP_FRAME_COUNT: -1.0}.get(prop, 10.0)

    def release(self) -> None:
        pass


class ArrivalTime(Clock):
    """The time at which the latest picture arrived."""

    time_ns = 0

    def now_ns(self) -> int:
        return self.time_ns


OUTAGE = [
    *((taken, taken + 50) for taken in range(0, 1000, 100)),
    *((taken, 4050 + taken // 100) for taken in range(1000, 4000, 100)),  # all that waited comes at once
    *((taken, taken + 100) for taken in range(4000, 4500, 100)),
]


def everything_from(link: Link, **options: float) -> tuple[list[Frame], LiveSource]:
    """Return what the source put up for its caller, in the reader's thread, and the source."""
    frames: list[Frame] = []

    def open_once() -> Link:
        if link.pictures:
            return link
        raise SourceError("over")

    times = StreamTimes(is_network=True)
    policy = LivePolicy(backoff=Backoff(first_s=0.001, cap_s=0.001), reopen_s=1e6)
    link.clock = clock = ArrivalTime()
    source = LiveSource.__new__(LiveSource)
    put = reader.FreshestSlot.put
    try:
        reader.FreshestSlot.put = lambda slot, frame: frames.append(frame)  # type: ignore[method-assign]
        source.__init__(open_once, "link", policy, clock, times=times, **options)  # type: ignore[misc]
        deadline = time.monotonic() + WAIT_S
        while source.status.state is not SourceState.RECONNECTING:
            assert time.monotonic() < deadline
            time.sleep(0.001)
    finally:
        reader.FreshestSlot.put = put  # type: ignore[method-assign]
        source.close()
    return frames, source


def taken_ms(frame: Frame) -> int:
    return int(frame.image_bgr[0, 0, 0]) * 100


def test_pictures_that_waited_through_an_outage_are_as_old_as_they_are():
    frames, _ = everything_from(Link(OUTAGE, ArrivalTime()))
    delays_ms = {frame.captured_ns // 1_000_000 - taken_ms(frame) for frame in frames}
    assert delays_ms == {50}  # of the fastest picture, which nobody can know
    assert [frame.pts_ns for frame in frames] == [(taken_ms(frame) + 5000) * 1_000_000 for frame in frames]


@pytest.mark.parametrize("limit_ms", [200.0, 500.0, 1500.0])
def test_a_backlog_is_drained_at_once_to_the_limit_of_age(limit_ms, caplog):
    link = Link(OUTAGE, ArrivalTime())
    frames, source = everything_from(link, max_age_ms=limit_ms)
    arrivals_ms = dict(OUTAGE)
    ages_ms = [arrivals_ms[taken_ms(frame)] - 50 - taken_ms(frame) for frame in frames]
    assert max(ages_ms) < limit_ms
    # The pictures of the outage that are too old are not even converted, and counted.
    assert link.retrieved == [taken_ms(frame) for frame in frames]
    assert source.dropped == len(OUTAGE) - len(frames)
    assert caplog.text.count("s behind, frames dropped until it is less than") == 1
    assert {taken for taken, _ in OUTAGE[-4:]} <= set(link.retrieved)


def test_a_stream_without_fresh_pictures_is_opened_again(watch):
    """A server that goes on sending what it holds is left: a new connection starts with fresh ones."""
    source = watch(Server([grey_level(1), SILENT], [grey_level(2)]), stall_s=2, reopen_s=10)
    source._max_age_ns = 500_000_000
    frames = iter(source)
    next(frames)
    late, clock = source._times, source._clock
    late.captured_ns = lambda pts_ns, now_ns: now_ns - 10**9  # type: ignore[method-assign]
    reading = source._reader
    for _ in range(5):
        assert not source.grabbed(reading, 0)
    late.captured_ns = lambda pts_ns, now_ns: now_ns  # type: ignore[method-assign]
    assert next(frames).image_bgr[0, 0, 0] == 2
    assert clock.now_ns() / 1e9 - 1 == pytest.approx(11)
    assert source.dropped == 5


def test_a_capture_that_reuses_its_buffer_never_changes_a_picture():
    link = Link(OUTAGE[:10], ArrivalTime())
    link.buffer = grey_level(0)
    frames, _ = everything_from(link)
    assert [taken_ms(frame) for frame in frames] == [taken for taken, _ in OUTAGE[1:10]]


def test_a_picture_that_is_ours_is_not_copied():
    made: list[int] = []

    class Fresh(Link):
        def retrieve(self) -> tuple[bool, np.ndarray | None]:
            _, picture = super().retrieve()
            made.append(picture.__array_interface__["data"][0])
            return True, picture

    frames, _ = everything_from(Fresh(OUTAGE[:10], ArrivalTime()))
    assert [frame.image_bgr.__array_interface__["data"][0] for frame in frames] == made
