import argparse

import pytest

from benchmarks.timing.duration import duration_s


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("10m", 600), ("1h", 3600)])
def test_duration(text, seconds):
    assert duration_s(text) == seconds


@pytest.mark.parametrize("text", ["", "10", "0s", "-1m", "1 h", "1d"])
def test_what_is_no_duration(text):
    with pytest.raises(argparse.ArgumentTypeError):
        duration_s(text)
