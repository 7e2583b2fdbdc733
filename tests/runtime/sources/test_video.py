"""Recordings whose headers lie, whose frames come unevenly, and which were cut off."""

from __future__ import annotations

import contextlib
import os
import re
import struct
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from runtime.errors import SourceError
from runtime.frame import Frame
from runtime.outputs.containers import PyAvContainer
from runtime.sources import PacedSource, VideoFile
from runtime.sources.container import largest_picture_wh, what_is_missing
from tests.runtime.sources.media import SIZE_WH, number_of, picture, write_av, write_cv2
from tests.runtime.sources.test_sources import ScriptedCapture, SkippingClock, grey_level, scripted_file

EVEN_MS = [40 * number for number in range(40)]
UNEVEN_MS = [0, 100, *(120 + 20 * number for number in range(20)), 2000, 2050, 2100]
FRAGMENTS = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
LIVE = {"live": "1"}  # as MediaRecorder of a browser: neither length nor index
WRITERS: dict[str, Callable[[Path], Path]] = {
    "cv2.avi": lambda folder: write_cv2(folder / "clip.avi", 40),
    "cv2.mkv": lambda folder: write_cv2(folder / "clip.mkv", 40),
    "cv2.mp4": lambda folder: write_cv2(folder / "clip.mp4", 40),
    "av.mp4, index first": lambda folder: write_av(
        folder / "clip.mp4", EVEN_MS, options={"movflags": "faststart"}
    ),
    "av.mp4 in fragments": lambda folder: write_av(folder / "clip.mp4", EVEN_MS, options=FRAGMENTS),
    "av.mkv": lambda folder: write_av(folder / "clip.mkv", EVEN_MS),
    "av.webm": lambda folder: write_av(folder / "clip.webm", EVEN_MS, codec="libvpx"),
    "av.webm, live": lambda folder: write_av(
        folder / "clip.webm", EVEN_MS, codec="libvpx", kind="webm", options=LIVE
    ),
    "av.ts": lambda folder: write_av(folder / "clip.ts", EVEN_MS),
}


def times_ms(frames: list[Frame]) -> list[int]:
    return [round((frame.pts_ns or 0) / 1e6) for frame in frames]


def read(path: Path) -> tuple[list[Frame], str]:
    """Return the frames, and what reading failed with, "" for nothing."""
    frames: list[Frame] = []
    try:
        with VideoFile(path) as source:
            frames.extend(source)
    except SourceError as error:
        return frames, str(error)
    return frames, ""


@pytest.mark.parametrize("writer", WRITERS)
def test_a_whole_file_gives_every_frame_with_its_time(tmp_path, writer):
    path = WRITERS[writer](tmp_path)
    assert what_is_missing(path) is None
    frames, problem = read(path)
    assert problem == ""
    assert len(frames) == 40
    assert times_ms(frames) == EVEN_MS
    assert [number_of(frame.image_bgr) for frame in frames] == pytest.approx(range(40), abs=2)


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.7, 0.9, 0.99])
@pytest.mark.parametrize("writer", WRITERS)
def test_a_file_that_was_cut_says_so_after_its_last_good_frame(tmp_path, writer, share):
    path = WRITERS[writer](tmp_path)
    data = path.read_bytes()
    cut = round(len(data) * share)
    path.write_bytes(data[: cut + (1 if path.suffix == ".ts" and cut % 188 == 0 else 0)])
    frames, problem = read(path)
    if "expected a video, got a truncated file" not in problem:  # one that does not open has no frames
        assert f"file is truncated after frame {len(frames)} (its" in problem
    assert " lacks " in problem or "missing" in problem or "is cut" in problem
    assert [number_of(frame.image_bgr) for frame in frames] == pytest.approx(range(len(frames)), abs=2)


@pytest.mark.parametrize("writer", [name for name in WRITERS if name != "av.ts"])
def test_no_cut_at_any_byte_passes_for_a_whole_file_but_at_the_end_of_a_part(tmp_path, writer):
    path = WRITERS[writer](tmp_path)
    data = path.read_bytes()
    rng = np.random.default_rng(0)
    silent = 0
    for cut in rng.integers(64, len(data), 200):
        path.write_bytes(data[:cut])
        silent += what_is_missing(path) is None
    assert silent <= 4  # a stream without an end may end between two of its parts


