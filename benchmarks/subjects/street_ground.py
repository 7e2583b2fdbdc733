"""The ground of rendered streets: what `runtime.ground` says of it, against the renderer's own geometry.

The truth here shares no code with `runtime.ground`: it walks along each ray in the street's axes (s along the
street, x to the right of its middle, y up), and projects by `training.streets.camera.Camera.view`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from runtime.base.flags import check_fields, flag
from runtime.contract import CAMVID_CLASSES
from runtime.frame import Image
from runtime.ground import BirdsEye, CameraModel
from runtime.ground.birds_eye import FREE, OCCUPIED
from training.streets.camera import ONE, Camera
from training.streets.plan import CHUNK_M, plan_chunk
from training.streets.scenes import FRAMES_PER_SECOND, Scene, World

Floats = NDArray[np.float64]

ROAD, PAVEMENT = (CAMVID_CLASSES.names.index(name) for name in ("road", "pavement"))
_STEP_M = 0.02  # of the walk along a ray
_REACH_M = 20.0
_ANGLE_STEP = math.radians(0.25)
_FRAMES_A_STREET = 5
_BINS_M = (2.0, 4.0, 6.0, 8.0, 10.0, 12.0, 14.0, 16.0, 18.0, 20.0)
NEAR_M = 10.0


@dataclass(frozen=True)
class StreetGroundConfig:
    """Which streets, and how large their pictures."""

    frames: int = flag("rendered frames, five of each street", default=200, at_least=1)
    size_hw: tuple[int, int] = flag(
        "height and width of a picture",
        default=(720, 960),
        at_least=96,
        at_most=4096,
        unit="pixels",
        name="--size",
        metavar=("H", "W"),
    )
    cell_m: float = flag("side of a cell of the grid", default=0.1, unit="m", at_least=0.02, at_most=1)
    seed: int = flag(
        "of the first street; the default's are in no split of the rendered data set",
        default=3_000_000,
        at_least=0,
    )

    def __post_init__(self) -> None:
        """Check the numbers."""
        check_fields(self)


@dataclass(frozen=True)
class Errors:
    """How far measured distances are from the true ones, in metres.

    Attributes:
        rays: that were compared.
        median_m: median of the absolute error.
        p90_m: its 90th percentile.
        bias_m: median of measured minus true.
        missed: share of the rays with an end where none was measured, or the other way round.
    """

    rays: int
    median_m: float
    p90_m: float
    bias_m: float
    missed: float


@dataclass(frozen=True)
class DistanceBin:
    """What a mask's grid says of cells at some distance, against the renderer's truth; shares.

    Attributes:
        from_m: distance of the nearest cells.
        to_m: and of the farthest.
        free_cells: cells that are free in truth.
        other_cells: cells in view that are not free, or cannot be known to be.
        false_free: of these, how many are called free.
        false_occupied: of the free cells, how many are called occupied.
        lost: of the free cells, how many are not called free: occupied, or behind what is not there.
    """

    from_m: float
    to_m: float
    free_cells: int
    other_cells: int
    false_free: float
    false_occupied: float
    lost: float


@dataclass(frozen=True)
class StreetGroundReport:
    """What was measured.

    Attributes:
        frames: that were rendered.
        cell_m: side of a cell.
        scan: range scans of exact masks at up to 10 m, by the renderer's projection.
        scan_far: beyond 10 m.
        kerb: those that end at a kerb in the picture at up to 10 m, by the street's plan.
        grid: from the end of each ray to the nearest occupied cell, of exact masks at up to 10 m.
        exact: cells of exact masks by distance.
        network: cells of a network's masks by distance; empty where there was none.
    """

    frames: int
    cell_m: float
    scan: Errors
    scan_far: Errors
    kerb: Errors
    grid: Errors
    exact: tuple[DistanceBin, ...]
    network: tuple[DistanceBin, ...] = ()


def camera_model(camera: Camera) -> CameraModel:
    """Return the model of a renderer's camera, whose pitch is positive upwards and roll clockwise."""
    height, width = camera.size_hw
    return CameraModel(
        width,
        height,
        camera.focal_px,
        camera.focal_px,
        width / 2 - 0.5,
        height / 2 - 0.5,
        height_m=camera.height_m,
        pitch_rad=-camera.pitch,
        roll_rad=camera.roll,
    )


