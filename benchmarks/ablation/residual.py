"""Networks with and without skip connections, at two depths: how each is trained, and what became of it."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from runtime.base.files import replacing
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
        style: of its curve, as matplotlib writes it.
    """

    network: str | None = None
    depths: tuple[int, int, int, int] | None = None
    plain: bool = False
    style: str = ""

    def config(self, base: TrainConfig) -> TrainConfig:
        """Return the settings of its training; all else is as in `base`."""
        network = self.network or base.network
        return dataclasses.replace(base, network=network, depths=self.depths, plain=self.plain)


VARIANTS = {
    "residual-shallow": Variant(depths=SHALLOW, style="tab:blue"),
    "plain-shallow": Variant(depths=SHALLOW, plain=True, style="tab:orange"),
    "residual-deep": Variant(depths=DEEP, style="tab:green"),
    "plain-deep": Variant(depths=DEEP, plain=True, style="tab:red"),
    "article_pytorch": Variant(network="article_pytorch", style="tab:gray"),
    "article_keras": Variant(network="article_keras", style="black"),
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


def comparison_table(outcomes: Sequence[Outcome]) -> str:
    """Return the outcomes as text, one a line."""
    width = max(len(outcome.name) for outcome in outcomes)
    rows = [f"{'network':<{width}}  {'params M':>8}  {'GMAC':>6}  {'train loss':>10}  {'val mIoU':>8}"]
    for outcome in outcomes:
        rows.append(
            f"{outcome.name:<{width}}  {outcome.parameters / 1e6:8.2f}  {outcome.macs / 1e9:6.2f}  "
            f"{outcome.train_loss:10.4f}  {outcome.miou:8.4f}"
        )
    return "\n".join(rows)


def draw_comparison(path: Path, outcomes: Sequence[Outcome], title: str) -> None:
    """Draw training loss and validation mIoU of all outcomes against the epoch as a PNG."""
    from matplotlib.figure import Figure  # slow to import, and only needed here

    figure = Figure(figsize=(10, 4.2), layout="constrained")
    loss_axes, miou_axes = figure.subplots(1, 2)
    for outcome in outcomes:
        variant = VARIANTS[outcome.name]
        look = {"color": variant.style, "linestyle": "--" if variant.plain else "-"}
        measured = [(epoch.number, epoch.miou) for epoch in outcome.curve if epoch.miou is not None]
        loss_axes.plot(
            [epoch.number for epoch in outcome.curve], [epoch.train_loss for epoch in outcome.curve], **look
        )
        miou_axes.plot(*zip(*measured, strict=True), **look, marker=".", label=outcome.name)
    loss_axes.set_title("training loss", fontsize=10)
    miou_axes.set_title("validation mIoU", fontsize=10)
    miou_axes.set_ylim(bottom=0)
    miou_axes.legend(fontsize=8)
    for axes in (loss_axes, miou_axes):
        axes.set_xlabel("epoch")
        axes.grid(alpha=0.3)
    figure.suptitle(title, fontsize=10)
    with replacing(path) as part:
        figure.savefig(part, dpi=120, format="png")
