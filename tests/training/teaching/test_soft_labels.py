import dataclasses
import json
import struct
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from runtime.contract import CAMVID_CLASSES
from runtime.errors import DatasetError
from training.data import Augment, AugmentConfig, Sample, open_dataset
from training.data.cityscapes import CITYSCAPES_CLASSES
from training.engine.config import TrainConfig
from training.engine.trainer import Trainer
from training.teaching.soft_labels import (
    Lessons,
    SoftLabels,
    Taught,
    TeacherFile,
    UnlabelledFrames,
    write_description,
    write_soft_labels,
)

TEACHER = TeacherFile(CAMVID_CLASSES.names, stride=4, networks=("m",), terms="research use")


def random_probabilities(seed: int, classes: int = 11, size_hw: tuple[int, int] = (12, 16)) -> np.ndarray:
    drawn = np.random.default_rng(seed).dirichlet(np.full(classes, 0.3), size_hw)
    return drawn.transpose(2, 0, 1).astype(np.float32)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_description(tmp_path, TEACHER)
    for index in range(6):
        write_soft_labels(tmp_path, f"0001TP_{index:06d}", random_probabilities(index))
    return tmp_path


def test_what_was_written_is_read_back_from_the_file_itself(folder: Path) -> None:
    soft = SoftLabels.open(folder)
    assert (soft.teacher, len(soft.names)) == (TEACHER, 6)
    scores = soft.read("0001TP_000003")
    assert isinstance(scores, np.memmap)
    np.testing.assert_allclose(scores / 255, random_probabilities(3), atol=0.5 / 255 + 1e-6)


def test_compressed_files_and_a_description_one_folder_up_are_read(tmp_path: Path) -> None:
    write_description(tmp_path, TEACHER)
    (tmp_path / "soft").mkdir()
    scores = np.arange(11 * 6, dtype=np.uint8).reshape(11, 2, 3)
    np.savez_compressed(tmp_path / "soft" / "a.npz", scores=scores)
    np.testing.assert_array_equal(SoftLabels.open(tmp_path / "soft").read("a"), scores)


def _npz(**arrays: np.ndarray) -> Callable[[Path], None]:
    return lambda path: np.savez(path, **arrays)


def _cut(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def _boast(path: Path) -> None:
    """Say in the zip directory and the header that there is far more than the file holds."""
    data = bytearray(path.read_bytes())
    at = data.index(b"'shape': (11, 12, 16), }")
    data[at : at + 24] = b"'shape': (11, 99999, 9),}"[:24]
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (Path.unlink, "expected a file, got No such file"),
        (_cut, "expected an npz file that holds scores"),
        (_boast, "expected an npz file that holds scores"),
        (_npz(other=np.zeros((11, 2, 3), np.uint8)), "expected an npz file that holds scores"),
        (
            _npz(scores=np.zeros((19, 2, 3), np.uint8)),
            r"expected uint8 \(11, height, width\), got uint8 \(19, 2, 3\)",
        ),
        (_npz(scores=np.zeros((11, 2, 3), np.float32)), "expected uint8 .*, got float32"),
        (_npz(scores=np.array([{}], object)), "expected an npz file that holds scores"),
        (lambda path: path.write_bytes(b"PK\x03\x04" + struct.pack("<26x")), "expected an npz file"),
    ],
)
def test_a_damaged_file_is_named(folder: Path, damage: Callable[[Path], None], message: str) -> None:
    path = folder / "0001TP_000000.npz"
    damage(path)
    with pytest.raises(DatasetError, match=f"0001TP_000000.npz: {message}"):
        SoftLabels.open(folder).read("0001TP_000000")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "expected teacher.json in it or beside it"),
        ("[", "expected a description of soft labels"),
        ('{"classes": ["a"]}', "stride"),
        ('{"classes": ["a"], "stride": 4, "scale": 100}', "expected a scale of 255"),
        ('{"classes": [], "stride": 4}', "classes"),
    ],
)
def test_a_bad_description_is_refused(tmp_path: Path, text: str | None, message: str) -> None:
    folder = tmp_path / "soft"
    folder.mkdir()
    if text is not None:
        (folder / "teacher.json").write_text(text)
    with pytest.raises(DatasetError, match=message):
        SoftLabels.open(folder)


