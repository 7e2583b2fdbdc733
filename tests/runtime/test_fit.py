"""A frame of another shape is letterboxed or cropped for the network, and its mask has the frame's pixels."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest

from runtime.contract import METADATA_KEY, ImageFit, ModelContract
from runtime.errors import ContractError
from runtime.network.mask import Window, class_mask, fit_mask
from runtime.network.resize import Placement, fit_image, placement
from runtime.segmenter import Segmenter

TALL, WIDE = (300, 100), (90, 250)


def picture(size_hw: tuple[int, int]) -> np.ndarray:
    noise = np.random.default_rng(0).integers(0, 256, (*size_hw, 3), dtype=np.uint8)
    return np.asarray(cv2.GaussianBlur(noise, (0, 0), 3), np.uint8)


@pytest.mark.parametrize(
    ("fit", "frame_hw", "size_hw", "placed"),
    [
        (ImageFit(), TALL, (64, 64), ((64, 64), 0, 0)),
        (ImageFit("letterbox"), TALL, (64, 64), ((64, 21), 0, 21)),
        (ImageFit("letterbox", place="corner"), TALL, (64, 64), ((64, 21), 0, 0)),
        (ImageFit("letterbox"), WIDE, (64, 64), ((23, 64), 20, 0)),
        (ImageFit("crop"), TALL, (64, 64), ((192, 64), -64, 0)),
        (ImageFit("crop", zoom=1.25), WIDE, (64, 64), ((80, 222), -8, -79)),
        (ImageFit("letterbox"), (64, 64), (64, 64), ((64, 64), 0, 0)),
    ],
)
def test_where_a_frame_lies(
    fit: ImageFit,
    frame_hw: tuple[int, int],
    size_hw: tuple[int, int],
    placed: tuple[tuple[int, int], int, int],
) -> None:
    assert placement(frame_hw, size_hw, fit) == Placement(size_hw, *placed)


def test_a_letterbox_keeps_the_aspect_and_fills_its_borders() -> None:
    fitted = fit_image(picture(WIDE), (64, 64), ImageFit("letterbox", fill_bgr=(1, 2, 3)))
    assert (fitted[:20] == (1, 2, 3)).all()
    assert (fitted[43:] == (1, 2, 3)).all()
    assert np.array_equal(fitted[20:43], cv2.resize(picture(WIDE), (64, 23)))


def test_a_crop_keeps_the_middle() -> None:
    fitted = fit_image(picture(WIDE), (64, 64), ImageFit("crop", "bicubic"))
    scaled = cv2.resize(picture(WIDE), (178, 64), interpolation=cv2.INTER_CUBIC)
    assert np.array_equal(fitted, scaled[:, 57:121])
    assert fitted.flags.c_contiguous


def test_averaging_is_for_frames_that_shrink() -> None:
    small, area = picture((20, 30)), ImageFit(resample="area")
    assert np.array_equal(fit_image(small, (64, 64), area), cv2.resize(small, (64, 64)))
    expected = cv2.resize(picture(TALL), (64, 64), interpolation=cv2.INTER_AREA)
    assert np.array_equal(fit_image(picture(TALL), (64, 64), area), expected)


@pytest.mark.parametrize("size_hw", [(64, 64), (20, 30), (600, 200), (300, 100), (77, 211), (401, 253)])
@pytest.mark.parametrize(("how", "theirs"), [("antialias", "BILINEAR"), ("antialias-bicubic", "BICUBIC")])
def test_antialiasing_is_pils(size_hw: tuple[int, int], how: Any, theirs: str) -> None:
    pillow = pytest.importorskip("PIL.Image")
    frame = np.random.default_rng(0).integers(0, 256, (*TALL, 3), dtype=np.uint8)
    expected = pillow.fromarray(frame).resize(size_hw[::-1], pillow.Resampling[theirs])
    difference = np.abs(fit_image(frame, size_hw, ImageFit(resample=how)).astype(int) - np.asarray(expected))
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.005  # where a sum is half way between two bytes


def between(plane: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Interpolate a plane bilinearly; in OpenCV 4 cv2.remap would round places to 32nds of a pixel."""
    y, x = (np.clip(at, 0, side - 1) for at, side in zip((rows, columns), plane.shape, strict=True))
    top, left = (np.minimum(at.astype(int), side - 2) for at, side in zip((y, x), plane.shape, strict=True))
    down, right = (y - top)[:, None], x - left
    above = plane[top][:, left] * (1 - right) + plane[top][:, left + 1] * right
    below = plane[top + 1][:, left] * (1 - right) + plane[top + 1][:, left + 1] * right
    return above * (1 - down) + below * down


