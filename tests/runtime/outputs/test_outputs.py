from __future__ import annotations

import itertools
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from runtime.contract import ClassMap
from runtime.errors import ConfigError, FrameError, OutputError
from runtime.frame import Frame, Segmentation
from runtime.loop import Step
from runtime.masks.areas import class_areas, class_indices
from runtime.masks.free_space import free_space
from runtime.masks.palette_png import decode_palette_png, encode_palette_png
from runtime.masks.polygons import mask_polygons
from runtime.masks.rle import decode_rle, encode_rle
from runtime.outputs import JsonLines, MaskFolder, Recording, SnapshotFolder, feed

ROOT = Path(__file__).parents[3]
CLASSES = ClassMap(names=("road", "sky", "car"), palette_rgb=((128, 64, 128), (0, 0, 255), (0, 255, 0)))
SECOND_NS = 1_000_000_000
NEEDS_POSIX = pytest.mark.skipif(sys.platform == "win32", reason="POSIX limits")


def blobs(seed: int = 0, size_hw: tuple[int, int] = (48, 64), labels: int = 3) -> np.ndarray:
    """A mask of smooth regions."""
    noise = np.random.default_rng(seed).normal(size=(*size_hw, labels)).astype(np.float32)
    return cv2.GaussianBlur(noise, (0, 0), 4).reshape(*size_hw, labels).argmax(axis=2).astype(np.uint8)


def step(
    frame_id: int = 0, mask: np.ndarray | None = None, captured_ns: int | None = None, drawn: bool = False
) -> Step:
    mask = blobs() if mask is None else mask
    image = np.full((*mask.shape, 3), 40, np.uint8)
    captured_ns = time.monotonic_ns() if captured_ns is None else captured_ns
    frame = Frame(image, frame_id, captured_ns)
    result = Segmentation(mask, {"network": 3.0}, frame_id, captured_ns)
    latency_ms = {"network": 3.0, "total": 5.0}
    return Step(frame, result, image + 100 if drawn else None, latency_ms, captured_ns + 5_000_000, dropped=2)


def naive_rle(mask: np.ndarray, label: int) -> list[int]:
    """COCO's definition, pixel by pixel."""
    pixels = (mask == label).flatten(order="F").tolist()
    runs = [(value, len(list(group))) for value, group in itertools.groupby(pixels)]
    return ([] if not runs[0][0] else [0]) + [length for _, length in runs]


@pytest.mark.parametrize("size_hw", [(48, 64), (1, 9), (9, 1), (1, 1)])
def test_rle_is_cocos(size_hw):
    mask = blobs(3, size_hw)
    runs = encode_rle(mask)
    assert runs == {label: naive_rle(mask, label) for label in np.unique(mask).tolist()}


def test_rle_comes_back():
    mask = blobs(1)
    mask[0, 0] = 255
    assert np.array_equal(decode_rle(encode_rle(mask), mask.shape), mask)


def test_rle_of_one_class_fills_the_rest():
    assert decode_rle({2: [1, 2, 1]}, (2, 2), fill=9).tolist() == [[9, 2], [2, 9]]


@pytest.mark.parametrize("runs", [{0: [3]}, {0: [5, -1]}, {256: [4]}])
def test_rle_that_cannot_be(runs):
    with pytest.raises(FrameError, match="RLE of class"):
        decode_rle(runs, (2, 2))


@pytest.mark.parametrize("use", [encode_rle, mask_polygons, lambda mask: free_space(mask, {0})])
def test_mask_of_another_type(use):
    with pytest.raises(FrameError, match=r"expected a class mask, uint8 \(H, W\), got int64"):
        use(np.zeros((4, 4), np.int64))


def drawn(polygons: dict, size_hw: tuple[int, int], label: int) -> np.ndarray:
    """Fill polygons; holes are their inner border's other side."""
    picture = np.zeros(size_hw, np.uint8)
    for outline, *holes in polygons.get(label, []):
        cv2.fillPoly(picture, [np.array(outline, np.int32)], 1)
        for hole in holes:
            cv2.fillPoly(picture, [np.array(hole, np.int32)], 0)
            cv2.polylines(picture, [np.array(hole, np.int32)], True, 1)
    return picture


def test_polygons_draw_the_mask_again():
    mask = blobs(2, (90, 120))
    polygons = mask_polygons(mask, epsilon_px=0, min_area_px=0)
    for label in range(3):
        again = drawn(polygons, mask.shape, label)
        assert (again == (mask == label)).mean() > 0.995


def test_a_hole_is_the_second_ring():
    mask = np.zeros((40, 40), np.uint8)
    mask[5:35, 5:35] = 1
    mask[12:28, 12:28] = 0
    ((outline, hole),) = mask_polygons(mask)[1]
    assert sorted(outline) == [[5, 5], [5, 34], [34, 5], [34, 34]]
    assert len(hole) >= 4
    assert np.array(hole).min() == 11


