from __future__ import annotations

import numpy as np
import pytest
import torch

from runtime.errors import DatasetError
from training.evaluation.metrics import ConfidenceBins
from training.evaluation.pixels import PixelSample
from training.evaluation.temperature import fit_temperature


def too_sure(temperature: float, seed: int = 0, size: int = 6000) -> tuple[np.ndarray, np.ndarray]:
    """Labels drawn from the probabilities of some logits, and the probabilities of these times a number."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (5, 1, size))
    true = np.exp(logits) / np.exp(logits).sum(axis=0)
    label = (rng.random((1, size)) < true.cumsum(axis=0)).argmax(axis=0).astype(np.uint8)
    powers = np.exp(logits * temperature)
    return label, (powers / powers.sum(axis=0)).astype(np.float32)


def by_torch(label: np.ndarray, probabilities: np.ndarray) -> float:
    """The same minimum by LBFGS on torch's cross-entropy."""
    logits = torch.from_numpy(np.log(probabilities[:, 0].T.astype(np.float64)))
    labels = torch.from_numpy(label[0].astype(np.int64))
    log_temperature = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([log_temperature], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(logits / log_temperature.exp(), labels)
        loss.backward()
        return loss

    optimizer.step(closure)
    return float(log_temperature.detach().exp())


def ece(label: np.ndarray, probabilities: np.ndarray) -> float:
    """The error of confidences, bin by bin in plain Python."""
    mask, sure = probabilities.argmax(axis=0), probabilities.max(axis=0)
    error = 0.0
    for number in range(15):
        inside = (sure > number / 15) & (sure <= (number + 1) / 15)
        if inside.any():
            error += inside.sum() * abs((mask == label)[inside].mean() - sure[inside].mean())
    return error / label.size


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.7, 4.0])
def test_the_temperature_that_made_it_too_sure_is_found(temperature):
    label, probabilities = too_sure(temperature)
    fit = PixelSample(1)
    for part in range(3):
        fit.add(
            label[:, part * 2000 : part * 2000 + 2000], probabilities[..., part * 2000 : part * 2000 + 2000]
        )
    assert fit_temperature(fit) == pytest.approx(by_torch(label, probabilities), rel=2e-3)
    assert fit_temperature(fit) == pytest.approx(temperature, rel=0.08)


def test_confidences_are_right_more_often_as_they_say_afterwards():
    label, probabilities = too_sure(3.0)
    fit = PixelSample(1)
    fit.add(label, probabilities)
    powers = probabilities.astype(np.float64) ** (1 / fit_temperature(fit))
    mended = (powers / powers.sum(axis=0)).astype(np.float32)
    before, after = ConfidenceBins(), ConfidenceBins()
    before.update(label, probabilities.argmax(axis=0).astype(np.uint8), probabilities.max(axis=0))
    after.update(label, mended.argmax(axis=0).astype(np.uint8), mended.max(axis=0))
    assert before.ece == pytest.approx(ece(label, probabilities), abs=1e-6)
    assert after.ece == pytest.approx(ece(label, mended), abs=1e-6)
    assert after.ece < before.ece / 4


def test_void_pixels_count_nowhere():
    label, probabilities = too_sure(2.0)
    with_void, without = PixelSample(1), PixelSample(1)
    without.add(label[:, :2000], probabilities[..., :2000])
    label = label.copy()
    label[:, 2000:] = 255
    with_void.add(label, probabilities)
    assert fit_temperature(with_void) == pytest.approx(fit_temperature(without), rel=1e-6)


def test_without_a_labelled_pixel_there_is_none():
    fit = PixelSample(1)
    fit.add(np.full((2, 2), 255, np.uint8), np.full((3, 2, 2), 1 / 3, np.float32))
    with pytest.raises(DatasetError, match="expected labelled pixels"):
        fit_temperature(fit)
