"""Networks with and without skip connections, at two depths: how each is trained, and what became of it."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.render.charts import Curve
from benchmarks.render.document import Table
from training.data import SegmentationDataset
from training.engine.config import TrainConfig

if TYPE_CHECKING:
    from training.network.build import CameraNetwork

# Blocks a stage of ResNet-18 and ResNet-34, where the paper sees plain networks fall behind with depth.
SHALLOW, DEEP = (2, 2, 2, 2), (3, 4, 6, 3)


@dataclass(frozen=True)
class Variant:
    """One of the networks that are compared.

    Attributes:
        network: its name in `SIZES`; None for the residual network that all others are held against.
        depths: residual blocks a stage; None where the network has none.
        plain: without skip connections.
    """

    network: str | None = None
    depths: tuple[int, int, int, int] | None = None
    plain: bool = False

    def config(self, base: TrainConfig) -> TrainConfig:
        """Return the settings of its training; all else is as in `base`."""
        network = self.network or base.network
        return dataclasses.replace(base, network=network, depths=self.depths, plain=self.plain)


VARIANTS = {
    "residual-shallow": Variant(depths=SHALLOW),
    "plain-shallow": Variant(depths=SHALLOW, plain=True),
    "residual-deep": Variant(depths=DEEP),
    "plain-deep": Variant(depths=DEEP, plain=True),
    "article_pytorch": Variant(network="article_pytorch"),
    "article_keras": Variant(network="article_keras"),
}


@dataclass(frozen=True)
class Epoch:
    """A point of a curve; `miou` is None where the epoch did not validate."""

    number: int
    train_loss: float
    miou: float | None


@dataclass(frozen=True)
class Outcome:
    """What became of a variant.

    Attributes:
        name: of the variant.
        parameters: trained numbers, in all.
        macs: multiply-adds of the convolutions for one image.
        miou: of the exported file on the validation split, from the epoch that was best there.
        train_loss: mean of the last epoch.
        model: path of the exported file.
        curve: the training, epoch by epoch.
    """

    name: str
    parameters: int
    macs: int
    miou: float
    train_loss: float
    model: str
    curve: tuple[Epoch, ...]


def run_variant(
    name: str, base: TrainConfig, train_set: SegmentationDataset, val_set: SegmentationDataset, out: Path
) -> Outcome:
    """Train a variant in its own folder of `out`, as far as that is not done yet, export and measure it.

    Raises:
        TrainingError: the folder holds a training with other settings or data.
        EdgesegError: as `trained_run`.
    """
    from benchmarks.ablation.trained_run import trained_run  # torch takes seconds, which --help does without
    from training.engine.checkpoint import load_checkpoint

    folder = out / name
    config = VARIANTS[name].config(base)
    run = trained_run(config, train_set, val_set, folder)
    network = load_checkpoint(run.checkpoint).build()
    curve = read_curve(folder / "results.csv")
    return Outcome(
        name=name,
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        macs=count_macs(network, config.size_hw),
        miou=run.accuracy.miou,
        train_loss=curve[-1].train_loss,
        model=str(run.model),
        curve=curve,
    )


def count_macs(network: CameraNetwork, size_hw: tuple[int, int]) -> int:
    """Return the multiply-adds that a network's convolutions do for one image of (height, width) pixels."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        network(torch.zeros(1, *size_hw, 3, dtype=torch.uint8))
    return int(counter.get_total_flops()) // 2  # a multiplication and an addition each


def read_curve(path: Path) -> tuple[Epoch, ...]:
    """Return the epochs of a training's results.csv."""
    with open(path, newline="") as file:
        return tuple(
            Epoch(
                number=int(row["epoch"]),
                train_loss=float(row["train_loss"]),
                miou=float(row["miou"]) if row["miou"] else None,
            )
            for row in csv.DictReader(file)
        )


def comparison_table(outcomes: Sequence[Outcome]) -> Table:
    """Return a row for each outcome."""
    rows = [
        (
            outcome.name,
            f"{outcome.parameters / 1e6:.2f}",
            f"{outcome.macs / 1e9:.2f}",
            f"{outcome.train_loss:.4f}",
            f"{outcome.miou:.4f}",
        )
        for outcome in outcomes
    ]
    return Table(("network", "params M", "GMAC", "train loss", "val mIoU"), rows)


def curve_of(outcome: Outcome) -> Curve:
    """Return an outcome's training for the picture, dashed without skip connections."""
    return Curve(
        outcome.name,
        list(VARIANTS).index(outcome.name),
        [(epoch.number, epoch.train_loss) for epoch in outcome.curve],
        [(epoch.number, epoch.miou) for epoch in outcome.curve if epoch.miou is not None],
        dashed=VARIANTS[outcome.name].plain,
    )
