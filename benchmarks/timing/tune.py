"""The best settings for a latency target: files x threads x spinning x resolution.

Every setting is measured twice, once on the way there and once on the way back, so that a drifting machine
favours none. The best is the most accurate file and resolution whose p90 of frame to mask holds the target
(with a data set by its mIoU there, without one the first of --steps, or the largest resolution), and of its
settings the one that takes the least processor time a frame: what is left over is the robot's.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from shlex import quote

from benchmarks.machine.description import Machine, this_machine
from benchmarks.timing.frames import drive_frames, size_flag
from runtime.base.flags import check_fields, flag, nested
from runtime.base.percentiles import percentiles
from runtime.deadline import Choice, Setting, read_contract, settings_of, sizes_of, thread_counts
from runtime.errors import ConfigError, EdgesegError
from runtime.frame import Image
from runtime.network.options import ModelOptions
from runtime.network.session import MAX_THREADS
from runtime.segmenter import Segmenter
from training.data.catalog import OptionalData
from training.data.dataset import SegmentationDataset
from training.evaluation.measure import measure_segmenter

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
    steps: tuple[Choice, ...] = flag(
        "in place of --model and --imgsz: files to try, most accurate first, of a --dynamic file also as "
        "FILE:HEIGHTxWIDTH",
        default=(),
        parse=Choice.parse,
        metavar="FILE",
    )
    data: OptionalData = nested(OptionalData, group="accuracy of each file and size")
    split: str = flag("part of the data set", default="val", group="accuracy of each file and size")
    frames: int = flag("frames of each setting, half of them on the way there", default=100, at_least=2)
    frame_size_hw: tuple[int, int] = size_flag(
        "height and width of the camera's frames", "--size", (720, 1280)
    )

    def __post_init__(self) -> None:
        """Check the numbers."""
        check_fields(self)
        if self.steps and (self.model.model is not None or self.sizes_hw):
            raise ConfigError("steps: expected neither --model nor --imgsz beside it; name them as steps")


@dataclass(frozen=True)
class Trial:
    """A setting, measured.

    Attributes:
        setting: what was chosen.
        total_ms: p50, p90, p99 and max from frame to mask.
        processor_ms: processor time a frame, of all threads.
        miou: of the file at this size on the data set; None without one.
    """

    setting: Setting
    total_ms: dict[str, float]
    processor_ms: float
    miou: float | None = None

    @property
    def choice(self) -> Choice:
        """The file and the size of its input."""
        return Choice(self.setting.model, self.setting.size_hw)


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
        EdgesegError: as `Segmenter`; ConfigError where a file does not take one of the sizes.
    """
    settings = settings_for(config)
    dataset = config.data.open(config.split)
    images_bgr = drive_frames(config.frame_size_hw)
    samples = {setting: _Samples() for setting in settings}
    for setting in [*settings, *reversed(settings)]:
        _measure(setting, images_bgr, samples[setting], config)
    miou = {} if dataset is None else _accuracies(settings, dataset, config)
    trials = tuple(
        Trial(
            setting,
            percentiles(taken.total_ms),
            percentiles(taken.processor_ms)["p50"],
            miou.get((setting.model, setting.size_hw)),
        )
        for setting, taken in samples.items()
    )
    names = dict.fromkeys(setting.model.name for setting in settings)
    return TuneReport(
        ", ".join(names), config.target_ms, trials, best_of(trials, config.target_ms), this_machine()
    )


def settings_for(config: TuneConfig) -> list[Setting]:
    """Return what to sweep; spinning says nothing about a single thread.

    Raises:
        ConfigError: a size that the file does not take.
        EdgesegError: a file that cannot be read.
    """
    model = config.model.file
    sizes_hw = () if config.steps else config.sizes_hw or sizes_of(read_contract(model))
    largest_first = sorted(sizes_hw, key=lambda size_hw: -size_hw[0] * size_hw[1])
    choices = config.steps or [Choice(model, size_hw) for size_hw in largest_first]
    return [
        spinning
        for setting in settings_of(choices, config.threads or thread_counts())
        for spinning in (setting, replace(setting, spin=True))
        if spinning.threads > 1 or not spinning.spin
    ]


def ranked(trials: Sequence[Trial]) -> list[Choice]:
    """Return files and sizes, most accurate first: by mIoU where it was measured, else in their order."""
    miou = {trial.choice: trial.miou for trial in trials}
    return sorted(miou, key=lambda choice: -(miou[choice] or 0.0))


def best_of(trials: Sequence[Trial], target_ms: float | None) -> Trial | None:
    """Return the best trial; without a target the fastest of the most accurate."""
    holding = [trial for trial in trials if target_ms is None or trial.total_ms["p90"] <= target_ms]
    if not holding:
        return None
    first = ranked(holding)[0]
    holding = [trial for trial in holding if trial.choice == first]
    if target_ms is None:
        return min(holding, key=lambda trial: trial.total_ms["p90"])
    return min(holding, key=lambda trial: trial.processor_ms)


def _accuracies(
    settings: Sequence[Setting], dataset: SegmentationDataset, config: TuneConfig
) -> dict[tuple[Path, tuple[int, int]], float]:
    """Measure the mIoU of each file at each size."""
    miou = {}
    for model, size_hw in dict.fromkeys((setting.model, setting.size_hw) for setting in settings):
        with Segmenter(model, size_hw=size_hw, provider=config.model.provider) as segment:
            miou[model, size_hw] = measure_segmenter(segment, dataset).accuracy.miou
    return miou


def _measure(setting: Setting, images_bgr: Sequence[Image], samples: _Samples, config: TuneConfig) -> None:
    """Add one pass of a setting."""
    with Segmenter(
        setting.model,
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
    spin = " --spin" if setting.spin else ""
    return f"--model {quote(str(setting.model))} --threads {setting.threads}{spin} --imgsz {height} {width}"
