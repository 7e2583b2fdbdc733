import dataclasses
import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from runtime.contract import CAMVID_CLASSES
from runtime.errors import ConfigError, DatasetError
from training.data import Augment, AugmentConfig, Sample, open_dataset
from training.data.cityscapes import CITYSCAPES_CLASSES
from training.engine.checkpoint import load_checkpoint, save_checkpoint
from training.engine.config import TrainConfig
from training.engine.history import EpochRecord
from training.engine.losses import feature_loss
from training.engine.start import SoftSources
from training.engine.trainer import Trainer
from training.teaching.lessons import Lessons, Taught, UnlabelledFrames
from training.teaching.soft_labels import SoftLabels, TeacherFile, write_description, write_soft_labels

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


SPEAKS = dataclasses.replace(TEACHER, features=(3, 2), features_of="a" * 64)


@pytest.fixture
def speaking(tmp_path: Path) -> Path:
    """Soft labels with features 3 and 2, of a frame a cell of which was not seen."""
    folder = tmp_path / "speaking"
    folder.mkdir()
    write_description(folder, SPEAKS)
    for index in range(6):
        features = np.random.default_rng(index).integers(1, 256, (5, 12, 16), np.uint8)
        features[:, 0, 0] = 0
        write_soft_labels(folder, f"0001TP_{index:06d}", random_probabilities(index), features)
    return folder


def test_features_stand_behind_the_soft_labels(speaking: Path, folder: Path) -> None:
    lessons = Lessons.open([speaking], None, CAMVID_CLASSES)
    assert (lessons.features, lessons.features_of) == ((3, 2), "a" * 64)
    said = lessons.of("0001TP_000002", (48, 64))
    assert said is not None
    plain = Lessons.open([folder], None, CAMVID_CLASSES).of("0001TP_000002", (48, 64))
    np.testing.assert_array_equal(said[:, :, :11], plain)
    written = SoftLabels.open(speaking).read_features("0001TP_000002")
    assert written is not None
    np.testing.assert_array_equal(said[:, :, 11:].transpose(2, 0, 1), written)
    both = Lessons.open([folder, speaking], None, CAMVID_CLASSES).of("0001TP_000002", (48, 64))
    assert both is not None
    np.testing.assert_array_equal(both[:, :, 11:], said[:, :, 11:])
    (speaking / "0001TP_000002.npz").unlink()
    alone = Lessons.open([folder, speaking], None, CAMVID_CLASSES).of("0001TP_000002", (48, 64))
    assert alone is not None
    assert alone.shape == said.shape
    assert not alone[:, :, 11:].any()


@pytest.mark.parametrize(
    ("teacher", "message"),
    [
        (dataclasses.replace(SPEAKS, features=(3,)), "numbers of features of 2 layers"),
        (dataclasses.replace(SPEAKS, features=(3, 0)), "numbers of features of 2 layers"),
        (dataclasses.replace(SPEAKS, features=(3, 4)), r"expected uint8 \(7, height, width\), got uint8 \(5"),
    ],
)
def test_features_that_do_not_fit_their_description_are_refused(
    speaking: Path, teacher: TeacherFile, message: str
) -> None:
    write_description(speaking, teacher)
    with pytest.raises(DatasetError, match=message):
        SoftLabels.open(speaking).read_features("0001TP_000000")


def test_a_file_without_the_features_that_were_promised_is_refused(folder: Path) -> None:
    write_description(folder, SPEAKS)
    with pytest.raises(DatasetError, match="expected an npz file that holds features"):
        Lessons.open([folder], None, CAMVID_CLASSES).of("0001TP_000000", (48, 64))


