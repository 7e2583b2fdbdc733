"""Features: the file says as before what it said, and beside it what its layers hold, in the same words."""

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import onnx_ir as ir
import pytest

from export import features as command
from export.graph.features import add_features
from export.graph.finish import write_model
from export.module import export_checkpoint
from export.quantize import main as quantize
from runtime.base.files import file_sha256
from runtime.contract import ImageFit, ModelContract
from runtime.errors import ConfigError, ContractError, ParityError
from runtime.network.session import NetworkSession
from runtime.segmenter import Segmenter
from training.label import main as label
from training.network.sizes import ResidualConfig
from training.streets.scenes import render_scene
from training.teaching.features import frame_features
from training.teaching.soft_labels import SoftLabels

WIDE = ResidualConfig(8, (8, 64, 128, 64), (1, 1, 1, 1), decoder_width=32, detail_width=8)


@pytest.fixture(scope="module")
def pictures() -> list[np.ndarray]:
    return [render_scene(seed).image_bgr for seed in range(12)]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory, write_checkpoint: Callable[..., Path]) -> Path:
    folder = tmp_path_factory.mktemp("features")
    return export_checkpoint(write_checkpoint(folder / "wide.pt", config=WIDE)).path


@pytest.fixture(scope="module")
def speaking(plain: Path, pictures: list[np.ndarray]) -> Path:
    path, _ = add_features(plain, None, pictures)
    assert path == plain.with_name("wide-features.onnx")
    return path


def test_a_file_with_features_gives_the_same_logits(
    plain: Path, speaking: Path, pictures: list[np.ndarray]
) -> None:
    with Segmenter(plain) as before, Segmenter(speaking) as after:
        fitted = before.fit(pictures[0])
        np.testing.assert_array_equal(before.infer(fitted).output, after.infer(fitted).output)
        assert before.features(fitted) == ()
        fine, coarse = after.features(fitted)
        assert (fine.shape, coarse.shape) == ((32, 8, 12), (32, 4, 6))
        assert after.contract.origin.checkpoint_sha256 == before.contract.origin.checkpoint_sha256


def test_features_are_uncorrelated_have_mean_0_and_fall_in_size(
    speaking: Path, pictures: list[np.ndarray]
) -> None:
    with Segmenter(speaking) as segment:
        said = [segment.features(segment.fit(picture)) for picture in pictures]
    for layer in zip(*said, strict=True):
        seen = np.concatenate([x.reshape(32, -1) for x in layer], axis=1)
        covariance = np.cov(seen, bias=True)
        sizes = np.diagonal(covariance)
        np.testing.assert_allclose(seen.mean(axis=1), 0, atol=1e-3)
        np.testing.assert_allclose(sizes.mean(), 1, rtol=1e-3)
        assert (np.diff(sizes) <= 1e-4).all()
        assert np.abs(covariance - np.diag(sizes)).max() < 1e-2


def test_a_frame_is_answered_on_the_grid_of_its_soft_labels(
    speaking: Path, pictures: list[np.ndarray]
) -> None:
    with Segmenter(speaking) as segment:
        fine, coarse = segment.features(segment.fit(pictures[0]))
        exactly = frame_features(segment, pictures[0], (8, 12))
        assert exactly.shape == (64, 8, 12)
        np.testing.assert_allclose(exactly[:32], np.clip(np.rint(fine * 32 + 128), 1, 255), atol=1)
        finer = frame_features(segment, pictures[0], (16, 24)).astype(float)
        np.testing.assert_allclose(
            finer.reshape(64, 8, 2, 12, 2).mean((2, 4))[:32, 1:-1, 1:-1].mean(),
            exactly[:32, 1:-1, 1:-1].mean(),
            atol=2,
        )
        assert finer.min() >= 1
    assert coarse.shape[1:] == (4, 6)


def test_layers_may_be_named(plain: Path, pictures: list[np.ndarray], tmp_path: Path) -> None:
    _, layers = add_features(plain, tmp_path / "a.onnx", pictures)
    names = [layer.name for layer in layers]
    _, again = add_features(plain, tmp_path / "b.onnx", pictures, names)
    assert again == layers
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
    assert [layer.shape[1:] for layer in layers] == [(8, 12), (4, 6)]
    assert all(0.5 < layer.explained <= 1.0001 for layer in layers)


