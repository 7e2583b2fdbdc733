"""What the page tells of the last hour, of made-up sources and outputs on a made-up clock."""

from __future__ import annotations

import json
from collections.abc import Iterator
from types import ModuleType

import pytest

from runtime.frame import Frame
from runtime.outputs.output import Output, OutputState
from runtime.serve.events import MOST_EVENTS, EventLog, output_status
from runtime.serve.gauges import Gauges
from runtime.serve.metrics import metrics_text
from runtime.sources import Source
from runtime.sources.source import SourceState, SourceStatus


class Clock:
    now_s = 100.0

    def __call__(self) -> int:
        return round(self.now_s * 1e9)


class ToldSource(Source):
    fps, live, dropped = 10.0, True, 0
    state, reconnects, since_ns = SourceState.RUNNING, 0, 0
    problem: str | None = None

    @property
    def status(self) -> SourceStatus:
        return SourceStatus(self.state, self.since_ns, reconnects=self.reconnects, problem=self.problem)

    def __iter__(self) -> Iterator[Frame]:
        return iter(())

    def close(self) -> None: ...


class ToldOutput(Output):
    kind, can_pause = "save", True

    def __init__(self, name: str = "drive.mp4") -> None:
        self.called, self.told = name, {"files": 1, "removed": 0, "dropped": 0, "free_bytes": 5_000_000_000}
        self.state = OutputState.OPEN

    @property
    def name(self) -> str:
        return self.called

    def facts(self) -> dict[str, int | str]:
        return dict(self.told)

    def take(self, step: object) -> None: ...

    def close(self) -> None: ...


class Scene:
    def __init__(self) -> None:
        self.clock, self.source, self.output = Clock(), ToldSource(), ToldOutput()
        self.log = EventLog(self.source, [self.output], self.clock)

    def texts(self) -> list[str]:
        return [event["text"] for event in self.log.recent()]


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_nothing_happened(scene):
    assert scene.texts() == []


def test_a_stream_that_is_lost_and_comes_back(scene):
    scene.source.state, scene.source.problem = SourceState.RECONNECTING, "no answer"
    scene.log.look()
    scene.clock.now_s += 5
    scene.source.state, scene.source.problem, scene.source.reconnects = SourceState.RUNNING, None, 1
    back, lost = scene.log.recent()
    assert (lost["text"], lost["is_problem"], lost["ago_s"]) == ("source reconnecting: no answer", True, 5.0)
    assert (back["text"], back["is_problem"]) == ("source running again (reconnected)", False)


def test_a_short_loss_between_two_looks_is_seen_by_the_count(scene):
    scene.source.reconnects += 1
    assert scene.texts() == ["source running again (reconnected)"]


def test_a_loss_has_the_time_of_the_loss_and_not_of_the_look(scene):
    scene.source.state, scene.source.since_ns = SourceState.STALLED, round(70e9)
    (event,) = scene.log.recent()
    assert event["ago_s"] == 30.0


def test_an_output_that_fails_is_retried_and_works_again(scene):
    output = scene.output
    for attempt in (1, 2, 3):
        output.state, output.failures, output.problem = OutputState.RETRYING, attempt, "drive.mp4: disk full"
        scene.log.look()
        scene.clock.now_s += 2
    output.state, output.missed = OutputState.OPEN, 42
    again, failed = scene.log.recent()
    assert (failed["text"], failed["count"], failed["is_problem"]) == ("drive.mp4: disk full", 3, True)
    assert again["text"] == "drive.mp4: opened again, missed 42 frames"


def test_a_failure_for_good(scene):
    scene.output.state, scene.output.problem = OutputState.FAILED, "drive.mp4: gone"
    assert scene.texts() == ["drive.mp4: gone"]


@pytest.mark.parametrize(
    ("fact", "text"),
    [
        ("removed", "drive.mp4: 5 old files removed by retention"),
        ("dropped", "drive.mp4: 5 frames not stored, the disk is too slow"),
    ],
)
def test_what_goes_on_is_one_event_with_a_growing_count(scene, fact, text):
    for more in (1, 2, 2):
        scene.output.told[fact] += more
        scene.log.look()
        scene.clock.now_s += 10
    assert scene.texts() == [text]
    assert scene.log.recent()[0]["count"] == 1
    scene.clock.now_s += 100
    scene.output.told[fact] += 1
    assert len(scene.texts()) == 2


def test_a_pause_is_told(scene):
    for paused, text in ((True, "drive.mp4: paused"), (False, "drive.mp4: resumed")):
        scene.output.is_paused = paused
        assert scene.texts()[0] == text


def test_events_are_bounded_in_number_and_in_time(scene):
    for index in range(3 * MOST_EVENTS):
        scene.output.is_paused = index % 2 == 0
        scene.log.look()
        scene.clock.now_s += 61
    assert len(scene.log._events) == MOST_EVENTS
    assert len(scene.log.recent()) == 59
    scene.clock.now_s += 3600
    assert scene.log.recent() == []


@pytest.mark.parametrize("evil", ["\x1b[2J", "\u202e", "\udcff", "\n", "{}", "<b>"])
def test_names_and_problems_are_fit_to_be_seen(scene, evil):
    scene.output.called = f"a{evil}b.mp4"
    scene.output.state, scene.output.failures = OutputState.RETRYING, 1
    scene.output.problem = f"rtsp://admin:hunter2Pw@cam: {evil}"
    scene.output.told["removed"] = 3
    for event in scene.log.recent():
        assert event["text"].isprintable()
        assert "hunter2Pw" not in event["text"]
    plain = json.dumps(output_status(scene.output), ensure_ascii=False)
    assert plain.isprintable()
    assert "hunter2Pw" not in plain


def test_metrics_tell_of_every_output(tiny: ModuleType):
    good, bad = ToldOutput(), ToldOutput('odd "name".mp4')
    bad.state, bad.failures, bad.missed, bad.is_paused = OutputState.RETRYING, 3, 40, True
    bad.told |= {"removed": 7, "dropped": 9}
    text = metrics_text(Gauges(tiny.tiny_contract(), ToldSource(), outputs=[good, bad]), 0)
    samples = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    of_bad = 'output="1",kind="save",name="odd \\"name\\".mp4"'
    assert samples['edgeseg_output_state{output="0",kind="save",name="drive.mp4",state="open"}'] == "1"
    assert samples[f'edgeseg_output_state{{{of_bad},state="retrying"}}'] == "1"
    assert samples[f'edgeseg_output_state{{{of_bad},state="open"}}'] == "0"
    for name, value in (
        ("output_failures_total", "3"),
        ("output_missed_frames_total", "40"),
        ("output_dropped_frames_total", "9"),
        ("output_paused", "1"),
        ("segments_removed_total", "7"),
        ("disk_free_bytes", "5e+09"),
    ):
        assert samples[f"edgeseg_{name}{{{of_bad}}}"] == value
    named = {line.split("{")[0].split(" ")[0] for line in samples}
    assert {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")} == named


def test_every_state_of_an_output_has_a_sample(tiny: ModuleType):
    text = metrics_text(Gauges(tiny.tiny_contract(), ToldSource(), outputs=[ToldOutput()]), 0)
    for state in OutputState:
        assert f'state="{state.value}"' in text
