import time
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from benchmarks.machine.usage import CpuUse
from benchmarks.render.charts import draw_ages
from benchmarks.timing.stream import Mask, SteadyCapture, StreamConfig, judge, measure_capacity, take_masks
from runtime import ConfigError
from runtime.frame import Segmentation
from runtime.loop import run
from runtime.sources import Clock, PacedSource, RecordedSource

MS = 1_000_000
PICTURE_BGR = np.zeros((8, 8, 3), np.uint8)
NO_CPU = CpuUse(0.0, 0.0)


class MadeUpClock(Clock):
    """Time that passes only where somebody waits or works."""

    def __init__(self):
        self.time_ns = 5_000 * MS

    def now_ns(self):
        return self.time_ns

    def wait(self, news, timeout_s):
        self.time_ns += round(timeout_s * 1e9)


class Recording(RecordedSource):
    """An endless recording of one picture."""

    def __init__(self, fps):
        super().__init__()
        self.fps = fps

    def _image(self):
        return PICTURE_BGR


def network(clock, work_ms):
    """A segmenter that takes given milliseconds of a made-up clock, one number after the other."""
    works_ms = iter(work_ms) if isinstance(work_ms, list) else None

    def segment(frame):
        clock.time_ns += round((next(works_ms) if works_ms else work_ms) * MS)
        return Segmentation(PICTURE_BGR[..., 0], {}, frame.frame_id, frame.captured_ns)

    return segment


def behind_a_camera(period_ms, work_ms, seconds, deadline_ms=33.3):
    clock = MadeUpClock()
    with PacedSource(Recording(1000 / period_ms), clock) as source:
        # With overlap the thread of the network would move the made-up clock beside this one.
        steps = run(source, network(clock, work_ms), overlap=False, clock_ns=clock.now_ns)
        masks, dropped = take_masks(steps, seconds, lambda frame: frame.captured_ns)
    return judge(
        masks, dropped, NO_CPU, deadline_ms=deadline_ms, times_capacity=2.0, source_fps=1000 / period_ms
    )


def test_at_twice_the_capacity_half_of_the_frames_are_dropped_and_no_mask_grows_old():
    result = behind_a_camera(period_ms=5, work_ms=10, seconds=60)
    assert result.dropped_percent == pytest.approx(50, abs=0.1)
    assert result.masks_a_second == pytest.approx(100, rel=1e-3)
    assert result.age_ms["max"] == pytest.approx(10)


@pytest.mark.parametrize(
    ("period_ms", "share"), [(20, 0), (10, 0), (9.3, 0.07), (5.1, 0.49), (2.5, 0.75), (2.3, 0.77)]
)
def test_age_never_exceeds_the_work_and_one_interval(period_ms, share):
    result = behind_a_camera(period_ms, work_ms=10, seconds=60)
    assert result.age_ms["max"] <= 10 + period_ms
    assert result.dropped / result.frames == pytest.approx(share, abs=0.01)


def test_a_hiccup_makes_one_mask_late_and_drops_what_came_meanwhile():
    # Frames are due at 0, 20, 40 … ms. The second takes 90 ms: those of 40, 60 and 80 ms are replaced by
    # the one of 100 ms, which is taken at 110 and ready at 120.
    result = behind_a_camera(period_ms=20, work_ms=[10, 90, 10, 10, 10], seconds=0.15, deadline_ms=25)
    assert [(mask.ready_s, mask.age_ms) for mask in result.masks] == [
        (pytest.approx(0.010), pytest.approx(10)),
        (pytest.approx(0.110), pytest.approx(90)),
        (pytest.approx(0.120), pytest.approx(20)),
        (pytest.approx(0.130), pytest.approx(10)),
        (pytest.approx(0.150), pytest.approx(10)),
    ]
    assert (result.frames, result.dropped, result.late) == (8, 3, 1)
    assert result.late_percent == 20
    assert result.gap_ms["max"] == pytest.approx(100)
    assert result.masks_a_second == pytest.approx(5 / 0.15)


@pytest.mark.parametrize(("deadline_ms", "late"), [(9.9, 3), (10, 2), (19, 2), (20, 1), (31, 0)])
def test_a_mask_is_late_when_it_is_older_than_the_deadline(deadline_ms, late):
    masks = [Mask(0.01, 10.0), Mask(0.03, 20.0), Mask(0.06, 30.0)]
    result = judge(masks, 0, NO_CPU, deadline_ms=deadline_ms, times_capacity=1.0, source_fps=50.0)
    assert result.late == late


def test_one_mask_has_no_gap():
    result = judge([Mask(0.5, 9.0)], 0, NO_CPU, deadline_ms=10, times_capacity=1.0, source_fps=2.0)
    assert result.gap_ms is None
    assert result.age_ms["p50"] == 9.0


def test_capacity_is_what_the_loop_gives_without_a_pause():
    clock = MadeUpClock()
    assert measure_capacity([PICTURE_BGR], network(clock, 8.0), clock.now_ns) == pytest.approx(125)


def test_a_steady_camera_keeps_to_its_schedule_for_late_callers_too(monkeypatch):
    clock = MadeUpClock()
    monkeypatch.setattr(time, "monotonic_ns", clock.now_ns)
    monkeypatch.setattr(time, "sleep", lambda seconds: clock.wait(None, seconds))
    capture = SteadyCapture([PICTURE_BGR, PICTURE_BGR + 1], fps=100)
    assert capture.grab()
    started_ns = clock.time_ns
    clock.time_ns += 25 * MS
    assert capture.grab()  # due 15 ms ago
    assert clock.time_ns == started_ns + 25 * MS
    assert capture.retrieve()[1][0, 0, 0] == 1
    capture.grab()
    capture.grab()
    assert clock.time_ns == started_ns + 30 * MS
    assert [capture.due_ns(index) - started_ns for index in (0, 1, 3)] == [0, 10 * MS, 30 * MS]


def test_the_picture_has_a_panel_a_rate_with_its_numbers():
    masks = [Mask(0.1 * index, 10.0 + index % 3) for index in range(1, 40)]
    rates = [
        judge(masks, dropped, NO_CPU, deadline_ms=12, times_capacity=times, source_fps=10 * times)
        for times, dropped in ((1.0, 0), (2.0, 39))
    ]
    picture = draw_ages(rates, deadline_ms=12).file()
    texts = [element.text for element in ET.fromstring(picture).iter() if element.text]
    assert "10 frames/s in, 10 masks/s out" in texts
    assert "1× capacity" in texts
    assert "2× capacity" in texts
    assert "age p50 11.0, p99 12.0, max 12.0 ms; 50 % dropped; 0 of 39 late" in texts
    assert "late: above 12 ms" in texts


@pytest.mark.parametrize(
    "wrong",
    [
        {"times_capacity": (1.0, 0.0)},
        {"deadline_ms": -1.0},
        {"deadline_ms": float("nan")},
        {"seconds": float("inf")},
    ],
)
def test_numbers_out_of_range(wrong):
    (name,) = wrong
    with pytest.raises(ConfigError, match=f"{name}: expected a number"):
        StreamConfig(**wrong)


@pytest.mark.parametrize("wrong", [{"times_capacity": ()}, {"seconds": 0.0}])
def test_config_that_measures_nothing(wrong):
    with pytest.raises(ConfigError, match="stream: expected at least one rate"):
        StreamConfig(**wrong)
