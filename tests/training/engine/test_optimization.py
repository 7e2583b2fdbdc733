import math

import pytest
import torch
from torch import nn

from runtime.errors import ConfigError
from training.engine.optimization import WeightAverage, build_optimizer, learning_rate_factor


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


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd"])
def test_only_convolution_weights_decay(name: str) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    decayed, plain = build_optimizer(network, name, 0.1, 0.01).param_groups
    assert [tuple(p.shape) for p in decayed["params"]] == [(4, 3, 3, 3)]
    assert len(plain["params"]) == 3  # one bias, two of the batch norm
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.01, 0.0)


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
