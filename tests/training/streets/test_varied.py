"""Streets beyond the town by day: other places, weathers and times."""

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from runtime.contract import CAMVID_CLASSES
from training.data import open_dataset
from training.data.synthetic import SyntheticStreets
from training.streets import Scene, render_scene
from training.streets.light import Light, draw_light
from training.streets.scenes import World

NAMES = CAMVID_CLASSES.names
SIZE_HW = (120, 160)
SEEDS = range(40)
WEATHERS: dict[str, Callable[[Light], bool]] = {
    "day": lambda light: not (light.night or light.wet or light.glare),
    "low sun": lambda light: light.glare > 0,
    "night": lambda light: light.night,
    "rain": lambda light: light.wet > 0 and not light.night,
}


@pytest.fixture(scope="module")
def worlds() -> list[World]:
    return [World(seed, SIZE_HW, varied=True) for seed in SEEDS]


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [render_scene(seed, SIZE_HW, varied=True) for seed in SEEDS]


def share(scene: Scene, name: str) -> float:
    return float((scene.label == NAMES.index(name)).mean())


def test_every_place_and_weather_comes_up(worlds: list[World]) -> None:
    assert {world.layout.place for world in worlds} == {"town", "country", "motorway"}
    assert all(any(is_so(world.light) for world in worlds) for is_so in WEATHERS.values())
    assert {bool(world.layout.hills) for world in worlds} == {False, True}


def test_the_same_seed_gives_the_same_scene(scenes: list[Scene]) -> None:
    for seed in (3, 5):
        again = render_scene(seed, SIZE_HW, varied=True)
        assert np.array_equal(scenes[seed].image_bgr, again.image_bgr)
        assert np.array_equal(scenes[seed].label, again.label)


@pytest.mark.parametrize(
    ("place", "absent", "present"),
    [
        ("town", (), ("building", "pavement", "road", "car")),
        ("country", ("pavement",), ("tree", "road", "sky")),
        ("motorway", ("pavement", "pedestrian", "bicyclist"), ("tree", "road", "sky", "fence", "car")),
    ],
)
def test_a_place_has_what_it_has(
    worlds: list[World], scenes: list[Scene], place: str, absent: tuple[str, ...], present: tuple[str, ...]
) -> None:
    here = [scene for world, scene in zip(worlds, scenes, strict=True) if world.layout.place == place]
    assert max((share(scene, name) for scene in here for name in absent), default=0) == 0
    for name in present:
        assert np.mean([share(scene, name) for scene in here]) > 0.01, name


def test_hills_and_verges_are_what_camvid_calls_them(worlds: list[World]) -> None:
    """Far hills and grass beside the road are its class tree, never building or pavement."""
    world = next(world for world in worlds if world.layout.place == "country" and world.layout.hills > 0.1)
    flat = World(world.seed, SIZE_HW, varied=True)
    flat.layout = dataclasses.replace(world.layout, hills=0.0)
    hilly, plain = world.paint(3.0, 0).label, flat.paint(3.0, 0).label
    differs = hilly != plain
    assert differs.mean() > 0.02
    assert set(np.unique(hilly[differs])) == {NAMES.index("tree")}
    assert set(np.unique(plain[differs])) == {NAMES.index("sky")}


@pytest.mark.parametrize("weather", WEATHERS)
def test_weather_changes_the_picture_and_never_the_label(worlds: list[World], weather: str) -> None:
    world = next(world for world in worlds if WEATHERS[weather](world.light))
    fair = World(world.seed, SIZE_HW, varied=True)
    fair.light = draw_light(np.random.default_rng(1))
    strange, usual = world.paint(3.0, 0), fair.paint(3.0, 0)
    assert np.array_equal(strange.label, usual.label)
    assert np.abs(strange.image_bgr.astype(int) - usual.image_bgr).mean() > 5
    if weather == "night":
        sky = strange.label == NAMES.index("sky")
        assert strange.image_bgr[sky].mean() < 90 < usual.image_bgr[sky].mean()


def test_the_data_set_takes_them_when_asked(scenes: list[Scene]) -> None:
    drawn = SyntheticStreets("train", SIZE_HW, 4, varied=True)[3]
    assert np.array_equal(drawn.label, scenes[3].label)
    assert not np.array_equal(SyntheticStreets("train", SIZE_HW, 4)[3].image_bgr, drawn.image_bgr)
    by_name = open_dataset("synthetic-varied", None, "val")
    assert isinstance(by_name, SyntheticStreets)
    assert (by_name.name, by_name.varied) == ("synthetic-varied", True)