def test_folders_are_joined_by_the_sum_of_their_log_probabilities(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "cityscapes"
    other.mkdir()
    write_description(other, TeacherFile(CITYSCAPES_CLASSES.names, stride=8))
    given = random_probabilities(9, 19, (12, 16))
    write_soft_labels(other, "0001TP_000000", given)
    lessons = Lessons.open([folder, other], "cityscapes-to-camvid", CAMVID_CLASSES)
    said = lessons.of("0001TP_000000", (48, 64))
    first = SoftLabels.open(folder).read("0001TP_000000").astype(float)
    sums = lessons.parts[1][1].to_target(SoftLabels.open(other).read("0001TP_000000").astype(np.float32))
    expected = (first + 0.5) * (sums + 0.5)
    np.testing.assert_allclose(
        said.transpose(2, 0, 1), 255 * expected / expected.sum(axis=0), atol=0.51 + 255 * 0.01
    )
    assert lessons.of("elsewhere", (48, 64)) is None
    with pytest.raises(DatasetError, match="expected soft labels in the shape of the frame"):
        lessons.of("0001TP_000000", (64, 48))


def test_what_a_teacher_gives_to_classes_that_nobody_wants_weighs_less(tmp_path: Path) -> None:
    write_description(tmp_path, TeacherFile((*CAMVID_CLASSES.names, "ego vehicle"), stride=4))
    given = np.zeros((12, 1, 2), np.float32)
    given[3, 0], given[11, 0] = (1.0, 0.25), (0.0, 0.75)
    write_soft_labels(tmp_path, "a", given)
    lessons = Lessons.open([tmp_path], None, CAMVID_CLASSES)
    said = lessons.of("a", (4, 8))
    assert said is not None
    np.testing.assert_allclose(said.sum(axis=2)[0], [255, 64], atol=6)
    assert said[0, :, 3].min() > 55


@pytest.mark.parametrize("seed", range(8))
def test_soft_labels_follow_the_crop(make_sample: Callable[..., Sample], seed: int) -> None:
    """Against labels: the soft labels of a one-hot label are those of the crop's label, but for edges."""
    label = np.kron(np.random.default_rng(seed).integers(0, 11, (6, 8)), np.ones((24, 24))).astype(np.uint8)
    soft = np.stack(
        [cv2.resize((label == c) * np.uint8(255), (48, 36), interpolation=cv2.INTER_AREA) for c in range(11)],
        2,
    )
    image_bgr = np.repeat(label[:, :, None] * np.uint8(20), 3, axis=2)
    sample = dataclasses.replace(make_sample(0), image_bgr=image_bgr, label=label, soft=soft)
    augment = Augment(AugmentConfig((96, 128), scale=(0.4, 1.5), soft_stride=8))
    cut = augment(sample, np.random.default_rng(seed))
    assert cut.soft is not None
    assert cut.soft.shape == (12, 16, 11)
    middle = cut.label[4::8, 4::8]
    empty = cut.soft.sum(axis=2) == 0
    sure = cut.soft.max(axis=2) > 240
    assert sure.mean() > 0.15
    np.testing.assert_array_equal(cut.soft.argmax(axis=2)[sure], middle[sure])
    assert (middle[empty] == 255).all()
    assert np.abs(cut.soft.sum(axis=2)[~empty].astype(int) - 255).max() <= 6


def test_a_training_learns_from_soft_labels_and_unlabelled_frames(
    folder: Path, camvid_root: Path, tmp_path: Path
) -> None:
    frames = tmp_path / "drive"
    (frames / "images").mkdir(parents=True)
    write_description(frames, TeacherFile(CITYSCAPES_CLASSES.names, stride=4, terms="Cityscapes: research"))
    (frames / "soft").mkdir()
    for index in range(2):
        cv2.imwrite(str(frames / "images" / f"{index}.png"), np.full((48, 64, 3), 50 * index, np.uint8))
        write_soft_labels(frames / "soft", str(index), random_probabilities(index, 19))
    config = TrainConfig(
        network="reference",
        size_hw=(32, 64),
        batch_size=4,
        aux_weight=0,
        soft_labels=(str(folder),),
        unlabelled=str(frames),
        class_map="cityscapes-to-camvid",
    )
    trainer = Trainer(config, open_dataset("camvid", camvid_root, "train"))
    _, labels, soft = next(trainer.batches.epoch(0))
    assert soft.shape == (4, 4, 8, 11)  # stride 8
    assert (labels[3] == 255).all()
    assert soft[3].any()
    assert soft[0].any()
    assert trainer.contract.origin.terms == (
        "CamVid: research use; taught by soft labels: research use; Cityscapes: research"
    )
    loss, _ = trainer.train_epoch()
    assert np.isfinite(loss)
    with_soft = trainer.state()["soft_digest"]
    (folder / "0001TP_000000.npz").unlink()
    assert Trainer(config, open_dataset("camvid", camvid_root, "train")).soft.digest() != with_soft


def test_frames_without_soft_labels_are_refused(folder: Path, tmp_path: Path) -> None:
    frames = tmp_path / "drive"
    with pytest.raises(DatasetError, match=r"found no images; make it with training\.label"):
        UnlabelledFrames.open(frames, None, CAMVID_CLASSES)
    (frames / "images").mkdir(parents=True)
    (frames / "soft").mkdir()
    (frames / "soft" / "teacher.json").write_text(json.dumps({"classes": ["road"], "stride": 4}))
    cv2.imwrite(str(frames / "images" / "a.png"), np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(DatasetError, match=r"a.png: expected soft labels of this frame"):
        UnlabelledFrames.open(frames, None, CAMVID_CLASSES)


def test_a_taught_data_set_is_the_data_set_and_more(folder: Path, camvid_root: Path) -> None:
    dataset = open_dataset("camvid", camvid_root, "train")
    taught = Taught(dataset, Lessons.open([folder], None, dataset.classes))
    assert (taught.name, taught.split, taught.classes, taught.terms, len(taught)) == (
        dataset.name,
        dataset.split,
        dataset.classes,
        dataset.terms,
        len(dataset),
    )
    assert taught[0].soft is not None
    np.testing.assert_array_equal(taught[0].label, dataset[0].label)
