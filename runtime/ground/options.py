"""Which camera looks at which ground: the flags of what is told in metres."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from runtime.base.flags import check_fields, flag, nested
from runtime.contract import ClassMap
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
    free: tuple[str, ...] = flag(
        "classes of the ground that may be driven on",
        default=(),
        unset="those that the model's contract calls traversable",
        metavar="CLASS",
    )
    draw_grid: bool = flag("paint metres on the ground in the overlay", default=False)
    grid: GridOptions = nested(GridOptions)

    def __post_init__(self) -> None:
        """Check that there is a camera where one is needed."""
        check_fields(self)
        for name in ("free", "draw_grid"):
            if getattr(self, name) and not self.is_wanted:
                raise ConfigError(f"{name}: expected --camera FILE too, got none; metres need a camera")

    @property
    def is_wanted(self) -> bool:
        """Whether there is a camera to tell metres by."""
        return self.camera is not None or self.pose is not None

    def camera_over(self, source: object) -> CameraModel:
        """Return the camera: that of the file, or else that of a bag which the pictures come from.

        Raises:
            ConfigError: a camera that cannot be, see `CameraModel.from_yaml`, or none at all.
            SourceError: a bag whose camera_info cannot be read.
        """
        if self.camera is not None:
            return CameraModel.from_yaml(self.camera, self.pose)
        recording = getattr(source, "recording", source)  # of a source that plays it at its own pace
        of_bag = getattr(recording, "camera", None)
        camera = None if of_bag is None or self.pose is None else of_bag(**read_pose(self.pose))
        if not isinstance(camera, CameraModel):
            raise ConfigError(
                "camera: expected a file of it, or a bag with camera_info beside the pictures, got neither; "
                "add --camera FILE"
            )
        return camera

    def free_indices(self, classes: ClassMap) -> frozenset[int]:
        """Return the indices of the classes that may be driven on, see `free_indices`."""
        return free_indices(self.free, classes)


def free_indices(named: Sequence[str], classes: ClassMap) -> frozenset[int]:
    """Return the indices of the classes that may be driven on.

    Args:
        named: by the user; none for those that the contract calls traversable.
        classes: of the network.

    Raises:
        ConfigError: a class that the network does not know, or a contract that does not say it.
    """
    names = tuple(named) or classes.traversable
    if not names:
        raise ConfigError(
            "free: expected the classes that may be driven on, but the model does not say which; name "
            f"them with --free, out of {', '.join(classes.names)}"
        )
    unknown = [name for name in names if name not in classes.names]
    if unknown:
        raise ConfigError(
            f"free: expected classes among {', '.join(classes.names)}, got {', '.join(unknown)}"
        )
    return frozenset(classes.names.index(name) for name in names)
