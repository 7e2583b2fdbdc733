import json
from pathlib import Path

import numpy as np
import pytest

from runtime.contract import CAMVID_CLASSES
from runtime.errors import DatasetError
from training.class_maps.translation import bundled_maps, class_names, open_translation
from training.data.cityscapes import CITYSCAPES_CLASSES


def write(path: Path, *groups: tuple[list[str], list[str]]) -> Path:
    plain = [{"source": source, "target": target} for source, target in groups]
    path.write_text(json.dumps({"source": "ours", "target": "theirs", "groups": plain}))
    return path


def test_every_class_of_cityscapes_and_camvid_has_a_partner() -> None:
    translation = open_translation("cityscapes-to-camvid", CITYSCAPES_CLASSES.names, CAMVID_CLASSES.names)
    assert (translation.lost, translation.unpartnered, translation.absent) == ((), (), ())
    probabilities = np.random.default_rng(0).dirichlet(np.ones(19), (2, 3)).transpose(2, 0, 1)  # (19, 2, 3)
    translated = translation.to_target(probabilities.astype(np.float32))
    np.testing.assert_allclose(translated.sum(axis=0), 1, atol=1e-6)
    names = CITYSCAPES_CLASSES.names
    sign = [names.index("traffic light"), names.index("traffic sign")]
    np.testing.assert_allclose(translated[6], probabilities[sign].sum(axis=0), rtol=1e-6)


@pytest.mark.parametrize("name", bundled_maps())
def test_a_bundled_map_names_each_class_once(name: str) -> None:
    described = json.loads((Path("training/class_maps") / f"{name}.json").read_text())
    for side in ("source", "target"):
        names = [name for group in described["groups"] for name in group[side]]
        names += described.get("lost" if side == "source" else "unpartnered", [])
        assert sorted(names) == sorted(set(names))
        assert all(group[side] for group in described["groups"])


def test_a_map_that_knows_its_vocabularies_says_what_it_leaves_out() -> None:
    source, target = class_names("mapillary-to-camvid")
    assert (len(source), set(target)) == (66, set(CAMVID_CLASSES.names))
    assert set(class_names("camvid-to-cityscapes")[1]) == set(CITYSCAPES_CLASSES.names)
    assert "Ego Vehicle" in open_translation("mapillary-to-camvid", source, target).lost


def test_maps_lead_to_the_same_class_by_way_of_another_vocabulary() -> None:
    vistas, camvid = class_names("mapillary-to-camvid")
    city = CITYSCAPES_CLASSES.names
    each = np.eye(len(vistas), dtype=np.float32)  # (classes, one-hot)
    direct = open_translation("mapillary-to-camvid", vistas, camvid).to_target(each)
    by_city = open_translation("mapillary-to-cityscapes", vistas, city).to_target(each)
    np.testing.assert_array_equal(
        direct, open_translation("cityscapes-to-camvid", city, camvid).to_target(by_city)
    )


def test_a_group_of_several_targets_shares_its_sum(tmp_path: Path) -> None:
    path = write(tmp_path / "map.json", (["road"], ["lane", "marking"]), (["car"], ["car"]), (["x"], ["y"]))
    translation = open_translation(path, ["car", "road", "ego"], ["marking", "car", "lane", "kerb"])
    assert translation.target_groups == ((2, 0), (1,))
    assert (translation.lost, translation.unpartnered, translation.absent) == (
        ("ego",),
        ("kerb",),
        ("x", "y"),
    )
    given = np.array([0.2, 0.6, 0.2], np.float32)
    np.testing.assert_allclose(translation.to_target(given), [0.3, 0.2, 0.3, 0])
    np.testing.assert_allclose(translation.to_groups(given), [0.6, 0.2])
    assert "lost, as no class of the target is meant: ego" in translation.describe()


def test_equal_names_need_no_map() -> None:
    translation = open_translation(None, ["b", "a", "c"], ["a", "b"])
    np.testing.assert_allclose(translation.to_target(np.array([0.5, 0.3, 0.2], np.float32)), [0.3, 0.5])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "expected one of .*cityscapes-to-camvid.*, or a JSON file, got No such file"),
        ("{", "expected JSON"),
        ('{"source": "a", "target": "b"}', "groups"),
        ('{"source": "a", "target": "b", "groups": [{"source": ["x"], "target": "y"}]}', "target"),
        (
            '{"source": "a", "target": "b", "groups": [{"source": ["x"], "target": ["y"]}, '
            '{"source": ["x"], "target": ["z"]}]}',
            "expected each class in one group, got 'x' of the source in two",
        ),
        ('{"source": "a", "target": "b", "groups": [{"source": ["q"], "target": ["y"]}]}', "found none"),
    ],
)
def test_a_bad_map_says_what_to_do(tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "map.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(DatasetError, match=message):
        open_translation(path, ["x"], ["y", "z"])


def test_other_names_without_a_map_name_the_maps() -> None:
    with pytest.raises(DatasetError, match=r"name a class map: .*cityscapes-to-camvid"):
        open_translation(None, ["sidewalk"], ["pavement"])
