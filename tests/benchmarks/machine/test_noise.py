import math

import pytest

from benchmarks.machine.cpu_times import CpuShares
from benchmarks.machine.noise import LEAST_SAMPLES, Noise, measure_noise, noise_of


def test_noise_by_hand():
    noise = noise_of([10.0] * 8 + [12.0, 15.0], CpuShares(0.0, 3.0))
    assert (noise.samples, noise.p50_ms) == (10, 10.0)
    assert noise.spread_percent == pytest.approx(20)  # the nearest rank of p90 is the ninth of ten
    assert noise.worst_percent == pytest.approx(50)
    assert noise.is_noisy
    assert str(noise).startswith("NOISY: a tenth of 10 equal runs of plain convolutions took 20 % longer")


@pytest.mark.parametrize(
    ("spread", "steal", "others", "is_noisy"),
    [
        (3, 0.0, 1.0, False),
        (3, None, None, False),
        (11, 0.0, 1.0, True),
        (3, 2.5, 1.0, True),
        (3, 0.0, 12.0, True),
    ],
)
def test_what_is_called_noisy(spread, steal, others, is_noisy):
    noise = Noise(100, 5.0, spread, 2 * spread, steal, others)
    assert noise.is_noisy is is_noisy
    assert ("NOISY" in str(noise)) is is_noisy
    assert ("host" in str(noise)) is (steal is not None)


def test_calibration_leaves_its_first_run_out_and_takes_enough(system):
    runs = iter([999.0] + [10.0] * 1000)
    noise = measure_noise(1e-9, run_ms=lambda: next(runs), files=system({}))
    assert noise.samples == LEAST_SAMPLES
    assert (noise.spread_percent, noise.worst_percent) == (0, 0)
    assert noise.steal_percent is None


def test_calibration_really_works_for_a_while():
    noise = measure_noise(0.01, threads=1)
    assert noise.samples >= LEAST_SAMPLES
    assert noise.p50_ms > 0
    assert math.isfinite(noise.worst_percent)
