import csv
import json

import cv2
import pytest

from benchmarks.ablation.residual import (
    VARIANTS,
    Epoch,
    Outcome,
    comparison_table,
    count_macs,
    curves_of,
    read_curve,
)
from benchmarks.render.charts import draw_curves
from benchmarks.render.document import to_text
from benchmarks.residual_ablation import main
from runtime.contract import Normalization
from training.engine.checkpoint import load_checkpoint
from training.engine.config import TrainConfig
from training.network.build import CameraNetwork, build_network
from training.network.sizes import ArticleKerasConfig, ResidualConfig

TINY = ["--size", "32", "64", "--batch-size", "2", "--epochs", "1"]


@pytest.fixture(scope="module")
def compare(camvid_root):
    def run(out, *flags):
        return main(["--data", "camvid", "--root", str(camvid_root), "--out", str(out), *TINY, *flags])

    return run


@pytest.fixture(scope="module")
def compared(compare, tmp_path_factory):
    out = tmp_path_factory.mktemp("ablation")
    assert compare(out, "--variants", "plain-8", "article_keras") == 0
    return out


def outcome(name, mious, seed=0):
    curve = tuple(Epoch(number, 2 / number, miou) for number, miou in enumerate(mious, start=1))
    return Outcome(name, seed, 1_500_000, 2_500_000_000, mious[-1], 0.25, f"{name}.onnx", curve)


def test_variants_differ_in_nothing_but_depth_and_skip_connections():
    base = TrainConfig(size_hw=(64, 96), epochs=3, seed=5)
    configs = {name: variant.config(base) for name, variant in VARIANTS.items()}
    pairs = {name.rpartition("-")[2] for name in VARIANTS if name.startswith("plain")}
    assert pairs == {"4", "8", "16", "32"}
    for depth in pairs:
        residual, plain = configs[f"residual-{depth}"], configs[f"plain-{depth}"]
        assert (residual.plain, plain.plain) == (False, True)
        assert TrainConfig(**{**vars(residual), "plain": True}) == plain
        assert sum(residual.depths) == int(depth)
    assert {(config.epochs, config.seed, config.size_hw) for config in configs.values()} == {(3, 5, (64, 96))}


def test_every_variant_is_trained_exported_and_drawn(compared):
    assert sorted(path.name for path in compared.iterdir()) == [
        "article_keras-seed0",
        "comparison.png",
        "plain-8-seed0",
    ]
    checkpoint = load_checkpoint(compared / "plain-8-seed0" / "best.pt")
    assert not checkpoint.config.residual
    assert not any(".shortcut." in name for name in checkpoint.weights)
    assert (compared / "plain-8-seed0" / "best.onnx").exists()


def test_same_command_again_trains_nothing_and_keeps_stdout_to_one_object(compared, compare, capsys):
    weights = (compared / "plain-8-seed0" / "last.pt").read_bytes()
    assert compare(compared, "--variants", "plain-8", "--json") == 0
    (outcome,) = json.loads(capsys.readouterr().out)["variants"]
    with (compared / "plain-8-seed0" / "results.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert outcome["name"] == "plain-8"
    assert outcome["train_loss"] == float(row["train_loss"])
    assert outcome["curve"] == [
        {"number": 1, "train_loss": outcome["train_loss"], "miou": float(row["miou"])}
    ]
    assert (compared / "plain-8-seed0" / "last.pt").read_bytes() == weights


def test_other_settings_in_the_same_folder_are_refused(compared, compare, capsys):
    assert compare(compared, "--variants", "plain-8", "--weight-decay", "0.2") == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "weight_decay" in captured.err.splitlines()[-1]


def test_multiply_adds_agree_with_a_count_by_hand():
    network = CameraNetwork(
        build_network("article_keras", ArticleKerasConfig(), 11), Normalization((0.0,) * 3, (1.0,) * 3)
    )
    full, half, quarter = 32 * 64, 16 * 32, 8 * 16
    expected = full * 9 * 3 * 64 + half * 2 * 9 * 64 * 64
    expected += quarter * (9 * 64 * 128 + 2 * 9 * 128 * 128 + 128 * 11)
    assert count_macs(network.eval(), (32, 64)) == expected


def test_skip_connections_cost_no_more_than_the_projections():
    config = ResidualConfig(8, (8, 8, 8, 8), (2, 1, 1, 1), decoder_width=8, detail_width=0)
    plain = ResidualConfig(**{**vars(config), "residual": False})
    residual_macs, plain_macs = (
        count_macs(
            CameraNetwork(build_network("residual", one, 3), Normalization((0.0,) * 3, (1.0,) * 3)).eval(),
            (32, 64),
        )
        for one in (config, plain)
    )
    assert residual_macs - plain_macs == (4 * 8 + 2 * 4 + 1 * 2) * 8 * 8  # 1x1, 8 to 8, at strides 8, 16, 32


def test_a_curve_has_gaps_where_nothing_was_measured(tmp_path):
    path = tmp_path / "results.csv"
    path.write_text("epoch,train_loss,miou\n1,2.5,\n2,1.25,0.5\n")
    assert read_curve(path) == (Epoch(1, 2.5, None), Epoch(2, 1.25, 0.5))


def test_table_has_a_row_a_network_with_the_mean_of_its_seeds():
    runs = [
        outcome("plain-16", [0.5]),
        outcome("residual-16", [0.75]),
        outcome("residual-16", [0.25], seed=1),
    ]
    rows = to_text([comparison_table(runs)]).splitlines()
    assert rows[1].split() == ["plain-16", "1.50", "2.50", "0.2500", "0.5000"]
    assert rows[2].split() == ["residual-16", "1.50", "2.50", "0.2500", "0.5000", "0.2500", "to", "0.7500"]


def test_picture_shows_a_variant_in_its_colour_and_its_seeds_as_a_band(tmp_path):
    one, two = outcome("residual-16", [0.1, 0.5, 0.6]), outcome("residual-16", [0.3, 0.1, 0.4], seed=1)
    pixels = []
    for runs in ([one], [one, two]):
        draw_curves(tmp_path / "a.png", curves_of(runs), "title")
        image_bgr = cv2.imread(str(tmp_path / "a.png")).astype(int)
        assert (image_bgr == (0x66, 0x8A, 0x0E)).all(2).sum() > 100  # MODELS[2]
        pixels.append((image_bgr.max(2) - image_bgr.min(2) > 10).sum())
    assert pixels[1] > 2 * pixels[0]


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--network", "article_keras"], "network: expected a residual one"),
        (["--plain"], "depths, plain: expected neither"),
        (["--depths", "1", "1", "1", "1"], "depths, plain: expected neither"),
    ],
)
def test_what_the_variants_decide_is_refused(compare, tmp_path, capsys, flags, expected):
    assert compare(tmp_path / "out", *flags) == 1
    assert expected in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
