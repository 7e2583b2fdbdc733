"""The best settings for a latency target: threads x spinning x resolution.

Every setting is measured twice, once on the way there and once on the way back, so that a drifting machine
favours none. The best is the largest resolution whose p90 of frame to mask holds the target, and of its
settings the one that takes the least processor time a frame: what is left over is the robot's.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from benchmarks.machine.description import Machine, this_machine
from benchmarks.timing.frames import drive_frames, size_flag
from runtime.base.flags import check_fields, flag, nested
from runtime.base.percentiles import percentiles
from runtime.contract import ModelContract
from runtime.errors import ConfigError, EdgesegError
from runtime.frame import Image
from runtime.network.options import ModelOptions
from runtime.network.session import MAX_THREADS, NetworkSession, default_threads
from runtime.segmenter import Segmenter

_SHARES = (1.0, 0.75, 0.5)  # of the file's own height and width, where it takes others
_WARMUP = 5


class TuneError(EdgesegError):
    """No setting holds the target."""


@dataclass(frozen=True)
class TuneConfig:
    """What to sweep."""

    model: ModelOptions = nested(ModelOptions, without=("threads",))
    target_ms: float | None = flag(
        "p90 from frame to mask to hold; without it the fastest is the best",
        default=None,
        above=0,
        unit="ms",
    )
    threads: tuple[int, ...] = flag(
        "threads of the network to try; without it 1, 2 and 4, as far as there are physical cores",
        default=(),
        at_least=1,
        at_most=MAX_THREADS,
    )
    sizes_hw: tuple[tuple[int, int], ...] = flag(
        "height and width of the network's input to try, pixels; may be given several times; without it the "
        "file's own, of --dynamic files also 3/4 and 1/2 of it",
        default=(),
        name="--imgsz",
        repeated=True,
        metavar=("H", "W"),
    )
    frames: int = flag("frames of each setting, half of them on the way there", default=100, at_least=2)
    frame_size_hw: tuple[int, int] = size_flag(
        "height and width of the camera's frames", "--size", (720, 1280)
    )

    def __post_init__(self) -> None:
        """Check the numbers."""
        check_fields(self)


@dataclass(frozen=True)
class Setting:
    """What can be chosen."""

    size_hw: tuple[int, int]
    threads: int
    spin: bool


@dataclass(frozen=True)
class Trial:
    """A setting, measured.

    Attributes:
        setting: what was chosen.
        total_ms: p50, p90, p99 and max from frame to mask.
        processor_ms: processor time a frame, of all threads.
    """

    setting: Setting
    total_ms: dict[str, float]
    processor_ms: float


@dataclass(frozen=True)
class TuneReport:
    """A sweep.

    Attributes:
        model: file name.
        target_ms: as asked for.
        trials: in the order they were first measured.
        best: None where none holds the target.
        machine: the computer and the software.
    """

    model: str
    target_ms: float | None
    trials: tuple[Trial, ...]
    best: Trial | None
    machine: Machine


@dataclass
class _Samples:
    total_ms: list[float] = field(default_factory=list)
    processor_ms: list[float] = field(default_factory=list)


def tune(config: TuneConfig) -> TuneReport:
    """Measure every setting.

    Raises:
        EdgesegError: as `Segmenter`; ConfigError where the file takes none of the sizes.
    """
    model = config.model.file
    contract = NetworkSession(model, threads=1, provider=config.model.provider).contract
    settings = settings_for(contract, config)
    images_bgr = drive_frames(config.frame_size_hw)
    samples = {setting: _Samples() for setting in settings}
    for setting in [*settings, *reversed(settings)]:
        _measure(setting, images_bgr, samples[setting], config)
    trials = tuple(
        Trial(setting, percentiles(taken.total_ms), percentiles(taken.processor_ms)["p50"])
        for setting, taken in samples.items()
    )
    return TuneReport(model.name, config.target_ms, trials, best_of(trials, config.target_ms), this_machine())


def settings_for(contract: ModelContract, config: TuneConfig) -> list[Setting]:
    """Return what to sweep; spinning says nothing about a single thread.

    Raises:
        ConfigError: a size that the file does not take.
    """
    described = contract.input
    step = described.size_multiple
    own = [
        (round(described.size_hw[0] * share / step) * step, round(described.size_hw[1] * share / step) * step)
        for share in _SHARES
    ]
    sizes_hw = config.sizes_hw or [size_hw for size_hw in dict.fromkeys(own) if described.accepts(size_hw)]
    for size_hw in sizes_hw:
        if not described.accepts(size_hw):
            raise ConfigError(
                f"tune: expected sizes among {described.accepted_sizes}, got {size_hw[0]}x{size_hw[1]}; "
                "choose such, or export the model with --dynamic"
            )
    most = default_threads()
    threads = config.threads or tuple(count for count in (1, 2, 4) if count <= most)
    return [
        Setting(size_hw, count, spin)
        for size_hw, count, spin in itertools.product(sizes_hw, threads, (False, True))
        if count > 1 or not spin
    ]


def best_of(trials: Sequence[Trial], target_ms: float | None) -> Trial | None:
    """Return the best trial; without a target the fastest at the largest resolution."""
    holding = [trial for trial in trials if target_ms is None or trial.total_ms["p90"] <= target_ms]
    if not holding:
        return None
    largest = max(_pixels(trial) for trial in holding)
    holding = [trial for trial in holding if _pixels(trial) == largest]
    if target_ms is None:
        return min(holding, key=lambda trial: trial.total_ms["p90"])
    return min(holding, key=lambda trial: trial.processor_ms)


def _pixels(trial: Trial) -> int:
    return trial.setting.size_hw[0] * trial.setting.size_hw[1]


def _measure(setting: Setting, images_bgr: Sequence[Image], samples: _Samples, config: TuneConfig) -> None:
    """Add one pass of a setting."""
    with Segmenter(
        config.model.file,
        size_hw=setting.size_hw,
        threads=setting.threads,
        spin=setting.spin,
        provider=config.model.provider,
    ) as segment:
        for index in range(-_WARMUP, config.frames // 2):
            image_bgr = images_bgr[index % len(images_bgr)]
            started_ns, worked_ns = time.perf_counter_ns(), time.process_time_ns()
            segment(image_bgr)
            if index >= 0:
                samples.total_ms.append((time.perf_counter_ns() - started_ns) / 1e6)
                samples.processor_ms.append((time.process_time_ns() - worked_ns) / 1e6)


def camera_flags(setting: Setting) -> str:
    """Return the settings as flags of `runtime.camera`."""
    height, width = setting.size_hw
    return f"--threads {setting.threads}{' --spin' if setting.spin else ''} --imgsz {height} {width}"
