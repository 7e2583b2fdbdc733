"""What metres cost on top of a mask: confidence, bird's eye, occupancy and scan, in pairs of frames."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from benchmarks.subjects.street_ground import ROAD, camera_model
from runtime.base.percentiles import percentiles
from runtime.ground import BirdsEye
from runtime.network.options import ModelOptions
from training.streets.scenes import World

SIZE_HW = (720, 1280)
_SCAN_ANGLES_RAD = np.linspace(-0.5, 0.5, 181)
_WARM_UP = 3
_Made = TypeVar("_Made")


@dataclass(frozen=True)
class GroundCost:
    """Milliseconds a frame of 1280x720; p50, p90, p99 and max.

    Attributes:
        rounds: pairs that were timed.
        mask_ms: the mask alone.
        added_ms: the whole chain minus the mask alone, each pair by itself, in turns first and second.
        parts_ms: the parts that come after the network; that of confidence is what the mask with it takes
            longer than the mask alone, pair by pair.
    """

    rounds: int
    mask_ms: Mapping[str, float]
    added_ms: Mapping[str, float]
    parts_ms: Mapping[str, Mapping[str, float]]


def measure_ground_cost(model: ModelOptions, rounds: int) -> GroundCost:
    """Time pairs of frames: a mask alone, and a mask with confidence, bird's eye, occupancy and scan.

    Args:
        model: which network.
        rounds: at least 1.
    """
    world = World(0, SIZE_HW)
    camera = world.camera(1.0)
    frame_bgr = world.paint_from(camera, 1.0, 0).image_bgr
    view = BirdsEye(camera_model(camera))
    parts: dict[str, list[float]] = {"bird's eye": [], "occupancy": [], "scan": [], "confidence": []}
    alone_ms: list[float] = []
    added_ms: list[float] = []
    with model.open() as plain, model.open(confidence=True) as sure:

        def chain() -> float:
            """Return the milliseconds of the mask with its confidence."""
            answer = sure(frame_bgr)
            mask, confidence = answer.mask, answer.confidence
            times = [
                _timed(lambda: view.warp(frame_bgr))[0],
                _timed(lambda: view.occupancy(mask, {ROAD}, confidence))[0],
                _timed(lambda: view.range_scan(mask, _SCAN_ANGLES_RAD, {ROAD}))[0],
            ]
            for part, part_ms in zip(parts.values(), times, strict=False):
                part.append(part_ms)
            return answer.latency_ms["mask"]

        def alone() -> float:
            return plain(frame_bgr).latency_ms["mask"]

        for number in range(rounds + _WARM_UP):
            if number == _WARM_UP:
                for samples in (alone_ms, added_ms, *parts.values()):
                    samples.clear()
            if number % 2:
                (chain_ms, sure_ms), (mask_ms, plain_ms) = _timed(chain), _timed(alone)
            else:
                (mask_ms, plain_ms), (chain_ms, sure_ms) = _timed(alone), _timed(chain)
            alone_ms.append(mask_ms)
            added_ms.append(chain_ms - mask_ms)
            parts["confidence"].append(sure_ms - plain_ms)
    return GroundCost(
        rounds,
        percentiles(alone_ms),
        percentiles(added_ms),
        {name: percentiles(part) for name, part in parts.items()},
    )


def _timed(work: Callable[[], _Made]) -> tuple[float, _Made]:
    """Return the milliseconds that some work takes, and what it makes."""
    began_ns = time.perf_counter_ns()
    made = work()
    return (time.perf_counter_ns() - began_ns) / 1e6, made
