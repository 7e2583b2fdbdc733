"""Trains a network in stages: `python -m training.recipe camvid-s --data camvid --root DIR --out runs/s`.

The same command goes on after an interruption, in whichever stage it was.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from shlex import quote

import cv2

from runtime.base.files import make_folder
from runtime.base.flags import flag, nested, run_command
from training.data.catalog import DataOptions
from training.engine.config import TrainConfig
from training.recipes.stages import bundled_recipes, read_recipe, run_stages, stage_configs

SOFT = ("soft_labels", "unlabelled", "class_map")
GIVEN = (*SOFT, "device", "precision", "workers")


@dataclass(frozen=True, kw_only=True)
class RecipeOptions:
    """What the command line asks for."""

    recipe: str = flag(f"a recipe by name ({', '.join(bundled_recipes())}), or a JSON file", name="recipe")
    data: DataOptions = nested(DataOptions, group="data")
    leave_out: str | None = flag(
        "train on the other recordings of the data set, validate on this",
        default=None,
        metavar="DRIVE",
        group="data",
    )
    training: TrainConfig = nested(
        TrainConfig, without=[one.name for one in fields(TrainConfig) if one.name not in GIVEN]
    )
    epochs_factor: float = flag(
        "multiplies each stage's epochs, for a trial", default=1.0, above=0, at_most=10
    )
    out: Path = flag("folder for the stages and best.pt", metavar="DIR", group="results")


def command(options: RecipeOptions) -> None:
    """Train what is not trained yet, and print what each stage gave."""
    recipe = read_recipe(options.recipe)
    given = {name: getattr(options.training, name) for name in GIVEN}
    soft = {name: given.pop(name) for name in SOFT}
    configs = stage_configs(recipe, options.out, given, soft=soft, epochs_factor=options.epochs_factor)
    from training.engine.loop import train  # torch takes seconds, which --help does without

    train_set, val_set = (options.data.open(split, leave_out=options.leave_out) for split in ("train", "val"))
    cv2.setNumThreads(1)  # the cores belong to torch and to the loader's own threads
    make_folder(options.out)
    results = run_stages(
        configs, options.out, lambda config, out: train(config, train_set, val_set, out, resume=True)
    )
    print(f"\n{recipe.about}\n")
    print(f"{'stage':<12}{'network':<14}{'epochs':>7}{'best':>6}{'mIoU':>8}{'hours':>7}")
    for one in results:
        print(
            f"{one.name:<12}{one.network:<14}{one.epochs:>7}{one.best_epoch:>6}{one.miou:>8.4f}{one.hours:>7.2f}"
        )
    where = f"--data {options.data.data}" + (
        f" --root {quote(options.data.root)}" if options.data.root else ""
    )
    where += f" --leave-out {quote(options.leave_out)}" if options.leave_out else ""
    print(
        f"\nnext: python -m training.evaluate {quote(str(options.out / 'best.pt'))} {where} --split train "
        "--fit-biases"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; see `--help`."""
    return run_command(
        "training.recipe", "Train a network in the stages of a recipe.", RecipeOptions, command, argv
    )


if __name__ == "__main__":
    sys.exit(main())
