import json

import pytest

from benchmarks.ablation.recipe import BASE, CHANGES, Outcome, changed, changes_of, outcome_table
from benchmarks.recipe_ablation import main
from benchmarks.render.document import to_text
from runtime.errors import ConfigError
from training.engine.checkpoint import load_checkpoint
from training.engine.config import TrainConfig

TINY = ["--size", "32", "64", "--batch-size", "2", "--epochs", "1", "--network", "residual-n"]


@pytest.fixture(scope="module")
def ablate(camvid_root):
    def run(out, *flags):
        return main(["--data", "camvid", "--root", str(camvid_root), "--out", str(out), *TINY, *flags])

    return run


@pytest.fixture(scope="module")
def ablated(ablate, tmp_path_factory):
    out = tmp_path_factory.mktemp("recipe")
    assert ablate(out, "--changes", "dropout-0.1", "--places", "val", "0006R0") == 0
    return out


@pytest.mark.parametrize("change", sorted(set(CHANGES) - {BASE}))
def test_a_change_changes_what_it_names_and_nothing_else(change):
    loss = "ohem" if change == "cross-entropy" else "cross-entropy"
    base = TrainConfig(loss=loss, aux_weight=0.7, style=0.5, synthetic_share=0.5)
    differing = {name for name, value in vars(changed(base, change)).items() if value != vars(base)[name]} - {
        "epochs"
    }
    assert differing == set(CHANGES[change])


def test_without_streets_there_are_as_many_steps():
    base = TrainConfig(synthetic_share=0.5, epochs=10)
    assert changed(base, "streets-0").epochs == 20
    assert changed(base, "ohem").epochs == 10


def test_a_change_that_the_base_has_already_is_refused():
    with pytest.raises(ConfigError, match="style-0: the base already has it"):
        changed(TrainConfig(), "style-0")


def test_without_names_every_change_that_the_base_does_not_have_is_trained():
    base = TrainConfig(loss="weighted", aux_weight=0.4)
    missing = {"weighted", "style-0", "streets-0", BASE}
    assert set(changes_of(base)) == set(CHANGES) - missing
    for change in changes_of(base):
        assert changed(base, change) != base


def test_base_and_change_are_trained_exported_and_measured_at_each_place(ablated):
    outcomes = json.loads((ablated / "outcomes.json").read_text())["outcomes"]
    assert [outcome["change"] for outcome in outcomes] == [BASE, "dropout-0.1"]
    for outcome in outcomes:
        assert set(outcome["miou"]) == {"val", "0006R0"}
        for place in outcome["miou"]:
            assert (ablated / place / outcome["change"] / "best.onnx").exists()


def test_the_same_command_again_trains_nothing_and_prints_one_object(ablated, ablate, capsys):
    weights = ablated / "val" / BASE / "last.pt"
    before = weights.read_bytes()
    assert ablate(ablated, "--changes", "dropout-0.1", "--places", "val", "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert result["base"]["network"] == "residual-n"
    assert weights.read_bytes() == before


def test_a_place_is_trained_without(ablated):
    accuracy = load_checkpoint(ablated / "0006R0" / BASE / "best.pt").contract.accuracy
    assert accuracy is not None
    assert accuracy.split == "held-out drive 0006R0"


def test_the_table_gives_the_gain_over_the_base():
    outcomes = [
        Outcome(BASE, {"val": 0.5, "0006R0": 0.25}),
        Outcome("boundary", {"val": 0.5125, "0006R0": 0.24}),
    ]
    rows = to_text([outcome_table(outcomes, ["val", "0006R0"])]).splitlines()
    assert rows[0].split() == ["change", "val", "0006R0"]
    assert rows[1].split() == ["base", "0.5000", "0.2500"]
    assert rows[2].split() == ["boundary", "0.5125", "(+1.2)", "0.2400", "(-1.0)"]
