import numpy as np
import pytest

from runtime import Segmenter
from runtime.contract import ClassMap, ImageFit
from runtime.errors import ConfigError, DatasetError
from training.evaluation.metrics import class_probabilities
from training.evaluation.probabilities import probabilities_of
from training.teaching.ensemble import Ensemble, combine

BOTH = np.array([True, True])


def column(*numbers: float) -> np.ndarray:
    return np.array(numbers, np.float32)


def asked(path, image_bgr, size_hw=None):
    with Segmenter(path) as segment:
        return probabilities_of(segment, segment.infer(segment.fit(image_bgr)), size_hw)


@pytest.fixture
def image_bgr() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)


def test_probabilities_at_the_frames_size_are_those_of_a_mask(tiny_onnx, image_bgr):
    whole = asked(tiny_onnx, image_bgr)
    with Segmenter(tiny_onnx) as segment:
        inferred = segment.infer(segment.fit(image_bgr))
        mask = segment.finish(inferred).mask
    np.testing.assert_allclose(whole, class_probabilities(inferred.output, (60, 80)), atol=1e-6)
    assert (whole.argmax(axis=0) == mask).mean() > 0.999


def test_a_coarser_grid_holds_the_means_of_its_cells(tiny_onnx, image_bgr):
    # The logits are 4x6; the grid of 2x3 has cells of four of them.
    coarse = asked(tiny_onnx, image_bgr, (2, 3))
    with Segmenter(tiny_onnx) as segment:
        fine = class_probabilities(segment.infer(segment.fit(image_bgr)).output, (4, 6))
    np.testing.assert_allclose(coarse, fine.reshape(3, 2, 2, 3, 2).mean(axis=(2, 4)), atol=1e-6)


@pytest.mark.parametrize("mode", ["letterbox", "crop"])
def test_a_frame_that_is_not_stretched_keeps_its_places(tmp_path, tiny, write_tiny_onnx, mode):
    contract = tiny.tiny_contract((32, 32)).with_input(fit=ImageFit(mode))
    path = write_tiny_onnx(tmp_path / "fit.onnx", contract=contract)
    frame_bgr = np.zeros((64, 128, 3), np.uint8)
    frame_bgr[:, :64, 0] = frame_bgr[:, 64:, 2] = 255  # blue, then red
    grid = asked(path, frame_bgr, (16, 32))
    np.testing.assert_allclose(grid.sum(axis=0)[:, 9:23], 1, atol=1e-5)
    assert (grid[0, :, 9:15] > grid[2, :, 9:15]).all()
    assert (grid[2, :, 17:23] > grid[0, :, 17:23]).all()
    if mode == "crop":  # the network saw the middle alone
        assert not grid[:, :, :7].any()


def test_a_file_of_masks_is_taken_for_nine_tenths_sure(monkeypatch, tiny_onnx, image_bgr):
    with Segmenter(tiny_onnx) as segment:
        inferred = segment.infer(segment.fit(image_bgr))
        mask = segment.finish(inferred).mask
        masks_only = segment.contract.with_output(kind="mask")
        monkeypatch.setattr(Segmenter, "contract", property(lambda _: masks_only))
        monkeypatch.setattr(segment, "finish", lambda _: type("Result", (), {"mask": mask}))
        votes = probabilities_of(segment, inferred)
    np.testing.assert_allclose(votes.max(axis=0), 0.9, atol=1e-6)
    assert (votes.argmax(axis=0) == mask).all()
    np.testing.assert_allclose(votes.sum(axis=0), 1, atol=1e-6)


