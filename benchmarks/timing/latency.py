"""How long a frame takes, stage by stage, and what it costs: processor, memory, energy, a process's start.

Frames go through the very `Segmenter` and `Overlay` that the camera uses. Every sample after the warm-up
counts; the result is percentiles, never a mean.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import cycle, pairwise

from benchmarks.machine.description import Machine, machine_with_noise, usable_cpus
from benchmarks.machine.energy import Energy, EnergyMeter
from benchmarks.machine.usage import CpuMeter, CpuShares, CpuUse, cpu_times, shares
from benchmarks.machine.yardstick import CONV_GMAC, Noise, Yardstick, noise_of
from benchmarks.timing.cold_start import ColdStart, measure_cold_start
from benchmarks.timing.frames import FRAME_HW, FrameTimer, drive_frames, size_flag
from benchmarks.timing.scaling import Scaling, scale, thread_counts
from benchmarks.timing.sustained import Minute, duration_flag, sustain
from runtime.base.files import file_sha256
from runtime.base.flags import check_fields, flag, nested
from runtime.base.percentiles import FINE_PERCENTS, LatencyLog, percentiles
from runtime.network.options import ModelOptions
from runtime.network.session import default_threads

FRAMES_A_BLOCK = 20  # then the convolution rate is taken, so that a slow minute slows both alike
SETTLE = 2  # frames after that which do not count, since the convolutions had the caches
SCALING_FRAMES = 100  # a point


@dataclass(frozen=True)
class LatencyConfig:
    """What to measure, and how."""

    model: ModelOptions = nested(ModelOptions)
    frame_size_hw: tuple[int, int] = size_flag("height and width of the frames", "--size", FRAME_HW)
    frames: int = flag("frames that count", default=1000, at_least=1)
    warmup: int = flag("frames before them that do not", default=20, at_least=0)
    cold_starts: int = flag("fresh processes up to their first mask", default=5, at_least=0)
    duration_s: float = duration_flag(
        "go on afterwards for so long and show each minute: 90s, 5m, 1h", 0.0, "--duration"
    )
    scaling: bool = flag("also try other numbers of threads, and batches", default=False)

    def __post_init__(self) -> None:
        """Check the numbers."""
        check_fields(self)


@dataclass(frozen=True)
class ModelFile:
    """The file that was measured; `input_size_hw` in pixels, `quantization` "none" for float32."""

    name: str
    file: str
    sha256: str
    bytes: int
    input_size_hw: tuple[int, int]
    quantization: str


@dataclass(frozen=True)
class LatencyReport:
    """A measurement.

    Attributes:
        latency_ms: p50, p90, p99, p99.9 and max in milliseconds, for each of `frames.STAGES`.
        jitter_ms: the same of the difference between one frame's total and the next one's, whichever
            was longer; None where no two frames followed each other.
        fps: frames a second of the whole loop, all frames counted.
        cpu: processor time of this process for these frames.
        energy: of the processor's package meanwhile.
        wall_s: seconds that the frames took.
        frame_size_hw: height and width of the frames in pixels.
        frames: frames that were counted.
        warmup: frames before them that were not.
        threads: worker threads of the network.
        provider: execution provider by short name.
        conv_gmac_per_s: what plain 3x3 convolutions reach here and now, see
            `benchmarks.machine.yardstick`.
        network_time_gmac: what they would have computed in the network's median time.
        noise_meanwhile: how unequal those convolutions were between the frames.
        cold_start: fresh processes; None where left out.
        sustained: minute by minute; empty where left out.
        scaling: other threads and batches; None where left out.
        model: the file.
        machine: the computer and the software, before the measurement.
    """

    latency_ms: dict[str, dict[str, float]]
    jitter_ms: dict[str, float] | None
    fps: float
    cpu: CpuUse
    energy: Energy
    wall_s: float
    frame_size_hw: tuple[int, int]
    frames: int
    warmup: int
    threads: int
    provider: str
    conv_gmac_per_s: float
    network_time_gmac: float
    noise_meanwhile: Noise
    cold_start: ColdStart | None
    sustained: tuple[Minute, ...]
    scaling: Scaling | None
    model: ModelFile
    machine: Machine


def measure_latency(
    config: LatencyConfig, show: Callable[[Minute], None] = lambda minute: None
) -> LatencyReport:
    """Time a model file.

    Args:
        config: how.
        show: gets each minute of the sustained part when it is over.

    Raises:
        EdgesegError: as `Segmenter` and `measure_cold_start`.
    """
    model, provider = config.model.file, config.model.provider
    with config.model.open() as segment:
        contract, threads = segment.contract, segment.threads
        machine = machine_with_noise(threads)
        images_bgr = drive_frames(config.frame_size_hw)
        cold_start = None
        if config.cold_starts:
            cold_start = measure_cold_start(
                model, images_bgr[0], config.cold_starts, threads=threads, provider=provider
            )
        timer, images = FrameTimer(segment), cycle(images_bgr)
        warm = _measure_warm(lambda: timer(next(images)), Yardstick(threads, provider), config)
        sustained: tuple[Minute, ...] = ()
        if config.duration_s:
            sustained = sustain(lambda: timer(next(images))["total"], config.duration_s, show)
    scaling = None
    if config.scaling:
        counts = thread_counts(len(usable_cpus()), default_threads())
        scaling = scale(model, counts, threads, images_bgr, SCALING_FRAMES, provider)
    latency_ms = warm.log.summary(FINE_PERCENTS)
    conv_gmac_per_s = 1000 * CONV_GMAC / percentiles(warm.conv_ms)["p50"]
    return LatencyReport(
        latency_ms=latency_ms,
        jitter_ms=percentiles(warm.steps_ms, FINE_PERCENTS) if warm.steps_ms else None,
        fps=config.frames / (warm.cpu.wall_ns / 1e9),
        cpu=warm.cpu.use(config.frames),
        energy=warm.energy.energy(),
        wall_s=warm.cpu.wall_ns / 1e9,
        frame_size_hw=config.frame_size_hw,
        frames=config.frames,
        warmup=config.warmup,
        threads=threads,
        provider=provider,
        conv_gmac_per_s=conv_gmac_per_s,
        network_time_gmac=conv_gmac_per_s * latency_ms["network"]["p50"] / 1000,
        noise_meanwhile=noise_of(warm.conv_ms, warm.taken),
        cold_start=cold_start,
        sustained=sustained,
        scaling=scaling,
        model=ModelFile(
            name=contract.name,
            file=model.name,
            sha256=file_sha256(model),
            bytes=model.stat().st_size,
            input_size_hw=contract.input.size_hw,
            quantization=contract.origin.quantization,
        ),
        machine=machine,
    )


@dataclass
class _Warm:
    """Samples of the frames that count."""

    log: LatencyLog = field(default_factory=LatencyLog)
    steps_ms: list[float] = field(default_factory=list)  # from one frame's total to the next one's
    conv_ms: list[float] = field(default_factory=list)
    cpu: CpuMeter = field(default_factory=CpuMeter)
    energy: EnergyMeter = field(default_factory=EnergyMeter)
    taken: CpuShares | None = None


def _measure_warm(
    frame: Callable[[], dict[str, float]], yardstick: Yardstick, config: LatencyConfig
) -> _Warm:
    """Time frames in blocks, with the yardstick between them."""
    for _ in range(config.warmup):
        frame()
    warm, before = _Warm(), cpu_times()
    for first in range(0, config.frames, FRAMES_A_BLOCK):
        with warm.energy, warm.cpu:
            block = [frame() for _ in range(min(FRAMES_A_BLOCK, config.frames - first))]
        for sample in block:
            warm.log.add(sample)
        warm.steps_ms += [abs(after["total"] - earlier["total"]) for earlier, after in pairwise(block)]
        yardstick.run_ms()  # does not count: the frames had the caches
        warm.conv_ms.append(yardstick.run_ms())
        for _ in range(SETTLE):
            frame()
    warm.taken = shares(before, cpu_times())
    return warm