def measure_street_ground(
    config: StreetGroundConfig, segment: Callable[[Image], Image] | None = None
) -> StreetGroundReport:
    """Render, measure and compare.

    Args:
        config: which streets.
        segment: from a picture to its mask; None measures exact masks only.
    """
    scans, kerbs, grids = _Pairs(), _Pairs(), _Pairs()
    exactly, predicted = _Tally(), _Tally()
    for world, camera, scene in _frames(config):
        view = BirdsEye(camera_model(camera), cell_m=config.cell_m)
        angles = _angles(camera)
        truth = walk(camera, scene.label, angles)
        scans.add(truth.range_m, view.range_scan(scene.label, angles, {ROAD}))
        # Kerbs nearer than the lower edge of the picture are not seen, by the plan's truth either.
        to_kerb_m = kerb_m(world, camera, angles)
        at_kerb = (truth.label == PAVEMENT) & np.isfinite(to_kerb_m)
        at_kerb[at_kerb] = _pixels(camera, to_kerb_m[at_kerb], angles[at_kerb])[2]
        kerbs.add(to_kerb_m[at_kerb], view.range_scan(scene.label, angles[at_kerb], {ROAD}))
        exact = view.occupancy(scene.label, {ROAD})
        grids.add(*to_occupied_m(view, exact, truth.range_m, angles))
        exactly.add(view, camera, truth, angles, exact)
        if segment is not None:
            predicted.add(view, camera, truth, angles, view.occupancy(segment(scene.image_bgr), {ROAD}))
    return StreetGroundReport(
        frames=config.frames,
        cell_m=config.cell_m,
        scan=scans.errors(0.0, NEAR_M),
        scan_far=scans.errors(NEAR_M, _REACH_M),
        kerb=kerbs.errors(0.0, NEAR_M),
        grid=grids.errors(0.0, NEAR_M),
        exact=exactly.bins(),
        network=predicted.bins() if segment is not None else (),
    )


@dataclass(frozen=True)
class Walk:
    """What rays on the ground meet: at which distance, inf for nothing in 20 m, and the class there."""

    range_m: Floats
    label: NDArray[np.int64]


def walk(camera: Camera, label: Image, angles_rad: Floats) -> Walk:
    """Walk along rays until the picture shows no road there, in the street's axes.

    Args:
        camera: the renderer's.
        label: uint8 (H, W), exact.
        angles_rad: (N,) from straight ahead, positive to the left.
    """
    reached_m = np.arange(_STEP_M, _REACH_M, _STEP_M)
    column, row, seen = _pixels(camera, reached_m[None] * np.ones((len(angles_rad), 1)), angles_rad[:, None])
    found = np.full(seen.shape, ROAD, np.int64)
    found[seen] = label[row[seen].astype(int), column[seen].astype(int)]
    first = (found != ROAD).argmax(axis=1)
    rays = np.arange(len(angles_rad))
    ends = found[rays, first] != ROAD
    return Walk(np.where(ends, reached_m[first], np.inf), found[rays, first])


