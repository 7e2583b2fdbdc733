from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from export.foreign.network import ForeignNetwork
from export.module import ExportOptions, export_module
from runtime.contract import ClassMap, GraphOutput, ImageInput, ModelContract, Normalization
from runtime.errors import ConfigError, ContractError
from runtime.network.session import NetworkSession
from training.streets import render_scene

NORMALIZATION = Normalization((103.5, 116.3, 123.7), (57.4, 57.1, 58.4))
CONTRACT = ModelContract(
    name="theirs",
    input=ImageInput((48, 64), size_multiple=16),
    output=GraphOutput(stride=4),
    classes=ClassMap(("a", "b", "c"), ((255, 0, 0), (0, 255, 0), (0, 0, 255))),
    normalization=NORMALIZATION,
)


class Theirs(nn.Module):
    """A stranger's habits: RGB in, a dict out, SiLU, pooling to more than a pixel, no buffers of edgeseg."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Conv2d(3, 8, 3, stride=4, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.pool = nn.AdaptiveAvgPool2d(2)
        self.head = nn.Conv2d(8, 3, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x = nn.functional.silu(self.norm(self.stem(x)))
        coarse = nn.functional.interpolate(self.pool(x), x.shape[2:], mode="nearest")
        return {"out": self.head(x + coarse)}


def by_hand(network: nn.Module, image_bgr: np.ndarray) -> np.ndarray:
    image_rgb = image_bgr[..., ::-1].astype(np.float32)
    x = (image_rgb - np.float32(NORMALIZATION.mean_bgr[::-1])) / np.float32(NORMALIZATION.std_bgr[::-1])
    with torch.inference_mode():
        return network.eval()(torch.from_numpy(x.transpose(2, 0, 1)[None].copy()))["out"].numpy()


def test_strangers_network_becomes_a_file_with_a_contract(tmp_path: Path) -> None:
    theirs = Theirs()
    wrapped = ForeignNetwork(theirs, NORMALIZATION, output="out")
    report = export_module(wrapped, CONTRACT, tmp_path / "theirs.onnx")
    assert wrapped.training  # the export worked on a copy
    session = NetworkSession(report.path)
    assert session.contract.name == "theirs"
    image_bgr = render_scene(3, (48, 64)).image_bgr
    np.testing.assert_allclose(session.run(image_bgr), by_hand(theirs, image_bgr), atol=1e-4)


def test_bgr_network_sees_the_channels_as_they_come() -> None:
    identity = ForeignNetwork(nn.Identity(), Normalization((0, 0, 0), (1, 1, 1)), color_order="BGR")
    image = torch.tensor([[[[1, 2, 3]]]], dtype=torch.uint8)
    assert identity(image).flatten().tolist() == [1, 2, 3]
    identity = ForeignNetwork(nn.Identity(), Normalization((1, 0, 0), (1, 1, 1)))
    assert identity(image).flatten().tolist() == [3, 2, 0]


def test_unknown_colour_order_is_refused() -> None:
    with pytest.raises(ConfigError, match="RGB or BGR"):
        ForeignNetwork(nn.Identity(), NORMALIZATION, color_order="YUV")


class _Branching(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        x = images.float().mean()
        return images.float() if x > 3 else -images.float()


def test_network_that_cannot_be_followed_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"trace: expected a network that torch\.export can follow"):
        export_module(_Branching(), CONTRACT, tmp_path / "seg.onnx")
    assert not list(tmp_path.iterdir())


def test_network_of_another_stride_than_promised_leaves_no_file(tmp_path: Path) -> None:
    wrapped = ForeignNetwork(Theirs(), NORMALIZATION, output="out")
    with pytest.raises(ContractError, match="promises outputs"):
        export_module(wrapped, CONTRACT.with_output(stride=8), tmp_path / "seg.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"output": "classes"}, "output: expected one of logits, mask, both"),
        ({"opset": 9}, "opset: expected"),
    ],
)
def test_options_that_cannot_work_are_refused(options: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        ExportOptions(**options)
