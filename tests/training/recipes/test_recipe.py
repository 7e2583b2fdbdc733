import csv
import json
from pathlib import Path

import pytest

from runtime.errors import ConfigError
from training import recipe as command
from training.engine.checkpoint import load_checkpoint
from training.engine.config import TrainConfig
from training.recipes.stages import bundled_recipes, read_recipe, stage_configs

TINY = {"network": "residual-n", "size_hw": [32, 64], "batch_size": 2, "epochs": 2, "aux_weight": 0}


def write(path: Path, *stages: dict[str, object], **more: object) -> str:
    path.write_text(json.dumps({"about": "tiny", "stages": stages, **more}))
    return str(path)


@pytest.mark.parametrize("name", bundled_recipes())
def test_a_bundled_recipe_ends_with_its_network(name: str, tmp_path: Path) -> None:
    configs = stage_configs(read_recipe(name), tmp_path, {}, soft={"soft_labels": ("x",)}, epochs_factor=0.01)
    assert configs[-1][1].network == f"residual-{name[-1]}"
    assert all(config.epochs >= 1 and config.soft_labels == ("x",) for _, config in configs)
    assert configs[-1][1].init_from == str(tmp_path / configs[-1][0].start_from / "best.pt")


def test_stages_build_on_each_other_and_go_on_after_an_interruption(
    camvid_root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    no_curves: None,
) -> None:
    stages = [
        {"name": "first", "settings": TINY},
        {"name": "second", "settings": TINY, "start_from": "first", "teacher": "first"},
    ]
    path, out = write(tmp_path / "tiny.json", *stages), tmp_path / "run"
    argv = [path, "--data", "camvid", "--root", str(camvid_root), "--out", str(out)]
    from training.engine import loop

    train = loop.train

    def interrupted(config: TrainConfig, *rest: object, **more: object) -> Path:
        if config.teacher is not None:
            raise KeyboardInterrupt
        return train(config, *rest, **more)

    monkeypatch.setattr(loop, "train", interrupted)
    assert command.main(argv) == 130
    first = (out / "first" / "best.pt").read_bytes()
    monkeypatch.setattr(loop, "train", train)
    assert command.main(argv) == 0
    assert (out / "first" / "best.pt").read_bytes() == first
    assert (out / "best.pt").read_bytes() == (out / "second" / "best.pt").read_bytes()
    with open(out / "stages.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == ["first", "second"]
    best = load_checkpoint(out / "best.pt").contract
    assert float(rows[1]["miou"]) == pytest.approx(best.accuracy.miou, abs=1e-5)
    assert "taught by" not in best.origin.terms  # the same terms are said once
    said = capsys.readouterr().out
    assert "second" in said
    assert f"{out / 'best.pt'} --data camvid --root {camvid_root} --split train --fit-biases" in said


@pytest.mark.parametrize(
    ("stages", "more", "message"),
    [
        ((), {}, "expected at least one stage"),
        (({"name": "a", "settings": {"nework": "x"}},), {}, r"stages\[0\]\.settings\.nework: unknown field"),
        (
            ({"name": "a", "settings": {"epochs": 0}},),
            {},
            "epochs: expected a number of at least 1",
        ),
        (({"name": "a", "settings": {"workers": 3}},), {}, "workers is for the command line"),
        (({"name": "a", "settings": {}, "teacher": "b"},), {}, "expected an earlier stage"),
        (({"name": "../a", "settings": {}},), {}, "expected names of letters"),
        (({"name": "a", "settings": {}}, {"name": "a", "settings": {}}), {}, "each once"),
        (({"name": "a", "settings": {}},), {"after": "nobody"}, "after: expected another one of camvid-m"),
    ],
)
def test_a_recipe_that_cannot_be_is_refused(
    tmp_path: Path, stages: tuple[dict[str, object], ...], more: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        read_recipe(write(tmp_path / "r.json", *stages, **more))


@pytest.mark.parametrize(("text", "message"), [(None, "expected one of camvid-m"), ("{", "expected JSON")])
def test_a_file_that_is_no_recipe_is_named(tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "r.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_recipe(str(path))
