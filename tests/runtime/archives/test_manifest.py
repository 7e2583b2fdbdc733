"""What several runs know together: by what a recording is, not by how its name is shown."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from runtime.archives.chunk import ChunkOptions, ChunkResult
from runtime.archives.jobs import ChunkJob, Failure, Recording
from runtime.archives.manifest import Tally, update_manifest
from runtime.contract import ClassMap
from runtime.network.options import ModelOptions

CLASSES = ClassMap(("road",), ((0, 0, 0),))


def updated(out: Path, tally: Tally):
    options = ChunkOptions(out, ModelOptions(), "0" * 64)
    return update_manifest(out, options, "net", CLASSES, tally.entries({}))


def segmented(name: str, digest: str, topic: str | None = None) -> Tally:
    tally = Tally()
    job = ChunkJob(Recording(name, "bag" if topic else "video", digest, topic), (name,), 0, 10)
    tally.add(ChunkResult(job, f"shards/{digest}{topic}.npz", "f" * 64, 1, 10))
    return tally


@pytest.mark.parametrize(
    "names",
    [
        ("https://h/get?id=1", "https://h/get?id=2"),
        ("rtsp://h/0a1b2c3d4e5f60718293a", "rtsp://h/a1b2c3d4e5f607182930b"),
        ("https://one:pw@h/front.mp4", "https://other:pw@h/front.mp4"),
    ],
)
def test_names_that_are_shown_alike_are_told_apart(tmp_path: Path, names: tuple[str, str]) -> None:
    for digest, name in zip("ab", names, strict=True):
        manifest = updated(tmp_path, segmented(name, digest))
    assert [one.digest for one in manifest.recordings] in (["a", "b"], ["b", "a"])
    assert len({one.name for one in manifest.recordings}) == 1
    assert all(secret not in (tmp_path / "manifest.json").read_text() for secret in ("pw", "id=1"))
    tally = Tally()
    for name in names:
        tally.failed(Failure(name, "gone"))
    assert len(updated(tmp_path, tally).recordings) == 2
    assert len((tmp_path / "failed.jsonl").read_text().splitlines()) == 2


def test_the_topics_of_a_bag_stand_beside_each_other(tmp_path: Path) -> None:
    updated(tmp_path, segmented("drive.mcap", "a", "/left"))
    manifest = updated(tmp_path, segmented("drive.mcap", "a", "/right"))
    assert [(one.title, one.frames) for one in manifest.recordings] == [
        ("drive.mcap /left", 10),
        ("drive.mcap /right", 10),
    ]
    tally = Tally()
    tally.failed(Failure("drive.mcap", "no such file"))
    assert [(one.frames, one.problem) for one in updated(tmp_path, tally).recordings] == [
        (10, "no such file"),
        (10, "no such file"),
    ]


def test_a_name_with_other_content_is_another_recording(tmp_path: Path) -> None:
    updated(tmp_path, segmented("front.avi", "a"))
    assert [one.digest for one in updated(tmp_path, segmented("front.avi", "b")).recordings] == ["b"]


def test_a_manifest_of_before_is_read(tmp_path: Path) -> None:
    updated(tmp_path, segmented("front.avi", "a"))
    path = tmp_path / "manifest.json"
    plain = json.loads(path.read_text())
    for one in plain["recordings"]:
        del one["source_sha256"], one["topic"]
    path.write_text(json.dumps(plain))
    tally = Tally()
    tally.failed(Failure("front.avi", "no such file"))
    (one,) = updated(tmp_path, tally).recordings
    assert (one.frames, one.problem) == (10, "no such file")
