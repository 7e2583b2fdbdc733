"""How old masks are behind a camera at its own pace, and what became of the frames that have none.

A camera at 0.5, 1, 2 and 4 times what the network can do runs through the very source and loop of
`runtime.camera`: a thread that grabs, one slot for the freshest frame, `runtime.loop.run`. Pictures are
decoded beforehand, since how a camera's pictures are packed is not known here. The age of a mask is the time
from the moment its frame was due at the camera until the mask is there: the wait for the network, the
hand-over between threads and the segmentation.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import cycle, islice, pairwise

import cv2
import numpy as np

from benchmarks.machine.description import Machine, machine_with_noise
from benchmarks.machine.usage import CpuMeter, CpuUse
from benchmarks.timing.frames import SYNTHETIC, frames_name, read_frames
from benchmarks.timing.sustained import duration_flag
from runtime.base.files import file_sha256
from runtime.base.flags import check_fields, flag, nested
from runtime.base.percentiles import FINE_PERCENTS, percentiles
from runtime.errors import ConfigError
from runtime.frame import Frame, Image, Segmentation
from runtime.loop import Step, run
from runtime.network.options import ModelOptions
from runtime.segmenter import Segmenter
from runtime.sources import Capture, FakeSource, LiveSource

PICTURES = 32  # decoded beforehand and cycled
WARMUP = 20
CAPACITY_FRAMES = 200


@dataclass(frozen=True)
class StreamConfig:
    """What to measure, and how."""

    model: ModelOptions = nested(ModelOptions)
    video: str = flag("what the camera shows: a video, images, synthetic", default=SYNTHETIC)
    times_capacity: tuple[float, ...] = flag(
        "frames a second of the camera, in units of what the network can do",
        default=(0.5, 1.0, 2.0, 4.0),
        above=0,
        name="--rates",
        metavar="X",
    )
    seconds: float = duration_flag("of each rate: 10s, 5m", 10.0, "--duration")
    deadline_ms: float = flag(
        "age from which a mask is late; one frame of a camera with 30 a second",
        default=33.3,
        above=0,
        unit="ms",
    )

    def __post_init__(self) -> None:
        """Check the numbers."""
        check_fields(self)
        if not self.times_capacity or not self.seconds:
            raise ConfigError(
                f"stream: expected at least one rate and some time, got {len(self.times_capacity)} rates for "
                f"{self.seconds:g} s"
            )


@dataclass(frozen=True)
class Mask:
    """One mask.

    Attributes:
        ready_s: seconds since the first frame was due, when it was ready.
        age_ms: milliseconds since its own frame was due.
    """

    ready_s: float
    age_ms: float


@dataclass(frozen=True)
class RateResult:
    """What came of a source at one rate.

    Attributes:
        times_capacity: the rate in units of what the network can do.
        source_fps: the rate in frames a second.
        frames: that came, up to the one of the last mask.
        dropped: of these, replaced by a fresher one.
        late: masks that were older than the deadline.
        masks_a_second: over the whole time.
        age_ms: p50, p90, p99, p99.9 and max.
        gap_ms: the same of the time between one mask and the next, None where there is only one mask.
        cpu: processor time of this process, the source's thread included.
        masks: every one of them.
    """

    times_capacity: float
    source_fps: float
    frames: int
    dropped: int
    late: int
    masks_a_second: float
    age_ms: dict[str, float]
    gap_ms: dict[str, float] | None
    cpu: CpuUse
    masks: tuple[Mask, ...]

    @property
    def late_percent(self) -> float:
        """Share of the masks that were late."""
        return 100 * self.late / len(self.masks)

    @property
    def dropped_percent(self) -> float:
        """Share of the frames that were dropped."""
        return 100 * self.dropped / self.frames


@dataclass(frozen=True)
class StreamReport:
    """A measurement.

    Attributes:
        capacity_fps: masks a second without a pause, before; by the median of the time from one to the next.
        capacity_after_fps: the same afterwards; where it differs much, the machine has changed meanwhile.
        rates: one after the other.
        deadline_ms: older masks are late.
        frames: what the camera showed.
        frame_size_hw: height and width of the frames in pixels.
        threads: worker threads of the network.
        provider: execution provider by short name.
        model: file name of the network.
        sha256: of that file.
        machine: the computer and the software, before the measurement.
    """

    capacity_fps: float
    capacity_after_fps: float
    rates: tuple[RateResult, ...]
    deadline_ms: float
    frames: str
    frame_size_hw: tuple[int, int]
    threads: int
    provider: str
    model: str
    sha256: str
    machine: Machine


def measure_stream(config: StreamConfig, tell: Callable[[str], None] = lambda line: None) -> StreamReport:
    """Measure a model file behind a steady camera.

    Args:
        config: how.
        tell: gets a line of progress before each rate.

    Raises:
        EdgesegError: as `Segmenter` and `read_frames`.
    """
    images_bgr, model = read_frames(config.video, PICTURES), config.model.file
    with config.model.open() as segment:
        machine = machine_with_noise(segment.threads)
        capacity_fps = measure_capacity(images_bgr, segment)
        rates = []
        for times_capacity in config.times_capacity:
            tell(f"{times_capacity:g}x of {capacity_fps:.1f} frames/s for {config.seconds:g} s")
            rates.append(_measure_rate(images_bgr, segment, times_capacity, capacity_fps, config))
        return StreamReport(
            capacity_fps=capacity_fps,
            capacity_after_fps=measure_capacity(images_bgr, segment),
            rates=tuple(rates),
            deadline_ms=config.deadline_ms,
            frames=frames_name(config.video),
            frame_size_hw=(images_bgr[0].shape[0], images_bgr[0].shape[1]),
            threads=segment.threads,
            provider=segment.provider,
            model=model.name,
            sha256=file_sha256(model),
            machine=machine,
        )


def measure_capacity(
    images_bgr: Sequence[Image],
    segment: Callable[[Frame], Segmentation],
    clock_ns: Callable[[], int] = time.monotonic_ns,
) -> float:
    """Return how many masks a second the loop gives where the next frame is always there."""
    source = FakeSource(cycle(images_bgr), clock_ns=clock_ns)
    steps = run(source, segment, max_frames=WARMUP + CAPACITY_FRAMES, clock_ns=clock_ns)
    ready_ns = [step.finished_ns for step in islice(steps, WARMUP, None)]
    return 1000 / percentiles((after - before) / 1e6 for before, after in pairwise(ready_ns))["p50"]


def _measure_rate(
    images_bgr: Sequence[Image],
    segment: Segmenter,
    times_capacity: float,
    capacity_fps: float,
    config: StreamConfig,
) -> RateResult:
    """Run the loop behind a camera of one rate."""
    source_fps = times_capacity * capacity_fps
    capture, cpu = SteadyCapture(images_bgr, source_fps), CpuMeter()
    with LiveSource(lambda: capture, "steady camera") as source, cpu:
        masks, dropped = take_masks(
            run(source, segment), config.seconds, lambda frame: capture.due_ns(frame.frame_id)
        )
    return judge(
        masks,
        dropped,
        cpu.use(len(masks)),
        deadline_ms=config.deadline_ms,
        times_capacity=times_capacity,
        source_fps=source_fps,
    )


def take_masks(
    steps: Iterable[Step], seconds: float, due_ns: Callable[[Frame], int]
) -> tuple[tuple[Mask, ...], int]:
    """Run a loop for some time.

    Args:
        steps: of `runtime.loop.run`.
        seconds: from the first frame on.
        due_ns: when a frame was due at the camera, on the clock of the steps.

    Returns:
        The masks, at least one, and how many frames were dropped between them.
    """
    masks: list[Mask] = []
    first_ns, dropped = 0, 0
    for step in steps:
        due = due_ns(step.frame)
        if not masks:
            first_ns, dropped_before = due, step.dropped
        dropped = step.dropped - dropped_before
        ready_s = (step.finished_ns - first_ns) / 1e9
        masks.append(Mask(ready_s, (step.finished_ns - due) / 1e6))
        if ready_s >= seconds:
            break
    return tuple(masks), dropped


def judge(
    masks: Sequence[Mask],
    dropped: int,
    cpu: CpuUse,
    *,
    deadline_ms: float,
    times_capacity: float,
    source_fps: float,
) -> RateResult:
    """Sum up masks; every one counts."""
    ages_ms = [mask.age_ms for mask in masks]
    gaps_ms = [1000 * (after.ready_s - before.ready_s) for before, after in pairwise(masks)]
    return RateResult(
        times_capacity=times_capacity,
        source_fps=source_fps,
        frames=len(masks) + dropped,
        dropped=dropped,
        late=sum(age_ms > deadline_ms for age_ms in ages_ms),
        masks_a_second=len(masks) / masks[-1].ready_s,
        age_ms=percentiles(ages_ms, FINE_PERCENTS),
        gap_ms=percentiles(gaps_ms, FINE_PERCENTS) if gaps_ms else None,
        cpu=cpu,
        masks=tuple(masks),
    )


class SteadyCapture(Capture):
    """A camera that never misses a beat: picture n comes n / fps seconds after the first, without an end.

    A caller who comes late gets the next picture at once and is not waited for: the schedule goes on, as
    light does on a sensor.
    """

    def __init__(self, images_bgr: Sequence[Image], fps: float) -> None:
        """Take pictures, uint8 (H, W, 3), which are cycled, and a rate in frames a second."""
        self._images_bgr = images_bgr
        self._period_ns = 1e9 / fps
        self._fps = fps
        self._count = 0
        self._started_ns = 0

    def due_ns(self, index: int) -> int:
        """Return the `time.monotonic_ns()` at which picture `index` is due; the first must have been."""
        return self._started_ns + round(index * self._period_ns)

    def isOpened(self) -> bool:
        """Tell that it is open."""
        return True

    def grab(self) -> bool:
        """Wait until the next picture is due."""
        if self._count == 0:
            self._started_ns = time.monotonic_ns()
        while (left_ns := self.due_ns(self._count) - time.monotonic_ns()) > 0:
            time.sleep(left_ns / 1e9)
        self._count += 1
        return True

    def retrieve(self) -> tuple[bool, np.ndarray | None]:
        """Return the picture that was grabbed last."""
        return True, self._images_bgr[(self._count - 1) % len(self._images_bgr)]

    def read(self) -> tuple[bool, np.ndarray | None]:
        """Grab and retrieve."""
        self.grab()
        return self.retrieve()

    def get(self, propId: int, /) -> float:
        """Return the frames a second, and 0 for everything else."""
        return self._fps if propId == cv2.CAP_PROP_FPS else 0.0

    def release(self) -> None:
        """Keep the pictures: the next rate shows them again."""