def test_a_file_without_its_index_says_what_happened_to_it(tmp_path):
    path = write_cv2(tmp_path / "clip.mp4", 10)
    data = path.read_bytes()
    index = data.index(b"moov") - 4
    path.write_bytes(data[:index])
    with pytest.raises(SourceError, match=r"got a truncated file \(its index \(moov box\) is missing\)"):
        VideoFile(path)


@pytest.mark.parametrize("data", [b"", b"\0" * 4096, b"text" * 100, bytes(range(256)) * 9, b"\x47" * 999])
def test_what_no_container_tells_of_is_no_evidence(tmp_path, data):
    (tmp_path / "clip").write_bytes(data)
    what_is_missing(tmp_path / "clip")  # no error, whatever the answer
    with pytest.raises(SourceError, match="expected a video, got"):
        VideoFile(tmp_path / "clip")


def test_padding_behind_an_mp4_is_no_cut(tmp_path):
    path = write_cv2(tmp_path / "clip.mp4", 5)
    path.write_bytes(path.read_bytes() + b"\0" * 5000)
    assert what_is_missing(path) is None


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_frames_that_come_unevenly_keep_their_times(tmp_path, suffix):
    frames, problem = read(write_av(tmp_path / f"clip{suffix}", UNEVEN_MS))
    assert (times_ms(frames), problem) == (UNEVEN_MS, "")


@pytest.mark.parametrize(
    ("name", "codec"), [("clip.mp4", "mpeg4"), ("clip.mkv", "mpeg4"), ("clip.webm", "libvpx")]
)
def test_sound_that_is_longer_than_the_picture_is_no_fault(tmp_path, name, codec):
    frames, problem = read(write_av(tmp_path / name, EVEN_MS, codec=codec, audio_s=8))
    assert (times_ms(frames), problem) == (EVEN_MS, "")


def test_frames_before_an_edit_list_are_no_loss(tmp_path):
    """A phone's trimmed clip: the index counts 40 frames, 30 of them are to be shown."""
    path = write_av(
        tmp_path / "clip.mp4",
        [time_ms - 400 for time_ms in EVEN_MS],
        options={"avoid_negative_ts": "disabled", "use_editlist": "1"},
    )
    assert cv2.VideoCapture(str(path)).get(cv2.CAP_PROP_FRAME_COUNT) == 40
    frames, problem = read(path)
    assert (len(frames), problem) == (30, "")
    assert times_ms(frames) == EVEN_MS[:30]


@pytest.mark.parametrize(
    ("stated", "times", "expected"),
    [
        (1000.0, [0, 33, 67, 100, 133, 167, 200], 1000 / 33),  # a browser's recording
        (90_000.0, [0, 40, 80, 120], 25.0),
        (0.0, [0, 40, 80, 1500, 1540], 25.0),  # a gap changes nothing
        (float("nan"), [0, 20, 40], 50.0),
        (30.0, [0, 40, 80], 30.0),  # what can be is believed
        (1000.0, [0, 0, 0], None),
        (1000.0, [5], None),
    ],
)
def test_rate_comes_from_the_first_frames_where_the_header_cannot_be(tmp_path, stated, times, expected):
    path = tmp_path / "clip.webm"
    path.touch()

    def open_capture(_: str) -> ScriptedCapture:
        return ScriptedCapture([grey_level(1)] * len(times), fps=stated, times_ms=times)

    source = VideoFile(path, open_capture)
    assert source.fps == (None if expected is None else pytest.approx(expected, rel=0.05))


def test_times_that_are_missing_or_go_back_are_filled_in(tmp_path):
    stated = [0, 40, 0, 0, 160, 100, 240]
    source = scripted_file(tmp_path, ScriptedCapture([grey_level(1)] * 7, fps=25.0, times_ms=stated))
    assert times_ms(list(source)) == [0, 40, 80, 120, 160, 200, 240]


