"""Which camera looks at which ground: the flags of what is told in metres."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from runtime.base.flags import check_fields, flag, nested
from runtime.errors import ConfigError
from runtime.ground.birds_eye import BirdsEye
from runtime.ground.camera_files import read_pose
from runtime.ground.camera_model import CameraModel


@dataclass(frozen=True)
class GridOptions:
    """The grid on the ground."""

    grid_ahead: tuple[float, float] = flag(
        "reach of the grid ahead", default=(0.0, 20.0), unit="m", metavar=("FROM", "TO")
    )
    grid_side: tuple[float, float] = flag(
        "reach of the grid to the sides, negative to the right",
        default=(-10.0, 10.0),
        unit="m",
        metavar=("RIGHT", "LEFT"),
    )
    cell_m: float = flag("side of a cell of the grid", default=0.1, unit="m", above=0)

    def __post_init__(self) -> None:
        """Check the numbers; `BirdsEye` checks that they make a grid."""
        check_fields(self)

    def view(self, camera: CameraModel) -> BirdsEye:
        """Return the grid that a camera sees."""
        return BirdsEye(camera, self.grid_ahead, self.grid_side, self.cell_m)


@dataclass(frozen=True)
class GroundOptions:
    """A camera over the ground, and what on it is free."""

    camera: Path | None = flag(
        "camera_info YAML file of ROS, with the camera's pose over the ground",
        default=None,
        unset="a bag's camera_info, if --pose is given",
        metavar="FILE",
    )
    pose: Path | None = flag(
        "YAML file of the camera's height_m, pitch_rad and roll_rad",
        default=None,
        unset="what stands in the camera's file, or pose.yaml beside it",
        metavar="FILE",
    )
    free: tuple[str, ...] = flag("classes of the ground that may be driven on", default=(), metavar="CLASS")
    grid: GridOptions = nested(GridOptions)

    def __post_init__(self) -> None:
        """Check that camera and free classes come together."""
        check_fields(self)
        if self.is_wanted and not self.free:
            raise ConfigError(
                "free: expected the classes that may be driven on, got none; add them, such as --free road "
                "pavement"
            )
        if self.free and not self.is_wanted:
            raise ConfigError("free: expected --camera FILE too, got none; metres need a camera")

    @property
    def is_wanted(self) -> bool:
        """Whether there is a camera to tell metres by."""
        return self.camera is not None or self.pose is not None

    def from_files(self) -> CameraModel | None:
        """Return the camera, None where there is no file of it.

        Raises:
            ConfigError: see `CameraModel.from_yaml`.
        """
        return None if self.camera is None else CameraModel.from_yaml(self.camera, self.pose)

    def read_pose(self) -> dict[str, float]:
        """Return the pose, as far as its file gives it.

        Raises:
            ConfigError: there is no such file, or no height_m in it.
        """
        return {} if self.pose is None else read_pose(self.pose)

    def free_indices(self, names: Sequence[str]) -> frozenset[int]:
        """Return the free classes' indices among a network's classes.

        Raises:
            ConfigError: a class that the network does not know.
        """
        unknown = [name for name in self.free if name not in names]
        if unknown:
            raise ConfigError(f"free: expected classes among {', '.join(names)}, got {', '.join(unknown)}")
        return frozenset(names.index(name) for name in self.free)
