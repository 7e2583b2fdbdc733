from __future__ import annotations

import contextlib
import os
import shutil
import threading
import time
from pathlib import Path

import pytest

from runtime.errors import ConfigError, OutputError
from runtime.outputs import JsonLines, MaskFolder, Outputs, Recording, SnapshotFolder, background
from runtime.outputs.background import Background
from runtime.outputs.disk import DiskOutput

WAIT_S = 20.0
NAMES = {"save": "out.avi", "jsonl": "log.jsonl", "save-masks": "m", "snapshots": "s", "out": "out.mcap"}


def disk_output(kind: str, folder: Path) -> DiskOutput:
    path = folder / NAMES[kind]
    if kind == "snapshots":
        return SnapshotFolder(path, every_s=1e-9)
    if kind == "out":
        pytest.importorskip("rosbags")
        from runtime.outputs.bag import BagOutput

        return BagOutput(path)
    return {"save": Recording, "jsonl": JsonLines, "save-masks": MaskFolder}[kind](path)


def until(condition) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def bytes_in(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("live", [False, True])
@pytest.mark.parametrize("kind", NAMES)
def test_programs_that_use_outputs_are_refused_what_another_run_writes(tmp_path, make_stream, kind, live):
    stream = make_stream(live=live)
    with disk_output(kind, tmp_path) as first:
        first.open(stream)
        for second in (disk_output(kind, tmp_path), Background(disk_output(kind, tmp_path))):
            with pytest.raises(ConfigError, match=f"expected no other run .* process {os.getpid()} does"):
                Outputs([second], stream)
    with Outputs([disk_output(kind, tmp_path)], stream):
        assert len(list(tmp_path.rglob("*.lock"))) == 1
    assert list(tmp_path.rglob("*.lock")) == []


def test_masks_and_snapshots_may_share_a_folder(tmp_path, stream, step):
    with Outputs([MaskFolder(tmp_path), SnapshotFolder(tmp_path)], stream) as outputs:
        list(outputs.feed([step()]))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["frame_00000000.jpg", "mask_00000000.png"]


@pytest.mark.parametrize("kind", NAMES)
def test_every_output_that_records_can_pause_and_goes_on(tmp_path, make_stream, step, kind):
    output = Background(disk_output(kind, tmp_path))
    with Outputs([output], make_stream(live=True)) as outputs:
        list(outputs.feed([step(0)]))
        until(lambda: "stored_ms_ago" in output.facts())
        assert output.can_pause
        output.pause()
        until(lambda: output._is_resting)
        stored = bytes_in(tmp_path)
        list(outputs.feed([step(1)]))
        output.pause(False)
        list(outputs.feed([step(2)]))
    assert bytes_in(tmp_path) > stored
    text = "".join(path.read_text() for path in tmp_path.glob("*.jsonl"))
    assert ('"frame_id":1' in text, '"frame_id":2' in text) == (False, kind == "jsonl")
    assert output.facts()["free_bytes"] > 0


@pytest.mark.parametrize("live", [False, True])
@pytest.mark.parametrize("kind", ["save", "jsonl", "out"])
def test_a_file_that_is_removed_under_way_is_told_at_the_next_frame(tmp_path, make_stream, step, kind, live):
    with disk_output(kind, tmp_path / "a") as output:
        output.open(make_stream(live=live))
        output.take(step(0))
        shutil.rmtree(tmp_path / "a")
        with pytest.raises(OutputError, match="No such file"):
            output.take(step(1))
        with contextlib.suppress(OutputError):
            output.close()
        output.open(make_stream(live=live))  # as `Outputs` does after a while
        output.take(step(2))
    assert bytes_in(tmp_path / "a") > 0


def test_a_pipe_cannot_pause_since_its_reader_would_take_that_for_the_end(tmp_path, make_stream):
    os.mkfifo(tmp_path / "pipe")
    threading.Thread(target=lambda: (tmp_path / "pipe").read_bytes(), daemon=True).start()
    output = JsonLines(tmp_path / "pipe")

    def is_open() -> bool:
        try:
            output.open(make_stream(live=True))
        except OutputError:  # no reader yet
            return False
        return True

    with output:
        until(is_open)
        assert not output.can_pause


def test_a_pipe_of_the_shell_whose_reader_went_away_ends_the_loop(make_stream, step):
    reading, writing = os.pipe()
    with Outputs([JsonLines(f"/dev/fd/{writing}")], make_stream(live=True)) as outputs:
        os.close(reading)
        with pytest.raises(OutputError, match="Broken pipe"):
            list(outputs.feed([step(0)]))
    os.close(writing)


def test_a_disk_that_hangs_is_not_opened_a_second_time(tmp_path, make_stream, step, monkeypatch):
    monkeypatch.setattr(background, "_CLOSE_WAIT_S", 0.05)
    moving = threading.Event()
    lines = JsonLines(tmp_path / "log.jsonl")
    lines.take = lambda step: moving.wait(WAIT_S)  # type: ignore[method-assign]
    output = Background(lines)
    output.open(make_stream(live=True))
    output.take(step(0))
    until(lambda: output.facts()["queued"] == 0)
    with pytest.raises(OutputError, match="did not take the last"):
        output.close()
    with pytest.raises(OutputError, match="still hangs"):
        output.open(make_stream(live=True))
    moving.set()
    monkeypatch.setattr(background, "_CLOSE_WAIT_S", WAIT_S)
    until(lambda: not output._hanging.is_alive())
    output.open(make_stream(live=True))
    output.close()