@pytest.mark.parametrize(
    ("said", "weights", "knows", "expected"),
    [
        ([column(0.9, 0.1)], [2.0], [BOTH], [0.9, 0.1]),
        # Geometric means: sqrt(.9 * .2) : sqrt(.1 * .8), and .9^.75 * .2^.25 : .1^.75 * .8^.25.
        ([column(0.9, 0.1), column(0.2, 0.8)], [1, 1], [BOTH, BOTH], [0.6, 0.4]),
        ([column(0.9, 0.1), column(0.2, 0.8)], [3, 1], [BOTH, BOTH], [0.786, 0.214]),
        # Half of it went to classes that are not among these: it says less.
        ([column(0.5, 0.0), column(0.5, 0.5)], [1, 1], [BOTH, BOTH], [0.634, 0.366]),
        # The second does not know the second class, and repeats the first's .4 of it.
        ([column(0.6, 0.4), column(1.0, 0.0)], [1, 1], [BOTH, np.array([True, False])], [0.6, 0.4]),
        # Nobody knows the second class.
        ([column(1.0, 0.0)], [1], [np.array([True, False])], [1.0, 0.0]),
    ],
)
def test_opinions_are_joined_by_the_mean_of_their_logarithms(said, weights, knows, expected):
    np.testing.assert_allclose(combine(said, weights, knows), expected, atol=1e-3)


def test_networks_of_other_classes_speak_through_a_map(tmp_path, tiny, write_tiny_onnx, tiny_onnx, image_bgr):
    others = ClassMap(("sea", "wood", "fire"), ((0, 0, 255), (0, 255, 0), (255, 0, 0)))
    contract = tiny.tiny_contract(classes=others)
    # Of three classes that are not blue, green and red the weights are random, so only names are looked at.
    path = write_tiny_onnx(tmp_path / "other.onnx", contract=contract)
    class_map = tmp_path / "map.json"
    class_map.write_text(
        '{"source": "a", "target": "b", "groups": [{"source": ["sea"], "target": ["blue"]}, '
        '{"source": ["wood"], "target": ["green"]}], "lost": ["fire"], "unpartnered": ["red"]}'
    )
    with Ensemble([tiny_onnx, path], weights=[1, 2], class_maps=[str(class_map)], flip=True) as ensemble:
        together = ensemble(image_bgr)
        assert ensemble.classes.names == ("blue", "green", "red")
        assert [member.knows.tolist() for member in ensemble.members] == [[True] * 3, [True, True, False]]
        assert "lost, as no class of the target is meant: fire" in ensemble.describe()
    assert together.shape == (3, 15, 20)
    np.testing.assert_allclose(together.sum(axis=0), 1, atol=1e-5)
    with pytest.raises(DatasetError, match="add --class-map, or leave the model out"):
        Ensemble([tiny_onnx, path]).close()


def test_a_mirrored_view_gives_a_mirrored_answer(tiny_onnx, image_bgr):
    with Ensemble([tiny_onnx], flip=True) as ensemble:
        here, there = ensemble(image_bgr), ensemble(np.ascontiguousarray(image_bgr[:, ::-1]))
    np.testing.assert_allclose(here, there[:, :, ::-1], atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"weights": [1, 2]}, "one for each of 1 models, got 2"),
        ({"scales": [0.5]}, "export the model with --dynamic"),
    ],
)
def test_what_cannot_be_done_says_so(tiny_onnx, settings, message):
    with pytest.raises(ConfigError, match=message):
        Ensemble([tiny_onnx], **settings)


def test_other_sizes_of_a_dynamic_file_are_asked_too(tmp_path, tiny, write_tiny_onnx, image_bgr):
    contract = tiny.tiny_contract((32, 48)).with_input(is_dynamic=True, size_multiple=8)
    path = write_tiny_onnx(
        tmp_path / "dynamic.onnx", contract=contract, input_hw=("height", "width"), batch="batch"
    )
    with Ensemble([path], scales=[1.0, 2.0]) as ensemble:
        assert [view.size_hw for view in ensemble.members[0].views] == [(32, 48), (64, 96)]
        np.testing.assert_allclose(ensemble(image_bgr).sum(axis=0), 1, atol=1e-5)
