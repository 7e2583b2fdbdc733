"""How steady masks are along time, how right, and what steadying costs."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice

import cv2
import numpy as np
from numpy.typing import NDArray

from runtime.base.flags import check_fields, flag
from runtime.base.percentiles import percentiles
from runtime.contract import CAMVID_CLASSES
from runtime.errors import ConfigError
from runtime.frame import Image
from runtime.network.options import ModelOptions
from runtime.sources import open_recorded
from training.evaluation.metrics import ConfusionMatrix
from training.streets.scenes import World

MOVING = tuple(CAMVID_CLASSES.names.index(name) for name in ("car", "pedestrian", "bicyclist"))
_SAME_GREY = 8  # grey levels by which a picture that was moved along may differ
_FLOW_PX = 480  # width of the pictures that flow is computed on
_COST_WH = (1280, 720)
_LEFT_FRAMES = 5
_WARM_UP = 3  # frames that are not timed


@dataclass(frozen=True)
class SteadinessConfig:
    """What to measure on."""

    video: str | None = flag(
        "also measure on a video, such as drive.mp4",
        default=None,
        metavar="FILE",
        unset="rendered drives only",
    )
    drives: int = flag("rendered drives, each on a street of its own", default=4, at_least=1)
    frames: int = flag(
        "frames of each drive, and at most so many of the video times four", default=50, at_least=5
    )
    fps: float = flag("frames a second of the drives", default=25.0, above=0)
    size_hw: tuple[int, int] = flag(
        "height and width of the drives' pictures",
        default=(360, 480),
        at_least=96,
        at_most=4096,
        unit="pixels",
        name="--size",
        metavar=("H", "W"),
    )
    seed: int = flag("of the first street", default=3_000_000, at_least=0)

    def __post_init__(self) -> None:
        """Check the numbers."""
        check_fields(self)


@dataclass
class Flicker:
    """Counts pixels whose class changes although the picture, moved along by optical flow, does not.

    The flow is computed more finely than that of `runtime.masks.steadiness`, at another size.
    """

    still: int = 0
    changed: int = 0
    _before: tuple[Image, Image] | None = field(default=None, repr=False)
    _flow: cv2.DISOpticalFlow = field(
        default_factory=lambda: cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM), repr=False
    )

    def add(self, image_bgr: Image, mask: Image) -> None:
        """Compare a frame with the one before."""
        height, width = mask.shape
        size_wh = (min(width, _FLOW_PX), round(height * min(1.0, _FLOW_PX / width)))
        grey = np.asarray(
            cv2.resize(cv2.cvtColor(image_bgr, cv2.COLOR_BGR2GRAY), size_wh, interpolation=cv2.INTER_AREA),
            np.uint8,
        )
        small = np.asarray(cv2.resize(mask, size_wh, interpolation=cv2.INTER_NEAREST), np.uint8)
        if self._before is not None and self._before[0].shape == grey.shape:
            grey_before, mask_before = self._before
            flow = np.zeros((*grey.shape, 2), np.float32)
            self._flow.calc(grey, grey_before, flow)
            rows, columns = np.ogrid[: grey.shape[0], : grey.shape[1]]
            x, y = flow[..., 0] + columns.astype(np.float32), flow[..., 1] + rows.astype(np.float32)
            moved = cv2.remap(grey_before, x, y, cv2.INTER_LINEAR)
            still = (cv2.absdiff(moved, grey) < _SAME_GREY) & (x > 0) & (x < size_wh[0] - 1)
            still &= (y > 0) & (y < size_wh[1] - 1)
            self.still += int(still.sum())
            self.changed += int((still & (cv2.remap(mask_before, x, y, cv2.INTER_NEAREST) != small)).sum())
        self._before = grey, small

    def begin_anew(self) -> None:
        """Compare the next frame with none."""
        self._before = None

    @property
    def share(self) -> float:
        """Of the pixels that did not change, those whose class did."""
        return self.changed / max(1, self.still)


@dataclass(frozen=True)
class Steadied:
    """What was measured of masks, steadied or not.

    Attributes:
        video_flicker: on the video; None without one.
        flicker: on the rendered drives.
        miou: there.
        moving_iou: there, mean of car, pedestrian and bicyclist.
        ghosts: of the pixels that such a thing has left within the last five frames, the share that is called
            one.
    """

    video_flicker: float | None
    flicker: float
    miou: float
    moving_iou: float
    ghosts: float


@dataclass(frozen=True)
class SteadinessReport:
    """Masks by themselves and steadied ones.

    Attributes:
        plain: each frame by itself.
        steady: steadied.
        added_ms: what steadying adds to a frame of 1280x720, pair by pair; p50, p90, p99 and max.
    """

    plain: Steadied
    steady: Steadied
    added_ms: Mapping[str, float]


def measure_steadiness(model: ModelOptions, config: SteadinessConfig) -> SteadinessReport:
    """Measure masks with and without steadying, of the same logits.

    Args:
        model: of CamVid's classes, which rendered drives have.
        config: what to measure on.

    Raises:
        ConfigError: a model of other classes.
        SourceError: a video that cannot be read.
    """
    tallies = _Tally(), _Tally()
    drives = [list(_drive(config, number)) for number in range(config.drives)]
    video = [] if config.video is None else [_video(config.video, 4 * config.frames)]
    for frames in (*drives, *video):
        with model.open() as plain, model.open(steady=True) as steady:
            if plain.contract.classes != CAMVID_CLASSES:
                raise ConfigError(
                    "model: expected one of CamVid's classes, which rendered drives have, got "
                    f"{', '.join(plain.contract.classes.names)}"
                )
            for tally in tallies:
                tally.begin_anew()
            for image_bgr, label in frames:
                inferred = plain.infer(plain.fit(image_bgr))
                for segment, tally in zip((plain, steady), tallies, strict=True):
                    tally.add(image_bgr, segment.finish(inferred).mask, label)
    cost_ms = _added_ms(model, [image_bgr for image_bgr, _ in drives[0]])
    return SteadinessReport(tallies[0].result(), tallies[1].result(), percentiles(cost_ms))


class _Tally:
    """Counts of one kind of masks over all drives."""

    def __init__(self) -> None:
        self._on_drives, self._on_video = Flicker(), Flicker()
        self._confusion = ConfusionMatrix(len(CAMVID_CLASSES))
        self._moved: deque[NDArray[np.bool_]] = deque(maxlen=_LEFT_FRAMES)
        self._left = self._ghosts = 0

    def begin_anew(self) -> None:
        self._on_drives.begin_anew()
        self._on_video.begin_anew()
        self._moved.clear()

    def add(self, image_bgr: Image, mask: Image, label: Image | None) -> None:
        (self._on_video if label is None else self._on_drives).add(image_bgr, mask)
        if label is None:
            return
        self._confusion.update(label, mask)
        moves = np.isin(label, MOVING)
        if self._moved:
            left = np.logical_or.reduce(self._moved) & ~moves
            self._left += int(left.sum())
            self._ghosts += int(np.isin(mask[left], MOVING).sum())
        self._moved.append(moves)

    def result(self) -> Steadied:
        moving = [self._confusion.per_class_iou[index] or 0.0 for index in MOVING]
        return Steadied(
            self._on_video.share if self._on_video.still else None,
            self._on_drives.share,
            self._confusion.miou,
            sum(moving) / len(moving),
            self._ghosts / max(1, self._left),
        )


def _added_ms(model: ModelOptions, images_bgr: Iterable[Image]) -> list[float]:
    """Return what steadying adds to the mask of each frame, in turns first and second."""
    added_ms = []
    with model.open() as plain, model.open(steady=True) as steady:
        for number, image_bgr in enumerate(images_bgr):
            large = np.asarray(cv2.resize(image_bgr, _COST_WH, interpolation=cv2.INTER_LINEAR), np.uint8)
            inferred = plain.infer(plain.fit(large))
            spent_ns = {}
            for segment in (plain, steady) if number % 2 else (steady, plain):
                began_ns = time.perf_counter_ns()
                segment.finish(inferred)
                spent_ns[segment] = time.perf_counter_ns() - began_ns
            if number >= _WARM_UP:
                added_ms.append((spent_ns[steady] - spent_ns[plain]) / 1e6)
    return added_ms


def _drive(config: SteadinessConfig, number: int) -> Iterator[tuple[Image, Image | None]]:
    """Yield a drive's pictures and exact labels."""
    world = World(config.seed + number, config.size_hw)
    for index in range(config.frames):
        time_s = 1.0 + index / config.fps
        scene = world.paint_from(world.camera(time_s), time_s, index)
        yield scene.image_bgr, scene.label


def _video(path: str, most: int) -> Iterator[tuple[Image, Image | None]]:
    with open_recorded(path, "video") as source:
        for frame in islice(source, most):
            yield frame.image_bgr, None
