import os
import re
import threading
import time

import pytest

from runtime.errors import ConfigError
from runtime.outputs import segments
from runtime.outputs.segments import FreeSpace, SegmentOptions, Segments


class Clocks:
    def __init__(self, wall: float = 1_800_000_000.0) -> None:
        self.wall, self.monotonic = wall, 1000.0

    def pass_s(self, seconds: float) -> None:
        self.wall += seconds
        self.monotonic += seconds


def opened(folder, clocks, **options) -> Segments:
    return Segments(
        folder / "drive.mp4",
        SegmentOptions(**options),
        wall_s=lambda: clocks.wall,
        monotonic_s=lambda: clocks.monotonic,
    )


def record(segments, clocks, size=1000, seconds=60.0):
    """Make and finish one file; return its path."""
    path, descriptor = segments.create()
    os.write(descriptor, b"x" * size)
    os.close(descriptor)
    clocks.pass_s(seconds)
    os.utime(path, (clocks.wall, clocks.wall))
    segments.finished(path)
    return path


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_names_hold_number_and_time(tmp_path):
    path = record(opened(tmp_path, Clocks()), Clocks())
    assert path.name == "drive-000001-20270115T080000Z.mp4"


def test_a_restart_goes_on_counting(tmp_path):
    clocks = Clocks()
    record(opened(tmp_path, clocks), clocks)
    assert record(opened(tmp_path, clocks), clocks).name.startswith("drive-000002-")


def test_two_runs_in_the_same_second_never_share_a_file(tmp_path):
    clocks = Clocks()
    one, other = opened(tmp_path, clocks), opened(tmp_path, clocks)
    paths = [record(segments, clocks, seconds=0.0) for segments in (one, other, one, other, other)]
    assert len({re.search(r"-(\d{6})-", path.name)[1] for path in paths}) == 5


def test_a_clock_that_jumps_back_changes_no_order(tmp_path):
    clocks = Clocks()
    segments = opened(tmp_path, clocks)
    first = record(segments, clocks)
    clocks.wall -= 86400.0
    second = record(segments, clocks)
    assert [path for _, path in segments.existing()] == [first, second]


@pytest.mark.parametrize("wall", [-5.0, 0.0, 4_102_444_800.0])
def test_a_clock_of_another_century_still_names_files(tmp_path, wall):
    clocks = Clocks(wall)
    assert record(opened(tmp_path, clocks), clocks, seconds=0.0).exists()


def test_a_file_of_that_name_is_never_written_over(tmp_path):
    clocks = Clocks()
    (tmp_path / "drive-000001-20270115T080000Z.mp4").write_bytes(b"precious")
    segments = opened(tmp_path, clocks)
    (tmp_path / "drive-000002-20270115T080000Z.mp4").write_bytes(
        b"precious too"
    )  # after the look at the folder
    assert record(segments, clocks).name.startswith("drive-000003-")
    assert (tmp_path / "drive-000002-20270115T080000Z.mp4").read_bytes() == b"precious too"


def test_without_retention_nothing_is_removed(tmp_path):
    clocks = Clocks()
    segments = opened(tmp_path, clocks)
    for _ in range(5):
        record(segments, clocks, seconds=1e6)
    assert len(names(tmp_path)) == 5


def test_gigabytes_are_kept_by_removing_the_oldest(tmp_path):
    clocks = Clocks()
    segments = opened(tmp_path, clocks, keep_gb=2.5e-6)
    paths = [record(segments, clocks) for _ in range(5)]
    assert names(tmp_path) == [path.name for path in paths[3:]]
    assert segments.removed == 3


def test_hours_are_kept_by_the_monotonic_clock(tmp_path):
    clocks = Clocks()
    segments = opened(tmp_path, clocks, keep_hours=1.0)
    old = record(segments, clocks)
    clocks.pass_s(3000.0)
    recent = record(segments, clocks)
    assert names(tmp_path) == [old.name, recent.name]
    clocks.pass_s(1000.0)
    segments.apply_retention()
    assert names(tmp_path) == [recent.name]


@pytest.mark.parametrize("jump_s", [-1e9, -86400.0, 86400.0, 1e9])
def test_a_clock_that_jumps_removes_nothing(tmp_path, jump_s):
    clocks = Clocks()
    record(opened(tmp_path, clocks), clocks)
    segments = opened(tmp_path, clocks, keep_hours=1.0)
    record(segments, clocks)
    clocks.wall += jump_s
    record(segments, clocks)
    segments.apply_retention()
    assert len(names(tmp_path)) == 3


def test_files_of_a_clock_that_was_never_set_have_no_age(tmp_path):
    clocks = Clocks(wall=100.0)
    record(opened(tmp_path, clocks), clocks)
    clocks.wall = 1_800_000_000.0
    segments = opened(tmp_path, clocks, keep_hours=1.0)
    record(segments, clocks)
    assert len(names(tmp_path)) == 2


def test_files_of_an_earlier_run_age_too(tmp_path):
    clocks = Clocks()
    record(opened(tmp_path, clocks), clocks)
    clocks.pass_s(7200.0)
    segments = opened(tmp_path, clocks, keep_hours=1.0)
    recent = record(segments, clocks)
    assert names(tmp_path) == [recent.name]


def test_the_newest_file_and_those_of_others_always_stay(tmp_path):
    clocks = Clocks()
    others = [
        "drive.mp4",
        "drive-2.mp4",
        "other-000001-20270115T080000Z.mp4",
        "drive-000001-20270115T080000Z.mkv",
    ]
    for name in others:
        (tmp_path / name).write_bytes(b"x" * 5000)
    segments = opened(tmp_path, clocks, keep_gb=1e-9, keep_hours=1e-6)
    record(segments, clocks)
    newest = record(segments, clocks)
    assert names(tmp_path) == sorted([*others, newest.name])


def test_what_cannot_be_removed_ends_nothing(tmp_path, monkeypatch, caplog):
    clocks = Clocks()
    segments = opened(tmp_path, clocks, keep_gb=1e-6)
    record(segments, clocks)

    def refuse(path, missing_ok=False):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.unlink", refuse)
    record(segments, clocks)
    assert "retention cannot remove it (Permission denied)" in caplog.text


@pytest.mark.parametrize("options", [{"segment_s": 0}, {"keep_gb": 0}, {"keep_hours": -1.0}])
def test_impossible_options_are_refused(options):
    with pytest.raises(ConfigError, match="expected a number above 0"):
        SegmentOptions(**options)


def test_free_space_is_asked_for_and_never_waited_for(tmp_path, monkeypatch):
    space = FreeSpace(tmp_path)
    wait_until(lambda: space.bytes is not None)
    state = os.statvfs(tmp_path)
    assert space.bytes == pytest.approx(state.f_bavail * state.f_frsize, rel=0.2)
    hangs, before = threading.Event(), space.bytes

    def hang(_: object) -> None:
        hangs.wait(20)
        raise OSError

    monkeypatch.setattr(segments.os, "statvfs", hang)
    space._due_s = 0.0
    started_s = time.monotonic()
    for _ in range(100):
        assert space.bytes == before
    assert time.monotonic() - started_s < 10
    assert sum(thread.name == "free space" for thread in threading.enumerate()) == 1
    hangs.set()


def test_free_space_of_a_folder_that_is_gone_is_unknown(tmp_path):
    space = FreeSpace(tmp_path / "gone")
    assert space.bytes is None
    wait_until(lambda: not space._asking.locked())
    assert space.bytes is None


def wait_until(condition) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)
