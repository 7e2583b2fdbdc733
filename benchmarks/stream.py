"""How old masks are behind a camera at its own pace: `python -m benchmarks.stream --model seg.onnx`.

A camera at 0.5, 1, 2 and 4 times what the network can do runs through the very source and loop of
`runtime.camera`: a thread that grabs, one slot for the freshest frame, `runtime.loop.run`. Pictures are
decoded beforehand, since how a camera's pictures are packed is not known here.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import cycle, islice, pairwise
from pathlib import Path
from shlex import quote

from benchmarks.machine.description import Machine, calibrated_machine
from benchmarks.machine.process_usage import CpuMeter
from benchmarks.render import canvas
from benchmarks.render.charts import draw_ages
from benchmarks.render.document import Table, to_text
from benchmarks.timing.ages import RateResult, judge, take_masks
from benchmarks.timing.duration import duration_s
from benchmarks.timing.endless import rendered_drive
from benchmarks.timing.steady_capture import SteadyCapture
from runtime import ConfigError, Segmenter, SourceError, bundled_model
from runtime.base.codec import to_plain
from runtime.base.command import exit_code, make_parser
from runtime.base.files import file_sha256, write_text
from runtime.base.percentiles import percentiles
from runtime.frame import Frame, Image, Segmentation
from runtime.loop import run
from runtime.network.session import PROVIDERS
from runtime.sources import FakeSource, LiveSource, open_source

DISTINCT_FRAMES = 32  # decoded beforehand and cycled
WARMUP = 20
CAPACITY_FRAMES = 200


@dataclass(frozen=True)
class StreamConfig:
    """How to measure.

    Attributes:
        times_capacity: rates of the source in units of what the network can do.
        seconds: of each rate.
        deadline_ms: a mask that is older when it is ready is late. The default is one frame of a camera
            with 30 frames a second.
        threads: worker threads; None takes the physical cores, at most 4.
        provider: execution provider by short name.
    """

    times_capacity: tuple[float, ...] = (0.5, 1.0, 2.0, 4.0)
    seconds: float = 10.0
    deadline_ms: float = 33.3
    threads: int | None = None
    provider: str = "cpu"

    def __post_init__(self) -> None:
        """Check the numbers."""
        numbers = (*self.times_capacity, self.seconds, self.deadline_ms)
        if not self.times_capacity or not all(0 < number < float("inf") for number in numbers):
            raise ConfigError(
                "stream: expected at least one rate, and positive rates, seconds and deadline, got rates "
                f"{self.times_capacity}, {self.seconds:g} s and {self.deadline_ms:g} ms"
            )


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


def measure_stream(
    model: Path,
    images_bgr: Sequence[Image],
    frames: str,
    config: StreamConfig,
    tell: Callable[[str], None] = lambda line: None,
) -> StreamReport:
    """Measure a model file behind a steady camera.

    Args:
        model: ONNX file with a contract.
        images_bgr: uint8 (H, W, 3), what the camera shows, cycled.
        frames: what to call them.
        config: how.
        tell: gets a line of progress before each rate.

    Raises:
        EdgesegError: as `Segmenter`.
    """
    with Segmenter(model, threads=config.threads, provider=config.provider) as segment:
        machine = calibrated_machine(segment.threads)
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
            frames=frames,
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


def as_text(report: StreamReport) -> str:
    """Return the report for a terminal."""
    heads = ("source", "frames/s", "masks/s", "dropped", "age p50", "p99", "max", "gap p99", "late", "CPU %")
    rows = tuple(
        (
            f"{rate.times_capacity:g}x",
            f"{rate.source_fps:.1f}",
            f"{rate.masks_a_second:.1f}",
            f"{rate.dropped_percent:.1f} %",
            *(f"{rate.age_ms[name]:.2f}" for name in ("p50", "p99", "max")),
            "" if rate.gap_ms is None else f"{rate.gap_ms['p99']:.2f}",
            f"{rate.late} of {len(rate.masks)}",
            f"{rate.cpu.percent:.0f}",
        )
        for rate in report.rates
    )
    height, width = report.frame_size_hw
    facts = [
        "age: ms from the moment a frame is due at the camera until its mask is ready; gap: ms from one mask "
        "to the next",
        f"late: older than {report.deadline_ms:g} ms; CPU %: of one hardware thread, the camera's thread "
        "included",
        f"capacity: {report.capacity_fps:.1f} masks/s before, {report.capacity_after_fps:.1f} after; frames: "
        f"{report.frames}, {width}x{height}; {report.threads} threads, provider {report.provider}",
        f"model: {report.model}, sha256 {report.sha256[:16]}",
        f"machine: {report.machine}",
    ]
    return "\n\n".join([to_text([Table(heads, rows)]), "\n".join(facts)])


def read_frames(spec: str, count: int = DISTINCT_FRAMES) -> list[Image]:
    """Return the first frames of a recording.

    Raises:
        SourceError: a camera or stream, a recording without frames, or one whose frames differ in size.
    """
    with rendered_drive() if spec == "synthetic" else open_source(spec) as source:
        if source.live:
            raise SourceError(
                f"{spec}: expected a recording, which can be shown at any rate, got a camera or stream; "
                "record it with runtime.camera --save"
            )
        images_bgr = [frame.image_bgr for frame in islice(source, count)]
    shapes = {image_bgr.shape for image_bgr in images_bgr}
    if len(shapes) != 1:
        raise SourceError(
            f"{spec}: expected frames of one size, got {sorted(shapes) or 'none'}; take another recording"
        )
    return images_bgr


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; see `--help`."""
    defaults = StreamConfig()
    parser = make_parser("benchmarks.stream", "Tell how old masks are behind a camera at its own pace.")
    parser.add_argument("--model", type=Path, help="ONNX file of export.to_onnx; without it the bundled s")
    parser.add_argument(
        "--video", default="synthetic", help="what the camera shows: a video, images, synthetic"
    )
    parser.add_argument(
        "--rates",
        nargs="+",
        type=float,
        default=defaults.times_capacity,
        metavar="X",
        help="frames a second of the camera, in units of what the network can do",
    )
    parser.add_argument(
        "--duration", type=duration_s, default=f"{defaults.seconds:g}s", help="of each rate: 10s, 5m"
    )
    parser.add_argument(
        "--deadline-ms",
        type=float,
        default=defaults.deadline_ms,
        help="milliseconds from which a mask is late; one frame of a camera with 30 a second",
    )
    parser.add_argument("--threads", type=int, help="worker threads; without it physical cores, at most 4")
    parser.add_argument(
        "--provider", default=defaults.provider, choices=list(PROVIDERS), help="execution provider"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("runs/stream"), help="folder for ages.svg and stream.json"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    given = parser.parse_args(argv)

    def command() -> None:
        config = StreamConfig(
            times_capacity=tuple(given.rates),
            seconds=given.duration,
            deadline_ms=given.deadline_ms,
            threads=given.threads,
            provider=given.provider,
        )
        model = given.model or bundled_model()
        name = "synthetic drive" if given.video == "synthetic" else Path(given.video).name
        report = measure_stream(
            model, read_frames(given.video), name, config, lambda line: print(line, file=sys.stderr)
        )
        plain = json.dumps(to_plain(report))
        print(plain if given.json else as_text(report))
        write_text(given.out / "stream.json", plain)
        if canvas.available():
            write_text(given.out / "ages.svg", draw_ages(report.rates, config.deadline_ms).file())
        else:
            print(f"note: {canvas.MISSING}", file=sys.stderr)
        if not given.json:
            print(f"\nwrote {' and '.join(path.name for path in sorted(given.out.iterdir()))} in {given.out}")
            print(f"next: python -m benchmarks.accuracy --model {quote(str(model))} --data synthetic")

    return exit_code(command)


if __name__ == "__main__":
    sys.exit(main())
