"""The flags of `python -m training.train`; every setting's default is the one of `TrainConfig`."""

from __future__ import annotations

import dataclasses
from argparse import ArgumentParser, Namespace, _ArgumentGroup
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from training.data import DATASETS
from training.engine.config import AUX_WEIGHT, PRECISIONS, TrainConfig
from training.engine.losses import LOSSES
from training.engine.optimization import OPTIMIZERS, SCHEDULES
from training.engine.transfer import FREEZES
from training.network import SIZES


def add_flags(parser: ArgumentParser, *, one_training: bool = True) -> None:
    """Add one flag for each field of `TrainConfig`, and --data, --root, --leave-out, --out and --resume.

    Args:
        parser: of a command.
        one_training: False leaves out what a comparison of several trainings decides for itself: --leave-out
            and where the results go.
    """
    data = parser.add_argument_group("data")
    _add_data(data)
    if one_training:
        data.add_argument(
            "--leave-out",
            metavar="DRIVE",
            help="train on the other recordings of the data set, validate on this",
        )
    _add_network(parser.add_argument_group("network"))
    _add_schedule(parser.add_argument_group("schedule"))
    _add_loss(parser.add_argument_group("loss"))
    _add_regularisation(parser.add_argument_group("against over-fitting"))
    if one_training:
        _add_results(parser.add_argument_group("results"))
    _add_machine(parser.add_argument_group("machine"))


def config_of(args: Namespace) -> TrainConfig:
    """Return the settings that the parsed flags give; what a command has no flag for stays at its default.

    Raises:
        ConfigError: settings that cannot work.
    """
    settings: dict[str, Any] = {}
    for field in dataclasses.fields(TrainConfig):
        value = getattr(args, field.name, field.default)
        settings[field.name] = tuple(value) if isinstance(value, list) else value  # of several numbers
    return TrainConfig(**settings)


def _add_data(group: _ArgumentGroup) -> None:
    group.add_argument("--data", required=True, choices=DATASETS, help="kind of data set")
    group.add_argument("--root", help="the data set's folder; not needed for synthetic")
    _add_size(group, "--crop", "crop_hw", "of the training's crops; without it --size")
    _add_setting(
        group, "--synthetic-share", "share of a batch that is rendered streets; needs CamVid's classes"
    )
    _add_setting(group, "--synthetic-scenes", "how many different streets")


def _add_network(group: _ArgumentGroup) -> None:
    _add_setting(group, "--network", "network and size", choices=SIZES)
    group.add_argument(
        "--depths", nargs=4, type=int, metavar="N", help="residual blocks a stage; without it as in the size"
    )
    group.add_argument("--plain", action="store_true", help="leave the skip connections out, to compare")
    _add_size(group, "--size", "size_hw", "input size in pixels")
    group.add_argument(
        "--init-from",
        metavar="CKPT",
        help="start from a checkpoint's weights and normalisation, by path or bundled name (camvid-s); "
        "of its classifier, classes of equal name",
    )
    _add_setting(
        group, "--freeze", "part of the network that keeps the weights of --init-from", choices=FREEZES
    )


def _add_schedule(group: _ArgumentGroup) -> None:
    _add_setting(group, "--epochs", "passes over the training split")
    _add_setting(group, "--batch-size", "images a step, over all processes")
    _add_setting(group, "--optimizer", "optimizer", choices=OPTIMIZERS)
    _add_setting(group, "--learning-rate", "its peak")
    _add_setting(group, "--schedule", "learning rate's shape", choices=SCHEDULES)
    _add_setting(group, "--warmup-epochs", "epochs of linear rise")
    _add_setting(group, "--average-decay", "of the weights' average, a step")
    _add_setting(group, "--validate-every", "epochs between validations", metavar="N")
    _add_setting(group, "--seed", "of every random choice")


def _add_loss(group: _ArgumentGroup) -> None:
    _add_setting(group, "--loss", "training loss", choices=LOSSES)
    _add_setting(group, "--label-smoothing", "share of the labels' certainty that goes to all classes alike")
    _add_setting(
        group, "--loss-stride", "1 takes every pixel of the labels, 2 one of each 2x2, in half the time"
    )
    group.add_argument(
        "--aux-weight",
        type=float,
        metavar="WEIGHT",
        help="of a second classifier's loss, half-way up the encoder and in training only; 0 for none; "
        f"without it {AUX_WEIGHT} in a residual network",
    )
    group.add_argument(
        "--teacher",
        metavar="CKPT",
        help="checkpoint, by path or bundled name, to learn from besides the labels",
    )
    _add_setting(group, "--distill-weight", "of the divergence from the teacher; labels weigh 1")


def _add_regularisation(group: _ArgumentGroup) -> None:
    _add_setting(
        group, "--color-strength", "how far training may change light, colours, noise and blur; 0 not at all"
    )
    _add_setting(group, "--style", "how often an image takes on some of another's light and colour cast")
    _add_setting(group, "--weight-decay", "of convolution weights")
    _add_setting(group, "--dropout", "share of the channels before the classifier")
    _add_setting(
        group,
        "--drop-path",
        "stochastic depth: how often a step leaves out the deepest block, earlier ones less",
    )
    _add_setting(
        group,
        "--patience",
        "end after N epochs without a better validation mIoU; 0 runs all epochs",
        metavar="N",
    )


def _add_results(group: _ArgumentGroup) -> None:
    group.add_argument(
        "--out", type=Path, required=True, help="folder for checkpoints, table, curves and pictures"
    )
    group.add_argument("--resume", action="store_true", help="go on with the last.pt in --out")
    _add_setting(
        group,
        "--checkpoint-every-steps",
        "steps from one last.pt to the next, besides each epoch's; 0 for none",
        metavar="N",
    )
    _add_setting(
        group,
        "--samples-every",
        "epochs between pictures of sample predictions; 0 for none",
        metavar="N",
    )


def _add_machine(group: _ArgumentGroup) -> None:
    _add_setting(group, "--device", "torch device, for example cpu or cuda")
    _add_setting(group, "--precision", "arithmetic of the network; fp16 needs a GPU", choices=PRECISIONS)
    group.add_argument(
        "--compile",
        action="store_true",
        help="let torch.compile make the network's code; needs a C++ compiler",
    )
    _add_setting(group, "--workers", "threads that prepare images, a process")


def _add_setting(
    group: _ArgumentGroup,
    flag: str,
    text: str,
    *,
    choices: Iterable[str] | None = None,
    metavar: str | None = None,
) -> None:
    """Add the flag of a number or a name, with the setting's type and default."""
    default = getattr(TrainConfig(), flag.removeprefix("--").replace("-", "_"))
    group.add_argument(flag, type=type(default), default=default, choices=choices, metavar=metavar, help=text)


def _add_size(group: _ArgumentGroup, flag: str, name: str, text: str) -> None:
    """Add the flag of a height and a width in pixels."""
    default = getattr(TrainConfig(), name)
    group.add_argument(flag, dest=name, nargs=2, type=int, default=default, metavar=("H", "W"), help=text)