def test_epsilon_thins_and_small_parts_are_left_out():
    mask = np.zeros((100, 100), np.uint8)
    cv2.circle(mask, (50, 50), 40, 1, -1)
    mask[2:4, 2:4] = 2
    fine, coarse = (len(mask_polygons(mask, epsilon_px)[1][0][0]) for epsilon_px in (0.0, 3.0))
    assert coarse < fine / 3
    assert 2 not in mask_polygons(mask)


@pytest.mark.parametrize("wrong", [{"epsilon_px": -1.0}, {"min_area_px": -1.0}])
def test_polygon_settings_that_cannot_be(wrong):
    with pytest.raises(ConfigError, match="at least 0"):
        mask_polygons(blobs(), **wrong)


def test_areas_count_every_pixel():
    mask = blobs(4)
    expected = {name: int((mask == label).sum()) for label, name in enumerate(CLASSES.names)}
    assert class_areas(mask, CLASSES) == expected


def test_a_class_that_is_not_there():
    assert class_indices(CLASSES, ["sky", "road"]) == {0, 1}
    with pytest.raises(ConfigError, match="expected names among road, sky, car, got tram"):
        class_indices(CLASSES, ["tram"])


def test_free_space_is_measured_from_the_lower_edge():
    mask = np.ones((10, 9), np.uint8)
    mask[4:, 6:] = 0  # free on the right, 6 rows high
    mask[9, :6] = 0
    mask[2, 6:] = 0  # beyond the obstacle: does not count
    space = free_space(mask, {0}, sectors=3)
    assert space.reach.tolist() == pytest.approx([0.1, 0.1, 0.6])
    assert (space.ahead, round(space.heading, 3)) == (pytest.approx(0.1), 0.667)


def test_free_space_of_all_and_of_nothing():
    assert free_space(np.zeros((8, 8), np.uint8), {0}, sectors=4).heading == pytest.approx(-0.25)
    space = free_space(np.zeros((8, 8), np.uint8), {1}, sectors=4)
    assert (space.ahead, space.heading) == (0.0, 0.0)


def test_more_sectors_than_pixels():
    with pytest.raises(ConfigError, match="1 to 4 sectors"):
        free_space(np.zeros((4, 4), np.uint8), {0}, sectors=5)


def test_palette_png_is_colours_to_opencv_and_indices_to_its_decoder():
    mask = blobs(5)
    png = encode_palette_png(mask, CLASSES)
    image_bgr = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)
    assert np.array_equal(image_bgr[..., ::-1], np.array(CLASSES.palette_rgb, np.uint8)[mask])
    assert np.array_equal(decode_palette_png(png), mask)


@pytest.mark.parametrize(
    "broken",
    [
        lambda png: b"",
        lambda png: png[:-20],
        lambda png: png.replace(b"IDAT", b"IDAX"),
        lambda png: cv2.imencode(".png", blobs())[1].tobytes(),
    ],
    ids=["empty", "cut off", "changed", "another kind"],
)
def test_palette_png_that_is_none(broken):
    with pytest.raises(FrameError, match="expected a whole palette PNG"):
        decode_palette_png(broken(encode_palette_png(blobs(), CLASSES)))


def test_mask_folder_has_a_file_a_frame(tmp_path):
    folder = tmp_path / "new" / "masks"
    with MaskFolder(folder, CLASSES) as output:
        for index in range(3):
            output(step(index * 7, blobs(index)))
    assert sorted(path.name for path in folder.iterdir()) == [
        "mask_00000000.png",
        "mask_00000007.png",
        "mask_00000014.png",
    ]
    assert np.array_equal(decode_palette_png((folder / "mask_00000007.png").read_bytes()), blobs(1))


