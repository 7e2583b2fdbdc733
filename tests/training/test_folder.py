import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from runtime.errors import DatasetError
from training.data import Sample, open_dataset
from training.data.folder import distinct_palette

THREE = {"names": ["floor", "wall", "door"]}


@pytest.fixture
def make_folder(tmp_path: Path, make_sample: Callable[..., Sample]) -> Callable[..., Path]:
    def make(files: tuple[str, ...], classes: object = THREE, void: int = 255) -> Path:
        (tmp_path / "classes.json").write_text(json.dumps(classes))
        for seed, file in enumerate(files):
            image, label = tmp_path / "images" / file, (tmp_path / "labels" / file).with_suffix(".png")
            image.parent.mkdir(parents=True, exist_ok=True)
            label.parent.mkdir(parents=True, exist_ok=True)
            sample = make_sample(seed)
            ids = sample.label % 3
            ids[0] = void
            cv2.imwrite(str(image), sample.image_bgr)
            cv2.imwrite(str(label), ids)
        return tmp_path

    return make


def test_split_folders_and_image_formats(make_folder: Callable[..., Path]) -> None:
    root = make_folder(("train/a.png", "train/b.jpg", "train/c.JPEG", "train/d.bmp", "val/e.png"))
    names = [sample.name for sample in open_dataset("folder", root, "train")]  # type: ignore[attr-defined]
    assert names == ["a.png", "b.jpg", "c.JPEG", "d.bmp"]
    assert len(open_dataset("folder", root, "val")) == 1


def test_without_split_folders_the_last_fifth_is_val(make_folder: Callable[..., Path]) -> None:
    root = make_folder(tuple(f"{index:02d}.png" for index in range(11)))
    train, val = open_dataset("folder", root, "train"), open_dataset("folder", root, "val")
    assert (len(train), len(val)) == (9, 2)
    assert [val[0].name, val[1].name] == ["09.png", "10.png"]


def test_classes_come_from_the_file(make_folder: Callable[..., Path]) -> None:
    palette = [[1, 2, 3], [4, 5, 6], [7, 8, 9]]
    described = {**THREE, "palette": palette, "terms": "CC BY 4.0"}
    dataset = open_dataset("folder", make_folder(("train/a.png",), described), "train")
    assert dataset.classes.names == ("floor", "wall", "door")
    assert dataset.classes.palette_rgb == ((1, 2, 3), (4, 5, 6), (7, 8, 9))
    assert dataset.terms == "CC BY 4.0"


@pytest.mark.parametrize("void", [3, 100, 255])
def test_void_is_255_in_samples_whatever_the_files_use(make_folder: Callable[..., Path], void: int) -> None:
    root = make_folder(("train/a.png",), {**THREE, "ignore_index": void}, void=void)
    dataset = open_dataset("folder", root, "train")
    assert dataset.classes.ignore_index == 255
    assert (dataset[0].label[0] == 255).all()
    assert dataset[0].label[1:].max() == 2


@pytest.mark.parametrize("count", [1, 11, 19, 150, 255])
def test_generated_colours_differ(count: int) -> None:
    assert len(set(distinct_palette(count))) == count


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ({}, "names: missing"),
        ({"names": []}, "expected 1 to 255 names, got 0"),
        ({"names": ["a", "a"]}, "expected unique names"),
        ({"names": "floor"}, "names: expected a list"),
        ({"names": ["a", 3]}, "expected str, got 3"),
        ({**THREE, "palette": [[0, 0, 0]]}, r"expected one colour a class \(3\), got 1"),
        ({**THREE, "palette": [[0, 0, 300]] * 3}, "palette values from 0 to 255"),
        ({**THREE, "ignore_index": 1}, "expected an ignore index from 3 to 255, got 1"),
        ({**THREE, "ignroe_index": 9}, "ignroe_index: unknown field"),
        (["floor"], "expected an object, got list"),
    ],
)
def test_impossible_classes_are_refused(
    make_folder: Callable[..., Path], classes: object, message: str
) -> None:
    root = make_folder(("train/a.png",), classes)
    with pytest.raises(DatasetError, match=r"classes\.json: .*" + message):
        open_dataset("folder", root, "train")


def test_a_classes_file_that_is_not_json_is_refused(make_folder: Callable[..., Path]) -> None:
    root = make_folder(("train/a.png",))
    (root / "classes.json").write_text("names: floor")
    with pytest.raises(DatasetError, match=r"classes\.json: expected JSON"):
        open_dataset("folder", root, "train")


def test_a_missing_classes_file_is_refused(make_folder: Callable[..., Path]) -> None:
    root = make_folder(("train/a.png",))
    (root / "classes.json").unlink()
    with pytest.raises(DatasetError, match=r"classes\.json: expected a file such as"):
        open_dataset("folder", root, "train")


@pytest.mark.parametrize(
    ("files", "split", "message"),
    [
        (("train/a.png",), "val", r"expected a folder 'val', found \['train'\]"),
        (("a.png",), "train", "at least 2 images for train and val, got split 'train' of 1 images"),
        (("a.png", "b.png"), "test", "got split 'test' of 2 images without folders; make images/test"),
        (("train/a.png", "train/a.jpg"), "train", r"a\.png: expected one file a name, found a\.jpg too"),
    ],
)
def test_impossible_layouts_are_refused(
    make_folder: Callable[..., Path], files: tuple[str, ...], split: str, message: str
) -> None:
    with pytest.raises(DatasetError, match=message):
        open_dataset("folder", make_folder(files), split)


def test_a_folder_without_images_is_refused(make_folder: Callable[..., Path]) -> None:
    with pytest.raises(DatasetError, match="images: expected a folder of images, found none"):
        open_dataset("folder", make_folder(()), "train")


def test_an_empty_image_folder_is_refused(make_folder: Callable[..., Path]) -> None:
    root = make_folder(("train/a.png",))
    (root / "images" / "train" / "a.png").unlink()
    with pytest.raises(DatasetError, match="train: expected files ending in"):
        open_dataset("folder", root, "train")


def test_an_id_outside_the_classes_is_refused(make_folder: Callable[..., Path]) -> None:
    root = make_folder(("train/a.png",))
    cv2.imwrite(str(root / "labels" / "train" / "a.png"), np.full((48, 64), 3, np.uint8))
    with pytest.raises(DatasetError, match=r"a\.png: expected class ids from 0 to 2 or 255 for void, got 3"):
        open_dataset("folder", root, "train")[0]
