"""Of onnxruntime-openvino, where that is the onnxruntime at hand: `make test-openvino`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from runtime.errors import ProviderError
from runtime.network.session import PROVIDERS
from runtime.segmenter import Segmenter

pytestmark = pytest.mark.skipif(
    PROVIDERS["openvino"] not in ort.get_available_providers(), reason="needs onnxruntime-openvino"
)


def test_gives_the_masks_of_the_processor(tiny_onnx: Path) -> None:
    frame_bgr = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    options = {"device_type": "CPU", "num_of_threads": "1"}
    with Segmenter(tiny_onnx, provider="openvino", provider_options=options) as segment:
        assert segment.provider == "openvino"
        mask = segment(frame_bgr).mask
    with Segmenter(tiny_onnx) as segment:
        assert (segment(frame_bgr).mask == mask).mean() > 0.99


@pytest.mark.parametrize("options", [{"device_type": "MAGIC"}, {"magic": "1"}])
def test_options_that_it_does_not_know(tiny_onnx: Path, options: dict[str, str]) -> None:
    with pytest.raises(ProviderError, match="openvino"):
        Segmenter(tiny_onnx, provider="openvino", provider_options=options)
