from __future__ import annotations

import dataclasses
import errno
import logging
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from runtime.errors import ConfigError, FrameError, OutputError, SourceError
from runtime.frame import Image
from runtime.loop import Step, run
from runtime.masks.overlay import Overlay
from runtime.outputs import Output, Outputs, OutputState, Recording, Stream
from runtime.segmenter import Segmenter
from runtime.sources import FakeSource
from runtime.sources.policy import Backoff


class Notebook(Output):
    """Notes what it gets; asks to stop after so many steps."""

    def __init__(self, wanted: int = 1000, looks: bool = False) -> None:
        self.wanted, self.looks = wanted, looks
        self.taken: list[Step] = []
        self.seen_bgr: list[Image] = []
        self.stream: Stream | None = None
        self.closed = 0

    def open(self, stream: Stream) -> None:
        self.stream = stream

    def take(self, step: Step) -> None:
        self.taken.append(step)
        if self.looks:
            self.seen_bgr.append(step.overlay_bgr)
        if len(self.taken) == self.wanted:
            self.state = OutputState.DONE

    def close(self) -> None:
        self.closed += 1


class Faulty(Notebook):
    """Fails with a later step."""

    def __init__(self, error: Exception, after: int = 2) -> None:
        super().__init__()
        self.error, self.after = error, after

    def take(self, step: Step) -> None:
        if len(self.taken) == self.after:
            raise self.error
        super().take(step)


class Unclosable(Notebook):
    def close(self) -> None:
        super().close()
        raise OutputError("no room for its end")


class Unopenable(Notebook):
    def open(self, stream: Stream) -> None:
        raise OutputError("not there")


def ids(output: Notebook) -> list[int]:
    return [step.frame.frame_id for step in output.taken]


def test_every_output_is_opened_fed_and_closed(stream, step):
    first, second = Notebook(), Notebook()
    with Outputs([first, second], stream) as outputs:
        assert [output.state for output in outputs] == [OutputState.OPEN] * 2
        fed = list(outputs.feed([step(0), step(1)]))
    assert ids(first) == ids(second) == [taken.frame.frame_id for taken in fed] == [0, 1]
    assert first.stream is second.stream
    assert first.stream == dataclasses.replace(stream, outputs=(first, second))
    assert [output.state for output in outputs] == [OutputState.CLOSED] * 2
    assert (first.closed, first.problem) == (1, None)


def test_the_time_of_outputs_is_a_stage_and_in_total(stream, step):
    class Slow(Notebook):
        def take(self, step: Step) -> None:
            time.sleep(0.002)

    with Outputs([Slow()], stream) as outputs:
        (fed,) = outputs.feed([step()])
    assert list(fed.latency_ms) == ["network", "outputs", "total"]
    assert fed.latency_ms["outputs"] >= 2
    assert fed.age_ms == pytest.approx(5.0 + fed.latency_ms["outputs"])


def test_without_outputs_nothing_changes(stream, step):
    steps = [step()]
    with Outputs([], stream) as outputs:
        assert list(outputs.feed(steps)) == steps


class CountingOverlay(Overlay):
    drawn = 0

    def draw(self, image_bgr: Image, mask: Image, caption: str | None = None, **more) -> Image:
        CountingOverlay.drawn += 1
        return super().draw(image_bgr, mask, caption, **more)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> type[CountingOverlay]:
    monkeypatch.setattr("runtime.outputs.output.Overlay", CountingOverlay)
    monkeypatch.setattr(CountingOverlay, "drawn", 0)
    return CountingOverlay


@pytest.mark.parametrize(("lookers", "times"), [(0, 0), (1, 3), (3, 3)])
def test_the_overlay_is_drawn_once_a_frame_however_many_want_it(stream, step, drawn, lookers, times):
    notebooks = [Notebook(looks=index < lookers) for index in range(3)]
    with Outputs(notebooks, stream) as outputs:
        fed = list(outputs.feed([step(index, fed=False) for index in range(3)]))
    assert drawn.drawn == times
    assert all(("draw" in each.latency_ms) == (lookers > 0) for each in fed)
    for number in range(3 if lookers else 0):
        pictures = {id(notebook.seen_bgr[number]) for notebook in notebooks[:lookers]}
        assert pictures == {id(fed[number].overlay_bgr)}


def test_drawing_is_a_stage_of_its_own(stream, step):
    with Outputs([Notebook(looks=True)], stream) as outputs:
        (fed,) = outputs.feed([step(fed=False)])
    assert list(fed.latency_ms) == ["network", "draw", "outputs", "total"]
    assert fed.age_ms == pytest.approx(5.0 + fed.latency_ms["draw"] + fed.latency_ms["outputs"])


