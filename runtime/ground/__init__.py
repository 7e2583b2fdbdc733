"""From pixels to metres on the ground: camera model, bird's eye, occupancy grid, range scan."""

from runtime.ground.birds_eye import BirdsEye
from runtime.ground.camera_model import CameraModel

__all__ = ["BirdsEye", "CameraModel"]
