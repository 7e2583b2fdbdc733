"""What each ingredient of a training recipe is worth: one change at a time, on one budget and seed.

`python -m benchmarks.recipe_ablation --data camvid --root DIR --out runs/recipe` takes the training flags of
`training.train` as the base, trains it and every change of it, exports each and measures the exported files,
on the validation split and, with `--places val 0006R0`, on drives that were left out. The same command again
goes on after an interruption.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

import cv2

from benchmarks.ablation.trained_run import trained_run
from runtime.base.command import exit_code, make_parser
from runtime.base.files import replacing
from runtime.errors import ConfigError
from training.data import open_dataset
from training.engine.config import TrainConfig
from training.engine.flags import add_flags, config_of

BASE = "base"
VAL = "val"

# Name of a change → the settings that it changes.
CHANGES: Mapping[str, Mapping[str, object]] = {
    BASE: {},
    "cross-entropy": {"loss": "cross-entropy"},
    "weighted": {"loss": "weighted"},
    "class-balanced": {"loss": "class-balanced"},
    "ohem": {"loss": "ohem"},
    "boundary": {"loss": "boundary"},
    "label-smoothing-0.1": {"label_smoothing": 0.1},
    "aux-head-0": {"aux_weight": 0.0},
    "weight-decay-0": {"weight_decay": 0.0},
    "weight-decay-0.05": {"weight_decay": 0.05},
    "dropout-0.1": {"dropout": 0.1},
    "drop-path-0.1": {"drop_path": 0.1},
    "colors-0": {"color_strength": 0.0},
    "colors-0.5": {"color_strength": 0.5},
    "colors-2": {"color_strength": 2.0},
    "style-0": {"style": 0.0},
    "streets-0": {"synthetic_share": 0.0},
}


@dataclass(frozen=True)
class Outcome:
    """What a change gave.

    Attributes:
        change: its name in `CHANGES`.
        miou: of the exported file, by place.
    """

    change: str
    miou: dict[str, float]


def changed(base: TrainConfig, change: str) -> TrainConfig:
    """Return the base with a change, and as many steps.

    Raises:
        ConfigError: a change of what the base does not have.
    """
    config = dataclasses.replace(base, **CHANGES[change])  # type: ignore[arg-type]
    if change != BASE and config == base:
        raise ConfigError(
            f"change {change}: the base already has it; leave it out of --changes or change the base"
        )
    # Rendered streets fill up batches, so that an epoch of the data set has more of them.
    share = (1 - base.synthetic_share) / (1 - config.synthetic_share)
    epochs = max(1, round(base.epochs / share))
    return dataclasses.replace(config, epochs=epochs, validate_every=min(config.validate_every, epochs))


def changes_of(base: TrainConfig) -> list[str]:
    """Return every change of a base, without those that it has already."""
    return [
        change
        for change, settings in CHANGES.items()
        if any(getattr(base, name) != value for name, value in settings.items())
    ]


def outcome_table(outcomes: Sequence[Outcome], places: Sequence[str]) -> str:
    """Return the outcomes as text: mIoU by place, and in parentheses the points gained over the base."""
    base = next((outcome for outcome in outcomes if outcome.change == BASE), None)
    width = max(len(outcome.change) for outcome in outcomes)
    rows = [f"{'change':<{width}}" + "".join(f"  {place:>14}" for place in places)]
    for outcome in outcomes:
        row = f"{outcome.change:<{width}}"
        for place in places:
            cell = f"{outcome.miou[place]:.4f}"
            if base is not None and outcome is not base:
                cell += f" ({100 * (outcome.miou[place] - base.miou[place]):+.1f})"
            row += f"  {cell:>14}"
        rows.append(row)
    return "\n".join(rows)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; see `--help`."""
    parser = make_parser("benchmarks.recipe_ablation", "Measure what each part of a training recipe gives.")
    parser.add_argument("--out", type=Path, required=True, help="folder for the trainings and the table")
    parser.add_argument(
        "--changes",
        nargs="+",
        choices=CHANGES,
        help="which to train besides the base; without it all that the base does not have",
    )
    parser.add_argument(
        "--places",
        nargs="+",
        default=[VAL],
        metavar="DRIVE",
        help="where to measure: val, or a drive to leave out of the training; several give columns",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    add_flags(parser, one_training=False)
    args = parser.parse_args(argv)

    def command() -> None:
        base = config_of(args)
        changes = list(dict.fromkeys([BASE, *(args.changes or changes_of(base))]))
        configs = {change: changed(base, change) for change in changes}  # refuses before hours of training
        cv2.setNumThreads(1)  # the cores belong to torch and to the loader's own threads
        measured: dict[str, dict[str, float]] = {change: {} for change in changes}
        for place in args.places:
            leave_out = None if place == VAL else place
            train_set, val_set = (
                open_dataset(args.data, args.root, split, leave_out=leave_out) for split in ("train", "val")
            )
            for number, (change, config) in enumerate(configs.items(), start=1):
                print(f"{change} on {place}, {number} of {len(configs)}", file=sys.stderr)
                run = trained_run(config, train_set, val_set, args.out / place / change)
                measured[change][place] = run.accuracy.miou
        outcomes = [Outcome(change, miou) for change, miou in measured.items()]
        result = {"base": dataclasses.asdict(base), "outcomes": [dataclasses.asdict(one) for one in outcomes]}
        with replacing(args.out / "outcomes.json") as part:
            part.write_text(json.dumps(result, indent=1), encoding="utf-8")
        if args.json:
            print(json.dumps(result))
            return
        print(f"{outcome_table(outcomes, args.places)}\n\ntable: {args.out / 'outcomes.json'}")
        best = max(outcomes, key=lambda outcome: sum(outcome.miou.values()))
        best_checkpoint = args.out / args.places[0] / best.change / "best.pt"
        print(f"\nnext: python -m export.to_onnx {quote(str(best_checkpoint))}")

    return exit_code(command)


if __name__ == "__main__":
    sys.exit(main())