def test_snapshots_keep_their_rhythm(tmp_path):
    with SnapshotFolder(tmp_path, CLASSES, every_s=1.0) as output:
        for index in range(36):  # 10 frames a second with a gap of 1.7 s
            output(
                step(index, captured_ns=SECOND_NS + index * SECOND_NS // 10 + (index > 12) * 1_700_000_000)
            )
    assert sorted(int(path.stem.removeprefix("frame_")) for path in tmp_path.iterdir()) == [0, 10, 13, 23, 33]
    assert cv2.imread(str(tmp_path / "frame_00000000.jpg")).shape == (48, 64, 3)


@pytest.mark.parametrize("every_s", [0.0, -1.0, float("nan")])
def test_snapshots_without_a_rhythm(tmp_path, every_s):
    with pytest.raises(ConfigError, match="positive seconds"):
        SnapshotFolder(tmp_path, CLASSES, every_s=every_s)


@pytest.mark.parametrize("kind", [MaskFolder, SnapshotFolder])
def test_pictures_where_no_folder_can_be(tmp_path, kind):
    (tmp_path / "file").touch()
    with kind(tmp_path / "file", CLASSES) as output, pytest.raises(OutputError, match="cannot write"):
        output(step())


def test_a_line_says_all_about_its_frame(tmp_path):
    path = tmp_path / "new" / "log.jsonl"
    before_s = time.time()
    with JsonLines(path, CLASSES) as output:
        output(step(7))
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
    assert record["areas"] == class_areas(blobs(), CLASSES)
    assert before_s - 1 < record["captured_unix_s"] < before_s + 60


def test_a_line_with_runs(tmp_path):
    with JsonLines(tmp_path / "log.jsonl", CLASSES, masks="rle") as output:
        output(step())
    record = json.loads((tmp_path / "log.jsonl").read_text())
    runs = {CLASSES.names.index(name): counts for name, counts in record["rle"].items()}
    assert np.array_equal(decode_rle(runs, tuple(record["size_hw"])), blobs())


def test_a_line_with_outlines(tmp_path):
    with JsonLines(tmp_path / "log.jsonl", CLASSES, masks="polygons") as output:
        output(step())
    polygons = json.loads((tmp_path / "log.jsonl").read_text())["polygons"]
    assert {CLASSES.names.index(name): item for name, item in polygons.items()} == mask_polygons(blobs())


def test_jsonl_where_no_file_can_be(tmp_path):
    with pytest.raises(OutputError, match="cannot write"):
        JsonLines(tmp_path, CLASSES)


def test_jsonl_in_an_unknown_form(tmp_path):
    with pytest.raises(ConfigError, match="none, rle, polygons"):
        JsonLines(tmp_path / "log.jsonl", CLASSES, masks="png")  # type: ignore[arg-type]


FULL_DISK = """
import resource, sys
from pathlib import Path
sys.path[:0] = [{root!r}]
import numpy as np
from runtime.contract import ClassMap
from runtime.errors import OutputError
from runtime.frame import Frame, Segmentation
from runtime.loop import Step
from runtime.outputs import {kind}

resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
classes = ClassMap(names=("road", "sky", "car"), palette_rgb=((1, 2, 3), (4, 5, 6), (7, 8, 9)))
output = {kind}({path!r}, classes{more})
rng = np.random.default_rng(0)
count = 0
try:
    while True:
        side = 16 * (count + 1)
        mask = rng.integers(0, 3, (side, side)).astype(np.uint8)
        frame = Frame(np.repeat(mask[..., None] * 80, 3, axis=2), count, count)
        output(Step(frame, Segmentation(mask, dict()), None, dict(total=1.0), 0))
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


@pytest.mark.parametrize(
    ("view", "width", "level"), [("overlay", 64, 140), ("mask", 64, None), ("side-by-side", 128, 40)]
)
def test_recording_shows_what_was_asked_for(tmp_path, view, width, level):
    path = tmp_path / "out.avi"
    with Recording(path, 10.0, CLASSES, view=view) as output:
        output(step(mask=np.full((48, 64), 2, np.uint8), drawn=True))
    _, image_bgr = cv2.VideoCapture(str(path)).read()
    assert image_bgr.shape == (48, width, 3)
    left, right = image_bgr[24, 10].tolist(), image_bgr[24, -10].tolist()
    if level is not None:
        assert left == pytest.approx([level] * 3, abs=6)
    if view != "overlay":
        assert right == pytest.approx([0, 255, 0], abs=6)


def test_recording_an_overlay_that_nobody_draws(tmp_path):
    with (
        Recording(tmp_path / "out.avi", 10.0, CLASSES) as output,
        pytest.raises(ConfigError, match="overlay"),
    ):
        output(step())


def test_recording_an_unknown_view(tmp_path):
    with pytest.raises(ConfigError, match="overlay, mask, side-by-side, got 'logits'"):
        Recording(tmp_path / "out.avi", 10.0, CLASSES, view="logits")  # type: ignore[arg-type]


def test_feed_calls_every_output_and_counts_its_time():
    seen: list[int] = []
    steps = [step(0), step(1)]

    def slow(taken: Step) -> None:
        time.sleep(0.002)
        seen.append(taken.frame.frame_id)

    fed = list(feed(steps, [slow, lambda taken: seen.append(-1)]))
    assert seen == [0, -1, 1, -1]
    assert all(list(after.latency_ms) == ["network", "outputs", "total"] for after in fed)
    assert all(after.latency_ms["outputs"] >= 2 for after in fed)
    assert fed[0].age_ms == pytest.approx(5.0 + fed[0].latency_ms["outputs"])


def test_feed_without_outputs_changes_nothing():
    steps = [step(0)]
    assert list(feed(steps, [])) == steps


def test_an_output_that_fails_does_not_cost_the_others_their_step():
    seen: list[int] = []

    def broken(_: Step) -> None:
        raise OutputError("disk gone")

    with pytest.raises(OutputError, match="disk gone"):
        list(feed([step(3)], [broken, lambda taken: seen.append(taken.frame.frame_id)]))
    assert seen == [3]


def test_an_output_that_fails_can_be_left_out():
    seen: list[int] = []
    lost: list[tuple[object, str]] = []

    def full(taken: Step) -> None:
        if taken.frame.frame_id >= 1:
            raise OutputError("disk full")

    outputs = [full, lambda taken: seen.append(taken.frame.frame_id)]
    fed = list(feed([step(0), step(1), step(2)], outputs, on_failure=lambda *what: lost.append(what)))
    assert (len(fed), seen) == (3, [0, 1, 2])
    assert [(output, str(error)) for output, error in lost] == [(full, "disk full")]
