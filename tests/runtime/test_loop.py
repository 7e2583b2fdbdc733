from __future__ import annotations

import time
from collections.abc import Iterator, Mapping

import numpy as np
import pytest

from runtime.contract import ClassMap
from runtime.errors import ConfigError, SourceError
from runtime.frame import Frame, Image, Segmentation
from runtime.loop import RunLog, Step, run
from runtime.overlay import Overlay
from runtime.sinks import Sink
from runtime.sources import Source

CLASSES = ClassMap(names=("ground",), palette_rgb=((255, 0, 0),))
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


class Notebook(Sink):
    def __init__(self, wanted: int = 1000) -> None:
        self.wanted = wanted
        self.taken: list[tuple[Image, int | None]] = []

    def write(self, image_bgr: Image, captured_ns: int | None = None) -> bool:
        self.taken.append((image_bgr, captured_ns))
        return len(self.taken) < self.wanted

    def close(self) -> None:
        pass


def segment(frame: Frame) -> Segmentation:
    return Segmentation(np.zeros((64, 64), np.uint8), STAGES_MS, frame.frame_id, frame.captured_ns)


def test_every_frame_becomes_a_step():
    steps = list(run(FewFrames(3), segment))
    assert [step.frame.frame_id for step in steps] == [0, 1, 2]
    assert [step.segmentation.frame_id for step in steps] == [0, 1, 2]
    assert all(list(step.latency_ms) == ["resize", "network", "mask", "total"] for step in steps)
    assert all(step.drawn_bgr is None for step in steps)


def test_total_is_the_time_since_the_capture():
    (step,) = run(FewFrames(1), segment)
    assert step.latency_ms["total"] == (step.finished_ns - step.frame.captured_ns) / 1e6


def test_sinks_get_the_drawn_frame():
    sink = Notebook()
    (step,) = run(FewFrames(1), segment, overlay=Overlay(CLASSES, alpha=1.0), sinks=[sink])
    assert list(step.latency_ms) == ["resize", "network", "mask", "draw", "total"]
    assert sink.taken[0][0] is step.drawn_bgr
    assert step.drawn_bgr[40, 40].tolist() == [0, 0, 255]


def test_sinks_get_the_bare_frame_without_an_overlay():
    sink = Notebook()
    (step,) = run(FewFrames(1), segment, sinks=[sink])
    assert sink.taken[0][0] is step.frame.image_bgr


@pytest.mark.parametrize("live", [True, False])
def test_only_live_frames_have_a_time_for_the_sinks(live):
    sink = Notebook()
    (step,) = run(FewFrames(1, live=live), segment, sinks=[sink])
    assert sink.taken[0][1] == (step.frame.captured_ns if live else None)


def test_ends_when_one_sink_asks_and_all_have_the_frame():
    impatient, patient = Notebook(wanted=2), Notebook()
    assert len(list(run(FewFrames(9), segment, sinks=[impatient, patient]))) == 2
    assert len(patient.taken) == 2


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


def test_summary_counts_frames_over_the_whole_time():
    log = RunLog()
    for index in range(3):
        frame = Frame(np.zeros((8, 8, 3), np.uint8), index, captured_ns=index * 100_000_000)
        latency_ms = {"network": 10.0 + index, "total": 20.0}
        log.add(Step(frame, segment(frame), None, latency_ms, frame.captured_ns + 50_000_000), dropped=index)
    summary = log.summary()
    assert (summary.frames, summary.fps, summary.dropped) == (3, 3 / 0.25, 2)
    assert summary.latency_ms["network"] == {"p50": 11.0, "p90": 12.0, "p99": 12.0, "max": 12.0}
    assert "3 frames, 12.0 frames a second, 2 dropped" in summary.as_text()


def test_summary_of_nothing():
    summary = RunLog().summary()
    assert (summary.frames, summary.fps, summary.latency_ms) == (0, 0.0, {})
    assert summary.as_text() == "0 frames, 0.0 frames a second, 0 dropped"
