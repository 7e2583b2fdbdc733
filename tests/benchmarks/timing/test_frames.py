from __future__ import annotations

from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks.timing.frames import DISTINCT_FRAMES, frame_batches, open_endless, read_frames
from runtime.errors import SourceError


def test_pictures_start_anew_after_the_last(tmp_path: Path) -> None:
    for level in range(3):
        cv2.imwrite(str(tmp_path / f"{level}.png"), np.full((8, 8, 3), level, np.uint8))
    with open_endless(str(tmp_path / "*.png")) as source:
        frames = list(islice(source, 8))
        assert not source.live
    assert [int(frame.image_bgr[0, 0, 0]) for frame in frames] == [0, 1, 2, 0, 1, 2, 0, 1]
    assert [frame.frame_id for frame in frames] == list(range(8))


def test_the_synthetic_drive_repeats_a_few_rendered_frames() -> None:
    with open_endless("synthetic", size_hw=(90, 120)) as source:
        images = [frame.image_bgr for frame in islice(source, DISTINCT_FRAMES + 2)]
    assert images[DISTINCT_FRAMES] is images[0]
    assert not np.array_equal(images[0], images[1])
    assert source.fps == 15.0


def test_plays_at_its_own_pace_where_asked_to() -> None:
    with open_endless("synthetic", realtime=True, size_hw=(90, 120)) as source:
        assert source.live


def test_a_file_that_breaks_is_told(tmp_path: Path) -> None:
    (tmp_path / "no.png").write_bytes(b"no picture")
    with open_endless(str(tmp_path / "no.png")) as source, pytest.raises(SourceError, match=r"no\.png"):
        list(source)


def test_frames_of_different_sizes_are_refused(tmp_path: Path) -> None:
    for index, size in enumerate((8, 16)):
        cv2.imwrite(str(tmp_path / f"{index}.png"), np.zeros((size, size, 3), np.uint8))
    with pytest.raises(SourceError, match="expected frames of one size"):
        read_frames(str(tmp_path / "*.png"), 2)


def test_a_camera_is_refused() -> None:
    with pytest.raises(SourceError, match=r"expected images or a recording.*--save"):
        next(frame_batches("9999", 1))
    with pytest.raises(SourceError, match="expected images or a recording"):
        read_frames("rtsp://camera", 1)