def test_threads_that_want_the_overlay_at_once_get_the_same(stream, step, drawn):
    with Outputs([Notebook()], stream) as outputs:
        (fed,) = outputs.feed([step(fed=False)])
    seen: list[Image] = []
    threads = [threading.Thread(target=lambda: seen.append(fed.overlay_bgr)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert drawn.drawn == 1
    assert len({id(image_bgr) for image_bgr in seen}) == 1


def test_the_overlay_has_the_streams_opacity(make_stream, step):
    with Outputs([Notebook()], make_stream(alpha=1.0)) as outputs:
        (fed,) = outputs.feed([step(2, fed=False)])
    assert fed.overlay_bgr[40, 40].tolist() == [0, 255, 0]


@pytest.mark.parametrize("alpha", [-0.1, 1.1, float("nan")])
def test_an_opacity_that_cannot_be(make_stream, alpha):
    with pytest.raises(ConfigError, match="alpha from 0 to 1"):
        Outputs([], make_stream(alpha=alpha))


def test_a_step_that_nothing_fed_has_no_overlay(step):
    with pytest.raises(ConfigError, match=r"expected a step that runtime\.outputs\.Outputs fed"):
        _ = step(fed=False).overlay_bgr


def test_ends_when_one_output_asks_and_all_have_the_step(stream, step):
    impatient, patient = Notebook(wanted=2), Notebook()
    with Outputs([impatient, patient], stream) as outputs:
        assert len(list(outputs.feed(step(index) for index in range(9)))) == 2
    assert ids(patient) == [0, 1]


@pytest.mark.parametrize(
    "error",
    [OutputError("full"), OSError(errno.ENOSPC, "No space left on device"), cv2.error("encoder")],
    ids=["known", "full disk", "OpenCV"],
)
def test_an_output_that_fails_is_closed_and_told_and_the_others_go_on(stream, step, error):
    faulty, told = Faulty(error), []
    patient = Notebook()
    outputs = Outputs([faulty, patient], stream, on_failure=lambda _, failure, retry_s: told.append(failure))
    fed = list(outputs.feed(step(index) for index in range(5)))
    assert (ids(faulty), ids(patient), len(fed)) == ([0, 1], [0, 1, 2, 3, 4], 5)
    assert (faulty.state, faulty.closed, patient.state) == (OutputState.FAILED, 1, OutputState.OPEN)
    assert [faulty.problem] == [str(failure) for failure in told]
    with pytest.raises(OutputError) as caught:
        outputs.close()
    assert caught.value is told[0]
    assert "\n" not in str(caught.value)
    outputs.close()


def test_a_failure_is_logged_where_nobody_listens(stream, step, caplog):
    outputs = Outputs([Faulty(OutputError("disk full"), after=0), Notebook()], stream)
    with caplog.at_level(logging.WARNING):
        list(outputs.feed([step()]))
    assert caplog.messages == ["disk full; going on without it"]


def test_the_last_output_that_fails_ends_the_loop_and_the_others_have_the_step(stream, step):
    early, late = Faulty(OutputError("early"), after=1), Faulty(OutputError("late"), after=2)
    seen = []

    def go() -> None:
        with Outputs([early, late], stream, on_failure=lambda *_: None) as outputs:
            seen.extend(outputs.feed(step(index) for index in range(9)))

    with pytest.raises(OutputError, match="late"):
        go()
    assert (len(seen), early.closed, late.closed) == (2, 2, 1)


def test_defects_of_an_output_are_not_hidden(stream, step):
    with pytest.raises(ZeroDivisionError), Outputs([Faulty(ZeroDivisionError(), 0)], stream) as outputs:
        list(outputs.feed([step()]))


def test_all_are_closed_where_one_cannot_be(stream, step):
    first, last = Notebook(), Notebook()
    with (
        pytest.raises(OutputError, match="no room for its end"),
        Outputs([first, Unclosable(), last], stream) as outputs,
    ):
        list(outputs.feed([step()]))
    assert (first.closed, last.closed) == (1, 1)
    assert [output.state.value for output in outputs] == ["closed", "failed", "closed"]


def test_what_ended_the_loop_comes_before_what_cannot_be_closed(stream):
    told: list[Exception] = []
    with (
        pytest.raises(SourceError, match="unplugged"),
        Outputs([Unclosable()], stream, on_failure=lambda _, failure, retry_s: told.append(failure)),
    ):
        raise SourceError("unplugged")
    assert [str(failure) for failure in told] == ["no room for its end"]


def test_one_that_cannot_be_opened_closes_those_before_it(stream):
    first = Notebook()
    with pytest.raises(OutputError, match="not there"):
        Outputs([first, Unopenable()], stream)
    assert first.closed == 1


@pytest.mark.parametrize("suffix", [".mp4", ".avi"])
def test_a_recording_plays_also_with_the_frame_at_which_another_output_failed(
    tmp_path: Path, stream, step, suffix
):
    recording = Recording(tmp_path / f"out{suffix}")
    with pytest.raises(ZeroDivisionError), Outputs([recording, Faulty(ZeroDivisionError())], stream) as fed:
        list(fed.feed(step(index) for index in range(9)))
    capture = cv2.VideoCapture(str(tmp_path / f"out{suffix}"))
    frames = 0
    while capture.read()[0]:
        frames += 1
    capture.release()
    assert frames == 3


NO_WAIT = Backoff(first_s=1e-9, cap_s=1e-9, jitter=0.0)
LONG_WAIT = Backoff(first_s=3600.0, cap_s=3600.0, jitter=0.0)


class Recovering(Notebook):
    """Fails at its step number 2 and is well again after so many attempts to open it."""

    kind = "save"

    def __init__(self, attempts: int = 1) -> None:
        super().__init__()
        self.attempts = attempts
        self.opens = 0

    def open(self, stream: Stream) -> None:
        self.opens += 1
        if 1 < self.opens <= self.attempts:
            raise OutputError("still full")
        super().open(stream)

    def take(self, step: Step) -> None:
        if self.opens == 1 and len(self.taken) == 2:
            raise OutputError("disk full")
        super().take(step)


@pytest.mark.parametrize(("attempts", "taken"), [(1, [0, 1, 3, 4, 5]), (3, [0, 1, 5])])
def test_of_a_live_source_an_output_that_fails_is_opened_again(make_stream, step, caplog, attempts, taken):
    output = Recovering(attempts)
    outputs = Outputs([output], make_stream(live=True), backoff=NO_WAIT)
    assert len(list(outputs.feed(step(index) for index in range(6)))) == 6
    assert ids(output) == taken
    assert (output.state, output.failures, output.missed) == (OutputState.OPEN, attempts, attempts - 1)
    assert caplog.messages[0] == "disk full; retry in 0.0 s"
    assert f"opened again, missed {attempts - 1} frames so far" in caplog.messages[-1]
    with pytest.raises(OutputError, match="disk full"):
        outputs.close()  # what was lost is told in the end, also where all is well by then


def test_while_it_waits_it_misses_frames_and_the_loop_goes_on(make_stream, step):
    output = Recovering()
    outputs = Outputs([output], make_stream(live=True), backoff=LONG_WAIT)
    assert len(list(outputs.feed(step(index) for index in range(6)))) == 6
    assert (output.state, output.opens, output.missed) == (OutputState.RETRYING, 1, 3)
    with pytest.raises(OutputError, match="disk full"):
        outputs.close()


def test_an_output_that_is_required_ends_the_loop(make_stream, step):
    outputs = Outputs([Recovering(), Notebook()], make_stream(live=True), required=["save"], backoff=NO_WAIT)
    with pytest.raises(OutputError, match="disk full"):
        list(outputs.feed(step(index) for index in range(6)))
    outputs.close()


def test_frames_that_change_their_size_go_through(stream, step):
    sizes = [(64, 64), (96, 128), (64, 64)]
    steps = [step(index, np.zeros(size_hw, np.uint8), fed=False) for index, size_hw in enumerate(sizes)]
    with Outputs([Notebook(looks=True)], stream) as outputs:
        assert [fed.overlay_bgr.shape[:2] for fed in outputs.feed(steps)] == sizes


def test_a_mask_that_does_not_fit_is_told(stream, step):
    taken = step(fed=False)
    taken.segmentation.__dict__["mask"] = np.zeros((8, 8), np.uint8)
    with (
        pytest.raises(FrameError, match="mask of the image's size"),
        Outputs([Notebook(looks=True)], stream) as fed,
    ):
        list(fed.feed([taken]))


@pytest.mark.parametrize("live", [True, False])
def test_the_network_has_the_next_frame_while_the_outputs_have_this_one(tiny_onnx, live):
    wait_s = 30.0
    started = [threading.Event() for _ in range(3)]
    pictures = [np.zeros((64, 64, 3), np.uint8)] * 3

    class Slow(Notebook):
        def take(self, step: Step) -> None:
            following = started[len(self.taken) + 1 :]
            assert all(event.wait(wait_s) for event in following[:1])
            super().take(step)

    output, source = Slow(), FakeSource(pictures, live=live)
    with Segmenter(tiny_onnx, threads=1) as segmenter:

        def noted(frame):
            started[frame.frame_id].set()
            return segmenter(frame)

        with Outputs([output], Stream(segmenter.contract, source)) as outputs:
            assert len(list(outputs.feed(run(source, noted)))) == 3
    assert ids(output) == [0, 1, 2]
