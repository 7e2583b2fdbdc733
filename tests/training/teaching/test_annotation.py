import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from runtime.contract import CAMVID_CLASSES
from training.data import Sample, open_dataset
from training.data.dataset import IGNORE
from training.teaching.annotation import brush_runs, cvat_runs, write_tasks

NAMES = ("b", "a", "c é", "d")


def frame(name: str) -> Sample:
    """A frame whose classes are blobs, with void at its borders, and one class in one corner pixel."""
    rng = np.random.default_rng(NAMES.index(name))
    noise = cv2.GaussianBlur(rng.normal(size=(45, 60)), (0, 0), 5)
    label = np.digitize(noise, np.quantile(noise, np.linspace(0, 1, 12)[1:-1])).astype(np.uint8)
    label[:2] = label[:, -3:] = IGNORE
    label[-1, -1] = 6
    return Sample(rng.integers(0, 256, (45, 60, 3), np.uint8), label, name)


@pytest.fixture(scope="module")
def round_1(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drive") / "round-1"
    write_tasks(folder, NAMES, frame, CAMVID_CLASSES, "research use")
    return folder


def submitted(folder: Path) -> None:
    """Put back what CVAT and Label Studio export when every pre-filled mask is accepted."""
    shutil.copy(folder / "tasks" / "annotations.xml", folder)
    tasks = json.loads((folder / "tasks" / "label-studio.json").read_text())
    for number, task in enumerate(tasks):
        (prediction,) = task.pop("predictions")
        task |= {"id": number, "annotations": [{"id": number, "result": prediction["result"]}]}
    (folder / "export.json").write_text(json.dumps(tasks))


@pytest.mark.parametrize("data", ["folder", "cvat", "label-studio"])
def test_what_was_written_is_read_back_as_it_was(tmp_path: Path, round_1: Path, data: str) -> None:
    folder = shutil.copytree(round_1, tmp_path / "round-1")
    submitted(folder)
    found = {}
    for split in ("train", "val"):
        dataset = open_dataset(data, folder, split)
        assert dataset.classes == CAMVID_CLASSES
        assert dataset.terms == "research use"
        found |= {Path(dataset[index].name).stem: dataset[index] for index in range(len(dataset))}
    assert sorted(found) == sorted(NAMES)
    for name in NAMES:
        np.testing.assert_array_equal(found[name].label, frame(name).label)
        np.testing.assert_array_equal(found[name].image_bgr, frame(name).image_bgr)


def test_images_are_numbered_as_cvat_sorts_them(round_1: Path) -> None:
    text = (round_1 / "tasks" / "annotations.xml").read_text()
    assert [text.index(f'<image id="{number}" name="{name}.png"') for number, name in enumerate("ab")]
    labels = json.loads((round_1 / "tasks" / "cvat-labels.json").read_text())
    assert labels[3] == {"name": "road", "color": "#804080", "type": "mask", "attributes": []}
    assert '<Label value="road" background="#804080" />' in (round_1 / "tasks/label-studio.xml").read_text()


def test_a_folder_that_fails_is_not_there(tmp_path: Path) -> None:
    def broken(name: str) -> Sample:
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_tasks(tmp_path / "round-1", NAMES, broken, CAMVID_CLASSES)
    assert list(tmp_path.iterdir()) == []


def unpacked(packed: list[int], count: int) -> list[int]:
    """Read the packing of @thi.ng/rle-pack, bit by bit, as its description says."""
    bits = "".join(f"{byte:08b}" for byte in packed)

    def read(size: int) -> int:
        nonlocal bits
        word, bits = int(bits[:size], 2), bits[size:]
        return word

    assert read(32) == count
    word_size = read(5) + 1
    sizes = [read(4) + 1 for _ in range(4)]
    values: list[int] = []
    while len(values) < count:
        is_run = read(1)
        length = read(sizes[read(2)]) + 1
        values += [read(word_size)] * length if is_run else [read(word_size) for _ in range(length)]
    assert "1" not in bits
    return values


MASKS = {
    "empty": np.zeros((3, 5), bool),
    "full": np.ones((3, 5), bool),
    "noise": np.random.default_rng(0).random((20, 30)) < 0.5,
    "longer than the longest run": np.ones((200, 200), bool),
    "two long runs": np.arange(150 * 300).reshape(150, 300)
    > 16384,  # 65536 values, just the longest, and more
}


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
def test_a_brush_unpacks_to_a_picture_of_four_channels(mask: np.ndarray) -> None:
    values = unpacked(brush_runs(mask), mask.size * 4)
    np.testing.assert_array_equal(values, np.repeat(mask.ravel() * 255, 4))


def test_runs_of_cvat_alternate_within_their_box() -> None:
    mask = np.random.default_rng(1).random((9, 7)) < 0.3
    runs, (left, top, width, height) = cvat_runs(mask)
    inside = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(height, width)
    np.testing.assert_array_equal(inside, mask[top : top + height, left : left + width])
    assert inside.sum() == mask.sum()
