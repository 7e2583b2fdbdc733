"""Recordings in segments; a kill, a full disk and a limit on file sizes are real ones, in child processes."""

import importlib.util
import re
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from runtime.errors import OutputError
from runtime.outputs import containers
from runtime.outputs.background import Background
from runtime.outputs.segments import SegmentOptions, Segments
from runtime.outputs.video import Recording, VideoSegments

ROOT = Path(__file__).parents[3]
HAS_PYAV = importlib.util.find_spec("av") is not None
NEEDS_PYAV = pytest.mark.skipif(not HAS_PYAV, reason="needs PyAV")
FORMATS = [
    pytest.param(".mp4", marks=NEEDS_PYAV),
    pytest.param(".mkv", marks=NEEDS_PYAV),
    ".avi",
]
FRAME_NS = 40_000_000


def recorder(folder, suffix, **options) -> VideoSegments:
    return VideoSegments(Segments(folder / f"drive{suffix}", SegmentOptions(**options)), 25.0)


def frame(number: int, size_hw=(48, 64)) -> np.ndarray:
    """A frame whose grey says its number."""
    return np.full((*size_hw, 3), 16 + 2 * number % 200, np.uint8)


def frames_of(path: Path) -> list[float]:
    """Return the time of each frame that can be decoded, in ms."""
    capture = cv2.VideoCapture(str(path))
    times_ms = []
    while capture.read()[0]:
        times_ms.append(capture.get(cv2.CAP_PROP_POS_MSEC))
    capture.release()
    return times_ms


