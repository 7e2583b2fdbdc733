"""The same file gives the same logits outside onnxruntime."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from runtime.network.resize import fit_image
from runtime.network.session import NetworkSession
from runtime.segmenter import bundled_model
from training.streets import render_scene


@pytest.mark.parametrize("name", ["camvid-n", "camvid-s"])
def test_opencvs_own_network_module_gives_the_same_classes(name: str) -> None:
    path: Path = bundled_model(name)
    session = NetworkSession(path, threads=1)
    image_bgr = fit_image(render_scene(5).image_bgr, session.contract.input.size_hw)
    expected = session.run(image_bgr)
    network = cv2.dnn.readNetFromONNX(str(path))
    network.setInput(image_bgr[None])
    found = network.forward()
    assert np.abs(found - expected).max() < 1e-3
    assert (found.argmax(1) == expected.argmax(1)).mean() > 0.999
