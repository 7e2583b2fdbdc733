from __future__ import annotations

import logging
import os
import sys
import threading
import time
import tracemalloc
from collections.abc import Iterator, Mapping

import numpy as np
import pytest

from runtime import loop
from runtime.contract import ClassMap
from runtime.errors import ConfigError, FrameError, SourceError
from runtime.frame import Frame, Image, Segmentation
from runtime.loop import Ahead, Step, run
from runtime.segmenter import Segmenter
from runtime.sources import Drop, FakeSource, Late, Source, open_source

CLASSES = ClassMap(names=("ground",), palette_rgb=((255, 0, 0),))
WAIT_S = 30.0
STAGES_MS: Mapping[str, float] = {"resize": 0.25, "network": 3.0, "mask": 0.5}


class FewFrames(Source):
    fps = 10.0
    dropped = 0

    def __init__(self, frames: int, live: bool = False, breaks: bool = False) -> None:
        self.frames, self.live, self.breaks = frames, live, breaks

    def __iter__(self) -> Iterator[Frame]:
        for index in range(self.frames):
            yield Frame(np.full((64, 64, 3), index, np.uint8), index, time.monotonic_ns())
        if self.breaks:
            raise SourceError("broke")

    def close(self) -> None:
        pass


def segment(frame: Frame) -> Segmentation:
    return Segmentation(np.zeros((64, 64), np.uint8), STAGES_MS, frame.frame_id, frame.captured_ns)


def test_every_frame_becomes_a_step():
    steps = list(run(FewFrames(3), segment))
    assert [step.frame.frame_id for step in steps] == [0, 1, 2]
    assert [step.segmentation.frame_id for step in steps] == [0, 1, 2]
    assert all(list(step.latency_ms) == ["resize", "network", "mask", "total"] for step in steps)
    assert all(step.overlay is None for step in steps)


def test_total_is_the_time_since_the_capture():
    (step,) = run(FewFrames(1), segment)
    assert step.latency_ms["total"] == (step.finished_ns - step.frame.captured_ns) / 1e6


def test_ends_after_max_frames_without_asking_for_more():
    assert len(list(run(FewFrames(4, breaks=True), segment, max_frames=4))) == 4


def test_max_frames_below_one():
    with pytest.raises(ConfigError, match="at least 1, got 0"):
        list(run(FewFrames(1), segment, max_frames=0))


def test_steps_before_a_broken_source_are_delivered():
    seen: list[Step] = []
    with pytest.raises(SourceError):
        seen.extend(run(FewFrames(3, breaks=True), segment))
    assert len(seen) == 3


class Watch:
    """A clock that moves when the network works."""

    now_ns = 10**9

    def __call__(self) -> int:
        return self.now_ns

    def segment_in(self, network_ms: float):
        def slow(frame: Frame) -> Segmentation:
            self.now_ns += round(network_ms * 1e6)
            return segment(frame)

        return slow


def picture(level: int = 0) -> Image:
    return np.full((64, 64, 3), level, np.uint8)


def test_steps_tell_age_and_dropped_frames():
    watch = Watch()
    source = FakeSource([picture(), Drop(2), Late(30), picture()], clock_ns=watch)
    steps = list(run(source, watch.segment_in(20), overlap=False, clock_ns=watch))
    assert [(step.frame.frame_id, step.age_ms, step.dropped) for step in steps] == [
        (0, 20.0, 0),
        (3, 50.0, 2),
    ]


@pytest.mark.parametrize(
    ("late_ms", "network_ms", "segmented"), [(100, 20, 2), (90, 20, 3)], ids=["before", "after the network"]
)
def test_too_old_frames_are_dropped_and_counted(late_ms, network_ms, segmented):
    watch = Watch()
    calls = []
    slow = watch.segment_in(network_ms)

    def counting(frame: Frame) -> Segmentation:
        calls.append(frame.frame_id)
        return slow(frame)

    source = FakeSource([picture(), Late(late_ms), picture(), picture()], clock_ns=watch)
    steps = list(run(source, counting, max_age_ms=100, overlap=False, clock_ns=watch))
    assert [step.frame.frame_id for step in steps] == [0, 2]
    assert len(calls) == segmented
    assert steps[-1].dropped == 1


@pytest.mark.parametrize("overlap", [True, False])
def test_limit_below_the_networks_own_time_is_told_once(caplog, overlap):
    watch = Watch()
    source = FakeSource([picture()] * 250, clock_ns=watch)
    with caplog.at_level(logging.WARNING):
        assert list(run(source, watch.segment_in(60), max_age_ms=50, overlap=overlap, clock_ns=watch)) == []
    assert len(caplog.records) == 1
    assert "100 frames in a row were too old: expected less than 50 ms" in caplog.text


@pytest.mark.parametrize("limit", [0, -1, float("nan")])
def test_age_limit_that_cannot_work(limit):
    with pytest.raises(ConfigError, match="max_age_ms"):
        list(run(FakeSource([]), segment, max_age_ms=limit))


