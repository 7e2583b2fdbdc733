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
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

import cv2

from benchmarks.ablation.recipe import BASE, CHANGES, VAL, Outcome, changed, changes_of, outcome_table
from benchmarks.render.document import to_text
from runtime.base.files import replacing
from runtime.base.flags import flag, nested, run_command
from training.data.catalog import DataOptions
from training.engine.config import TrainConfig


@dataclass(frozen=True, kw_only=True)
class RecipeOptions:
    """What the command line asks for."""

    data: DataOptions = nested(DataOptions, group="data")
    base: TrainConfig = nested(TrainConfig, without=("checkpoint_every_steps", "samples_every"))
    out: Path = flag("folder for the trainings and the table", metavar="DIR")
    changes: tuple[str, ...] = flag(
        "which to train besides the base; default: all that the base does not have",
        default=(),
        choices=CHANGES,
    )
    places: tuple[str, ...] = flag(
        "where to measure: val, or a drive to leave out of the training; several give columns",
        default=(VAL,),
        metavar="DRIVE",
    )
    as_json: bool = flag("print one JSON object and nothing else", default=False, name="--json")


def command(options: RecipeOptions) -> None:
    """Train, export and measure the base and its changes."""
    from benchmarks.ablation.trained_run import trained_run  # torch takes seconds, which --help does without

    changes = list(dict.fromkeys([BASE, *(options.changes or changes_of(options.base))]))
    # Refuses before hours of training.
    configs = {change: changed(options.base, change) for change in changes}
    cv2.setNumThreads(1)  # the cores belong to torch and to the loader's own threads
    measured: dict[str, dict[str, float]] = {change: {} for change in changes}
    for place in options.places:
        leave_out = None if place == VAL else place
        train_set, val_set = (options.data.open(split, leave_out=leave_out) for split in ("train", "val"))
        for number, (change, config) in enumerate(configs.items(), start=1):
            print(f"{change} on {place}, {number} of {len(configs)}", file=sys.stderr)
            run = trained_run(config, train_set, val_set, options.out / place / change)
            measured[change][place] = run.accuracy.miou
    outcomes = [Outcome(change, miou) for change, miou in measured.items()]
    result = {
        "base": dataclasses.asdict(options.base),
        "outcomes": [dataclasses.asdict(one) for one in outcomes],
    }
    with replacing(options.out / "outcomes.json") as part:
        part.write_text(json.dumps(result, indent=1), encoding="utf-8")
    if options.as_json:
        print(json.dumps(result))
        return
    print(f"{to_text([outcome_table(outcomes, options.places)])}\n\ntable: {options.out / 'outcomes.json'}")
    best = max(outcomes, key=lambda outcome: sum(outcome.miou.values()))
    checkpoint = options.out / options.places[0] / best.change / "best.pt"
    print(f"\nnext: python -m export.to_onnx {quote(str(checkpoint))}")


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; see `--help`."""
    description = "Measure what each part of a training recipe gives."
    return run_command("benchmarks.recipe_ablation", description, RecipeOptions, command, argv)


if __name__ == "__main__":
    sys.exit(main())
