import dataclasses
from collections.abc import Callable

import pytest
import torch

from runtime.contract import ClassMap, GraphOutput, ImageInput, ModelContract, Normalization, Origin
from runtime.errors import CheckpointError, ConfigError
from training.engine.checkpoint import Checkpoint
from training.engine.config import FREEZES
from training.engine.transfer import Transfer, combined_terms, freeze, transfer_weights
from training.network import SIZES
from training.network.build import CameraNetwork, build_network
from training.network.sizes import ArticleKerasConfig, ResidualConfig

SMALL = ResidualConfig(8, (8, 8, 16, 16), (1, 1, 1, 2), decoder_width=8, detail_width=0)
NORMALIZATION = Normalization((90.0, 100.0, 110.0), (50.0, 60.0, 70.0))


def class_map(*names: str) -> ClassMap:
    return ClassMap(names, tuple((index, 0, 0) for index in range(len(names))))


def camera_network(
    classes: ClassMap, config: ResidualConfig = SMALL, normalization: Normalization = NORMALIZATION
) -> CameraNetwork:
    return CameraNetwork(build_network("residual", config, len(classes)), normalization).eval()


@pytest.fixture
def make_source() -> Callable[..., Checkpoint]:
    """A checkpoint whose every tensor is random, batch-norm statistics too."""

    def make(classes: ClassMap, config: ResidualConfig = SMALL) -> Checkpoint:
        generator = torch.Generator().manual_seed(7)
        weights = {
            name: torch.rand(value.shape, generator=generator) + 0.5 if value.is_floating_point() else value
            for name, value in camera_network(classes, config).state_dict().items()
        }
        contract = ModelContract(
            name="streets-small",
            input=ImageInput(size_hw=(32, 64)),
            output=GraphOutput(stride=config.stride),
            classes=classes,
            normalization=NORMALIZATION,
            origin=Origin(terms="research only"),
        )
        return Checkpoint("residual", config, contract, weights)

    return make


def test_all_fits_where_classes_and_network_are_the_same(make_source: Callable[..., Checkpoint]) -> None:
    classes = class_map("road", "sky", "car")
    source, network = make_source(classes), camera_network(classes)
    transfer = transfer_weights(network, classes, source)
    assert transfer.fresh == ()
    assert transfer.kept_classes == classes.names
    images = torch.randint(0, 256, (2, 32, 64, 3), dtype=torch.uint8)
    with torch.inference_mode():
        assert torch.equal(network(images), source.build()(images))


def test_the_rows_of_the_classifier_follow_the_names_of_the_classes(
    make_source: Callable[..., Checkpoint],
) -> None:
    there, here = class_map("road", "sky", "car"), class_map("car", "lamp", "road")
    source, network = make_source(there), camera_network(here)
    before = network.state_dict()["body.classifier.weight"].clone()
    transfer = transfer_weights(network, here, source)
    for part in ("weight", "bias"):
        ours, theirs = (
            network.state_dict()[f"body.classifier.{part}"],
            source.weights[f"body.classifier.{part}"],
        )
        assert torch.equal(ours[0], theirs[2])
        assert torch.equal(ours[2], theirs[0])
    assert torch.equal(network.state_dict()["body.classifier.weight"][1], before[1])
    assert (transfer.kept_classes, transfer.fresh_classes) == (("car", "road"), ("lamp",))


def test_tensors_of_another_shape_or_name_keep_their_start_and_are_listed(
    make_source: Callable[..., Checkpoint],
) -> None:
    classes = class_map("road", "sky")
    source = make_source(classes)
    network = camera_network(classes, dataclasses.replace(SMALL, detail_width=16))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    transfer = transfer_weights(network, classes, source)
    fresh = {tensor.name for tensor in transfer.fresh}
    assert {name.split(".")[1] for name in fresh} == {"reduce_8", "lateral_4", "smooth_4", "classifier"}
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name] if name in fresh else source.weights[name]), name
    assert transfer.copied == len(before) - len(fresh)
    text = transfer.describe()
    assert "body.classifier.weight" in text
    assert "here 2x16x1x1, there 2x8x1x1" in text
    assert "body.reduce_8.0.weight" in text
    assert "not there" in text
    assert len(text.splitlines()) == 2 + len(fresh)


