import numpy as np
import pytest
import torch

from runtime.errors import ConfigError
from training.losses import IGNORE, SegmentationLoss, class_balanced_cross_entropy


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


def test_class_balanced_loss_has_the_gradient_of_its_definition() -> None:
    logits, labels = make_case()
    logits = logits.double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: class_balanced_cross_entropy(x, labels.long()), (logits,))


@pytest.mark.parametrize("name", ["cross-entropy", "weighted", "class-balanced"])
def test_loss_of_void_alone_is_zero_with_a_zero_gradient(name: str) -> None:
    logits, labels = make_case()
    logits.requires_grad_()
    loss = SegmentationLoss(name, torch.ones(4) if name == "weighted" else None)
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


@pytest.mark.parametrize(
    ("name", "weights"),
    [("dice", None), ("weighted", None), ("cross-entropy", torch.ones(4))],
)
def test_a_loss_that_cannot_work_is_refused(name: str, weights: torch.Tensor | None) -> None:
    with pytest.raises(ConfigError, match="loss"):
        SegmentationLoss(name, weights)
