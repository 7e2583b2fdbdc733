from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from runtime.errors import ConfigError, OutputError
from runtime.masks.areas import class_areas
from runtime.masks.formats import decode_palette_png, decode_rle, mask_polygons
from runtime.outputs import JsonLines, MaskFolder, SnapshotFolder

ROOT = Path(__file__).parents[3]
SECOND_NS = 1_000_000_000
NEEDS_POSIX = pytest.mark.skipif(sys.platform == "win32", reason="POSIX limits")


def blobs(seed: int = 0, size_hw: tuple[int, int] = (48, 64), labels: int = 3) -> np.ndarray:
    """A mask of smooth regions."""
    noise = np.random.default_rng(seed).normal(size=(*size_hw, labels)).astype(np.float32)
    return cv2.GaussianBlur(noise, (0, 0), 4).reshape(*size_hw, labels).argmax(axis=2).astype(np.uint8)


def test_mask_folder_has_a_file_a_frame(tmp_path, stream, step):
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


def test_a_line_says_all_about_its_frame(tmp_path, stream, step):
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


def test_a_line_with_runs(tmp_path, stream, step):
    with JsonLines(tmp_path / "log.jsonl", masks="rle") as output:
        output.open(stream)
        output.take(step(mask=blobs()))
    record = json.loads((tmp_path / "log.jsonl").read_text())
    runs = {stream.contract.classes.names.index(name): counts for name, counts in record["rle"].items()}
    assert np.array_equal(decode_rle(runs, tuple(record["size_hw"])), blobs())


def test_a_line_with_outlines(tmp_path, stream, step):
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


FULL_DISK = """
import resource, sys
from pathlib import Path
sys.path[:0] = [{root!r}]
import numpy as np
from runtime.contract import ClassMap, GraphOutput, ImageInput, ModelContract, Normalization
from runtime.errors import OutputError
from runtime.frame import Frame, Segmentation
from runtime.loop import Step
from runtime.outputs import Stream, {kind}
from runtime.sources import FakeSource

resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
classes = ClassMap(names=("road", "sky", "car"), palette_rgb=((1, 2, 3), (4, 5, 6), (7, 8, 9)))
like_is = Normalization((0, 0, 0), (1, 1, 1))
contract = ModelContract("tiny", ImageInput((8, 8)), GraphOutput(8), classes, like_is)
output = {kind}({path!r}{more})
output.open(Stream(contract, FakeSource([])))
rng = np.random.default_rng(0)
count = 0
try:
    while True:
        side = 16 * (count + 1)
        mask = rng.integers(0, 3, (side, side)).astype(np.uint8)
        frame = Frame(np.repeat(mask[..., None] * 80, 3, axis=2), count, count)
        output.take(Step(frame, Segmentation(mask, dict()), dict(total=1.0), 0))
        count += 1
except OutputError as error:
    print(count, error)
"""


@pytest.fixture
def fill_disk() -> Callable[..., tuple[int, str]]:
    """Write until no file may grow; return the whole writes, and the error."""

    def fill(kind: str, path: Path, more: str = "") -> tuple[int, str]:
        code = FULL_DISK.format(root=str(ROOT), kind=kind, path=str(path), more=more)
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        count, _, message = done.stdout.strip().partition(" ")
        return int(count), message

    return fill


@NEEDS_POSIX
def test_full_disk_leaves_whole_lines(tmp_path, fill_disk):
    path = tmp_path / "log.jsonl"
    count, message = fill_disk("JsonLines", path, ", masks='rle'")
    assert "free some space" in message
    assert count > 0
    assert path.read_bytes().endswith(b"}\n")
    assert [json.loads(line)["frame_id"] for line in path.read_text().splitlines()] == list(range(count))


@NEEDS_POSIX
def test_full_disk_leaves_whole_masks(tmp_path, fill_disk):
    count, message = fill_disk("MaskFolder", tmp_path)
    assert "free some space" in message
    paths = sorted(tmp_path.iterdir())
    assert count == len(paths) > 0
    assert all(decode_palette_png(path.read_bytes()).size for path in paths)