def by_position(scores: np.ndarray, frame_hw: tuple[int, int], placed: Placement, void: int) -> np.ndarray:
    """Read each pixel's logits at its own place in the picture."""
    places = []
    outside = []
    starts = (placed.top, placed.left)
    for axis in range(2):
        at = (np.arange(frame_hw[axis]) + 0.5) * placed.scaled_hw[axis] / frame_hw[axis] + starts[axis]
        outside.append((at < 0) | (at > placed.size_hw[axis]))
        places.append(np.float32(at * scores.shape[1 + axis] / placed.size_hw[axis] - 0.5))
    mask = np.argmax([between(one, *places) for one in scores], axis=0)
    mask[outside[0]] = void
    mask[:, outside[1]] = void
    return mask


@pytest.mark.parametrize("frame_hw", [TALL, WIDE, (64, 64), (31, 37), (480, 640)])
@pytest.mark.parametrize(
    "fit",
    [
        ImageFit("letterbox"),
        ImageFit("letterbox", place="corner"),
        ImageFit("crop"),
        ImageFit("crop", zoom=1.3),
    ],
)
def test_masks_have_the_frames_pixels(
    tiny_onnx: Path, tmp_path: Path, fit: ImageFit, frame_hw: tuple[int, int]
) -> None:
    path = refitted(tiny_onnx, tmp_path / "fitted.onnx", fit)
    frame = picture(frame_hw)
    with Segmenter(path) as segment:
        mask = segment(frame).mask
        size_hw, void = segment.size_hw, segment.contract.classes.ignore_index
        scores = segment.infer(segment.fit(frame)).output[0]
    expected = by_position(scores, frame_hw, placement(frame_hw, size_hw, fit), void)
    assert mask.shape == frame_hw
    assert (mask == expected).mean() >= 0.995
    assert (mask == void).any() == (expected == void).any()
    assert ((mask == void) == (expected == void)).all()


def refitted(source: Path, target: Path, fit: ImageFit) -> Path:
    """Write a file again whose contract fits frames otherwise."""
    model = onnx.load(source)
    for entry in model.metadata_props:
        if entry.key == METADATA_KEY:
            contract = ModelContract.from_json(entry.value)
            entry.value = contract.with_input(fit=fit).to_json()
    target.write_bytes(model.SerializeToString())
    return target


def test_a_part_of_a_finished_mask_takes_the_nearest_pixels_class() -> None:
    mask = np.arange(16, dtype=np.uint8).reshape(4, 4)
    assert fit_mask(mask, (2, 4), Window(top=0.25, bottom=0.75)).tolist() == [[4, 5, 6, 7], [8, 9, 10, 11]]
    assert fit_mask(mask, (2, 2), Window(0.5, 1, 0.5, 1)).tolist() == [[10, 11], [14, 15]]


def test_a_window_is_a_part_of_the_whole() -> None:
    logits = np.stack(
        [cv2.GaussianBlur(np.random.default_rng(k).normal(size=(16, 24)), (0, 0), 1) for k in range(4)]
    )
    logits = logits[None].astype(np.float32)
    whole = class_mask(logits, (64, 96))
    part = class_mask(logits, (32, 24), Window(0.25, 0.75, 0.5, 0.75))
    assert (part == whole[16:48, 48:72]).mean() > 0.999


@pytest.mark.parametrize("size_hw", [(16, 24), (8, 12), (17, 24), (200, 300), (5, 7)])
def test_logits_near_the_frames_size(size_hw: tuple[int, int]) -> None:
    logits = np.random.default_rng(1).normal(size=(1, 20, 16, 24)).astype(np.float32)
    expected = np.argmax([cv2.resize(plane, size_hw[::-1]) for plane in logits[0]], axis=0)
    assert (class_mask(logits, size_hw) == expected).mean() >= 0.999


@pytest.mark.parametrize("fault", [{"fill_bgr": (0, 0, 256)}, {"zoom": 0.5}, {"zoom": 99.0}])
def test_impossible_fits_are_refused(fault: dict[str, object]) -> None:
    with pytest.raises(ContractError, match=r"input\.fit"):
        ImageFit("crop", **fault)  # type: ignore[arg-type]


def test_a_fit_survives_json(tiny_onnx: Path) -> None:
    with Segmenter(tiny_onnx) as segment:
        contract = segment.contract
    fitted = contract.with_input(fit=ImageFit("letterbox", "area", (1, 2, 3), "corner"))
    assert ModelContract.from_json(fitted.to_json()) == fitted
    assert dataclasses.replace(fitted, input=contract.input) == contract
