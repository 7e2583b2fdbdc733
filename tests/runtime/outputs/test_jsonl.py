from __future__ import annotations

import json
import sys
import time

import numpy as np
import pytest

from runtime.errors import ConfigError, OutputError
from runtime.masks.areas import class_areas
from runtime.masks.formats import decode_rle, mask_polygons
from runtime.outputs import JsonLines

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


@NEEDS_POSIX
def test_full_disk_leaves_whole_lines(tmp_path, fill_disk):
    path = tmp_path / "log.jsonl"
    count, message = fill_disk("JsonLines", path, ", masks='rle'")
    assert "free some space" in message
    assert count > 0
    assert path.read_bytes().endswith(b"}\n")
    assert [json.loads(line)["frame_id"] for line in path.read_text().splitlines()] == list(range(count))
