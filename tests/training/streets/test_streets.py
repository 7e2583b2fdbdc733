import itertools

import numpy as np
import pytest

import training.streets
from runtime.contract import CAMVID_CLASSES
from runtime.errors import ConfigError
from training.streets import Drive, Scene, render_scene
from training.streets.fronts import FACADES, MASONRY, facade
from training.streets.textures import PIXELS_PER_METRE

NAMES = CAMVID_CLASSES.names
SIZE_HW = (180, 240)


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [render_scene(seed, SIZE_HW) for seed in range(24)]


@pytest.fixture(scope="module")
def drive() -> Drive:
    return Drive(3, SIZE_HW)


def agreement(a: Scene, b: Scene) -> float:
    return float((a.label == b.label).mean())


def test_exports_exactly_its_interface() -> None:
    assert training.streets.__all__ == ["Drive", "Scene", "render_scene"]


def test_same_seed_gives_same_scene() -> None:
    first, again = render_scene(5, SIZE_HW), render_scene(5, SIZE_HW)
    assert np.array_equal(first.image_bgr, again.image_bgr)
    assert np.array_equal(first.label, again.label)


def test_scene_does_not_depend_on_scenes_before_it(scenes: list[Scene]) -> None:
    assert np.array_equal(scenes[11].image_bgr, render_scene(11, SIZE_HW).image_bgr)


def test_other_seed_gives_other_scene(scenes: list[Scene]) -> None:
    assert agreement(scenes[0], scenes[1]) < 0.95


@pytest.mark.parametrize("size_hw", [(48, 64), (49, 67), (101, 333), (240, 64), (360, 480), (720, 1280)])
def test_size_is_honoured(size_hw: tuple[int, int]) -> None:
    scene = render_scene(2, size_hw)
    assert scene.image_bgr.shape == (*size_hw, 3)
    assert scene.image_bgr.dtype == np.uint8
    assert scene.label.shape == size_hw
    assert scene.label.dtype == np.uint8


def test_labels_are_class_indices(scenes: list[Scene]) -> None:
    assert max(int(scene.label.max()) for scene in scenes) < len(CAMVID_CLASSES)


@pytest.mark.parametrize(
    ("name", "least", "most"),
    [
        ("sky", 0.06, 0.30),
        ("building", 0.12, 0.35),
        ("pole", 0.004, 0.03),
        ("road", 0.15, 0.40),
        ("pavement", 0.02, 0.12),
        ("tree", 0.05, 0.25),
        ("sign", 0.003, 0.03),
        ("fence", 0.005, 0.06),
        ("car", 0.03, 0.15),
        ("pedestrian", 0.003, 0.03),
        ("bicyclist", 0.004, 0.04),
    ],
)
def test_class_share_is_that_of_a_street(scenes: list[Scene], name: str, least: float, most: float) -> None:
    index = NAMES.index(name)
    shares = [float((scene.label == index).mean()) for scene in scenes]
    assert least < np.mean(shares) < most
    assert np.mean([share > 0 for share in shares]) > 0.6


def test_road_lies_below_and_sky_above(scenes: list[Scene]) -> None:
    height, width = SIZE_HW
    below = np.stack([scene.label[-height // 12 :, width // 3 : -width // 3] for scene in scenes])
    above = np.stack([scene.label[: height // 2] for scene in scenes])
    lower = np.stack([scene.label[-height // 3 :] for scene in scenes])
    assert (below == NAMES.index("road")).mean() > 0.85
    assert (above == NAMES.index("road")).mean() < 0.02
    assert (above == NAMES.index("sky")).mean() > 0.15
    assert (lower == NAMES.index("sky")).mean() == 0


def test_colour_follows_label(scenes: list[Scene]) -> None:
    def mean_bgr(name: str) -> list[float]:
        index = NAMES.index(name)
        means = [s.image_bgr[s.label == index].mean(axis=0) for s in scenes if (s.label == index).any()]
        return [float(channel) for channel in np.mean(means, axis=0)]

    sky, road, tree, building = (mean_bgr(name) for name in ("sky", "road", "tree", "building"))
    assert min(sky) > max(road) + 60
    assert min(sky) > max(building) + 60
    assert tree[1] - tree[0] > building[1] - building[0] + 5


def test_edges_of_the_label_are_edges_of_the_image(scenes: list[Scene]) -> None:
    steps = [np.abs(np.diff(scene.image_bgr.astype(int), axis=1)).sum(axis=2) for scene in scenes]
    borders = [np.diff(scene.label.astype(int), axis=1) != 0 for scene in scenes]
    at_border = np.mean([step[border].mean() for step, border in zip(steps, borders, strict=True)])
    elsewhere = np.mean([step[~border].mean() for step, border in zip(steps, borders, strict=True)])
    assert at_border > 2 * elsewhere


@pytest.mark.parametrize("index", range(MASONRY, FACADES))
def test_modern_front_is_a_whole_picture_that_can_be_drawn_again(index: int) -> None:
    front = facade(index)
    assert front.alpha is None
    assert front.signs == ()
    assert min(front.color.shape[:2]) >= 2 * PIXELS_PER_METRE
    assert front.color.std(axis=(0, 1)).min() > 3, "no flat colour"
    facade.cache_clear()
    assert np.array_equal(front.color, facade(index).color)


def test_consecutive_frames_agree(drive: Drive) -> None:
    frames = [drive.frame(index) for index in range(40, 46)]
    assert min(agreement(a, b) for a, b in itertools.pairwise(frames)) > 0.85


def test_consecutive_images_change_little(drive: Drive) -> None:
    a, b, later = (drive.frame(index).image_bgr.astype(float) for index in (40, 41, 100))
    assert np.abs(a - b).mean() < 0.6 * np.abs(a - later).mean()


def test_drive_moves_on(drive: Drive) -> None:
    assert agreement(drive.frame(0), drive.frame(60)) < 0.9


def test_frames_can_be_had_in_any_order(drive: Drive) -> None:
    forward = [drive.frame(index) for index in (7, 300, 5000)]
    backward = [Drive(3, SIZE_HW).frame(index) for index in (5000, 300, 7)][::-1]
    for a, b in zip(forward, backward, strict=True):
        assert np.array_equal(a.image_bgr, b.image_bgr)
        assert np.array_equal(a.label, b.label)


def test_drive_has_no_end(drive: Drive) -> None:
    scene = drive.frame(10**9)
    assert (scene.label == NAMES.index("road")).mean() > 0.1
    assert len(np.unique(scene.label)) > 5


def test_drive_shows_every_class(drive: Drive) -> None:
    seen = np.unique(np.stack([drive.frame(index).label for index in range(0, 400, 20)]))
    assert seen.tolist() == list(range(len(CAMVID_CLASSES)))


@pytest.mark.parametrize("size_hw", [(47, 64), (48, 63), (0, 0), (-360, 480)])
def test_too_small_a_size_is_refused(size_hw: tuple[int, int]) -> None:
    with pytest.raises(ConfigError, match=r"size_hw: expected at least \(48, 64\)"):
        render_scene(0, size_hw)
    with pytest.raises(ConfigError, match="size_hw"):
        Drive(0, size_hw)


def test_negative_seed_is_refused() -> None:
    with pytest.raises(ConfigError, match="seed: expected at least 0, got -1"):
        render_scene(-1, SIZE_HW)


def test_negative_frame_is_refused(drive: Drive) -> None:
    with pytest.raises(ConfigError, match="frame index: expected at least 0, got -1"):
        drive.frame(-1)