class Watched(FewFrames):
    """Tells how many frames were asked for, and notes in which thread."""

    def __init__(self, frames: int, live: bool = False) -> None:
        super().__init__(frames, live)
        self.asked = [threading.Event() for _ in range(frames)]
        self.threads: set[int] = set()

    def __iter__(self) -> Iterator[Frame]:
        for asked, frame in zip(self.asked, super().__iter__(), strict=True):
            self.threads.add(threading.get_ident())
            asked.set()
            yield frame


@pytest.mark.parametrize("live", [True, False])
def test_the_network_has_the_next_frame_while_the_caller_has_this_one(live):
    started = [threading.Event() for _ in range(3)]

    def noted(frame: Frame) -> Segmentation:
        started[frame.frame_id].set()
        return segment(frame)

    for step in run(FewFrames(3, live), noted):
        following = started[step.frame.frame_id + 1 :]
        assert all(event.wait(WAIT_S) for event in following[:1])


@pytest.mark.parametrize(
    ("live", "max_age_ms", "ahead"), [(False, None, 2), (False, 1e6, 1), (True, None, 1), (True, 1e6, 1)]
)
def test_the_network_is_two_frames_ahead_only_where_none_ages(live, max_age_ms, ahead):
    frames = 6
    started = [threading.Event() for _ in range(frames)]

    def noted(frame: Frame) -> Segmentation:
        started[frame.frame_id].set()
        return segment(frame)

    for step in run(FewFrames(frames, live), noted, max_age_ms=max_age_ms):
        following = started[step.frame.frame_id + 1 :]
        assert all(event.wait(WAIT_S) for event in following[:ahead])
        assert not any(event.wait(0.05) for event in following[ahead : ahead + 1])


def test_a_recordings_next_frame_is_read_while_the_network_has_this_one():
    source = Watched(3)

    def waiting(frame: Frame) -> Segmentation:
        assert all(event.wait(WAIT_S) for event in source.asked[: frame.frame_id + 2])
        return segment(frame)

    assert len(list(run(source, waiting))) == 3


@pytest.mark.skipif(sys.platform != "linux", reason="threads have priorities of their own on Linux only")
@pytest.mark.parametrize(("live", "overlap"), [(False, True), (True, True), (False, False)])
def test_only_the_reading_of_a_recording_gives_way_to_the_network(live, overlap):
    def niceness() -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    readers, networks = set(), set()

    class Noting(FewFrames):
        def __iter__(self) -> Iterator[Frame]:
            for frame in super().__iter__():
                readers.add(niceness())
                yield frame

    def noted(frame: Frame) -> Segmentation:
        networks.add(niceness())
        return segment(frame)

    usual = niceness()
    assert len(list(run(Noting(3, live), noted, overlap=overlap))) == 3
    assert networks == {usual} == {niceness()}
    assert readers == {min(usual + 5, 19) if overlap and not live else usual}


def test_a_live_frame_is_not_taken_before_the_network_is_free():
    source = Watched(3, live=True)

    def checking(frame: Frame) -> Segmentation:
        following = source.asked[frame.frame_id + 1 :]
        assert not any(event.wait(0.05) for event in following[:1])
        return segment(frame)

    assert len(list(run(source, checking))) == 3


@pytest.mark.parametrize("live", [True, False])
def test_without_overlap_everything_is_in_the_callers_thread(live):
    source, threads = Watched(3, live), set()

    def noted(frame: Frame) -> Segmentation:
        threads.add(threading.get_ident())
        return segment(frame)

    list(run(source, noted, overlap=False))
    assert source.threads == threads == {threading.get_ident()}


def break_off(steps: Iterator[Step]) -> None:
    for _ in steps:
        break


def fail_in_the_loop(steps: Iterator[Step]) -> None:
    def use() -> None:
        for _ in steps:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        use()


@pytest.mark.parametrize("live", [True, False])
@pytest.mark.parametrize("use", [list, break_off, fail_in_the_loop])
def test_no_thread_outlives_the_loop(live, use):
    before = set(threading.enumerate())
    steps = run(FewFrames(9, live), segment)
    use(steps)
    steps.close()
    assert set(threading.enumerate()) <= before


def test_an_error_of_the_network_comes_after_the_steps_before_it():
    def breaking(frame: Frame) -> Segmentation:
        if frame.frame_id == 2:
            raise FrameError("odd")
        return segment(frame)

    seen: list[Step] = []
    with pytest.raises(FrameError, match="odd"):
        seen.extend(run(FewFrames(9), breaking))
    assert len(seen) == 2


def test_a_segmenter_in_three_threads_gives_what_it_gives_in_one(tiny_onnx):
    pictures = [np.random.default_rng(seed).integers(0, 256, (90, 120, 3), np.uint8) for seed in range(9)]
    with Segmenter(tiny_onnx, threads=1) as segmenter:
        expected = [segmenter(image).mask for image in pictures]
        for live in (True, False):
            steps = list(run(FakeSource(pictures, live=live), segmenter))
            assert [step.segmentation.frame_id for step in steps] == list(range(9))
            for step, mask in zip(steps, expected, strict=True):
                assert np.array_equal(step.segmentation.mask, mask)


