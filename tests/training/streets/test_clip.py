"""The clip in the robot's package shows what the renderer draws."""

import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from runtime.sources.video import CLIP
from tests.training.streets import draw_clip
from training.streets import Drive
from training.streets.scenes import FRAMES_PER_SECOND

# Motion JPEG of so few bytes keeps 32 dB; another street, or the same a frame later, has less than 25.
ENOUGH_DB = 31.0


def read_clip(path: Path) -> list[np.ndarray]:
    capture, images = cv2.VideoCapture(str(path)), []
    while True:
        delivered, image_bgr = capture.read()
        if not delivered:
            return images
        images.append(image_bgr)


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    return read_clip(CLIP)


def test_it_is_small_enough_for_a_robot() -> None:
    assert CLIP.stat().st_size <= 2_000_000


def test_it_is_as_long_and_as_fast_as_it_was_drawn(images: list[np.ndarray]) -> None:
    assert len(images) == draw_clip.FRAMES
    assert cv2.VideoCapture(str(CLIP)).get(cv2.CAP_PROP_FPS) == FRAMES_PER_SECOND


@pytest.mark.parametrize("index", [0, 1, 44, draw_clip.FRAMES - 1])
def test_drawn_again_it_shows_the_same(images: list[np.ndarray], index: int) -> None:
    drawn = Drive(draw_clip.SEED, draw_clip.SIZE_HW).frame(index).image_bgr
    assert cv2.PSNR(images[index], drawn) > ENOUGH_DB


def test_another_frame_of_the_drive_is_told_apart(images: list[np.ndarray]) -> None:
    drawn = Drive(draw_clip.SEED, draw_clip.SIZE_HW).frame(45).image_bgr
    assert cv2.PSNR(images[44], drawn) < ENOUGH_DB - 3


def test_it_says_which_commit_drew_it() -> None:
    text = re.search(rb"ICMT....([ -~]+)\0", CLIP.read_bytes(), re.DOTALL)
    assert text is not None
    assert re.fullmatch(
        rb"edgeseg synthetic drive, seed 0; drawn by commit [0-9a-f]{12}, "
        rb"whose training/streets is tree [0-9a-f]{12}",
        text[1],
    )


def test_the_comment_leaves_the_pictures_readable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(draw_clip, "SIZE_HW", (96, 128))
    monkeypatch.setattr(draw_clip, "FRAMES", 3)
    draw_clip.draw_clip(tmp_path / "clip.avi", "odd or even")
    content = (tmp_path / "clip.avi").read_bytes()
    assert int.from_bytes(content[4:8], "little") == len(content) - 8
    assert [image.shape for image in read_clip(tmp_path / "clip.avi")] == [(96, 128, 3)] * 3
