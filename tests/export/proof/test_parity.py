import math

import pytest

from export.proof.parity import FLOAT16, FLOAT32, FrameParity, Parity


def test_tolerance_lies_between_rounding_and_a_wrong_weight() -> None:
    assert 1e-5 < FLOAT32.relative < 1e-3
    assert 1e-2 < FLOAT16.relative < 1e-1


@pytest.mark.parametrize(
    ("relative", "mask_agreement", "within"),
    [
        (0.0, 1.0, True),
        (1e-6, 0.9995, True),
        (1e-6, 0.99, False),  # logits too near each other to tell, but the masks differ
        (1e-3, 1.0, False),
        (math.inf, 0.0, False),
        (math.nan, 1.0, False),
    ],
)
def test_frame_is_within_tolerance(relative: float, mask_agreement: float, within: bool) -> None:
    assert FrameParity("frame", 1.0, relative, mask_agreement).is_within(FLOAT32) is within


def test_parity_sums_up_the_worst_logits_and_the_mean_mask() -> None:
    parity = Parity((FrameParity("a", 0.1, 2e-6, 1.0), FrameParity("b", 0.2, 1e-6, 0.5)))
    assert (parity.absolute, parity.relative, parity.mask_agreement) == (0.2, 2e-6, 0.75)
