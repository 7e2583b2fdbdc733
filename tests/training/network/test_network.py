import dataclasses
import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from runtime.contract import Normalization
from runtime.errors import CheckpointError, ConfigError
from training.network import SIZES
from training.network.build import CameraNetwork, SupervisedNetwork, build_network, network_config
from training.network.residual import BasicBlock, DropPath, ResidualSegmenter
from training.network.sizes import ArticleKerasConfig, ArticlePytorchConfig, ResidualConfig

TINY = ResidualConfig(8, (8, 8, 16, 16), (1, 1, 1, 2), decoder_width=8, detail_width=8)
NORMALIZATION = Normalization((104.0, 110.0, 117.0), (57.0, 61.0, 66.0))


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def randomize_batch_norms(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2.0)


@pytest.mark.parametrize("name", SIZES)
def test_every_size_gives_logits_at_the_stride_it_promises(name: str) -> None:
    kind, config = SIZES[name].kind, SIZES[name].config
    network = build_network(kind, config, 5).eval()
    with torch.inference_mode():
        logits = network(torch.zeros(1, 3, 64, 96))
    assert logits.shape == (1, 5, 64 // config.stride, 96 // config.stride)


@pytest.mark.parametrize(("detail_width", "stride"), [(8, 4), (0, 8)])
def test_detail_width_decides_the_stride(detail_width: int, stride: int) -> None:
    config = ResidualConfig(8, (8, 8, 8, 8), (1, 1, 1, 1), decoder_width=8, detail_width=detail_width)
    network = ResidualSegmenter(config, 3).eval()
    assert config.stride == stride
    assert network(torch.zeros(2, 3, 32, 64)).shape == (2, 3, 32 // stride, 64 // stride)


def test_encoder_halves_and_widens_stage_by_stage() -> None:
    network = ResidualSegmenter(TINY, 3).eval()
    x = network.stem(torch.zeros(1, 3, 64, 64))
    shapes = []
    for stage in (network.stage_4, network.stage_8, network.stage_16, network.stage_32):
        x = stage(x)
        shapes.append(tuple(x.shape[1:]))
    assert shapes == [(8, 16, 16), (8, 8, 8), (16, 4, 4), (16, 2, 2)]
    assert [len(network.stage_4), len(network.stage_32)] == [1, 2]


def test_context_reaches_every_pixel() -> None:
    network = ResidualSegmenter(TINY, 3).eval()
    image = torch.randn(1, 3, 256, 256)
    changed = image.clone()
    changed[:, :, :8, :8] += 100
    with torch.inference_mode():
        difference = (network(image) - network(changed)).abs().amax(1)[0]  # (H/4, W/4)
    assert difference[-1, -1] > 0


def test_block_starts_as_the_identity() -> None:
    block = BasicBlock(8, 8).eval()
    x = torch.rand(2, 8, 5, 7)  # not negative, so that the last ReLU changes nothing
    assert torch.equal(block(x), x)


@pytest.mark.parametrize(("in_channels", "stride"), [(8, 1), (8, 2), (4, 1)])
def test_block_is_relu_of_shortcut_plus_two_convolutions(in_channels: int, stride: int) -> None:
    block = BasicBlock(in_channels, 8, stride=stride).eval()
    randomize_batch_norms(block)
    x = torch.randn(2, in_channels, 6, 10)

    def norm(y: torch.Tensor, layer: nn.BatchNorm2d) -> torch.Tensor:
        column = (1, -1, 1, 1)
        scale = layer.weight / torch.sqrt(layer.running_var + layer.eps)
        return (y - layer.running_mean.view(column)) * scale.view(column) + layer.bias.view(column)

    y = F.conv2d(x, block.conv1[0].weight, stride=stride, padding=1)
    y = norm(y, block.conv1[1]).clamp(min=0)
    y = norm(F.conv2d(y, block.conv2[0].weight, padding=1), block.conv2[1])
    shortcut = x
    if stride != 1 or in_channels != 8:
        shortcut = norm(F.conv2d(x, block.shortcut[0].weight, stride=stride), block.shortcut[1])
    expected = (y + shortcut).clamp(min=0)
    torch.testing.assert_close(block(x), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("in_channels", "stride"), [(8, 1), (8, 2), (4, 1)])
def test_plain_block_is_relu_of_the_two_convolutions_alone(in_channels: int, stride: int) -> None:
    block = BasicBlock(in_channels, 8, stride=stride, residual=False).eval()
    x = torch.randn(2, in_channels, 6, 10)
    assert torch.equal(block(x), block.conv2(block.conv1(x)).clamp(min=0))
    assert block(x).abs().max() > 0  # not born dead, as the zeroed last norm of a residual block would be


def test_plain_network_differs_from_the_residual_one_by_the_shortcuts_alone() -> None:
    names = {
        residual: ResidualSegmenter(dataclasses.replace(TINY, residual=residual), 3).state_dict().keys()
        for residual in (True, False)
    }
    missing = names[True] - names[False]
    assert names[False] < names[True]
    assert missing == {name for name in names[True] if ".shortcut." in name}


def test_drop_path_leaves_whole_samples_out_and_keeps_the_mean() -> None:
    drop = DropPath(0.25)
    y = drop(torch.ones(4000, 2, 3, 1))
    assert y.unique().tolist() == pytest.approx([0, 1 / 0.75])
    per_sample = y.flatten(1)  # (4000, 6)
    assert torch.equal(per_sample, per_sample[:, :1].expand_as(per_sample))
    assert float(y.mean()) == pytest.approx(1, abs=0.03)


def test_drop_path_draws_from_the_generator_whose_state_a_checkpoint_keeps() -> None:
    drop, x = DropPath(0.5), torch.ones(64, 1, 1, 1)
    state = torch.get_rng_state()
    first, second = drop(x), drop(x)
    torch.set_rng_state(state)
    assert torch.equal(drop(x), first)
    assert not torch.equal(first, second)


def test_drop_path_grows_on_a_line_over_the_blocks_that_can_be_left_out() -> None:
    config = dataclasses.replace(TINY, depths=(2, 1, 2, 2), drop_path=0.4)
    rates = [
        (module.drop_path.rate, isinstance(module.shortcut, nn.Identity))
        for module in ResidualSegmenter(config, 3).modules()
        if isinstance(module, BasicBlock)
    ]
    assert [rate for rate, can in rates if can] == pytest.approx([0.1, 0.2, 0.3, 0.4])
    assert not any(rate for rate, can in rates if not can)


@pytest.mark.parametrize("rates", [{"dropout": 0.5}, {"drop_path": 0.9}])
def test_regularisation_acts_in_training_and_nowhere_else(rates: dict[str, float]) -> None:
    regularised = ResidualSegmenter(dataclasses.replace(TINY, **rates), 3)
    bare = ResidualSegmenter(TINY, 3)
    randomize_batch_norms(regularised)
    bare.load_state_dict(regularised.state_dict())
    x = torch.randn(4, 3, 32, 64)
    torch.manual_seed(1)
    assert not torch.allclose(regularised(x), bare(x))
    bare.load_state_dict(regularised.state_dict())  # the batch norms' running statistics, which x moved
    assert torch.equal(regularised.eval()(x), bare.eval()(x))


@pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning")  # torch.export's own
def test_regularisation_leaves_no_trace_in_what_is_exported() -> None:
    x = (torch.zeros(1, 3, 32, 64),)
    regularised = ResidualSegmenter(dataclasses.replace(TINY, dropout=0.5, drop_path=0.5), 3)
    programs = [
        torch.export.export(network.eval(), x).run_decompositions()
        for network in (ResidualSegmenter(TINY, 3), regularised)
    ]
    assert str(programs[0].graph) == str(programs[1].graph)


def test_auxiliary_head_leaves_the_network_and_its_logits_as_they_are() -> None:
    network = CameraNetwork(ResidualSegmenter(TINY, 5), NORMALIZATION).eval()
    names = list(network.state_dict())
    supervised = SupervisedNetwork(network, 5, auxiliary=True).eval()
    images = torch.randint(0, 256, (2, 32, 64, 3), dtype=torch.uint8)
    logits, (auxiliary,), _ = supervised(images)
    assert torch.equal(logits, network(images))
    assert auxiliary.shape == (2, 5, 2, 4)
    assert list(network.state_dict()) == names


def test_auxiliary_loss_teaches_the_encoder_to_stride_16_and_not_the_decoder() -> None:
    network = CameraNetwork(ResidualSegmenter(TINY, 5), NORMALIZATION)
    supervised = SupervisedNetwork(network, 5, auxiliary=True)
    supervised(torch.randint(0, 256, (2, 32, 64, 3), dtype=torch.uint8)).auxiliary[0].sum().backward()
    taught = {name.split(".")[1] for name, p in network.named_parameters() if p.grad is not None}
    assert taught == {"stem", "stage_4", "stage_8", "stage_16"}


def test_without_an_auxiliary_head_the_network_alone_is_trained() -> None:
    network = CameraNetwork(ResidualSegmenter(TINY, 5), NORMALIZATION).eval()
    supervised = SupervisedNetwork(network, 5, auxiliary=False)
    images = torch.randint(0, 256, (1, 32, 64, 3), dtype=torch.uint8)
    logits, auxiliary, features = supervised(images)
    assert torch.equal(logits, network(images))
    assert not auxiliary
    assert not features
    assert len(list(supervised.parameters())) == len(list(network.parameters()))


def test_auxiliary_head_needs_a_network_with_stages() -> None:
    network = CameraNetwork(build_network("article_keras", ArticleKerasConfig(), 5), NORMALIZATION)
    with pytest.raises(ConfigError, match="aux-weight"):
        SupervisedNetwork(network, 5, auxiliary=True)


@pytest.mark.parametrize(
    "changes",
    [
        {"stem_width": 12},
        {"stem_width": 0},
        {"widths": (8, 8, 8, 0)},
        {"widths": (8, 8, 8, 9)},
        {"decoder_width": 0},
        {"detail_width": -8},
        {"depths": (1, 1, 0, 1)},
        {"dropout": 1.0},
        {"dropout": -0.1},
        {"drop_path": 1.0},
        {"drop_path": 0.1, "residual": False},
    ],
)
def test_config_that_cannot_work_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        ResidualConfig(**changes)


def test_size_multiple_is_the_deepest_stride() -> None:
    network = ResidualSegmenter(TINY, 3).eval()
    multiple = TINY.size_multiple
    assert network(torch.zeros(1, 3, multiple, 3 * multiple)).shape[2:] == (multiple // 4, 3 * multiple // 4)


def described(network: nn.Module) -> list[str]:
    """The layers in order, such as conv3x3 3-64."""
    names = []
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            assert module.stride == (1, 1)
            assert module.padding == tuple(side // 2 for side in module.kernel_size)
            names.append(
                f"conv{'x'.join(map(str, module.kernel_size))} {module.in_channels}-{module.out_channels}"
            )
        elif isinstance(module, nn.MaxPool2d):
            names.append(f"pool{module.kernel_size}")
        elif isinstance(module, nn.BatchNorm2d | nn.ReLU):
            names.append("bn" if isinstance(module, nn.BatchNorm2d) else "relu")
    return names


def test_article_pytorch_has_the_layers_of_the_article() -> None:
    expected = [
        *("conv3x3 3-64", "bn", "relu", "pool2"),
        *("conv3x3 64-64", "bn", "relu"),
        *("conv3x3 64-128", "bn", "relu"),
        "conv1x1 128-11",
    ]
    assert described(build_network("article_pytorch", ArticlePytorchConfig(), 11)) == expected


def test_article_keras_has_the_layers_of_the_article() -> None:
    expected = [
        *("conv3x3 3-64", "bn", "relu", "pool2"),
        *("conv3x3 64-64", "bn", "relu", "conv3x3 64-64", "bn", "relu", "pool2"),
        *("conv3x3 64-128", "bn", "relu", "conv3x3 128-128", "bn", "relu", "conv3x3 128-128", "bn", "relu"),
        "conv1x1 128-11",
    ]
    assert described(build_network("article_keras", ArticleKerasConfig(), 11)) == expected


def test_camera_network_normalizes_by_hand_computed_numbers() -> None:
    network = CameraNetwork(nn.Identity(), Normalization((10.0, 20.0, 30.0), (1.0, 2.0, 4.0)))
    image = torch.tensor([[[[12, 24, 38], [10, 20, 30]]]], dtype=torch.uint8)  # (1, 1, 2, 3)
    assert network(image)[0, :, 0].tolist() == [[2.0, 0.0], [2.0, 0.0], [2.0, 0.0]]


def test_normalization_is_not_among_the_weights() -> None:
    network = CameraNetwork(nn.Conv2d(3, 2, 1), NORMALIZATION)
    assert list(network.state_dict()) == ["body.weight", "body.bias"]


@pytest.mark.parametrize("name", ["residual-n", "article_pytorch", "article_keras"])
def test_folding_std_changes_nothing_not_even_at_the_border(name: str) -> None:
    network = CameraNetwork(build_network(SIZES[name].kind, SIZES[name].config, 4), NORMALIZATION).eval()
    randomize_batch_norms(network)
    folded = network.with_std_folded()
    image = torch.randint(0, 256, (2, 32, 64, 3), dtype=torch.uint8)
    with torch.inference_mode():
        expected = network(image)
        torch.testing.assert_close(folded(image), expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


def test_folding_std_leaves_the_original_alone_and_twice_is_once() -> None:
    network = CameraNetwork(ResidualSegmenter(TINY, 4), NORMALIZATION)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    once = network.with_std_folded()
    twice = once.with_std_folded()
    assert network.std is not None
    assert network.training
    assert once.std is None
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    pairs = zip(once.state_dict().values(), twice.state_dict().values(), strict=True)
    assert all(itertools.starmap(torch.equal, pairs))


def test_unknown_kind_is_named() -> None:
    with pytest.raises(ConfigError, match="transformer"):
        build_network("transformer", TINY, 3)


def test_config_of_another_kind_is_refused() -> None:
    with pytest.raises(ConfigError, match="ArticleKerasConfig"):
        build_network("article_keras", TINY, 3)


def test_config_comes_back_from_plain_values() -> None:
    plain = {"stem_width": 8, "widths": [8, 8, 16, 16], "depths": [1, 1, 1, 2], "decoder_width": 8}
    assert network_config("residual", {**plain, "detail_width": 8}) == TINY


def test_plain_values_that_do_not_fit_are_refused() -> None:
    with pytest.raises(CheckpointError, match="widths"):
        network_config("residual", {"widths": "wide"})
