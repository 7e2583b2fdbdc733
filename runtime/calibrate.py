"""Calibrates a camera: checkerboard pictures → lens, horizon or ground points → pose.

    python -m runtime.calibrate --images board/*.jpg --board 9 6 --horizon 0 243 639 239 --height-m 1.2

It writes the ROS camera_info YAML, with the pose, that `runtime.CameraModel.from_yaml` and `--camera` read.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

import cv2

from runtime.base.files import replacing, write_text
from runtime.base.flags import check_fields, flag, run_command
from runtime.errors import ConfigError
from runtime.ground.camera_files import camera_yaml
from runtime.ground.camera_model import CameraModel, DistortionModel
from runtime.ground.checkerboard import Intrinsics, calibrate, draw_residuals, find_boards, rms_px
from runtime.ground.pose import pitch_error_rows, pose_from_ground, pose_from_horizon


@dataclass(frozen=True)
class CalibrateOptions:
    """What the command line asks for."""

    images: tuple[Path, ...] = flag(
        "pictures of a checkerboard, ten or more, at different angles and in all corners",
        default=(),
        metavar="FILE",
    )
    camera: Path | None = flag(
        "camera_info YAML file whose lens is known, in place of pictures", default=None, metavar="FILE"
    )
    board: tuple[int, int] = flag(
        "inner corners of the board along a row, and rows: one less than its squares",
        default=(9, 6),
        at_least=3,
        at_most=100,
        metavar=("COLUMNS", "ROWS"),
    )
    lens: DistortionModel = flag(
        "model of the lens; fisheye for more than about 100 degrees", default="plumb_bob"
    )
    horizon: tuple[float, float, float, float] | None = flag(
        "two points of the horizon, columns and rows in pixels",
        default=None,
        metavar=("X1", "Y1", "X2", "Y2"),
        unset="no pose, unless --ground-point gives it",
    )
    height_m: float | None = flag(
        "height of the camera above the ground, which the horizon does not tell",
        default=None,
        above=0,
        unit="m",
    )
    ground_point: tuple[tuple[float, float, float, float], ...] = flag(
        "point on the ground: its column and row in pixels, and its metres forward and left from any place; "
        "given at least four times",
        default=(),
        metavar=("COLUMN", "ROW", "X", "Y"),
        repeated=True,
    )
    out: Path = flag("YAML file to write", default=Path("camera.yaml"), metavar="FILE")
    residuals: Path | None = flag(
        "picture of how far each corner is off",
        default=None,
        metavar="FILE",
        unset="the YAML file's name with -residuals.png",
    )

    def __post_init__(self) -> None:
        """Check that there is one lens and at most one pose to find."""
        check_fields(self)
        if bool(self.images) == (self.camera is not None):
            raise ConfigError("images: expected pictures of a board or a --camera FILE, got both or neither")
        if self.horizon is not None and self.ground_point:
            raise ConfigError("horizon: expected it or --ground-point, got both; leave one out")
        if (self.horizon is not None) != (self.height_m is not None):
            raise ConfigError(
                "height_m: expected it together with --horizon, got one alone; points on the ground tell the "
                "height by themselves"
            )


def command(options: CalibrateOptions) -> None:
    """Calibrate, write, print."""
    if options.camera is not None:
        camera = CameraModel.from_yaml(options.camera, needs_pose=False)
    else:
        camera = _lens(options).camera
    has_pose = True
    if options.horizon is not None:
        points = (options.horizon[:2], options.horizon[2:])
        camera = pose_from_horizon(camera, points, options.height_m or 0.0)
    elif options.ground_point:
        pixels = [point[:2] for point in options.ground_point]
        ground = [point[2:] for point in options.ground_point]
        camera, missed_px = pose_from_ground(camera, pixels, ground)
        print(f"points     {len(pixels)} on the ground, RMS {missed_px:.2f} px")
    else:
        has_pose = False
    write_text(options.out, camera_yaml(camera, options.out.stem, has_pose))
    print(f"saved {options.out}")
    if not has_pose:
        print(
            f"next: python -m runtime.calibrate --camera {quote(str(options.out))} --out "
            f"{quote(str(options.out))} --horizon X1 Y1 X2 Y2 --height-m H"
        )
        return
    print(
        f"pose       {camera.height_m:.3f} m high, pitch {camera.pitch_rad:.4f} rad, roll "
        f"{camera.roll_rad:.4f} rad"
    )
    header, rows = pitch_error_rows([round(camera.height_m, 2)])
    for name, value in zip(header[1:], rows[0][1:], strict=True):
        print(f"           with the pitch off by 0.5°, {name} {value}")
    print(f"next: python -m runtime.camera --camera {quote(str(options.out))} --free road --draw-grid")


def _lens(options: CalibrateOptions) -> Intrinsics:
    """Find the board, solve, and tell how well it went."""
    size_wh, sightings, without = find_boards(options.images, options.board)
    for name in without:
        print(
            f"warning: {name}: no board of {options.board[0]} x {options.board[1]} corners", file=sys.stderr
        )
    found = calibrate(size_wh, sightings, options.board, options.lens)
    camera = found.camera
    print(f"board      in {len(sightings)} of {len(options.images)} pictures of {size_wh[0]}x{size_wh[1]}")
    for seen, residuals in zip(found.sightings, found.residuals, strict=True):
        print(f"           {seen.name}: RMS {rms_px(residuals):.3f} px")
    print(f"lens       {options.lens}, RMS {found.rms_px:.3f} px")
    print(f"           fx {camera.fx:.2f}, fy {camera.fy:.2f}, cx {camera.cx:.2f}, cy {camera.cy:.2f}")
    print(f"           distortion {', '.join(f'{value:.5f}' for value in camera.distortion)}")
    path = options.residuals or options.out.with_name(f"{options.out.stem}-residuals.png")
    _, png = cv2.imencode(".png", draw_residuals(found))
    with replacing(path) as part:
        part.write_bytes(png.tobytes())
    print(f"saved {path}")
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; see `--help`."""
    description = (
        "Calibrate a camera: its lens by a checkerboard, its pose by the horizon or by ground points."
    )
    return run_command("runtime.calibrate", description, CalibrateOptions, command, argv)


if __name__ == "__main__":
    sys.exit(main())
