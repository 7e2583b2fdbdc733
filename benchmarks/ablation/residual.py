"""Networks with and without skip connections, at four depths: how each is trained, and what became of it."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from benchmarks.render.charts import Curve
from benchmarks.render.document import Table
from training.data import SegmentationDataset
from training.engine.config import TrainConfig

if TYPE_CHECKING:
    from training.network.build import CameraNetwork

# Residual blocks a stage by their sum; 8 and 16 are those of ResNet-18 and ResNet-34.
DEPTHS = {4: (1, 1, 1, 1), 8: (2, 2, 2, 2), 16: (3, 4, 6, 3), 32: (6, 8, 12, 6)}


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
    f"{kind}-{blocks}": Variant(depths=depths, plain=kind == "plain")
    for blocks, depths in DEPTHS.items()
    for kind in ("residual", "plain")
} | {name: Variant(network=name) for name in ("article_pytorch", "article_keras")}


@dataclass(frozen=True)
class Epoch:
    """A point of a curve; `miou` is None where the epoch did not validate."""

    number: int
    train_loss: float
    miou: float | None


@dataclass(frozen=True)
class Outcome:
    """What became of one training of a variant.

    Attributes:
        name: of the variant.
        seed: of the training.
        parameters: trained numbers, in all.
        macs: multiply-adds of the convolutions for one image.
        miou: of the exported file on the validation split, from the epoch that was best there.
        train_loss: mean of the last epoch.
        model: path of the exported file.
        curve: the training, epoch by epoch.
    """

    name: str
    seed: int
    parameters: int
    macs: int
    miou: float
    train_loss: float
    model: str
    curve: tuple[Epoch, ...]


def run_variant(
    name: str, base: TrainConfig, train_set: SegmentationDataset, val_set: SegmentationDataset, out: Path
) -> Outcome:
    """Train a variant in a folder of `out` for its seed, as far as that is not done, export and measure it.

    Raises:
        TrainingError: the folder holds a training with other settings or data.
        EdgesegError: as `trained_run`.
    """
    from benchmarks.ablation.trained_run import trained_run  # torch takes seconds, which --help does without
    from training.engine.checkpoint import load_checkpoint

    folder = out / f"{name}-seed{base.seed}"
    config = VARIANTS[name].config(base)
    run = trained_run(config, train_set, val_set, folder)
    network = load_checkpoint(run.checkpoint).build()
    curve = read_curve(folder / "results.csv")
    return Outcome(
        name=name,
        seed=base.seed,
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
    """Return a row for each variant: the mean over its seeds and, of several, the lowest and highest mIoU."""
    rows = []
    for name, runs in _by_variant(outcomes).items():
        mious = sorted(run.miou for run in runs)
        rows.append(
            (
                name,
                f"{runs[0].parameters / 1e6:.2f}",
                f"{runs[0].macs / 1e9:.2f}",
                f"{fmean(run.train_loss for run in runs):.4f}",
                f"{fmean(mious):.4f}",
                f"{mious[0]:.4f} to {mious[-1]:.4f}" if len(runs) > 1 else "",
            )
        )
    return Table(("network", "params M", "GMAC", "train loss", "val mIoU", "of the seeds"), rows)


def curves_of(outcomes: Sequence[Outcome]) -> list[Curve]:
    """Return a variant's trainings for the picture each: colour by depth, dashed without skip connections."""
    colors = list(dict.fromkeys(_pair(name) for name in VARIANTS))
    return [
        Curve(
            name,
            colors.index(_pair(name)),
            [[(epoch.number, epoch.train_loss) for epoch in run.curve] for run in runs],
            [[(epoch.number, epoch.miou) for epoch in run.curve if epoch.miou is not None] for run in runs],
            dashed=VARIANTS[name].plain,
        )
        for name, runs in _by_variant(outcomes).items()
    ]


def _by_variant(outcomes: Sequence[Outcome]) -> dict[str, list[Outcome]]:
    names = dict.fromkeys(outcome.name for outcome in outcomes)
    return {name: [outcome for outcome in outcomes if outcome.name == name] for name in names}


def _pair(name: str) -> str:
    """Return what a residual variant and its plain twin have in common."""
    return name.removeprefix("residual-").removeprefix("plain-")
