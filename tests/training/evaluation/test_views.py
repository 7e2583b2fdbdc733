import pytest

from runtime.errors import ConfigError
from training.evaluation.views import Views


@pytest.mark.parametrize(
    ("scales", "sizes_hw"),
    [
        ([1.0], ((352, 480),)),
        ([0.5, 2], ((192, 256), (704, 960))),  # 5.5 and 7.5 steps of 32: halves go to the even number
        ([0.75, 1.0, 1.25], ((256, 352), (352, 480), (448, 608))),
    ],
)
def test_scaled_sizes_are_ones_that_the_network_takes(
    scales: list[float], sizes_hw: tuple[tuple[int, int], ...]
) -> None:
    assert Views.of_scales((352, 480), scales, multiple=32).sizes_hw == sizes_hw


def test_no_side_is_rounded_to_nothing() -> None:
    assert Views.of_scales((32, 64), [0.25], multiple=32).sizes_hw == ((32, 32),)


@pytest.mark.parametrize(
    ("scales", "message"),
    [
        ([], "factors from"),
        ([1.0, 0.0], "factors from"),
        ([-1.0], "factors from"),
        ([float("nan")], "factors from"),
        ([100.0], "factors from"),
        ([1.0, 1.01], "another size, got 352x480, 352x480"),
    ],
)
def test_scales_that_cannot_work_are_refused(scales: list[float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Views.of_scales((352, 480), scales, multiple=32)
