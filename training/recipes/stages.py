"""A training of several stages, each of which may start from or learn from an earlier one.

A recipe is a JSON file:

    {
      "about": "what comes out, and where it was measured",
      "stages": [
        {"name": "m", "settings": {"network": "residual-m", "epochs": 100}},
        {"name": "s", "settings": {"network": "residual-s", "epochs": 200}, "teacher": "m"},
        {"name": "s-fine", "settings": {"network": "residual-s", "epochs": 20}, "start_from": "s"}
      ]
    }

`settings` are those of `training.train`, but for where it runs and what it learns from. The last stage gives
the network. `"after": "camvid-m"` puts the stages of another recipe first; one folder trains them once.
"""

from __future__ import annotations

import csv
import dataclasses
import json
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtime.base.codec import DecodeError, from_plain
from runtime.base.files import read_regular, replacing
from runtime.errors import ConfigError
from training.engine.config import TrainConfig

FOLDER = Path(__file__).parent
# Settings that are no recipe's: where it runs, and which files it learns from.
NOT_A_STAGES = (
    "device",
    "precision",
    "compile",
    "workers",
    "init_from",
    "teacher",
    "soft_labels",
    "unlabelled",
    "class_map",
)


@dataclass(frozen=True)
class Stage:
    """One training of a recipe.

    Attributes:
        name: of its folder.
        settings: all but `NOT_A_STAGES`.
        start_from: an earlier stage, whose weights it takes.
        teacher: an earlier stage, which it learns from.
        soft: whether it learns from soft labels and unlabelled frames, where they are given.
    """

    name: str
    settings: TrainConfig
    start_from: str | None = None
    teacher: str | None = None
    soft: bool = True


@dataclass(frozen=True)
class Recipe:
    """The content of a recipe's file.

    Attributes:
        about: what comes out, in words.
        stages: in order.
        after: name of the bundled recipe whose stages come first.
    """

    about: str
    stages: tuple[Stage, ...]
    after: str | None = None


@dataclass(frozen=True)
class StageResult:
    """What a stage gave.

    Attributes:
        name: of the stage.
        network: what it trained.
        epochs: that it ran.
        best_epoch: the one that was kept.
        miou: of that epoch, on the validation split.
        hours: of training and validation.
    """

    name: str
    network: str
    epochs: int
    best_epoch: int
    miou: float
    hours: float


def bundled_recipes() -> tuple[str, ...]:
    """Return the names of the recipes in the package."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.json")))


def read_recipe(name_or_path: str) -> Recipe:
    """Return a recipe by name or path, each stage checked.

    Raises:
        ConfigError: no such file, or one that says something impossible.
    """
    bundled = name_or_path in bundled_recipes()
    path = FOLDER / f"{name_or_path}.json" if bundled else Path(name_or_path)
    try:
        recipe = from_plain(Recipe, json.loads(read_regular(path).decode("utf-8")))
    except OSError as error:
        raise ConfigError(
            f"recipe {path}: expected one of {', '.join(bundled_recipes())}, or a JSON file, got "
            f"{error.strerror}; check the name"
        ) from None
    except (DecodeError, ConfigError) as error:
        raise ConfigError(f"recipe {path}: {error}; correct the file") from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(
            f"recipe {path}: expected JSON, got text that is not ({error}); correct it"
        ) from None
    if not recipe.stages:
        raise ConfigError(f"recipe {path}: expected at least one stage, got none; add one")
    if recipe.after is not None:
        if recipe.after not in bundled_recipes() or recipe.after == path.stem:
            raise ConfigError(
                f"recipe {path}: after: expected another one of {', '.join(bundled_recipes())}, got "
                f"{recipe.after!r}; correct it"
            )
        recipe = Recipe(recipe.about, read_recipe(recipe.after).stages + recipe.stages)
    before: list[str] = []
    for stage in recipe.stages:
        where = f"recipe {path}: stage {stage.name!r}"
        if not stage.name.replace("-", "").replace("_", "").isalnum() or stage.name in before:
            raise ConfigError(f"{where}: expected names of letters, digits and -, each once; rename it")
        for earlier in (stage.start_from, stage.teacher):
            if earlier is not None and earlier not in before:
                raise ConfigError(
                    f"{where}: expected an earlier stage out of {before}, got {earlier!r}; correct it"
                )
        for name in NOT_A_STAGES:
            if getattr(stage.settings, name) != getattr(TrainConfig, name):
                raise ConfigError(f"{where}: {name} is for the command line; leave it out")
        before.append(stage.name)
    return recipe


def stage_configs(
    recipe: Recipe, out: Path, given: dict[str, Any], *, soft: dict[str, Any], epochs_factor: float = 1.0
) -> list[tuple[Stage, TrainConfig]]:
    """Return the settings of every stage.

    Args:
        recipe: checked by `read_recipe`.
        out: folder of the whole; a stage's is `out / name`.
        given: settings of where it runs.
        soft: settings of the soft labels, for stages that take them.
        epochs_factor: multiplies each stage's epochs, for a trial.
    """
    configs = []
    for stage in recipe.stages:
        config = stage.settings
        epochs = max(1, round(config.epochs * epochs_factor))
        changes = {
            **given,
            **(soft if stage.soft else {}),
            "init_from": None if stage.start_from is None else str(out / stage.start_from / "best.pt"),
            "teacher": None if stage.teacher is None else str(out / stage.teacher / "best.pt"),
            "epochs": epochs,
            "validate_every": min(config.validate_every, epochs),
            "warmup_epochs": min(config.warmup_epochs, epochs),
        }
        configs.append((stage, dataclasses.replace(config, **changes)))
    return configs


def run_stages(
    configs: Sequence[tuple[Stage, TrainConfig]], out: Path, train: Callable[[TrainConfig, Path], Path]
) -> tuple[StageResult, ...]:
    """Train the stages that are not done yet, and go on with the one that was interrupted.

    Args:
        configs: of `stage_configs`.
        out: folder of the whole; `best.pt` of the last stage and `stages.csv` are written into it.
        train: trains into a folder, resuming what is there, and returns the best checkpoint.

    Returns:
        What each stage gave.

    Raises:
        EdgesegError: whatever a training raises; the stages before it are kept.
    """
    results: list[StageResult] = []
    for number, (stage, config) in enumerate(configs, 1):
        print(f"stage {stage.name}, {number} of {len(configs)}", file=sys.stderr)
        best = train(config, out / stage.name)
        results.append(_result(stage, config, out / stage.name / "results.csv"))
        with replacing(out / "stages.csv") as part, open(part, "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow([field.name for field in dataclasses.fields(StageResult)])
            writer.writerows(dataclasses.astuple(result) for result in results)
    with replacing(out / "best.pt") as part:
        shutil.copyfile(best, part)
    return tuple(results)


def _result(stage: Stage, config: TrainConfig, path: Path) -> StageResult:
    """Return what a finished training's results.csv says."""
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    best = max((row for row in rows if row["miou"]), key=lambda row: float(row["miou"]))
    return StageResult(
        name=stage.name,
        network=config.network,
        epochs=len(rows),
        best_epoch=int(best["epoch"]),
        miou=float(best["miou"]),
        hours=round(sum(float(row["seconds"]) for row in rows) / 3600, 3),
    )