def kerb_m(world: World, camera: Camera, angles_rad: Floats) -> Floats:
    """Return how far rays on the ground run on the road, by the street's plan alone; inf for beyond 20 m.

    The road lies between the kerbs, and goes on into side streets.

    Args:
        world: the street.
        camera: the renderer's.
        angles_rad: (N,).
    """
    reached_m = np.arange(_STEP_M, _REACH_M, _STEP_M)
    place = _on_street(camera, reached_m[None] * np.ones((len(angles_rad), 1)), angles_rad[:, None])
    s, x = place[..., 0], place[..., 1]
    on_road = (x >= -world.layout.kerb(-1)) & (x <= world.layout.kerb(1))
    first = math.floor((camera.s - _REACH_M) / CHUNK_M)
    for number in range(first, math.floor((camera.s + _REACH_M) / CHUNK_M) + 1):
        for patch in plan_chunk(world.seed, number, world.layout).patches:
            if patch.class_id == ROAD:
                on_road |= (s >= patch.s) & (s <= patch.s_end) & (x >= patch.left) & (x <= patch.right)
    return np.where(on_road.all(axis=1), np.inf, reached_m[on_road.argmin(axis=1)])


def to_occupied_m(
    view: BirdsEye, grid: NDArray[np.int8], range_m: Floats, angles_rad: Floats
) -> tuple[Floats, Floats]:
    """Return how far the ends of rays are from the middle of the nearest occupied cell.

    Ends outside of the grid, and where the camera does not see the cell that they are in, are left out.

    Returns:
        The distances of the ends that remain, (N,), and the same plus what lies between end and cell.
    """
    free = np.where(grid == OCCUPIED, 0, 1).astype(np.uint8)
    aside_m = cv2.distanceTransform(free, cv2.DIST_L2, cv2.DIST_MASK_PRECISE) * view.cell_m
    ends = np.isfinite(range_m)
    x, y = range_m[ends] * np.cos(angles_rad[ends]), range_m[ends] * np.sin(angles_rad[ends])
    column = np.floor((x - view.x_range_m[0]) / view.cell_m).astype(int)
    row = np.floor((y - view.y_range_m[0]) / view.cell_m).astype(int)
    inside = (column >= 0) & (column < view.shape[1]) & (row >= 0) & (row < view.shape[0])
    row, column, true_m = row[inside], column[inside], range_m[ends][inside]
    seen = view.warp(np.zeros((view.camera.height, view.camera.width), np.uint8))[row, column] == 0
    return true_m[seen], (true_m + aside_m[row, column])[seen]


def _frames(config: StreetGroundConfig) -> Iterator[tuple[World, Camera, Scene]]:
    """Yield each street's frames, eight seconds apart."""
    for number in range(config.frames):
        street, of_street = divmod(number, _FRAMES_A_STREET)
        if of_street == 0:
            world = World(config.seed + street, config.size_hw)
        time_s = 8.0 * of_street + 1 / FRAMES_PER_SECOND
        camera = world.camera(time_s)
        yield world, camera, world.paint_from(camera, time_s, of_street)


def _on_street(camera: Camera, distance_m: Floats, angles_rad: Floats) -> Floats:
    """Return where rays on the ground are on the street, (…, 3): s, x and y."""
    ahead, left = distance_m * np.cos(angles_rad), distance_m * np.sin(angles_rad)
    along = ahead * math.cos(camera.yaw) + left * math.sin(camera.yaw)
    to_right = ahead * math.sin(camera.yaw) - left * math.cos(camera.yaw)
    s = camera.s + along
    return np.stack([s, camera.x + to_right - camera.swing(s), np.zeros_like(s)], axis=-1)


def _angles(camera: Camera) -> Floats:
    """Return angles that the camera sees."""
    half = math.atan(camera.size_hw[1] / 2 / camera.focal_px) - 0.02
    return np.arange(-half, half, _ANGLE_STEP)


def _pixels(
    camera: Camera, distance_m: Floats, angles_rad: Floats
) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """Return columns and rows where the ground is seen, and whether it is in the picture."""
    world = _on_street(camera, distance_m, angles_rad)
    beam = camera.view(world.reshape(-1, 3)).reshape(world.shape)
    with np.errstate(divide="ignore", invalid="ignore"):
        column, row = (np.rint(beam[..., axis] / beam[..., 2] / ONE) for axis in (0, 1))
    height, width = camera.size_hw
    seen = (beam[..., 2] > 0) & (column >= 0) & (column < width) & (row >= 0) & (row < height)
    return column, row, seen