def files(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_recording_is_cut_into_files_that_play(tmp_path, suffix):
    video = recorder(tmp_path, suffix, segment_s=0.4)
    for number in range(25):
        video.write(frame(number), number * FRAME_NS)
    video.close()
    assert [len(frames_of(path)) for path in files(tmp_path)] == [10, 10, 5]
    assert (video.frames, list(video.saved)) == (25, files(tmp_path))


@NEEDS_PYAV
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_an_outage_is_a_gap_and_no_copies(tmp_path, suffix):
    video = recorder(tmp_path, suffix)
    for number in range(20):
        video.write(frame(number), number * FRAME_NS + (30_000_000_000 if number >= 10 else 0))
    video.close()
    (path,) = files(tmp_path)
    times_ms = frames_of(path)
    assert len(times_ms) == 20
    assert times_ms[10] - times_ms[9] == pytest.approx(30_040, abs=2)


def test_an_outage_in_a_file_of_constant_rate_begins_a_new_one(tmp_path):
    video = recorder(tmp_path, ".avi")
    for number in range(20):
        video.write(frame(number), number * FRAME_NS + (30_000_000_000 if number >= 10 else 0))
    video.close()
    assert [len(frames_of(path)) for path in files(tmp_path)] == [10, 10]


def test_a_short_gap_in_a_file_of_constant_rate_is_filled(tmp_path):
    video = recorder(tmp_path, ".avi")
    for number in (0, 1, 2, 12, 13):
        video.write(frame(number), number * FRAME_NS)
    video.close()
    assert [len(frames_of(path)) for path in files(tmp_path)] == [14]


@pytest.mark.parametrize("suffix", FORMATS)
def test_frames_of_another_size_begin_a_new_file(tmp_path, suffix):
    video = recorder(tmp_path, suffix)
    for number in range(6):
        video.write(frame(number, (48, 64) if number < 3 else (96, 128)), number * FRAME_NS)
    video.close()
    assert [len(frames_of(path)) for path in files(tmp_path)] == [3, 3]


@pytest.mark.parametrize("suffix", FORMATS)
def test_times_that_go_back_begin_a_new_file(tmp_path, suffix):
    video = recorder(tmp_path, suffix)
    for time_ns in (0, FRAME_NS, 2 * FRAME_NS, 0, FRAME_NS):
        video.write(frame(1), time_ns)
    video.close()
    assert [len(frames_of(path)) for path in files(tmp_path)] == [3, 2]


@NEEDS_PYAV
@pytest.mark.parametrize("size_hw", [(49, 65), (48, 65), (49, 64)])
def test_an_odd_size_is_padded_by_a_pixel(tmp_path, size_hw):
    video = recorder(tmp_path, ".mp4")
    video.write(frame(1, size_hw), 0)
    video.close()
    image_bgr = cv2.VideoCapture(str(files(tmp_path)[0])).read()[1]
    assert image_bgr.shape[:2] == tuple(side + side % 2 for side in size_hw)
    assert abs(int(image_bgr.max()) - int(image_bgr.min())) < 12


def test_nothing_is_made_before_the_first_frame(tmp_path):
    recorder(tmp_path, ".avi").close()
    assert files(tmp_path) == []


@pytest.mark.parametrize("suffix", ["", ".gif", ".MOV"])
def test_another_ending_is_refused(tmp_path, suffix):
    with pytest.raises(OutputError, match=re.escape("expected a video name that ends in .mp4, .mkv, .avi")):
        recorder(tmp_path, suffix)


@pytest.mark.parametrize("suffix", FORMATS)
def test_tiny_frames_are_refused_and_leave_no_file(tmp_path, suffix):
    with pytest.raises(OutputError, match="at least 16 pixels a side"):
        recorder(tmp_path, suffix).write(frame(1, (8, 64)), 0)
    assert files(tmp_path) == []


def test_without_pyav_the_log_says_what_a_kill_would_cost(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(containers, "has_pyav", lambda: False)
    video = recorder(tmp_path, ".mp4")
    video.write(frame(1), 0)
    video.close()
    assert "pip install edgeseg[record], or record .avi" in caplog.text
    assert [len(frames_of(path)) for path in files(tmp_path)] == [1]


WRITE_FOR_EVER = """
    import resource, sys
    import numpy as np
    from runtime.errors import EdgesegError
    from runtime.outputs.video import VideoSegments
    from runtime.outputs.segments import SegmentOptions, Segments

    pattern, limit = sys.argv[1], int(sys.argv[2])
    if limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    rng = np.random.default_rng(0)
    video = VideoSegments(Segments(pattern, SegmentOptions(segment_s=2.0)), 25.0)
    for number in range(10**6):
        noise = rng.integers(0, 255, (120, 160, 3), dtype=np.uint8)
        try:
            video.write(noise, number * 40_000_000)
            print(number, flush=True)
        except EdgesegError as error:
            print("failed", error, flush=True)
            break
    video.close()
"""


def start(pattern: Path, limit: int = 0) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(WRITE_FOR_EVER), str(pattern), str(limit)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("kill_at", [3, 61, 130])
def test_a_kill_costs_two_seconds_at_most_and_no_earlier_file(tmp_path, suffix, kill_at):
    with start(tmp_path / f"drive{suffix}") as process:
        for line in process.stdout:
            if int(line) >= kill_at:
                process.kill()
                break
        written = int(([line, *process.stdout.read().split("\n")[:-1]])[-1]) + 1
    held = [len(frames_of(path)) for path in files(tmp_path)]
    assert all(count >= 50 for count in held[:-1])
    assert written - sum(held) <= 2 * 25


@NEEDS_PYAV
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_limit_on_file_sizes_ends_a_file_that_plays(tmp_path, suffix):
    with start(tmp_path / f"drive{suffix}", limit=300_000) as process:
        lines = process.stdout.read().splitlines()
    assert re.search(r"failed .*cannot write it \(File too large\); free some space", lines[-1])
    (path,) = files(tmp_path)
    assert len(lines) - 1 - len(frames_of(path)) <= 2 * 25
    assert frames_of(path)


@NEEDS_PYAV
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_after_a_failed_write_the_next_frame_tries_a_new_file(tmp_path, suffix, monkeypatch):
    video, full = recorder(tmp_path, suffix), True
    write = containers.os.write

    def limited(descriptor, data):
        if full:
            raise OSError(28, "No space left on device")
        return write(descriptor, data)

    monkeypatch.setattr(containers.os, "write", limited)
    failures = 0
    for number in range(50):
        try:
            video.write(frame(number), number * FRAME_NS)
        except OutputError as error:
            failures += "No space left on device" in str(error)
    assert failures > 0
    assert files(tmp_path) == []  # a full disk leaves no file a try
    full = False
    for number in range(50, 60):
        video.write(frame(number), number * FRAME_NS)
    video.close()
    assert [len(frames_of(path)) for path in files(tmp_path)][-1] == 10


def test_a_pause_makes_whole_files_and_the_facts_tell(tmp_path, make_stream, step):
    recording = Recording(tmp_path / "drive.avi", options=SegmentOptions(keep_gb=1.0))
    output = Background(recording)
    assert not output.can_pause  # not open yet
    output.open(make_stream(live=True))
    assert output.can_pause
    for part in range(2):
        for index in range(5):
            output.take(step(index, captured_ns=(10 * part + index) * 100_000_000))
        output.pause()
        wait_until(lambda part=part: len(output.saved) == part + 1)
        assert len(frames_of(output.saved[part])) == 5
        output.pause(False)
    wait_until(lambda: "free_bytes" in output.facts())
    facts = output.facts()
    assert (facts["files"], facts["removed"], facts["dropped"]) == (2, 0, 0)
    assert facts["free_bytes"] > 0
    output.close()


def test_a_recording_of_one_file_cannot_pause(tmp_path, make_stream, step):
    output = Background(Recording(tmp_path / "drive.avi"))
    output.open(make_stream(live=False))
    assert not output.can_pause
    output.close()


def wait_until(condition) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)
