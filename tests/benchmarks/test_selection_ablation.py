import json
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks.ablation.selection import SELECTED, SPACED, choose, selection_table, ways
from benchmarks.render.document import to_text
from benchmarks.selection_ablation import main
from runtime.contract import CAMVID_CLASSES
from runtime.errors import DatasetError
from training.data import open_dataset
from training.teaching.soft_labels import SoftLabels, TeacherFile, write_description, write_soft_labels


@pytest.fixture(scope="module")
def judged_by(camvid_root, tmp_path_factory):
    """Soft labels of the four training frames; those of the second drive are unsure."""
    folder = tmp_path_factory.mktemp("soft")
    write_description(folder, TeacherFile(CAMVID_CLASSES.names, 8))
    for image in (camvid_root / "train").iterdir():
        sure = 0.2 if image.stem.startswith("0006R0") else 0.99
        probabilities = np.full((11, 4, 8), (1 - sure) / 10, np.float32)
        probabilities[3] = sure
        write_soft_labels(folder, image.stem, probabilities)
    return folder


def test_each_way_chooses_its_frames(camvid_root, judged_by):
    train_set, soft = open_dataset("camvid", camvid_root, "train"), SoftLabels.open(judged_by)
    chosen = {way: choose(train_set, way, 2, soft) for way in ways(2)}
    names = {way: [pair.image.stem for pair in one.pairs] for way, one in chosen.items()}
    assert any(name.startswith("0006R0") for name in names[SELECTED])
    assert names[SPACED] == ["0001TP_0", "0006R0_1"]
    assert all(len(set(one)) == 2 for one in names.values())
    assert len({one.split for one in chosen.values()}) == 4
    assert choose(train_set, "random 1", 2, soft).pairs == chosen["random 1"].pairs


@pytest.mark.parametrize(
    ("count", "soft_of", "message"), [(5, 4, "at least 5 frames"), (2, 3, "found none of")]
)
def test_too_few_frames_are_refused(camvid_root, judged_by, tmp_path, count, soft_of, message):
    write_description(tmp_path, TeacherFile(CAMVID_CLASSES.names, 8))
    for file in sorted(judged_by.glob("*.npz"))[:soft_of]:
        (tmp_path / file.name).write_bytes(file.read_bytes())
    train_set = open_dataset("camvid", camvid_root, "train")
    with pytest.raises(DatasetError, match=message):
        choose(train_set, SELECTED, count, SoftLabels.open(tmp_path))


def test_the_table_gives_random_draws_as_mean_and_range():
    miou = {(way, "val", 9): value for way, value in zip(ways(2), (0.5, 0.25, 0.125, 0.25), strict=True)}
    rows = to_text([selection_table(miou, ways(2), ["val"], [9])]).splitlines()
    assert [row.split()[-1] for row in rows[1:3]] == ["0.5000", "0.2500"]
    assert rows[3].endswith("0.1875 (0.1250 to 0.2500)")


def test_every_way_is_trained_and_measured(camvid_root, judged_by, tmp_path, capsys, monkeypatch):
    trained = []

    def trained_run(config, train_set, val_set, folder):
        trained.append((len(train_set), val_set.split, folder.relative_to(tmp_path).as_posix()))
        return SimpleNamespace(accuracy=SimpleNamespace(miou=0.5))

    monkeypatch.setattr("benchmarks.ablation.trained_run.trained_run", trained_run)
    where = ["--data", "camvid", "--root", str(camvid_root), "--out", str(tmp_path)]
    assert main([*where, "--judged-by", str(judged_by), "--frames", "2", "--draws", "1", "--json"]) == 0
    assert trained == [(2, "val", f"val/2-{way}") for way in ("selected", "evenly-spaced", "random-1")]
    outcomes = json.loads(capsys.readouterr().out)["outcomes"]
    assert [(one["way"], one["frames"], one["miou"]) for one in outcomes] == [
        (way, 2, 0.5) for way in ways(1)
    ]