@pytest.mark.parametrize("buffered", [True, False])
def test_a_capture_that_reuses_its_buffer_never_changes_a_frame(tmp_path, buffered):
    buffer = grey_level(0)

    class Reusing(ScriptedCapture):
        def retrieve(self) -> tuple[bool, np.ndarray | None]:
            delivered, image_bgr = super().retrieve()
            if image_bgr is not None and buffered:
                buffer[:] = image_bgr
                return delivered, buffer
            return delivered, None if image_bgr is None else image_bgr.copy()

    source = scripted_file(tmp_path, Reusing([grey_level(level) for level in range(5)]))
    assert [int(frame.image_bgr[0, 0, 0]) for frame in list(source)] == [0, 1, 2, 3, 4]


def uneven(tmp_path: Path, clock: SkippingClock) -> PacedSource:
    capture = ScriptedCapture([grey_level(level) for level in range(25)], fps=20.0, times_ms=UNEVEN_MS)
    return PacedSource(scripted_file(tmp_path, capture), clock)


def test_realtime_plays_frames_at_their_own_times(tmp_path):
    frames = list(uneven(tmp_path, SkippingClock()))
    assert [round(frame.captured_ns / 1e6) for frame in frames] == UNEVEN_MS


@pytest.mark.parametrize("work_ms", [5, 30, 70, 150, 900])
def test_realtime_gives_the_latest_frame_there_is_also_after_a_gap(tmp_path, work_ms):
    clock = SkippingClock()
    source = uneven(tmp_path, clock)
    for frame in source:
        asked_ms = clock.time_ns / 1e6  # a caller waits for a frame, or gets the latest one
        due = [time_ms for time_ms in UNEVEN_MS if time_ms <= asked_ms + 1e-6]
        assert UNEVEN_MS[frame.frame_id] == due[-1]
        clock.time_ns += work_ms * 1_000_000
    assert source.dropped + source.status.captured - source.dropped == 25


def test_media_is_told_apart():
    assert [number_of(picture(number)) for number in (0, 7, 60)] == [0, 7, 60]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_recording_of_ours_that_was_never_finished_is_known_by_its_head(tmp_path, suffix):
    """A kill between two fragments, or a copy that ends there, leaves parts that are all whole."""
    pytest.importorskip("av")
    path = tmp_path / f"drive{suffix}"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    recording = PyAvContainer(path, descriptor, SIZE_WH, 25.0)
    for number in range(60):
        recording.write(picture(number), number * 40_000_000)
    cut = tmp_path / f"killed{suffix}"
    cut.write_bytes(path.read_bytes())
    recording.close()
    assert what_is_missing(path) is None
    missing = what_is_missing(cut) or ""
    assert "is missing" in missing or "lacks" in missing
    if suffix == ".mp4":
        data = path.read_bytes()
        for fragment in [found.start() - 4 for found in re.finditer(b"moof", data)][1:]:
            cut.write_bytes(data[:fragment])
            frames, problem = read(cut)
            assert f"after frame {len(frames)} (its end (mfra box) is missing)" in problem


def test_segments_that_an_index_lists_and_the_file_lacks_are_a_cut(tmp_path):
    listed = {"movflags": FRAGMENTS["movflags"] + "+dash+global_sidx+skip_trailer"}
    path = write_av(tmp_path / "clip.mp4", EVEN_MS, options=listed)
    assert what_is_missing(path) is None
    data = path.read_bytes()
    for fragment in [found.start() - 4 for found in re.finditer(b"moof", data)][1:]:
        path.write_bytes(data[:fragment])
        assert what_is_missing(path) == f"its data after its sidx box lacks {len(data) - fragment} bytes"


def huge(data: bytes, suffix: str) -> bytes:
    """Let a file's head state 30,000 by 30,000 pixels."""
    wide, tall = (bytes([0, side]) for side in SIZE_WH)
    old, new = {
        ".mp4": (wide + b"\0\0" + tall + b"\0\0", b"\x75\x30\0\0" * 2),
        ".webm": (b"\xb0\x81@\xba\x810", b"\xb0\x82\x75\x30\xba\x82\x75\x30"),
        ".avi": (struct.pack("<II", *SIZE_WH), struct.pack("<II", 30_000, 30_000)),
    }[suffix]
    assert old in data
    return data.replace(old, new)


