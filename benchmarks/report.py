"""Compares models on one machine, honestly, as one page.

`python -m benchmarks.report --models a.onnx b.onnx --data camvid --root DIR --video clip.mp4 --out DIR`
writes report.html (one file that needs no other), report.md with its figures as SVG, readme.md with what a
README shows, and results.json with every sample. Models run in turns. Needs the base install only.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from shlex import quote
from tempfile import TemporaryFile

import numpy as np

from benchmarks.layers.machine_limits import MachineLimits
from benchmarks.layers.op_profile import DEFAULT_RUNS
from benchmarks.limits import ModelLimits, measure_models
from benchmarks.machine.conv_rate import ConvRate
from benchmarks.machine.description import calibrated_machine
from benchmarks.render.document import to_text
from benchmarks.render.page import main_table, write_report
from benchmarks.results.results import (
    MeasuredAccuracy,
    ModelResult,
    Results,
    Settings,
    read_results,
)
from benchmarks.subjects.entrants import OurEntrant, PeerEntrant, open_entrants
from benchmarks.timing.rounds import SYNTHETIC, RoundsConfig, frames_name, run_rounds
from runtime.base.command import exit_code, make_parser
from runtime.errors import ConfigError
from runtime.network.session import PROVIDERS, default_threads
from runtime.segmenter import Segmenter, bundled_model
from training.data import DATASETS, SegmentationDataset, open_dataset
from training.evaluation.measure import MeasuredImage, check_same_classes, measure_segmenter


@dataclass(frozen=True)
class ReportConfig:
    """What to measure; see `--help`."""

    models: tuple[Path, ...]
    frames: str = SYNTHETIC
    rounds: RoundsConfig = field(default_factory=RoundsConfig)
    threads: int | None = None
    provider: str = "cpu"
    foreign_size_hw: tuple[int, int] = (352, 480)
    limit: int | None = None
    layer_runs: int = DEFAULT_RUNS
    peers: tuple[Path, ...] = ()


def measure(config: ReportConfig, dataset: SegmentationDataset | None = None) -> Results:
    """Measure accuracy where there is a data set, then times in rounds.

    Raises:
        ConfigError: settings that measure nothing.
        DatasetError: labels of other classes than a model's.
        EdgesegError: as `open_entrants`, `run_rounds` and the data set.
    """
    started = datetime.now(timezone.utc).isoformat(timespec="seconds")
    threads = default_threads() if config.threads is None else config.threads
    machine = calibrated_machine(threads)
    entrants = open_entrants(config.models, threads, config.provider, config.foreign_size_hw)
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
    timed = run_rounds(entrants, ConvRate(threads, config.provider), config.frames, config.rounds)
    entrants_limits, machine_limits = _limits(config, threads)
    return Results(
        machine=machine,
        noise=timed.noise,
        started=started,
        settings=Settings(
            frames=frames_name(config.frames),
            frames_sha256=timed.frames_sha256,
            frame_size_hw=timed.frame_size_hw,
            rounds=config.rounds.rounds,
            frames_a_round=config.rounds.frames_a_round,
            settle=config.rounds.settle,
            seed=config.rounds.seed,
            threads=threads,
            provider=config.provider,
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


def _limits(config: ReportConfig, threads: int) -> tuple[Sequence[ModelLimits | None], MachineLimits | None]:
    """Hold networks and layers against the machine, where they run on its processor."""
    if config.layer_runs == 0 or config.provider != "cpu":
        return [None] * (len(config.models) + len(config.peers)), None
    print(f"layers of {len(config.models)} models", file=sys.stderr, flush=True)
    report = measure_models(
        config.models, threads=threads, runs=config.layer_runs, free_size_hw=config.foreign_size_hw
    )
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


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; see `--help`."""
    rounds = RoundsConfig()
    parser = make_parser(
        "benchmarks.report", "Compare ONNX files on this machine: accuracy, times, and how sure they are."
    )
    parser.add_argument(
        "--models",
        nargs="+",
        type=Path,
        metavar="FILE",
        help="ONNX files, edgeseg's or others; ratios refer to the first; without it the bundled ones",
    )
    parser.add_argument(
        "--peers",
        nargs="+",
        type=Path,
        default=[],
        metavar="FILE",
        help="files for ultralytics' own predictor, where that package is installed, timed end to end",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the report")
    parser.add_argument("--data", choices=DATASETS, help="kind of data set; without it no accuracy")
    parser.add_argument("--root", help="the data set's folder; not needed for synthetic")
    parser.add_argument("--split", default="val", help="part of the data set")
    parser.add_argument("--limit", type=int, help="measure accuracy on the first so many images only")
    parser.add_argument(
        "--video", default=SYNTHETIC, help="recording to time on: clip.mp4, 'frames/*.png' or synthetic"
    )
    parser.add_argument("--rounds", type=int, default=rounds.rounds, help="turns of each model")
    parser.add_argument(
        "--frames", type=int, default=rounds.frames_a_round, help="frames that count in each turn"
    )
    parser.add_argument(
        "--layer-runs",
        type=int,
        default=DEFAULT_RUNS,
        help="profiled runs of each network; 0 leaves them out",
    )
    parser.add_argument("--seed", type=int, default=rounds.seed, help="of the shuffled orders")
    parser.add_argument("--threads", type=int, help="worker threads; without it physical cores, at most 4")
    parser.add_argument("--provider", default="cpu", choices=list(PROVIDERS), help="execution provider")
    parser.add_argument(
        "--foreign-size",
        nargs=2,
        type=int,
        default=ReportConfig.foreign_size_hw,
        metavar=("H", "W"),
        help="height and width, pixels, for others' files that leave them free",
    )
    parser.add_argument(
        "--from", dest="source", type=Path, metavar="FILE", help="a results.json to write the report of anew"
    )
    args = parser.parse_args(argv)

    def command() -> None:
        if args.source is not None:
            results = read_results(args.source)
        else:
            dataset = None if args.data is None else open_dataset(args.data, args.root, args.split)
            height, width = args.foreign_size
            config = ReportConfig(
                models=tuple(args.models or bundled_models()),
                frames=args.video,
                rounds=RoundsConfig(args.rounds, args.frames, rounds.settle, args.seed),
                threads=args.threads,
                provider=args.provider,
                foreign_size_hw=(height, width),
                limit=args.limit,
                layer_runs=args.layer_runs,
                peers=tuple(args.peers),
            )
            _check_writable(args.out)
            results = measure(config, dataset)
        write_report(args.out, results)
        print(to_text([main_table(results)]))
        print(f"\nlook at   {args.out / 'report.html'}\n")
        print(f"next: python -m benchmarks.compare OLD/results.json {quote(str(args.out / 'results.json'))}")

    return exit_code(command)


def bundled_models() -> list[Path]:
    """Return the files in the box, each followed by its int8 form."""
    return sorted(bundled_model().parent.glob("*.onnx"), key=lambda path: path.stem)


def _check_writable(out: Path) -> None:
    """Find out before the measurement, not after it."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise ConfigError(f"{out}: cannot write there ({error.strerror}); choose another --out") from None


if __name__ == "__main__":
    sys.exit(main())
