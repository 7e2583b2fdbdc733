from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from runtime.errors import OutputError
from runtime.loop import Step
from runtime.outputs import JsonLines, Outputs, Stream, background
from runtime.outputs.background import Background
from runtime.outputs.output import Output, OutputState
from runtime.sources.policy import Backoff

SOON_S = 20.0  # what a busy machine may take


class Disk(Output):
    """Takes steps as fast as the test lets it."""

    kind = "save"

    def __init__(self) -> None:
        self.moving = threading.Event()
        self.moving.set()
        self.taken: list[int] = []
        self.threads: set[str] = set()
        self.error: Exception | None = None
        self.open_error: Exception | None = None
        self.opens = self.closes = 0

    @property
    def saved(self) -> tuple[Path, ...]:
        return (Path("a"),)

    def facts(self):
        return {"frames": len(self.taken)}

    def open(self, stream: Stream) -> None:
        self.opens += 1
        if self.open_error is not None:
            raise self.open_error
        self.moving.wait(SOON_S)

    def take(self, step: Step) -> None:
        self.threads.add(threading.current_thread().name)
        self.moving.wait(SOON_S)
        if self.error is not None:
            raise self.error
        self.taken.append(step.frame.frame_id)

    def close(self) -> None:
        self.closes += 1


def until(condition) -> None:
    deadline = time.monotonic() + SOON_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


@pytest.mark.parametrize("live", [False, True])
def test_every_step_reaches_the_other_output_in_its_own_thread(make_stream, step, live):
    disk = Disk()
    with Outputs([Background(disk)], make_stream(live=live)) as outputs:
        for fed in outputs.feed(step(index) for index in range(20)):
            until(lambda fed=fed: disk.taken[-1:] == [fed.frame.frame_id])
    assert disk.taken == list(range(20))
    assert disk.threads == {f"output {disk.name}"}
    assert disk.closes == 1


def test_of_a_live_source_a_stalled_disk_costs_frames_and_no_time(make_stream, step):
    disk = Disk()
    output = Background(disk)
    output.open(make_stream(live=True))
    disk.moving.clear()
    for index in range(200):
        output.take(step(index))  # would wait for ever
    assert output.policy == "drop"
    assert output.dropped >= 200 - 65
    assert output.facts()["dropped"] == output.dropped
    disk.moving.set()
    output.close()
    assert len(disk.taken) == 200 - output.dropped
    assert disk.taken == sorted(disk.taken)


def test_of_a_recording_the_loop_waits_for_the_disk(make_stream, step):
    disk = Disk()
    output = Background(disk)
    output.open(make_stream(live=False))
    disk.moving.clear()
    feeder = threading.Thread(target=lambda: [output.take(step(index)) for index in range(200)])
    feeder.start()
    until(lambda: output.facts()["queued"] == 64)
    assert feeder.is_alive()
    disk.moving.set()
    feeder.join(SOON_S)
    output.close()
    assert (disk.taken, output.dropped) == (list(range(200)), 0)


def test_the_queue_holds_no_more_than_its_bytes(make_stream, step, monkeypatch):
    monkeypatch.setattr(background, "QUEUE_BYTES", 10 * step(0).frame.image_bgr.nbytes)
    disk = Disk()
    output = Background(disk)
    output.open(make_stream(live=True))
    disk.moving.clear()
    for index in range(50):
        output.take(step(index))
    assert output.facts()["queued"] <= 7
    disk.moving.set()
    output.close()


def test_a_path_that_is_wrong_is_told_at_the_start(make_stream):
    disk = Disk()
    disk.open_error = OutputError("no such folder")
    with pytest.raises(OutputError, match="no such folder"):
        Outputs([Background(disk)], make_stream(live=True))


@pytest.mark.parametrize("error", [OutputError("disk full"), OSError(28, "No space left on device")])
def test_what_the_disk_fails_with_is_raised_at_a_later_step(make_stream, step, error):
    disk = Disk()
    output = Background(disk)
    output.open(make_stream(live=True))
    disk.error = error
    output.take(step(0))
    until(lambda: disk.closes == 1)
    with pytest.raises(OutputError, match=r"disk full|No space left"):
        output.take(step(1))