def test_features_of_two_networks_are_refused(speaking: Path, tmp_path: Path, camvid_root: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(speaking, other / "soft")
    (other / "images").mkdir()
    cv2.imwrite(str(other / "images" / "0001TP_000000.png"), np.zeros((48, 64, 3), np.uint8))
    config = TrainConfig(
        network="residual-n", size_hw=(32, 64), soft_labels=(str(speaking),), unlabelled=str(other)
    )
    dataset = open_dataset("camvid", camvid_root, "train")
    assert SoftSources.open(config, dataset.classes).features == (3, 2)
    write_description(other / "soft", dataclasses.replace(SPEAKS, features_of="b" * 64))
    with pytest.raises(DatasetError, match="expected features of one network, got those of 2"):
        Lessons.open([speaking, other / "soft"], None, CAMVID_CLASSES)
    with pytest.raises(DatasetError, match=r"expected features of the file that gave those"):
        SoftSources.open(config, dataset.classes)
    deaf = SoftSources.open(dataclasses.replace(config, feature_weight=0.0), dataset.classes)
    assert deaf.features == ()
    assert [lessons.of("0001TP_000000", (48, 64)).shape[2] for lessons in deaf.said] == [11, 11]


def test_a_training_learns_from_features_and_goes_on_with_the_same_bits(
    speaking: Path, camvid_root: Path, tmp_path: Path
) -> None:
    config = TrainConfig(
        network="residual-n", size_hw=(32, 64), batch_size=2, epochs=2, soft_labels=(str(speaking),)
    )
    dataset = open_dataset("camvid", camvid_root, "train")

    def trained(**changes: object) -> Trainer:
        trainer = Trainer(dataclasses.replace(config, **changes), dataset)  # type: ignore[arg-type]
        loss, rate = trainer.train_epoch()
        trainer.finish_epoch(EpochRecord(1, 0.0, rate, loss))
        trainer.close()
        return trainer

    whole, deaf = trained(), trained(feature_weight=0.0)
    assert whole.supervised.hints is not None
    assert deaf.supervised.hints is None
    assert whole.network.state_dict().keys() == deaf.network.state_dict().keys()
    assert whole.history[0].train_loss > deaf.history[0].train_loss + 0.3
    only = trained(distill_weight=0.0)
    assert deaf.history[0].train_loss < whole.history[0].train_loss
    assert only.history[0].train_loss < whole.history[0].train_loss
    save_checkpoint(tmp_path / "last.pt", whole.checkpoint(whole.contract, with_training=True))
    resumed, whole = Trainer(config, dataset), Trainer(config, dataset)
    resumed.restore(load_checkpoint(tmp_path / "last.pt"))
    for trainer in (whole, whole, resumed):
        loss, rate = trainer.train_epoch()
        trainer.finish_epoch(EpochRecord(trainer.epoch + 1, 0.0, rate, loss))
    whole.close()
    resumed.close()
    ended = resumed.supervised.state_dict()
    for name, value in whole.supervised.state_dict().items():
        assert torch.equal(value, ended[name]), name
    with pytest.raises(ConfigError, match="feature-weight 0"):
        trained(network="article_keras")


def test_the_loss_of_features_counts_what_was_seen_and_nothing_else() -> None:
    generator = torch.Generator().manual_seed(0)
    told = torch.randint(1, 256, (2, 4, 8, 5), dtype=torch.uint8, generator=generator)
    coarse = torch.nn.functional.avg_pool2d((told.permute(0, 3, 1, 2).float() - 128) / 32, 2)
    fine = (told.permute(0, 3, 1, 2).float() - 128) / 32
    said = (fine[:, :3], coarse[:, 3:])
    assert float(feature_loss(said, told)) == pytest.approx(0, abs=1e-6)
    off = (said[0] + 3, said[1] + 1)  # smooth L1: 3 - 1/2, and 1/2
    assert float(feature_loss(off, told)) == pytest.approx(2.5 + 0.5, rel=1e-5)
    told[:, :, 4:] = 0  # the right half was not seen
    right = (said[0].clone(), said[1].clone())
    for values in right:
        values[..., values.shape[3] // 2 :] += 100
    assert float(feature_loss(right, told)) == pytest.approx(0, abs=1e-6)
    assert float(feature_loss(off, told)) == pytest.approx(3, rel=1e-5)
    assert float(feature_loss(off, torch.zeros_like(told))) == 0


def test_soft_labels_of_another_content_are_others(folder: Path) -> None:
    soft = SoftLabels.open(folder)
    before = soft.digest()
    size = (folder / "0001TP_000000.npz").stat().st_size
    write_soft_labels(folder, "0001TP_000000", random_probabilities(99))
    assert (folder / "0001TP_000000.npz").stat().st_size == size
    changed = soft.digest()
    (folder / "0001TP_000000.npz").write_bytes(b"x" * size)
    assert len({before, changed, soft.digest()}) == 3


def test_two_images_of_one_name_are_not_taught_the_same(
    folder: Path, make_sample: Callable[..., Sample]
) -> None:
    class Twice:
        name, split, classes, terms = "mine", "train", CAMVID_CLASSES, ""

        def __len__(self) -> int:
            return 3

        def __getitem__(self, index: int) -> Sample:
            names = ("a/0001TP_000000.png", "b/0001TP_000000.png", "b/0001TP_000001.png")
            return make_sample(index, name=names[index])

    taught = Taught(Twice(), Lessons.open([folder], None, CAMVID_CLASSES))
    assert taught[0].soft is not None
    assert taught[2].soft is not None
    assert taught[0].soft is not None
    with pytest.raises(DatasetError, match=r"b/0001TP_000000.png: .* found a/0001TP_000000.png too"):
        taught[1]
