import numpy as np
import pytest
import torch

from runtime.errors import ConfigError
from training.engine.config import LOSSES
from training.engine.losses import IGNORE, UNWEIGHTED, SegmentationLoss


def make_case(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, 4, 6, 8, generator=generator)
    labels = torch.randint(0, 3, (2, 6, 8), generator=generator).to(torch.uint8)  # class 3 never occurs
    labels[0, :2] = IGNORE
    return logits, labels


def per_pixel_loss(logits: torch.Tensor, labels: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Negative log softmax of the labelled class in float64 numpy, and the labels, without void."""
    scores = logits.double().numpy().transpose(0, 2, 3, 1).reshape(-1, logits.shape[1])
    target = labels.numpy().reshape(-1)
    scores, target = scores[target != IGNORE], target[target != IGNORE]
    probability = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    return -np.log(probability[np.arange(len(target)), target]), target


def test_cross_entropy_is_the_mean_over_labelled_pixels() -> None:
    logits, labels = make_case()
    expected, _ = per_pixel_loss(logits, labels)
    assert SegmentationLoss("cross-entropy")(logits, labels).item() == pytest.approx(
        expected.mean(), rel=1e-5
    )


def test_weighted_loss_weighs_by_class() -> None:
    logits, labels = make_case()
    weights = np.array([1.0, 2.0, 5.0, 9.0])
    losses, target = per_pixel_loss(logits, labels)
    expected = (losses * weights[target]).sum() / weights[target].sum()
    loss = SegmentationLoss("weighted", torch.tensor(weights, dtype=torch.float32))
    assert loss(logits, labels).item() == pytest.approx(expected, rel=1e-5)


def test_class_balanced_loss_is_the_mean_of_the_present_classes_means() -> None:
    logits, labels = make_case()
    losses, target = per_pixel_loss(logits, labels)
    expected = np.mean([losses[target == label].mean() for label in np.unique(target)])
    assert SegmentationLoss("class-balanced")(logits, labels).item() == pytest.approx(expected, rel=1e-5)


def test_ohem_counts_only_pixels_whose_class_is_not_yet_sure() -> None:
    logits, labels = make_case()
    weights = np.array([1.0, 2.0, 5.0, 9.0])
    losses, target = per_pixel_loss(logits, labels)
    hard = np.exp(-losses) < 0.7
    assert 0 < hard.sum() < len(hard)
    expected = (losses * weights[target])[hard].sum() / weights[target][hard].sum()
    loss = SegmentationLoss("ohem", torch.tensor(weights, dtype=torch.float32))
    assert loss(logits, labels).item() == pytest.approx(expected, rel=1e-5)


def test_boundary_loss_weighs_pixels_beside_another_class_three_times() -> None:
    logits, _ = make_case()
    labels = torch.zeros(2, 6, 8, dtype=torch.uint8)
    labels[:, :, 6:] = 2  # so that columns 4 to 7 lie within two pixels of the other class
    labels[1] = 1
    weights = np.array([1.0, 2.0, 5.0, 9.0])
    losses, target = per_pixel_loss(logits, labels)
    factor = np.ones((2, 6, 8))
    factor[0, :, 4:] = 3
    pixel_weights = weights[target] * factor.reshape(-1)
    expected = (losses * pixel_weights).sum() / pixel_weights.sum()
    loss = SegmentationLoss("boundary", torch.tensor(weights, dtype=torch.float32))
    assert loss(logits, labels).item() == pytest.approx(expected, rel=1e-5)


def test_boundary_is_any_other_value_in_the_five_by_five_around_a_pixel_void_too() -> None:
    rng = np.random.default_rng(0)
    labels = rng.choice([0, 1, 1, 1, 2, IGNORE], (2, 5, 6)).repeat(3, axis=1).repeat(4, axis=2)
    logits = torch.randn(2, 4, 15, 24, generator=torch.Generator().manual_seed(0))
    near = np.zeros(labels.shape, bool)
    for n, y, x in np.ndindex(labels.shape):
        near[n, y, x] = np.ptp(labels[n, max(y - 2, 0) : y + 3, max(x - 2, 0) : x + 3]) > 0
    assert 0 < near.sum() < near.size
    target = torch.tensor(labels, dtype=torch.uint8)
    losses, _ = per_pixel_loss(logits, target)
    factor = np.where(near, 3.0, 1.0)[labels != IGNORE]
    expected = (losses * factor).sum() / factor.sum()
    assert SegmentationLoss("boundary", torch.ones(4))(logits, target).item() == pytest.approx(
        expected, rel=1e-5
    )


@pytest.mark.parametrize("name", ["cross-entropy", "boundary"])
def test_smoothed_labels_give_a_share_to_every_class(name: str) -> None:
    logits, _ = make_case()
    labels = torch.full((2, 6, 8), 1, dtype=torch.uint8)
    each = torch.stack([-logits.log_softmax(1)[:, label].mean() for label in range(4)])
    expected = 0.8 * each[1] + 0.2 * each.mean()
    weights = None if name == "cross-entropy" else torch.ones(4)
    loss = SegmentationLoss(name, weights, smoothing=0.2)
    assert loss(logits, labels).item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_loss_of_void_alone_is_zero_with_a_zero_gradient(name: str) -> None:
    logits, labels = make_case()
    logits.requires_grad_()
    loss = SegmentationLoss(name, None if name in UNWEIGHTED else torch.ones(4))
    value = loss(logits, torch.full_like(labels, IGNORE))
    value.backward()
    assert value.item() == 0
    assert logits.grad is not None
    assert not logits.grad.any()


def test_coarse_logits_are_upsampled_to_the_labels() -> None:
    logits, labels = make_case()
    coarse = logits[:, :, ::2, ::2]
    fine = torch.nn.functional.interpolate(coarse, scale_factor=2.0, mode="bilinear", align_corners=False)
    loss = SegmentationLoss("cross-entropy")
    assert loss(coarse, labels).item() == pytest.approx(loss(fine, labels).item(), rel=1e-6)


def test_a_stride_takes_one_pixel_of_each_square_and_all_of_them_in_turn() -> None:
    labels = torch.arange(48).reshape(1, 6, 8).to(torch.uint8)
    loss = SegmentationLoss("cross-entropy", stride=2)
    torch.manual_seed(0)
    drawn = [loss.targets(labels) for _ in range(40)]
    assert all(target.shape == (1, 3, 4) for target in drawn)
    assert {int(target[0, 1, 1]) for target in drawn} == {18, 19, 26, 27}


def test_the_mean_over_a_strides_places_is_the_loss_of_every_pixel() -> None:
    logits, labels = make_case()
    labels[:] = labels % 3  # no void, so that each place has as many pixels
    coarse = logits[:, :, ::2, ::2].repeat_interleave(2, 2).repeat_interleave(2, 3)  # constant in each 2x2
    strided = SegmentationLoss("cross-entropy", stride=2)
    torch.manual_seed(0)
    by_place = {}
    while len(by_place) < 4:
        state = torch.get_rng_state()
        place = tuple(torch.randint(2, (2,)).tolist())
        torch.set_rng_state(state)
        by_place[place] = strided(coarse[:, :, ::2, ::2], labels).item()
    whole = SegmentationLoss("cross-entropy")(coarse, labels).item()
    assert np.mean(list(by_place.values())) == pytest.approx(whole, rel=1e-5)


@pytest.mark.parametrize(
    ("name", "weights"),
    [("hinge", None), ("weighted", None), ("cross-entropy", torch.ones(4))],
)
def test_a_loss_that_cannot_work_is_refused(name: str, weights: torch.Tensor | None) -> None:
    with pytest.raises(ConfigError, match="loss"):
        SegmentationLoss(name, weights)


def test_a_stride_below_one_is_refused() -> None:
    with pytest.raises(ConfigError, match="loss stride: expected at least 1, got 0"):
        SegmentationLoss("cross-entropy", stride=0)


@pytest.mark.parametrize("name", LOSSES)
def test_beside_a_process_with_an_equal_batch_a_loss_is_half(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    logits, labels = make_case()
    loss = SegmentationLoss(name, None if name in UNWEIGHTED else torch.tensor([1.0, 2.0, 5.0, 9.0]))
    alone = loss(logits, labels).item()
    monkeypatch.setattr("training.engine.losses.distributed.is_initialized", lambda: True)
    monkeypatch.setattr("training.engine.losses.distributed.all_reduce", lambda counts: counts.mul_(2))
    assert loss(logits, labels).item() == pytest.approx(alone / 2, rel=1e-5)
