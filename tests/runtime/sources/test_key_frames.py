"""Chunks between key frames, read by jumping, hold every frame of the recording once, pixel for pixel."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from runtime.frame import Frame
from runtime.sources import VideoFile
from runtime.sources.key_frames import key_frames
from tests.runtime.sources.media import write_av, write_cv2

EVEN_MS = [40 * number for number in range(60)]
UNEVEN_MS = [*range(0, 800, 40), *range(5000, 5400, 20), *range(9000, 12000, 150)]


def frames_of(path: Path) -> list[Frame]:
    with VideoFile(path) as source:
        return list(source)


CUT = {
    "mp4, even": lambda folder: write_av(folder / "clip.mp4", EVEN_MS),
    "mp4, uneven": lambda folder: write_av(folder / "clip.mp4", UNEVEN_MS),
    "mov, even": lambda folder: write_av(folder / "clip.mov", EVEN_MS),
    "mp4 with B-frames": lambda folder: write_av(folder / "clip.mp4", EVEN_MS, codec="libx264"),
    "mp4 with B-frames, uneven": lambda folder: write_av(folder / "clip.mp4", UNEVEN_MS, codec="libx264"),
    "mp4 with open GOPs": lambda folder: write_av(folder / "clip.mp4", EVEN_MS, codec="libx265"),
    "avi of cv2": lambda folder: write_cv2(folder / "clip.avi", 60),
    "mp4 of cv2": lambda folder: write_cv2(folder / "clip.mp4", 60),
    "with sound": lambda folder: write_av(folder / "clip.mp4", EVEN_MS, audio_s=2.0),
}
WHOLE = {
    "mkv": lambda folder: write_av(folder / "clip.mkv", EVEN_MS),
    "ts": lambda folder: write_av(folder / "clip.ts", EVEN_MS),
    "mp4 in fragments": lambda folder: write_av(
        folder / "clip.mp4", EVEN_MS, options={"movflags": "frag_keyframe+empty_moov+default_base_moof"}
    ),
    "short": lambda folder: write_av(folder / "clip.mp4", EVEN_MS[:12]),
}


@pytest.mark.parametrize("writer", CUT)
def test_chunks_hold_every_frame_once(tmp_path, writer):
    pytest.importorskip("av")
    path = CUT[writer](tmp_path)
    whole, (cuts, count) = frames_of(path), key_frames(path, 10)
    assert len(cuts) >= 3
    assert count == len(whole)
    assert cuts[0] == (0, 0)
    ends_ns = [cut.time_ns for cut in cuts[1:]] + [1 << 62]
    read: list[Frame] = []
    with VideoFile(path) as source:
        for place in np.random.default_rng(0).permutation(len(cuts)):  # in any order
            source.seek(cuts[place].time_ns, cuts[place].number)
            while (shown_ns := source.next_pts_ns()) is not None and shown_ns < ends_ns[place] - 500_000:
                frame = source.read()
                assert frame is not None
                read.append(frame)
    read.sort(key=lambda frame: frame.frame_id)
    assert [frame.frame_id for frame in read] == list(range(len(whole)))
    assert [frame.pts_ns for frame in read] == [frame.pts_ns for frame in whole]
    for one, other in zip(read, whole, strict=True):
        np.testing.assert_array_equal(one.image_bgr, other.image_bgr)


@pytest.mark.parametrize("writer", WHOLE)
def test_what_has_no_index_is_not_cut(tmp_path, writer):
    assert key_frames(WHOLE[writer](tmp_path), 10)[0] == []


@pytest.mark.parametrize("data", [b"", b"\0" * 4096, b"text" * 100])
def test_what_is_no_video_is_not_cut(tmp_path, data):
    pytest.importorskip("av")
    (tmp_path / "clip.mp4").write_bytes(data)
    assert key_frames(tmp_path / "clip.mp4", 10)[0] == []
