import json
import os
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image as PillowImage

from runtime.errors import DatasetError
from training.data import Sample, open_dataset
from training.data.folder import distinct_palette

THREE = {"names": ["floor", "wall", "door"]}
MAPPED = {**THREE, "class_of": {"13": "floor", "24": "floor", "7": "wall", "0": "door", "65": None}}


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
    described = {**THREE, "palette": palette, "traversable": ["floor"], "terms": "CC BY 4.0"}
    dataset = open_dataset("folder", make_folder(("train/a.png",), described), "train")
    assert dataset.classes.names == ("floor", "wall", "door")
    assert dataset.classes.palette_rgb == ((1, 2, 3), (4, 5, 6), (7, 8, 9))
    assert dataset.classes.traversable == ("floor",)
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
        ({**THREE, "traversable": ["flor"]}, "traversable: expected classes among floor, .*, got 'flor'"),
        ({**THREE, "ignroe_index": 9}, "ignroe_index: unknown field"),
        (["floor"], "expected an object, got list"),
        ({**THREE, "class_of": {"0": "floor", "1": "wall"}}, "a value for each class, got none for 'door'"),
        ({**THREE, "class_of": {"0": "flor"}}, "names out of .*, got 'flor'"),
        ({**MAPPED, "ignore_index": 9}, r"no ignore_index beside class_of, got both; write \"9\": null"),
        ({**MAPPED, "unlisted": "ignore"}, "unlisted: expected one of"),
        ({**THREE, "class_of": {"256": "floor", "1": "wall", "2": "door"}}, "ids from 0 to 255 .* got '256'"),
        ({**THREE, "class_of": {"#80": "floor", "#000001": "wall", "#000002": "door"}}, "got '#80'"),
        ({**THREE, "class_of": {"#000000": "floor", "1": "wall", "2": "door"}}, "ids or colours, got both"),
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


def test_a_pipe_for_classes_is_refused_at_once(make_folder: Callable[..., Path]) -> None:
    root = make_folder(("train/a.png",))
    (root / "classes.json").unlink()
    os.mkfifo(root / "classes.json")
    with pytest.raises(DatasetError, match="it is a pipe, not a regular file"):
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
        (("a.png",), "train", "split 'train': expected train or val of at least 2 images, .* got 1 images"),
        (
            ("a.png", "b.png"),
            "test",
            "split 'test': expected train or val .* got 2 images; .* or make images/test",
        ),
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


def write_label(root: Path, label: np.ndarray) -> None:
    size_hw = label.shape[:2]
    cv2.imwrite(str(root / "images" / "train" / "a.png"), np.zeros((*size_hw, 3), np.uint8))
    cv2.imwrite(str(root / "labels" / "train" / "a.png"), label)


def test_ids_of_other_classes_are_mapped(make_folder: Callable[..., Path]) -> None:
    root = make_folder(("train/a.png",), MAPPED)
    write_label(root, np.array([[13, 24, 7, 0, 65, 255]], np.uint8))
    assert open_dataset("folder", root, "train")[0].label.tolist() == [[0, 0, 1, 2, 255, 255]]


def test_a_mask_of_0_and_255_can_be_two_classes(make_folder: Callable[..., Path]) -> None:
    classes = {"names": ["ground", "person"], "class_of": {"0": "ground", "255": "person"}}
    root = make_folder(("train/a.png",), classes)
    write_label(root, np.array([[0, 255]], np.uint8))
    assert open_dataset("folder", root, "train")[0].label.tolist() == [[0, 1]]


def test_an_unlisted_id_is_an_error_unless_the_file_says_void(make_folder: Callable[..., Path]) -> None:
    root = make_folder(("train/a.png",), MAPPED)
    write_label(root, np.array([[13, 8, 9]], np.uint8))
    with pytest.raises(DatasetError, match="expected ids that class_of lists, or 255 for void, got 8, 9;"):
        open_dataset("folder", root, "train")[0]
    (root / "classes.json").write_text(json.dumps({**MAPPED, "unlisted": "void"}))
    assert open_dataset("folder", root, "train")[0].label.tolist() == [[0, 255, 255]]


def test_colours_are_mapped(make_folder: Callable[..., Path]) -> None:
    colors = {"#804080": "floor", "#0000FF": "wall", "#00ff00": "door", "#000000": None}
    root = make_folder(("train/a.png",), {**THREE, "class_of": colors})
    rgb = np.array([[(128, 64, 128), (0, 0, 255), (0, 255, 0), (0, 0, 0)]], np.uint8)
    write_label(root, rgb[:, :, ::-1])
    assert open_dataset("folder", root, "train")[0].label.tolist() == [[0, 1, 2, 255]]


def test_unlisted_colours_are_an_error_unless_the_file_says_void(make_folder: Callable[..., Path]) -> None:
    classes = {"names": ["floor"], "class_of": {"#804080": "floor"}}
    root = make_folder(("train/a.png",), classes)
    rgb = np.array([[(128, 64, 128), (255, 255, 255), (0, 1, 2)]], np.uint8)
    write_label(root, rgb[:, :, ::-1])
    with pytest.raises(DatasetError, match="expected colours that class_of lists, got #000102, #ffffff;"):
        open_dataset("folder", root, "train")[0]
    (root / "classes.json").write_text(json.dumps({**classes, "unlisted": "void"}))
    assert open_dataset("folder", root, "train")[0].label.tolist() == [[0, 255, 255]]


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_labels_with_a_palette_count_by_its_indices(make_folder: Callable[..., Path], bits: int) -> None:
    names = [f"class {index}" for index in range(min(200, 2**bits))]
    root = make_folder(("train/a.png",), {"names": names})
    ids = np.random.default_rng(0).integers(0, len(names), (9, 13), np.uint8)
    write_label(root, ids)
    picture = PillowImage.fromarray(ids).convert("P")
    picture.putpalette([index % 7 for index in range(768)])  # colours that alone would not tell
    picture.save(root / "labels" / "train" / "a.png", bits=bits)
    assert np.array_equal(open_dataset("folder", root, "train")[0].label, ids)


def test_a_cut_off_label_with_a_palette_is_refused(make_folder: Callable[..., Path]) -> None:
    root = make_folder(("train/a.png",))
    path = root / "labels" / "train" / "a.png"
    PillowImage.fromarray(np.zeros((48, 64), np.uint8)).convert("P").save(path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DatasetError, match="expected an image that is whole"):
        open_dataset("folder", root, "train")[0]


def test_an_id_outside_the_classes_is_refused(make_folder: Callable[..., Path]) -> None:
    root = make_folder(("train/a.png",))
    cv2.imwrite(str(root / "labels" / "train" / "a.png"), np.full((48, 64), 3, np.uint8))
    with pytest.raises(DatasetError, match=r"a\.png: expected class ids from 0 to 2 or 255 for void, got 3"):
        open_dataset("folder", root, "train")[0]