def test_after_a_failure_it_is_opened_again_without_a_wait(make_stream, step):
    disk = Disk()
    backoff = Backoff(first_s=1e-9, cap_s=1e-9, jitter=0.0)
    output = Background(disk)
    outputs = Outputs([output], make_stream(live=True), backoff=backoff)
    disk.error = OutputError("disk full")
    list(outputs.feed([step(0)]))
    until(lambda: disk.closes == 1)
    disk.moving.clear()  # the disk hangs where it is opened again
    list(outputs.feed(step(index) for index in range(1, 4)))
    assert output.state is OutputState.OPEN
    until(lambda: disk.opens == 2)
    disk.error = None
    disk.moving.set()
    until(lambda: disk.taken != [])
    with pytest.raises(OutputError, match="disk full"):
        outputs.close()
    assert disk.taken[-1] == 3


def test_a_disk_that_hangs_at_the_end_is_left_after_a_while(make_stream, step, monkeypatch):
    monkeypatch.setattr(background, "_CLOSE_WAIT_S", 0.05)
    disk = Disk()
    output = Background(disk)
    output.open(make_stream(live=True))
    disk.moving.clear()
    for index in range(5):
        output.take(step(index))
    with pytest.raises(OutputError, match=r"did not take the last \d frames within 0.05 s"):
        output.close()
    disk.moving.set()


def test_a_second_close_does_nothing(make_stream, step):
    disk = Disk()
    output = Background(disk)
    output.open(make_stream())
    output.take(step(0))
    output.close()
    output.close()
    assert (disk.taken, disk.closes) == ([0], 1)


def test_it_is_known_by_what_it_stands_for(tmp_path):
    output = Background(JsonLines(tmp_path / "log.jsonl"))
    assert (output.kind, output.name, output.saved) == ("jsonl", str(tmp_path / "log.jsonl"), ())
    assert Background(Disk()).saved == (Path("a"),)


class Files(Disk):
    """A disk on which each open begins a file."""

    can_pause = True

    def __init__(self) -> None:
        super().__init__()
        self.files: list[list[int]] = []

    def open(self, stream: Stream) -> None:
        super().open(stream)
        self.files.append([])

    def take(self, step: Step) -> None:
        super().take(step)
        self.files[-1].append(step.frame.frame_id)


def test_a_pause_finishes_the_file_and_leaves_steps_out(make_stream, step):
    disk = Files()
    output = Background(disk)
    assert output.can_pause
    output.open(make_stream(live=True))
    output.take(step(0))
    until(lambda: disk.taken == [0])
    output.pause()
    until(lambda: (disk.opens, disk.closes) == (2, 1))
    for index in range(1, 5):
        output.take(step(index))
    time.sleep(0.3)
    assert (output.is_paused, disk.opens, output.dropped) == (True, 2, 0)
    output.pause(False)
    output.take(step(5))
    until(lambda: disk.taken == [0, 5])
    output.close()
    assert [each for each in disk.files if each] == [[0], [5]]


def test_what_is_queued_before_a_pause_is_stored(make_stream, step):
    disk = Files()
    output = Background(disk)
    output.open(make_stream(live=True))
    disk.moving.clear()
    for index in range(3):
        output.take(step(index))
    output.pause()
    disk.moving.set()
    until(lambda: disk.closes == 1)
    assert disk.files[0] == [0, 1, 2]
    output.close()


def test_a_failure_during_a_pause_is_told_at_the_next_step(make_stream, step):
    disk = Files()
    output = Background(disk)
    output.open(make_stream(live=True))
    output.take(step(0))
    until(lambda: disk.taken == [0])
    disk.open_error = OutputError("the disk went away")
    output.pause()
    until(lambda: output._failure is not None)
    with pytest.raises(OutputError, match="the disk went away"):
        output.take(step(1))


def test_an_output_of_one_file_cannot_pause(make_stream):
    output = Background(Disk())
    with pytest.raises(OutputError, match="can pause"):
        output.pause()
    assert not output.is_paused
