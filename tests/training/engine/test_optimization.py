import math

import pytest
import torch
from torch import nn

from runtime.errors import ConfigError
from training.engine.config import OPTIMIZERS
from training.engine.optimization import (
    ADAM_SIZE,
    WeightAverage,
    build_optimizer,
    learning_rate_factor,
    orthogonal,
)


@pytest.mark.parametrize(
    ("schedule", "step", "expected"),
    [
        ("poly", 0, 0.25),  # warm-up: (step + 1) / 4
        ("poly", 3, 1.0),
        ("poly", 4, 1.0),  # the schedule starts at its peak
        ("poly", 12, 0.5**0.9),  # half of the 16 steps after the warm-up
        ("cosine", 1, 0.5),
        ("cosine", 12, 0.5),
        ("cosine", 16, 0.5 * (1 + math.cos(math.pi * 0.75))),
    ],
)
def test_learning_rate_factor(schedule: str, step: int, expected: float) -> None:
    assert learning_rate_factor(step, 20, 4, schedule) == pytest.approx(expected)


def test_unknown_schedule_is_refused() -> None:
    with pytest.raises(ConfigError, match="schedule"):
        learning_rate_factor(5, 10, 0, "linear")


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_only_convolution_weights_decay(name: str) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    decayed, plain = build_optimizer(network, name, 0.1, 0.01).param_groups
    assert [tuple(p.shape) for p in decayed["params"]] == [(4, 3, 3, 3)]
    assert len(plain["params"]) == 3  # one bias, two of the batch norm
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.01, 0.0)


@pytest.mark.parametrize("shape", [(16, 144), (64, 16), (32, 32)])
def test_orthogonal_brings_all_directions_to_one_size(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    matrix = torch.randn(shape) * torch.logspace(0, -1, shape[1])
    found = orthogonal(matrix)
    sizes = torch.linalg.svdvals(found)
    assert sizes.min() > 0.6
    assert sizes.max() < 1.3
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    assert torch.nn.functional.cosine_similarity(found.flatten(), (u @ v).flatten(), dim=0) > 0.95
    assert not orthogonal(torch.zeros(shape)).any()


def test_muon_changes_convolutions_between_features_and_adamw_the_rest() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 16, 3), nn.Conv2d(16, 32, 3), nn.BatchNorm2d(32), nn.Conv2d(32, 11, 1)
    )
    before = {name: value.clone() for name, value in network.state_dict().items()}
    optimizer = build_optimizer(network, "muon", 0.01, 0.0)
    network(torch.randn(2, 3, 12, 12)).square().mean().backward()
    optimizer.step()
    moved = {name: value.detach() - before[name] for name, value in network.named_parameters()}
    for name, change in moved.items():
        if name == "1.weight":  # of the size that AdamW's first step has times 0.2, and orthogonal
            sizes = torch.linalg.svdvals(change.flatten(1)) / (0.01 * ADAM_SIZE * math.sqrt(144))
            assert 0.6 < sizes.min() < sizes.max() < 1.3
        elif name not in ("0.bias", "1.bias"):  # the batch norm takes their gradients away
            assert change.abs().max() == pytest.approx(0.01, rel=1e-2)


def test_muon_goes_on_from_its_state() -> None:
    def trained(stops: bool) -> torch.Tensor:
        torch.manual_seed(0)
        network = nn.Conv2d(16, 16, 3)
        optimizer = build_optimizer(network, "muon", 0.01, 0.01)
        for step in range(4):
            if stops and step == 2:
                state = optimizer.state_dict()
                optimizer = build_optimizer(network, "muon", 0.01, 0.01)
                optimizer.load_state_dict(state)
            optimizer.zero_grad()
            network(torch.randn(1, 16, 6, 6)).square().mean().backward()
            optimizer.step()
        return network.weight.detach()

    assert torch.equal(trained(stops=False), trained(stops=True))


def test_unknown_optimizer_is_refused() -> None:
    with pytest.raises(ConfigError, match="optimizer"):
        build_optimizer(nn.Conv2d(3, 4, 3), "lion", 0.1, 0.0)


def test_weight_average_follows_its_recurrence() -> None:
    network = nn.BatchNorm1d(1)
    average = WeightAverage(network, decay=0.5)
    expected = 1.0  # a batch norm's weight starts at 1
    for update, value in enumerate([3.0, -2.0, 8.0, 4.0, 0.5, 7.0, 1.0, 2.0, 9.0], start=1):
        with torch.no_grad():
            network.weight.fill_(value)
        network.num_batches_tracked += 1
        average.update(network)
        decay = min(0.5, (1 + update) / (10 + update))
        expected = decay * expected + (1 - decay) * value
    assert average.weights["weight"].item() == pytest.approx(expected, rel=1e-6)
    assert average.weights["num_batches_tracked"].item() == 9
