"""Measures a whole comparison: accuracy, times in shuffled turns, and layers against the machine's limits."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path

import numpy as np

from benchmarks.layers.limits import LimitsConfig, ModelLimits, measure_limits
from benchmarks.machine.description import machine_with_noise
from benchmarks.machine.yardstick import MachineLimits, Yardstick
from benchmarks.results.results import MeasuredAccuracy, ModelResult, Results, Settings
from benchmarks.subjects.entrants import OurEntrant, open_entrants
from benchmarks.subjects.peer import PeerEntrant
from benchmarks.timing.frames import SYNTHETIC, frames_name, size_flag
from benchmarks.timing.rounds import RoundsConfig, run_rounds
from runtime.base.flags import check_fields, flag, nested
from runtime.network.options import ModelOptions
from runtime.network.session import default_threads
from runtime.segmenter import Segmenter, bundled_model, model_path
from training.data.catalog import OptionalData
from training.data.dataset import SegmentationDataset
from training.evaluation.measure import MeasuredImage, check_same_classes, measure_segmenter


@dataclass(frozen=True)
class ReportConfig:
    """What to measure, and how."""

    models: tuple[Path, ...] = flag(
        "ONNX files, edgeseg's or others; ratios refer to the first; without it the bundled ones",
        default=(),
        metavar="FILE",
    )
    peers: tuple[Path, ...] = flag(
        "files for ultralytics' own predictor, where that package is installed, timed end to end",
        default=(),
        metavar="FILE",
    )
    data: OptionalData = nested(OptionalData)
    split: str = flag("part of the data set", default="val")
    limit: int | None = flag("measure accuracy on the first so many images only", default=None, at_least=1)
    video: str = flag("recording to time on: clip.mp4, 'frames/*.png' or synthetic", default=SYNTHETIC)
    rounds: RoundsConfig = nested(RoundsConfig)
    layer_runs: int = flag("profiled runs of each network; 0 leaves them out", default=50, at_least=0)
    network: ModelOptions = nested(ModelOptions, without=("model",))
    foreign_size_hw: tuple[int, int] = size_flag(
        "height and width for others' files that leave them free", "--foreign-size", (352, 480)
    )

    def __post_init__(self) -> None:
        """Check the numbers."""
        check_fields(self)

    @property
    def files(self) -> tuple[Path, ...]:
        """The files to compare: those named, or the bundled ones, each followed by its int8 form."""
        if self.models:
            return tuple(map(model_path, self.models))
        return tuple(sorted(bundled_model().parent.glob("*.onnx"), key=lambda path: path.stem))


def measure_results(config: ReportConfig) -> Results:
    """Measure accuracy where there is a data set, then times in rounds, then layers.

    Raises:
        DatasetError: labels of other classes than a model's.
        EdgesegError: as `open_entrants`, `run_rounds` and the data set.
    """
    dataset = config.data.open(config.split)
    provider, threads = config.network.provider, config.network.threads or default_threads()
    started = datetime.now(timezone.utc).isoformat(timespec="seconds")
    machine = machine_with_noise(threads)
    entrants = open_entrants(config.files, threads, provider, config.foreign_size_hw)
    entrants += [PeerEntrant(path) for path in config.peers]
    accuracies: dict[str, MeasuredAccuracy] = {}
    ours = [entrant for entrant in entrants if isinstance(entrant, OurEntrant)]
    if dataset is not None:
        for entrant in ours:  # before minutes are spent on the first
            check_same_classes(entrant.segment.contract.classes, dataset)
        for entrant in ours:
            print(f"accuracy of {entrant.file.label}", file=sys.stderr, flush=True)
            accuracies[entrant.file.label] = measure_counts(entrant.segment, dataset, config.limit)
    print(f"times of {len(entrants)} models in {config.rounds.rounds} rounds", file=sys.stderr, flush=True)
    timed = run_rounds(entrants, Yardstick(threads, provider), config.video, config.rounds)
    entrants_limits, machine_limits = _limits(config)
    return Results(
        machine=machine,
        noise=timed.noise,
        started=started,
        settings=Settings(
            frames=frames_name(config.video),
            frames_sha256=timed.frames_sha256,
            frame_size_hw=timed.frame_size_hw,
            rounds=config.rounds.rounds,
            frames_a_round=config.rounds.frames_a_round,
            settle=config.rounds.settle,
            seed=config.rounds.seed,
            threads=threads,
            provider=provider,
            data=_data_name(accuracies),
        ),
        yardstick_ms=timed.yardstick_ms,
        orders=timed.orders,
        models=tuple(
            ModelResult(entrant.file, stages_ms, accuracies.get(entrant.file.label), limits)
            for entrant, stages_ms, limits in zip(entrants, timed.stages_ms, entrants_limits, strict=True)
        ),
        machine_limits=machine_limits,
    )


def _limits(config: ReportConfig) -> tuple[Sequence[ModelLimits | None], MachineLimits | None]:
    """Hold networks and layers against the machine, where they run on its processor."""
    if config.layer_runs == 0 or config.network.provider != "cpu":
        return [None] * (len(config.files) + len(config.peers)), None
    print(f"layers of {len(config.files)} models", file=sys.stderr, flush=True)
    limits = LimitsConfig(config.layer_runs, config.network, config.foreign_size_hw)
    report = measure_limits(config.files, limits)
    ours = [replace(model, file=Path(model.file).name) for model in report.models]
    return [*ours, *[None] * len(config.peers)], report.limits


def measure_counts(segment: Segmenter, dataset: SegmentationDataset, limit: int | None) -> MeasuredAccuracy:
    """Measure an accuracy and keep what each image contributes."""
    intersections: list[tuple[int, ...]] = []
    unions: list[tuple[int, ...]] = []

    def keep(image: MeasuredImage) -> None:
        matrix = image.confusion.matrix
        hits = np.diagonal(matrix)
        intersections.append(tuple(hits.tolist()))
        unions.append(tuple((matrix.sum(axis=0) + matrix.sum(axis=1) - hits).tolist()))

    summary = measure_segmenter(segment, dataset, limit=limit, on_image=keep).accuracy
    return MeasuredAccuracy(summary, tuple(intersections), tuple(unions))


def _data_name(accuracies: dict[str, MeasuredAccuracy]) -> str:
    if not accuracies:
        return ""
    summary = next(iter(accuracies.values())).summary
    return f"{summary.dataset} {summary.split} ({summary.frames} images)"
