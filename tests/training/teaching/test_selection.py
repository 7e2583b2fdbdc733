import cv2
import numpy as np
import pytest

from training.teaching.selection import select_to_correct
from training.teaching.soft_labels import SoftLabels, TeacherFile, write_description, write_soft_labels

CLASSES = ("road", "car", "sky")


def picture(seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(128, 60, (6, 8, 3))
    return cv2.resize(noise, (64, 48), interpolation=cv2.INTER_CUBIC).clip(0, 255).astype(np.uint8)


def said(main: int, sure: float) -> np.ndarray:
    probabilities = np.full((3, 12, 16), (1 - sure) / 2, np.float32)
    probabilities[main] = sure
    return probabilities


@pytest.fixture(scope="module")
def soft(tmp_path_factory):
    folder = tmp_path_factory.mktemp("soft")
    write_description(folder, TeacherFile(CLASSES, 4))
    for name, probabilities in {
        "sure_road": said(0, 0.99),
        "sure_car": said(1, 0.98),
        "unsure_road": said(0, 0.5),
        "unsure_road_again": said(0, 0.49),  # the same picture
        "unsure_sky": said(2, 0.45),
    }.items():
        write_soft_labels(folder, name, probabilities)
    return SoftLabels.open(folder)


def images(name: str) -> np.ndarray:
    return picture(7 if name.startswith("unsure_road") else len(name))


def test_unsure_and_unlike_frames_come_first_and_none_twice(soft):
    chosen = select_to_correct(soft, 3, images, by="unsure")
    names = [name for name, _ in chosen]
    assert names[0] == "unsure_sky"
    assert len({"unsure_road", "unsure_road_again"} & set(names)) == 1
    unsure = dict(chosen)["unsure_sky"]
    shares = np.array([0.45, 0.275, 0.275])
    assert unsure == pytest.approx(-(shares * np.log(shares)).sum() / np.log(3), abs=1e-2)


def test_frames_are_spaced_evenly_and_none_comes_twice(soft):
    assert [name for name, _ in select_to_correct(soft, 2, images)] == ["sure_car", "unsure_sky"]
    names = [name for name, _ in select_to_correct(soft, 4, images)]
    assert len({"unsure_road", "unsure_road_again"} & set(names)) == 1


@pytest.mark.parametrize("by", ["evenly", "unsure"])
def test_all_but_the_copies_are_chosen_where_more_are_asked_for(soft, by):
    assert len(select_to_correct(soft, 50, images, by=by)) == 4


def test_what_an_earlier_round_holds_does_not_come_again(soft):
    chosen = [name for name, _ in select_to_correct(soft, 50, images, taken=["unsure_road", "gone"])]
    assert sorted(chosen) == ["sure_car", "sure_road", "unsure_sky"]
    assert select_to_correct(soft, 2, images, taken=soft.names) == []
