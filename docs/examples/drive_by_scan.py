"""Drives a simulated robot along a rendered street by the range scan of what the bundled network sees.

    python docs/examples/drive_by_scan.py --gif docs/drive.gif

`steps` is all that a robot needs; below it are the street that it drives on and the film of its drive. The
robot has two wheels: it takes a speed and a turning rate. Exit code 1 where it leaves the road.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np

from runtime import BirdsEye, CameraModel, Segmenter
from runtime.contract import CAMVID_CLASSES
from runtime.frame import Image
from runtime.ground.drawing import GroundSight
from runtime.masks.overlay import Overlay
from training.streets.camera import Camera
from training.streets.scenes import World

CAMERA_FILE = Path(__file__).with_name("camera.yaml")
ROAD = ("road",)
FAR_M, FULL_SPEED_MPS, WIDE_RAD = 12.0, 4.0, 0.12


def steps(frames: Iterable[Image]) -> Iterator[tuple[Image, float, float]]:
    """Yield the mask, the speed in m/s and the turning rate in rad/s (positive to the left) of each frame."""
    view = BirdsEye(CameraModel.from_yaml(CAMERA_FILE))
    angles_rad = np.linspace(-0.55, 0.55, 45)
    around = round(WIDE_RAD / (angles_rad[1] - angles_rad[0]))
    with Segmenter() as segment:
        free = {segment.contract.classes.names.index(name) for name in ROAD}
        for frame_bgr in frames:
            mask = segment(frame_bgr).mask
            free_m = np.minimum(view.range_scan(mask, angles_rad, free), FAR_M)
            padded = np.pad(free_m, around, mode="edge")
            wide_m = np.lib.stride_tricks.sliding_window_view(padded, 2 * around + 1).min(axis=1)
            best_rad = angles_rad[np.argmax(wide_m - 3.0 * np.abs(angles_rad))]
            ahead_m = wide_m[len(wide_m) // 2]
            yield mask, FULL_SPEED_MPS * min(1.0, ahead_m / FAR_M), 1.2 * float(best_rad)


class Street:
    """A rendered street, and a robot with two wheels on it."""

    def __init__(self, seed: int, dt_s: float) -> None:
        """Stand on a street, looking along it."""
        self.model = CameraModel.from_yaml(CAMERA_FILE)
        self.world = World(seed, (self.model.height, self.model.width))
        self.dt_s, self.time_s = dt_s, 0.0
        self.s, self.x = 0.0, self.world.camera_x
        self.heading_rad = -math.atan(self.world.bend.slope(0.0))  # positive to the left

    @property
    def is_on_road(self) -> bool:
        """Whether the robot stands on the road."""
        return -self.world.layout.kerb(-1) < self.x < self.world.layout.kerb(1)

    def frame(self) -> Image:
        """Return what the robot's camera sees."""
        yaw = -self.heading_rad - math.atan(self.world.bend.slope(self.s))  # to the right, off the street
        camera = Camera(
            self.s, self.x, self.model.height_m, yaw, -self.model.pitch_rad, self.model.roll_rad,
            self.model.fx, self.world.size_hw, self.world.bend,
        )  # fmt: skip
        return self.world.paint_from(camera, self.time_s, round(self.time_s / self.dt_s)).image_bgr

    def drive(self, speed_mps: float, turn_radps: float) -> None:
        """Move for one time step."""
        self.heading_rad += turn_radps * self.dt_s
        yaw = -self.heading_rad - math.atan(self.world.bend.slope(self.s))
        self.s += speed_mps * math.cos(yaw) * self.dt_s
        self.x += speed_mps * math.sin(yaw) * self.dt_s
        self.time_s += self.dt_s


def main() -> int:
    """Drive, film, and tell how it ended."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=4, help="of the street")
    parser.add_argument("--frames", type=int, default=200, help="a fifth of a second each")
    parser.add_argument("--gif", type=Path, help="film to write, of every fifth frame")
    given = parser.parse_args()
    street, film = Street(given.seed, 0.2), []
    frames = (street.frame() for _ in range(given.frames))
    sight = GroundSight(street.model, {CAMVID_CLASSES.names.index(name) for name in ROAD})
    for number, (mask, speed_mps, turn_radps) in enumerate(steps(frames)):
        if given.gif is not None and number % 5 == 0:
            film.append(_picture(street, sight, mask))
        street.drive(speed_mps, turn_radps)
        if not street.is_on_road:
            print(f"left the road after {street.s:.0f} m, {street.x:.1f} m right of its middle")
            return 1
    print(f"drove {street.s:.0f} m in {street.time_s:.0f} s and stayed on the road")
    if given.gif is not None:
        animation = cv2.Animation()
        animation.frames, animation.durations = film, [200] * len(film)
        cv2.imwriteanimation(str(given.gif), animation)
    return 0


def _picture(street: Street, sight: GroundSight, mask: Image) -> Image:
    """Return overlay and bird's eye, small."""
    image_bgr = street.frame()
    overlay = Overlay(CAMVID_CLASSES)
    seen_bgr = overlay.blend(image_bgr, mask, 0.4)
    sight.stamp(seen_bgr)
    both = cv2.hconcat([seen_bgr, sight.from_above(mask, overlay.colors)])
    return np.asarray(cv2.resize(both, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA), np.uint8)


if __name__ == "__main__":
    sys.exit(main())
