import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from runtime.contract import CAMVID_CLASSES, ClassMap, GraphOutput, ImageInput, ModelContract, Normalization
from runtime.errors import ConfigError
from training.engine.checkpoint import Checkpoint, save_checkpoint
from training.engine.losses import IGNORE, SOFT_FLOOR, TEMPERATURE, SoftTeaching
from training.engine.transfer import combined_terms, load_teacher
from training.network.build import CameraNetwork, build_network
from training.network.sizes import ResidualConfig

NORMALIZATION = Normalization((104.0, 110.0, 117.0), (57.0, 61.0, 66.0))
TINY = ResidualConfig(8, (8, 8, 8, 8), (1, 1, 1, 1), decoder_width=8, detail_width=0)


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def teacher_path(tmp_path: Path) -> Path:
    contract = ModelContract(
        name="teacher",
        input=ImageInput(size_hw=(32, 64)),
        output=GraphOutput(stride=8),
        classes=CAMVID_CLASSES,
        normalization=NORMALIZATION,
    )
    network = CameraNetwork(build_network("residual", TINY, len(CAMVID_CLASSES)), contract.normalization)
    save_checkpoint(tmp_path / "best.pt", Checkpoint("residual", TINY, contract, network.state_dict()))
    return tmp_path / "best.pt"


def test_agrees_with_a_divergence_worked_out_pixel_by_pixel() -> None:
    logits, taught = torch.randn(2, 3, 4, 6), torch.randn(2, 3, 4, 6)
    labels = torch.zeros(2, 16, 24, dtype=torch.uint8)
    labels[0, 2, 2] = IGNORE  # the middle of the first 4x4 pixels
    total, count = 0.0, 0
    for n, row, column in np.ndindex(2, 4, 6):
        if (n, row, column) == (0, 0, 0):
            continue
        p = np.exp(taught[n, :, row, column].double().numpy() / TEMPERATURE)
        q = np.exp(logits[n, :, row, column].double().numpy() / TEMPERATURE)
        p, q = p / p.sum(), q / q.sum()
        total, count = total + float((p * np.log(p / q)).sum()), count + 1
    expected = TEMPERATURE**2 * total / count
    assert float(SoftTeaching()(logits, labels, taught)) == pytest.approx(expected, rel=1e-5)


def test_is_zero_and_flat_where_the_student_agrees() -> None:
    logits = torch.randn(1, 3, 2, 2, requires_grad=True)
    loss = SoftTeaching()(logits, torch.zeros(1, 8, 8, dtype=torch.uint8), logits.detach() + 5)
    loss.backward()
    assert abs(loss.item()) < 1e-6
    assert logits.grad is not None
    assert float(logits.grad.abs().max()) < 1e-6


def test_void_alone_gives_zero_and_a_finite_gradient() -> None:
    logits = torch.randn(1, 3, 2, 2, requires_grad=True)
    labels = torch.full((1, 8, 8), IGNORE, dtype=torch.uint8)
    loss = SoftTeaching()(logits, labels, torch.randn(1, 3, 2, 2))
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(logits.grad, torch.zeros(1, 3, 2, 2))


@pytest.mark.parametrize("size_hw", [(2, 4), (8, 16)])
def test_a_teacher_of_another_stride_is_resized_to_the_student(size_hw: tuple[int, int]) -> None:
    labels = torch.zeros(1, 32, 64, dtype=torch.uint8)
    flat = torch.tensor([1.0, -1.0]).view(1, 2, 1, 1)
    logits, same = torch.zeros(1, 2, 4, 8), flat.expand(1, 2, 4, 8)
    taught = flat.expand(1, 2, *size_hw)
    assert float(SoftTeaching()(logits, labels, taught)) == pytest.approx(
        float(SoftTeaching()(logits, labels, same))
    )


def test_soft_labels_count_as_far_as_their_total_and_by_sums_of_classes() -> None:
    logits = torch.randn(1, 3, 1, 2)
    labels = torch.full((1, 4, 8), IGNORE, dtype=torch.uint8)
    soft = torch.tensor([[[[200, 55], [64, 0]]]], dtype=torch.uint8)  # (1, 1, 2, groups)
    teaching = SoftTeaching([(2,), (0, 1)], 3)
    total, weights = 0.0, (1.0, 64 / 255)
    for column, weight in enumerate(weights):
        own = np.exp(logits[0, :, 0, column].double().numpy())
        q = np.array([own[2], own[0] + own[1]]) ** (1 / TEMPERATURE)
        p = (soft[0, 0, column].numpy() + SOFT_FLOOR) ** (1 / TEMPERATURE)
        p, q = p / p.sum(), q / q.sum()
        total += weight * float((p * np.log(p / q)).sum())
    expected = TEMPERATURE**2 * total / sum(weights)
    assert float(teaching(logits, labels, soft=soft)) == pytest.approx(expected, rel=1e-5)


def test_a_live_teacher_and_soft_labels_are_one_teacher_where_both_speak() -> None:
    logits, live = torch.randn(1, 2, 1, 2), torch.randn(1, 2, 1, 2)
    labels = torch.zeros(1, 4, 8, dtype=torch.uint8)
    soft = torch.tensor([[[[55, 200], [0, 0]]]], dtype=torch.uint8)  # in reverse order; nothing of the second
    both = live.clone()
    both[0, :, 0, 0] = live[0, :, 0, 0].log_softmax(0) + torch.log(torch.tensor([200.5, 55.5]))
    expected = float(SoftTeaching()(logits, labels, both))
    assert float(SoftTeaching([(1,), (0,)], 2)(logits, labels, live, soft)) == pytest.approx(
        expected, rel=1e-5
    )


def test_the_teacher_is_frozen_and_in_eval_mode(teacher_path: Path) -> None:
    network = load_teacher(teacher_path, CAMVID_CLASSES, (64, 96)).network
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())


@pytest.mark.parametrize(
    ("own", "teacher_s", "expected"),
    [
        ("", "", ""),
        ("mine", "", "mine"),
        ("research use", "research use", "research use"),
        ("", "research use", "taught by m: research use"),
        ("mine", "research use", "mine; taught by m: research use"),
        (
            "A: research; started from n: B: free",
            "A: research; B: free",
            "A: research; started from n: B: free",
        ),
        ("A: research", "A: research; B: free; B: free", "A: research; taught by m: B: free"),
        ("A: research", "research", "A: research"),
        (
            "A: research; taught by m: B: free",
            "C: no; B: free",
            "A: research; taught by m: B: free; taught by m: C: no",
        ),
        (
            "A: free",
            "taught by s: A: free; started from s: C: no",
            "A: free; taught by m: started from s: C: no",
        ),
    ],
)
def test_a_pupil_holds_something_of_the_teachers_data(own: str, teacher_s: str, expected: str) -> None:
    assert combined_terms(own, "taught by", "m", teacher_s) == expected


def test_a_teacher_of_other_classes_is_refused(teacher_path: Path) -> None:
    names = tuple(reversed(CAMVID_CLASSES.names))
    classes: ClassMap = dataclasses.replace(CAMVID_CLASSES, names=names)
    with pytest.raises(ConfigError, match="same classes"):
        load_teacher(teacher_path, classes, (64, 96))


def test_a_size_that_the_teacher_cannot_take_is_refused(teacher_path: Path) -> None:
    with pytest.raises(ConfigError, match="multiples of 32"):
        load_teacher(teacher_path, CAMVID_CLASSES, (64, 98))