def test_what_cannot_speak_is_refused(
    plain: Path,
    speaking: Path,
    exported: tuple[Path, object],
    pictures: list[np.ndarray],
    tmp_path: Path,
    write_checkpoint: Callable[..., Path],
) -> None:
    out = tmp_path / "out.onnx"
    with pytest.raises(ConfigError, match="one that has features already"):
        add_features(speaking, out, pictures)
    with pytest.raises(ConfigError, match="at least 8 pictures, got 3"):
        add_features(plain, out, pictures[:3])
    with pytest.raises(ConfigError, match=r"2 float32 tensors .* got nothing"):
        add_features(plain, out, pictures, ["nothing"])
    _, layers = add_features(plain, tmp_path / "named.onnx", pictures)
    fine, coarse = (layer.name for layer in layers)
    for named in ([coarse, fine], [fine, fine], [fine], [fine, coarse, coarse]):
        with pytest.raises(ConfigError, match=r"2 float32 tensors .*, fine to coarse, got"):
            add_features(plain, out, pictures, named)
    with pytest.raises(ConfigError, match="another output name"):
        add_features(plain, plain, pictures)
    with pytest.raises(ConfigError, match="at least 32 channels at stride 8"):  # 8 and 16 of the tiny one
        add_features(exported[0].with_suffix(".onnx"), out, pictures)
    with pytest.raises(ParityError, match="says fewer"):
        add_features(plain, out, [np.full((64, 96, 3), 90, np.uint8)] * 8)
    assert not out.exists()


def test_an_int8_file_is_made_of_the_file_without_features(
    speaking: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert quantize([str(speaking), "--frames", "synthetic"]) == 1
    assert "without features" in capsys.readouterr().err


def test_a_contract_tells_features_only_where_there_are_some(plain: Path, speaking: Path) -> None:
    before, after = NetworkSession(plain).contract, NetworkSession(speaking).contract
    assert "features" not in before.to_json()
    assert json.loads(after.to_json())["schema"] == 3
    assert ModelContract.from_json(after.to_json()) == after
    wrong = after.to_json().replace("features_16", "logits")
    with pytest.raises(ContractError, match="names of their own"):
        ModelContract.from_json(wrong)


def test_the_command_says_what_it_took(
    plain: Path, pictures: list[np.ndarray], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, picture in enumerate(pictures):
        cv2.imwrite(str(tmp_path / f"{number:02d}.png"), picture)
    out = tmp_path / "out.onnx"
    given = [str(plain), "--frames", f"{tmp_path}/*.png", "-o", str(out)]
    assert command.main(given) == 0
    assert "features_8: 32 components of" in capsys.readouterr().out
    assert command.main([*given, "--json", "--limit", "8"]) == 0
    assert len(json.loads(capsys.readouterr().out)["layers"]) == 2
    assert command.main([*given, "--every", "4"]) == 1
    assert "at least 8 pictures, got 3" in capsys.readouterr().err


def test_labelling_keeps_the_features_beside_the_soft_labels(
    plain: Path,
    speaking: Path,
    pictures: list[np.ndarray],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "images").mkdir()
    for number in range(3):
        cv2.imwrite(str(tmp_path / "images" / f"{number}.png"), pictures[number])
    out = tmp_path / "out"
    given = ["--source", str(tmp_path / "images"), "--out", str(out), "--stride", "40"]
    assert label([*given, "--model", str(speaking), "--model", str(plain)]) == 0
    soft = SoftLabels.open(out / "soft")
    assert (soft.teacher.features, soft.teacher.features_of) == ((32, 32), file_sha256(speaking))
    with Segmenter(speaking) as segment:
        for number in range(3):
            expected = frame_features(segment, pictures[number], (9, 12))
            np.testing.assert_array_equal(soft.read_features(str(number)), expected)
    np.savez(out / "soft" / "1.npz", scores=np.array(soft.read("1")))  # as a file without features
    capsys.readouterr()
    assert label([*given, "--model", str(speaking), "--model", str(plain)]) == 0
    assert "2 of them labelled before" in capsys.readouterr().out
    assert soft.read_features("1") is not None
    twice = ["--model", str(speaking), "--model", str(speaking)]
    assert label([*given[:3], str(tmp_path / "other"), *twice]) == 1
    assert "one file with features at most, got 2" in capsys.readouterr().err


def test_what_a_cropping_network_does_not_see_is_told_by_nobody(
    plain: Path, pictures: list[np.ndarray], tmp_path: Path
) -> None:
    model = ir.load(plain)
    contract = NetworkSession(plain).contract.with_input(fit=ImageFit("crop"))
    write_model(model, contract, tmp_path / "crop.onnx")
    path, _ = add_features(tmp_path / "crop.onnx", None, pictures)
    tall = cv2.copyMakeBorder(pictures[0], 180, 180, 0, 0, cv2.BORDER_CONSTANT)  # (720, 480)
    with Segmenter(path) as segment:
        said = frame_features(segment, tall, (36, 24))
    seen = said.min(axis=0) > 0
    rows = np.flatnonzero(seen.any(axis=1))
    assert (rows[0], rows[-1]) == (10, 25)  # 320 of 720 rows
    assert seen[10:26].all()
    assert not said[:, ~seen].any()
