"""Residual against plain: what skip connections are worth, and when.

`python -m benchmarks.residual_ablation --data camvid --root DIR --out runs/ablation` trains the same
network with and without them at four depths, on the same data, budget and seeds (He et al., "Deep Residual
Learning for Image Recognition", CVPR 2016, fig. 4), and the two plain networks of the article this project
started from. Each is exported, and the accuracies are those of the exported files. The same command again
goes on after an interruption and repeats only the measurements.
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

from benchmarks.ablation.residual import VARIANTS, comparison_table, curves_of, run_variant
from benchmarks.render.charts import draw_curves
from benchmarks.render.document import to_text
from runtime.base.flags import flag, nested, run_command
from runtime.errors import ConfigError
from training.data.catalog import DataOptions
from training.engine.config import TrainConfig
from training.network import SIZES, ResidualConfig


def _base() -> TrainConfig:
    """Return the settings that are this comparison's own."""
    return TrainConfig(network="residual-n", epochs=60, validate_every=5)


@dataclass(frozen=True, kw_only=True)
class ResidualOptions:
    """What the command line asks for."""

    data: DataOptions = nested(DataOptions, group="data")
    leave_out: str | None = flag(
        "train on the other drives, validate on this one", default=None, metavar="DRIVE", group="data"
    )
    base: TrainConfig = nested(_base, without=("checkpoint_every_steps", "samples_every"))
    out: Path = flag("folder for the trainings and curves", metavar="DIR")
    seeds: int = flag("trainings of each, with seeds from --seed on", default=1, at_least=1)
    variants: tuple[str, ...] = flag("which to train and compare", default=tuple(VARIANTS), choices=VARIANTS)
    as_json: bool = flag("print one JSON object and nothing else", default=False, name="--json")

    def __post_init__(self) -> None:
        """Check what the variants decide."""
        if not isinstance(SIZES[self.base.network].config, ResidualConfig):
            raise ConfigError(
                f"network: expected a residual one, whose widths the variants have, got {self.base.network}; "
                "name another"
            )
        if self.base.depths or self.base.plain:
            raise ConfigError("depths, plain: expected neither, since the variants decide; leave them out")


def command(options: ResidualOptions) -> None:
    """Train, export and compare the variants."""
    base = options.base
    train_set, val_set = (options.data.open(split, leave_out=options.leave_out) for split in ("train", "val"))
    cv2.setNumThreads(1)  # the cores belong to torch and to the loader's own threads
    outcomes = []
    trainings = [
        (name, dataclasses.replace(base, seed=base.seed + number))
        for name in options.variants
        for number in range(options.seeds)
    ]
    for number, (name, config) in enumerate(trainings, start=1):
        print(f"{name}, seed {config.seed}, {number} of {len(trainings)}", file=sys.stderr)
        outcomes.append(run_variant(name, config, train_set, val_set, options.out))
    height, width = base.size_hw
    title = f"{train_set.name}, {base.epochs} epochs of {len(train_set)} images, input {width}x{height}"
    picture = options.out / "comparison.png"
    draw_curves(picture, curves_of(outcomes), title)
    if options.as_json:
        print(json.dumps({"title": title, "variants": [dataclasses.asdict(one) for one in outcomes]}))
        return
    print(f"{title}\n\n{to_text([comparison_table(outcomes)])}\n\ncurves: {picture}")
    first = max(outcomes, key=lambda outcome: outcome.miou)
    print(f"\nnext: python -m benchmarks.latency --model {quote(first.model)}")


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; see `--help`."""
    description = "Compare a network with and without skip connections."
    return run_command("benchmarks.residual_ablation", description, ResidualOptions, command, argv)


if __name__ == "__main__":
    sys.exit(main())