@pytest.mark.parametrize("suffix", [".mp4", ".webm", ".avi"])
def test_a_video_of_huge_pictures_is_refused_by_its_head(tmp_path, suffix, monkeypatch):
    path = tmp_path / f"clip{suffix}"
    path = write_av(path, EVEN_MS, codec="libvpx") if suffix == ".webm" else write_cv2(path, 5)
    assert largest_picture_wh(path) == SIZE_WH
    path.write_bytes(huge(path.read_bytes(), suffix))
    with pytest.raises(SourceError, match=r"pictures of at most 128 million pixels, got 30000x30000"):
        VideoFile(path, lambda _: pytest.fail("it was opened"))
    monkeypatch.setenv("EDGESEG_MAX_IMAGE_PIXELS", "900000000")
    with contextlib.suppress(SourceError), VideoFile(path):
        assert largest_picture_wh(path) == (30_000, 30_000)


def test_a_list_of_other_files_is_no_video(tmp_path):
    write_cv2(tmp_path / "private.avi", 3)
    (tmp_path / "clip.mp4").write_text("ffconcat version 1.0\nfile private.avi\n")
    with pytest.raises(SourceError, match="got a list of other files"):
        VideoFile(tmp_path / "clip.mp4")


def test_pictures_that_are_huge_although_no_head_says_so_are_refused_once_open(tmp_path, monkeypatch):
    path = write_av(tmp_path / "clip.ts", EVEN_MS)
    assert largest_picture_wh(path) == (0, 0)
    monkeypatch.setenv("EDGESEG_MAX_IMAGE_PIXELS", "3071")
    with pytest.raises(SourceError, match=r"got 64x48"):
        VideoFile(path)


@pytest.mark.parametrize(
    "data", [b"\0\0\0\x08moov", b"\0\0\0\x08ftyp\0\0\0\0" * 9, b"\x1aE\xdf\xa3\xff", b"RIFF"]
)
@pytest.mark.parametrize(
    "more", [b"", b"tkhd", b"vmhd" + b"stsd" * 9, b"avih", b"\x18S\x80g\xff\x16T\xaek\xff"]
)
def test_heads_that_are_cut_state_no_size(tmp_path, data, more):
    (tmp_path / "clip").write_bytes(data + more)
    assert max(largest_picture_wh(tmp_path / "clip")) < 65_536


@pytest.mark.parametrize(
    ("suffix", "codec", "span"),
    [(".mp4", "libx264", 3000), (".mp4", "mpeg4", 400), (".webm", "libvpx", 20), (".avi", "mpeg4", 400)],
)
def test_damage_in_the_middle_costs_the_frames_there_and_is_told(tmp_path, caplog, suffix, codec, span):
    path = tmp_path / f"clip{suffix}"
    write_av(path, [40 * number for number in range(60)], codec=codec, options={"movflags": "faststart"})
    data = bytearray(path.read_bytes())
    middle = len(data) // 3
    data[middle : middle + span] = np.random.default_rng(0).integers(0, 256, span, np.uint8).tobytes()
    path.write_bytes(data)
    with VideoFile(path) as source:
        frames = list(source)
        skipped = source.status.skipped
    assert 45 <= len(frames) < 60
    assert frames[-1].pts_ns > 2e9  # not the place of the damage
    assert skipped <= 60 - len(frames)
    told = [record for record in caplog.records if "damaged after frame" in record.message]
    assert len(told) == (skipped > 0)  # some versions of OpenCV pass over damage by themselves


@pytest.mark.parametrize(
    ("processors", "width", "threads"), [(1, 64, [1]), (2, 64, [1]), (2, 2000, []), (4, 64, [])]
)
def test_two_processors_decode_in_one_thread_unless_pictures_are_large(
    tmp_path, monkeypatch, processors, width, threads
):
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (width, 1200))
    writer.write(np.zeros((1200, width, 3), np.uint8))
    writer.release()
    asked: list[list[int]] = []
    original = cv2.VideoCapture

    def watching(name: str, backend: int, settings: list[int]) -> cv2.VideoCapture:
        asked.append(settings)
        return original(name, backend, settings)

    monkeypatch.setattr(cv2, "getNumberOfCPUs", lambda: processors)
    monkeypatch.setattr(cv2, "VideoCapture", watching)
    with VideoFile(path) as source:
        assert len(list(source)) == 1
    assert asked[0] == [cv2.CAP_PROP_N_THREADS, *threads][: 2 * len(threads)]