class _Pairs:
    """True and measured distances, ray by ray."""

    def __init__(self) -> None:
        self._true: list[Floats] = []
        self._measured: list[Floats] = []

    def add(self, true_m: Floats, measured_m: Floats) -> None:
        self._true.append(true_m)
        self._measured.append(measured_m)

    def errors(self, from_m: float, to_m: float) -> Errors:
        """Return the errors of what truly ends between two distances."""
        true, measured = np.concatenate(self._true), np.concatenate(self._measured)
        chosen = (true >= from_m) & (true < to_m)
        both = chosen & np.isfinite(measured)
        if not both.any():
            return Errors(int(chosen.sum()), math.nan, math.nan, math.nan, float(chosen.any()))
        error = measured[both] - true[both]
        return Errors(
            int(chosen.sum()),
            float(np.median(np.abs(error))),
            float(np.percentile(np.abs(error), 90)),
            float(np.median(error)),
            float(1 - both.sum() / chosen.sum()),
        )


class _Tally:
    """Counts cells by distance: free in truth or not, and what they were called."""

    def __init__(self) -> None:
        self._counts = np.zeros((len(_BINS_M) - 1, 5), np.int64)

    def add(
        self,
        view: BirdsEye,
        camera: Camera,
        truth: Walk,
        angles_rad: Floats,
        called: NDArray[np.int8],
    ) -> None:
        """Add a frame's cells that are in its picture; those at the very edge of what is free are neither."""
        x, y = view.centres_m
        distance, bearing = np.hypot(x, y), np.arctan2(y, x)
        ray = np.rint((bearing - angles_rad[0]) / _ANGLE_STEP).astype(int)
        _, _, seen = _pixels(camera, distance, bearing)
        inside = seen & (ray >= 0) & (ray < len(angles_rad))
        # A cell is wider than the angle between rays near the camera: the shortest of those around it.
        near, far = _around(truth.range_m, view.cell_m)
        ray = ray.clip(0, len(angles_rad) - 1)
        level = np.digitize(distance, _RINGS_M)
        free = inside & (distance < near[level, ray] - view.cell_m)
        other = inside & (distance > far[level, ray] + view.cell_m)
        bins = np.digitize(distance, _BINS_M) - 1
        for index in range(len(self._counts)):
            here = bins == index
            is_free, is_other = free & here, other & here
            self._counts[index] += (
                is_free.sum(),
                is_other.sum(),
                (is_other & (called == FREE)).sum(),
                (is_free & (called == OCCUPIED)).sum(),
                (is_free & (called != FREE)).sum(),
            )

    def bins(self) -> tuple[DistanceBin, ...]:
        """Return the shares."""
        return tuple(
            DistanceBin(
                from_m,
                to_m,
                int(free),
                int(other),
                float(false_free / max(other, 1)),
                float(false_occupied / max(free, 1)),
                float(lost / max(free, 1)),
            )
            for from_m, to_m, (free, other, false_free, false_occupied, lost) in zip(
                _BINS_M[:-1], _BINS_M[1:], self._counts, strict=True
            )
        )


_RINGS_M = (2.0, 4.0, 8.0, 16.0)


def _around(range_m: Floats, cell_m: float) -> tuple[Floats, Floats]:
    """Return the shortest and the longest of the rays around each, for cells in rings of distance."""
    shortest, longest = [], []
    for ring_m in (1.0, *_RINGS_M):
        side = math.ceil(cell_m / ring_m / _ANGLE_STEP)
        padded = np.pad(range_m, side, mode="edge")
        windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * side + 1)
        shortest.append(windows.min(axis=1))
        longest.append(windows.max(axis=1))
    return np.array(shortest), np.array(longest)