def test_a_sustained_loop_allocates_nothing_that_grows(tiny_onnx):
    picture_bgr = np.random.default_rng(0).integers(0, 256, (180, 240, 3), np.uint8)
    held: list[int] = []
    with Segmenter(tiny_onnx, threads=1) as segmenter:
        source = FakeSource([picture_bgr] * 240, live=False)
        for count, _ in enumerate(run(source, segmenter)):
            if count == 40:
                tracemalloc.start()
            if count >= 60:
                held.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    one_frame = picture_bgr.nbytes
    before, after = min(held[:90]), min(held[90:])  # since those in the works come and go
    assert after - before < one_frame


def test_gives_every_item_in_order_and_then_stays_at_its_end():
    with Ahead(range(100)) as items:
        assert list(items) == list(range(100))
        assert list(items) == []


def test_an_error_comes_after_the_items_before_it_and_once():
    def breaking() -> Iterator[int]:
        yield 1
        yield 2
        raise OSError("broke")

    with Ahead(breaking()) as items:
        assert [next(items), next(items)] == [1, 2]
        with pytest.raises(OSError, match="broke"):
            next(items)
        assert list(items) == []


@pytest.mark.parametrize("most", [1, 2, 3])
def test_makes_as_many_items_as_may_wait_and_the_next_when_one_is_taken(most):
    made: list[int] = []
    is_made = threading.Semaphore(0)

    def counting() -> Iterator[int]:
        for number in range(10):
            made.append(number)
            is_made.release()
            yield number

    with Ahead(counting(), most=most) as items:
        for _ in range(most):
            assert is_made.acquire(timeout=WAIT_S)
        assert not is_made.acquire(timeout=0.05)  # waits until one is taken
        assert next(items) == 0
        assert is_made.acquire(timeout=WAIT_S)
        assert made == list(range(most + 1))
        assert not is_made.acquire(timeout=0.05)


@pytest.mark.parametrize("taken", [0, 1, 3])
def test_close_ends_the_thread_wherever_it_is(taken):
    before = threading.active_count()
    with Ahead(iter(int, 1)) as items:
        for _ in range(taken):
            next(items)
    items.close()
    assert threading.active_count() == before
    assert list(items) in ([], [0])  # what was made by then, and no wait for ever


def test_close_does_not_wait_for_ever_for_an_item_that_never_comes():
    stuck, freed = threading.Event(), threading.Event()

    def silent() -> Iterator[int]:
        stuck.set()
        freed.wait(WAIT_S)
        yield 0

    items = Ahead(silent(), "silent")
    assert stuck.wait(WAIT_S)
    items.close()
    freed.set()
    for thread in threading.enumerate():
        if thread.name == "silent":
            thread.join(WAIT_S)
    assert "silent" not in {thread.name for thread in threading.enumerate()}


def test_a_chain_ends_although_its_last_link_waits_for_the_first():
    freed = threading.Event()

    def silent() -> Iterator[int]:
        freed.wait(WAIT_S)
        yield 0

    first = Ahead(silent(), "first")
    second = Ahead((item for item in first), "second")
    second.close()
    first.close()
    for thread in threading.enumerate():
        if thread.name == "second":
            thread.join(WAIT_S)
    assert "second" not in {thread.name for thread in threading.enumerate()}
    freed.set()


class OneBuffer(FakeSource):
    """Writes every picture into the same array, as some drivers do."""

    live = False

    def __iter__(self):
        buffer = np.zeros((48, 64, 3), np.uint8)
        for frame in super().__iter__():
            buffer[:] = frame.image_bgr
            yield Frame(buffer, frame.frame_id, frame.captured_ns)


@pytest.mark.parametrize("overlap", [True, False])
def test_a_source_that_reuses_its_buffer_never_mixes_two_frames(overlap):
    source = OneBuffer([np.full((48, 64, 3), level, np.uint8) for level in range(20)], live=False)

    def segment(frame: Frame) -> Segmentation:
        time.sleep(0.002)
        return Segmentation(frame.image_bgr[:, :, 0].copy(), {}, frame.frame_id)

    for step in run(source, segment, overlap=overlap):
        time.sleep(0.002)  # the caller draws, while the next ones are read and in the network
        assert set(step.segmentation.mask.ravel()) == {step.frame.frame_id}
        assert set(step.frame.image_bgr.ravel()) == {step.frame.frame_id}


@pytest.mark.parametrize("realtime", [False, True])
def test_a_picture_of_our_own_sources_is_not_copied_on_its_way(monkeypatch, realtime):
    copied: list[bool] = []

    def kept(frame: Frame) -> Frame:
        result = original(frame)
        copied.append(result is not frame)
        return result

    original = loop._kept
    monkeypatch.setattr(loop, "_kept", kept)
    with open_source("synthetic", realtime=realtime) as source:
        for _ in run(source, lambda frame: Segmentation(frame.image_bgr[:, :, 0], {}), max_frames=8):
            pass
    assert len(copied) >= 8
    assert not any(copied)
