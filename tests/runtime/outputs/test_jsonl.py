from __future__ import annotations

import dataclasses
import errno
import io
import json
import os
import sys
import time

import numpy as np
import pytest

from runtime.errors import ConfigError, OutputError
from runtime.masks.areas import class_areas
from runtime.masks.formats import decode_rle, mask_polygons
from runtime.outputs import JsonLines, jsonl
from runtime.outputs.segments import SegmentOptions

NEEDS_POSIX = pytest.mark.skipif(sys.platform == "win32", reason="POSIX limits")


def test_a_line_says_all_about_its_frame(tmp_path, stream, step, blobs):
    path = tmp_path / "new" / "log.jsonl"
    before_s = time.time()
    with JsonLines(path) as output:
        output.open(stream)
        output.take(step(7, blobs()))
        (line,) = path.read_text().splitlines()  # at once, not at the end
    record = json.loads(line)
    assert list(record) == [
        "frame_id",
        "captured_ns",
        "captured_unix_s",
        "age_ms",
        "latency_ms",
        "dropped",
        "size_hw",
        "areas",
    ]
    assert (record["frame_id"], record["dropped"], record["size_hw"]) == (7, 2, [48, 64])
    assert record["latency_ms"] == {"network": 3.0, "total": 5.0}
    assert record["areas"] == class_areas(blobs(), stream.contract.classes)
    assert before_s - 1 < record["captured_unix_s"] < before_s + 60


def test_a_line_tells_the_stamp_of_a_bags_picture(tmp_path, stream, step):
    with JsonLines(tmp_path / "log.jsonl") as output:
        output.open(stream)
        one = step()
        frame = dataclasses.replace(one.frame, stamp_ns=1_700_000_000_123_456_789, coordinate_frame="optical")
        output.take(dataclasses.replace(one, frame=frame))
    record = json.loads((tmp_path / "log.jsonl").read_text())
    assert (record["stamp_ns"], record["coordinate_frame"]) == (1_700_000_000_123_456_789, "optical")


def test_a_line_with_runs(tmp_path, stream, step, blobs):
    with JsonLines(tmp_path / "log.jsonl", masks="rle") as output:
        output.open(stream)
        output.take(step(mask=blobs()))
    record = json.loads((tmp_path / "log.jsonl").read_text())
    runs = {stream.contract.classes.names.index(name): counts for name, counts in record["rle"].items()}
    assert np.array_equal(decode_rle(runs, tuple(record["size_hw"])), blobs())


def test_a_line_with_outlines(tmp_path, stream, step, blobs):
    with JsonLines(tmp_path / "log.jsonl", masks="polygons") as output:
        output.open(stream)
        output.take(step(mask=blobs()))
    polygons = json.loads((tmp_path / "log.jsonl").read_text())["polygons"]
    assert {
        stream.contract.classes.names.index(name): item for name, item in polygons.items()
    } == mask_polygons(blobs())


def test_jsonl_where_no_file_can_be(tmp_path, stream):
    with pytest.raises(OutputError, match="cannot write"):
        JsonLines(tmp_path).open(stream)


def test_jsonl_in_an_unknown_form(tmp_path):
    with pytest.raises(ConfigError, match="none, rle, polygons"):
        JsonLines(tmp_path / "log.jsonl", masks="png")  # type: ignore[arg-type]


def test_a_full_disk_leaves_no_empty_segment_a_try(tmp_path, make_stream, step, monkeypatch):
    class Full(io.FileIO):
        def write(self, data: object, /) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(jsonl.io, "FileIO", Full)
    for _ in range(3):
        with JsonLines(tmp_path / "log.jsonl") as output:
            output.open(make_stream(live=True))
            with pytest.raises(OutputError, match="No space left"):
                output.take(step())
    assert list(tmp_path.iterdir()) == []


@NEEDS_POSIX
def test_full_disk_leaves_whole_lines(tmp_path, fill_disk):
    path = tmp_path / "log.jsonl"
    count, message = fill_disk("JsonLines", path, ", masks='rle'")
    assert "free some space" in message
    assert count > 0
    assert path.read_bytes().endswith(b"}\n")
    assert [json.loads(line)["frame_id"] for line in path.read_text().splitlines()] == list(range(count))


def frame_ids(path):
    return [json.loads(line)["frame_id"] for line in path.read_text().splitlines()]


def write_lines(output, stream, steps):
    with output:
        output.open(stream)
        for one in steps:
            output.take(one)


def test_lines_are_appended_to_those_of_earlier_runs(tmp_path, stream, step):
    path = tmp_path / "log.jsonl"
    for run in range(3):
        write_lines(JsonLines(path), stream, [step(10 * run), step(10 * run + 1)])
    assert frame_ids(path) == [0, 1, 10, 11, 20, 21]


def test_a_line_that_a_power_cut_shortened_spoils_no_other(tmp_path, stream, step):
    path = tmp_path / "log.jsonl"
    write_lines(JsonLines(path), stream, [step(0)])
    path.write_bytes(path.read_bytes() + b'{"frame_id": 1, "cap')
    write_lines(JsonLines(path), stream, [step(2)])
    whole, cut, after = path.read_text().splitlines()
    assert (json.loads(whole)["frame_id"], cut, json.loads(after)["frame_id"]) == (
        0,
        '{"frame_id": 1, "cap',
        2,
    )


def test_lines_of_a_camera_go_to_segments(tmp_path, make_stream, step):
    steps = [step(index, captured_ns=index * 500_000_000) for index in range(5)]
    output = JsonLines(tmp_path / "log.jsonl", options=SegmentOptions(segment_s=1.0))
    write_lines(output, make_stream(live=True), steps)
    paths = sorted(tmp_path.iterdir())
    assert [path.name[:11] for path in paths] == ["log-000001-", "log-000002-", "log-000003-"]
    assert [frame_ids(path) for path in paths] == [[0, 1], [2, 3], [4]]


def test_a_restart_begins_a_segment_of_its_own(tmp_path, make_stream, step):
    for run in range(2):
        write_lines(JsonLines(tmp_path / "log.jsonl"), make_stream(live=True), [step(run)])
    assert [frame_ids(path) for path in sorted(tmp_path.iterdir())] == [[0], [1]]


@NEEDS_POSIX
@pytest.mark.parametrize("live", [False, True])
def test_a_pipe_gets_lines_until_its_reader_goes(tmp_path, make_stream, step, live):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with JsonLines(path) as output:
        output.open(make_stream(live=live))
        output.take(step(7))
        assert json.loads(os.read(reader, 1 << 16))["frame_id"] == 7
        os.close(reader)
        with pytest.raises(OutputError, match="Broken pipe"):
            output.take(step(8))
    assert [entry.name for entry in tmp_path.iterdir()] == ["pipe"]


@NEEDS_POSIX
def test_a_pipe_that_nobody_reads_is_refused(tmp_path, stream):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OutputError, match="found no reader; start it first"):
        JsonLines(tmp_path / "pipe").open(stream)
