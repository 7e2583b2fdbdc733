from __future__ import annotations

import sys

import cv2
import numpy as np
import pytest

from runtime.errors import ConfigError, OutputError
from runtime.masks.formats import decode_palette_png
from runtime.outputs import MaskFolder, SnapshotFolder

SECOND_NS = 1_000_000_000
NEEDS_POSIX = pytest.mark.skipif(sys.platform == "win32", reason="POSIX limits")


def test_mask_folder_has_a_file_a_frame(tmp_path, stream, step, blobs):
    folder = tmp_path / "new" / "masks"
    with MaskFolder(folder) as output:
        output.open(stream)
        for index in range(3):
            output.take(step(index * 7, blobs(index)))
    assert sorted(path.name for path in folder.iterdir()) == [
        "mask_00000000.png",
        "mask_00000007.png",
        "mask_00000014.png",
    ]
    assert np.array_equal(decode_palette_png((folder / "mask_00000007.png").read_bytes()), blobs(1))


def test_snapshots_keep_their_rhythm(tmp_path, step):
    with SnapshotFolder(tmp_path, every_s=1.0) as output:
        for index in range(36):  # 10 frames a second with a gap of 1.7 s
            output.take(
                step(index, captured_ns=SECOND_NS + index * SECOND_NS // 10 + (index > 12) * 1_700_000_000)
            )
    assert sorted(int(path.stem.removeprefix("frame_")) for path in tmp_path.iterdir()) == [0, 10, 13, 23, 33]
    assert cv2.imread(str(tmp_path / "frame_00000000.jpg")).shape == (48, 64, 3)


@pytest.mark.parametrize("every_s", [0.0, -1.0, float("nan")])
def test_snapshots_without_a_rhythm(tmp_path, every_s):
    with pytest.raises(ConfigError, match="positive seconds"):
        SnapshotFolder(tmp_path, every_s=every_s)


@pytest.mark.parametrize("kind", [MaskFolder, SnapshotFolder])
def test_pictures_where_no_folder_can_be(tmp_path, stream, step, kind):
    (tmp_path / "file").touch()
    with kind(tmp_path / "file") as output:
        output.open(stream)
        with pytest.raises(OutputError, match="cannot write"):
            output.take(step())


def test_a_snapshot_is_the_overlay(tmp_path, step):
    taken = step()
    with SnapshotFolder(tmp_path) as output:
        output.take(taken)
    stored_bgr = cv2.imread(str(tmp_path / "frame_00000000.jpg"))
    assert np.abs(stored_bgr.astype(int) - taken.overlay_bgr).mean() < 3


def test_a_snapshot_that_is_not_due_draws_nothing(tmp_path, step):
    with SnapshotFolder(tmp_path, every_s=60) as output:
        output.take(step(captured_ns=SECOND_NS))
        later = step(captured_ns=2 * SECOND_NS)
        output.take(later)
    assert later.overlay.draw_ms == 0


@NEEDS_POSIX
def test_full_disk_leaves_whole_masks(tmp_path, fill_disk):
    count, message = fill_disk("MaskFolder", tmp_path)
    assert "free some space" in message
    paths = sorted(tmp_path.iterdir())
    assert count == len(paths) > 0
    assert all(decode_palette_png(path.read_bytes()).size for path in paths)
