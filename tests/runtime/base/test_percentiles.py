import math

import numpy as np
import pytest

from runtime.base.percentiles import FINE_PERCENTS, LatencyLog, percentiles


@pytest.mark.parametrize("count", [1, 2, 3, 10, 99, 100, 101, 1000])
def test_agrees_with_the_nearest_rank_by_definition(count):
    samples = np.random.default_rng(count).uniform(1, 50, count).tolist()
    ordered = sorted(samples)
    expected = {f"p{q}": ordered[math.ceil(q * count / 100) - 1] for q in (50, 90, 99)}
    assert percentiles(samples) == {**expected, "max": ordered[-1]}


@pytest.mark.parametrize(("count", "expected"), [(999, 999), (1000, 999), (1001, 1000), (10_000, 9990)])
def test_the_thousandth_has_an_exact_rank(count, expected):
    samples = range(1, count + 1)
    assert percentiles(samples, FINE_PERCENTS)["p99.9"] == expected
    log = LatencyLog()
    for sample in samples:
        log.add({"network": sample})
    assert log.summary(FINE_PERCENTS)["network"] == percentiles(samples, FINE_PERCENTS)


def test_needs_a_sample():
    with pytest.raises(ValueError, match="at least one sample"):
        percentiles([])


def test_log_keeps_stages_in_order_and_apart():
    log = LatencyLog()
    for sample in (3.0, 1.0, 2.0):
        log.add({"resize": sample, "network": 10 * sample})
    summary = log.summary()
    assert list(summary) == ["resize", "network"]
    assert summary["resize"] == {"p50": 2.0, "p90": 3.0, "p99": 3.0, "max": 3.0}
    assert summary["network"]["p50"] == 20.0


def test_log_clips_no_outlier():
    log = LatencyLog()
    for _ in range(999):
        log.add({"network": 10.0})
    log.add({"network": 60_000.0})
    assert log.summary()["network"] == {"p50": 10.0, "p90": 10.0, "p99": 10.0, "max": 60_000.0}


def test_log_is_exact_to_a_microsecond():
    log = LatencyLog()
    log.add({"network": 12.3456789})
    assert log.summary()["network"]["max"] == pytest.approx(12.3456789, abs=5e-4)


def test_empty_log_has_no_stages():
    assert LatencyLog().summary() == {}