def test_a_batch_norm_does_not_come_without_its_convolution(make_source: Callable[..., Checkpoint]) -> None:
    classes = class_map("road")
    source = make_source(classes)
    network = camera_network(classes, dataclasses.replace(SMALL, widths=(8, 16, 16, 16)))
    transfer = transfer_weights(network, classes, source)
    assert "body.lateral_8.1.running_mean" in {tensor.name for tensor in transfer.fresh}
    assert torch.count_nonzero(network.state_dict()["body.lateral_8.1.running_mean"]) == 0


@pytest.mark.parametrize("kind", ["article_keras", "residual"])
def test_another_network_is_refused_and_nothing_changes(
    kind: str, make_source: Callable[..., Checkpoint]
) -> None:
    classes = class_map("road", "sky")
    if kind == "residual":
        wide = ResidualConfig(16, (16, 16, 32, 32), (1, 1, 1, 2), decoder_width=16, detail_width=0)
        network = camera_network(classes, wide)
    else:
        network = CameraNetwork(build_network(kind, ArticleKerasConfig(), 2), NORMALIZATION)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with pytest.raises(
        CheckpointError, match=r"streets-small, from which 0% of it can be made; give the --net"
    ):
        transfer_weights(network, classes, make_source(classes))
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize(
    ("terms", "expected"),
    [
        ("CC BY 4.0", "CC BY 4.0; started from streets-small: research only"),
        ("", "started from streets-small: research only"),
        ("started from streets-small: research only", "started from streets-small: research only"),
    ],
)
def test_the_terms_of_the_sources_data_travel_on(
    terms: str, expected: str, make_source: Callable[..., Checkpoint]
) -> None:
    source = make_source(class_map("road")).contract
    assert combined_terms(terms, "started from", source.name, source.origin.terms) == expected


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ("none", set()),
        ("stem", {"stem"}),
        ("encoder", {"stem", "stage_4", "stage_8", "stage_16", "stage_32"}),
    ],
)
def test_freezing_takes_the_gradient_from_whole_parts(
    part: str, expected: set[str], make_source: Callable[..., Checkpoint]
) -> None:
    classes = class_map("road", "sky")
    network = camera_network(classes)
    modules = freeze(network, part, transfer_weights(network, classes, make_source(classes)))
    still = {name.split(".")[1] for name, value in network.named_parameters() if not value.requires_grad}
    assert still == expected
    assert len(modules) == len(expected)


def test_a_network_without_the_part_is_not_silently_left_unfrozen() -> None:
    network = CameraNetwork(build_network("article_keras", ArticleKerasConfig(), 2), NORMALIZATION)
    with pytest.raises(ConfigError, match="expected a network that has a part called encoder, got ArticleK"):
        freeze(network, "encoder", Transfer("toy", 1, (), (), ()))


def test_random_weights_are_not_frozen(make_source: Callable[..., Checkpoint]) -> None:
    classes = class_map("road", "sky")
    network = camera_network(classes, dataclasses.replace(SMALL, depths=(1, 1, 2, 2)))
    transfer = transfer_weights(network, classes, make_source(classes))
    with pytest.raises(ConfigError, match=r"all from streets-small, got 12 random tensors in it"):
        freeze(network, "encoder", transfer)
    assert freeze(network, "stem", transfer)


def test_every_part_that_can_be_frozen_is_in_the_shipped_networks() -> None:
    for name in ("residual-n", "residual-s", "residual-m"):
        body = build_network("residual", SIZES[name].config, 11)
        children = [child for child, _ in body.named_children()]
        for prefixes in FREEZES.values():
            assert all(any(child.startswith(prefix) for child in children) for prefix in prefixes)
