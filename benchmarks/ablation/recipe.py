"""Changes of a training recipe, one at a time, and what each gives."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.render.document import Table
from runtime.errors import ConfigError
from training.engine.config import TrainConfig

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


def outcome_table(outcomes: Sequence[Outcome], places: Sequence[str]) -> Table:
    """Return mIoU by place, and in parentheses the points gained over the base."""
    base = next((outcome for outcome in outcomes if outcome.change == BASE), None)

    def cell(outcome: Outcome, place: str) -> str:
        miou = f"{outcome.miou[place]:.4f}"
        if base is None or outcome is base:
            return miou
        return f"{miou} ({100 * (outcome.miou[place] - base.miou[place]):+.1f})"

    rows = [(outcome.change, *(cell(outcome, place) for place in places)) for outcome in outcomes]
    return Table(("change", *places), rows)
