"""The settings of a training, also the flags of `training.train`. No torch until a device is named."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal

from runtime.base.flags import check_fields, flag
from runtime.errors import ConfigError
from training.network import SIZES, NetworkSize, ResidualConfig

OPTIMIZERS = ("adamw", "muon", "adam", "sgd")
SCHEDULES = ("poly", "cosine")
LOSSES = ("cross-entropy", "weighted", "class-balanced", "ohem", "boundary")
# What `--freeze` takes → how the names of the network's parts begin that it holds.
FREEZES: dict[str, tuple[str, ...]] = {"none": (), "stem": ("stem",), "encoder": ("stem", "stage_")}
AUX_WEIGHT = 0.4
# On --resume, since no bit of a step depends on them.
CHANGEABLE = ("workers", "checkpoint_every_steps", "init_from", "patience", "samples_every")

_DATA, _NETWORK, _SCHEDULE, _LOSS = "data", "network", "schedule", "loss"
_OVERFITTING, _RESULTS, _MACHINE = "against over-fitting", "results", "machine"


def check_device(name: str) -> None:
    """Refuse a torch device that this machine does not have.

    Raises:
        ConfigError: an unknown name, or a device on which no tensor can be made.
    """
    if name == "cpu":
        return
    import torch

    try:
        device = torch.device(name)
        # A tensor would take memory of a GPU that may be another process's.
        if device.type != "cuda" or (device.index or 0) >= torch.cuda.device_count():
            torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ConfigError(
            f"device: expected one that torch has here, got {name!r} ({str(error).splitlines()[0]}); "
            "use --device cpu"
        ) from None


@dataclass(frozen=True)
class TrainConfig:
    """Settings of a training; the only place where their defaults are."""

    crop_hw: tuple[int, int] | None = flag(
        "height and width of the training's crops; default: those of --size",
        default=None,
        name="--crop",
        unit="pixels",
        metavar=("H", "W"),
        group=_DATA,
    )
    synthetic_share: float = flag(
        "share of a batch that is rendered streets; needs CamVid's classes",
        default=0.0,
        at_least=0,
        below=1,
        group=_DATA,
    )
    synthetic_varied: bool = flag(
        "rendered streets of the country, motorways, hills, night, rain and a low sun too",
        default=False,
        group=_DATA,
    )
    synthetic_scenes: int = flag("how many different streets", default=1500, at_least=1, group=_DATA)

    network: str = flag("network and size", default="residual-s", choices=SIZES, group=_NETWORK)
    depths: tuple[int, int, int, int] | None = flag(
        "residual blocks in each stage, from stride 4 to 32; default: those of the size",
        default=None,
        at_least=0,
        metavar="N",
        group=_NETWORK,
    )
    plain: bool = flag("leave out the skip connections, to compare", default=False, group=_NETWORK)
    size_hw: tuple[int, int] = flag(
        "height and width of the network's input",
        default=(352, 480),
        name="--size",
        unit="pixels",
        metavar=("H", "W"),
        group=_NETWORK,
    )
    fit: Literal["stretch", "letterbox", "crop"] = flag(
        "how a frame of another shape is brought to that size when it is measured and when it runs",
        default="stretch",
        group=_NETWORK,
    )
    init_from: str | None = flag(
        "start from a checkpoint's weights and normalisation, by path or bundled name (camvid-s); of its "
        "classifier, classes of equal name",
        default=None,
        metavar="CKPT",
        group=_NETWORK,
    )
    freeze: str = flag(
        "part of the network that keeps the weights of --init-from",
        default="none",
        choices=FREEZES,
        group=_NETWORK,
    )

    epochs: int = flag("passes over the training split", default=100, at_least=1, group=_SCHEDULE)
    batch_size: int = flag("images a step, over all processes", default=8, at_least=1, group=_SCHEDULE)
    optimizer: str = flag("optimizer", default="adamw", choices=OPTIMIZERS, group=_SCHEDULE)
    learning_rate: float = flag("peak learning rate", default=2e-3, above=0, group=_SCHEDULE)
    schedule: str = flag("decay of the learning rate", default="cosine", choices=SCHEDULES, group=_SCHEDULE)
    warmup_epochs: int = flag(
        "linear rise to the peak learning rate", default=2, at_least=0, unit="epochs", group=_SCHEDULE
    )
    average_decay: float = flag(
        "decay of the moving average of the weights, a step",
        default=0.995,
        at_least=0,
        below=1,
        group=_SCHEDULE,
    )
    validate_every: int = flag(
        "epochs between validations; the last epoch always validates",
        default=1,
        at_least=1,
        metavar="N",
        group=_SCHEDULE,
    )
    seed: int = flag("seed of every random choice", default=0, at_least=0, group=_SCHEDULE)

    loss: str = flag("training loss", default="boundary", choices=LOSSES, group=_LOSS)
    label_smoothing: float = flag(
        "share of the labels' certainty that goes to all classes",
        default=0.0,
        at_least=0,
        below=1,
        group=_LOSS,
    )
    loss_stride: int = flag(
        "1 takes every pixel of the labels, 2 one of each 2x2, in half the time",
        default=1,
        at_least=1,
        group=_LOSS,
    )
    aux_weight: float | None = flag(
        "weight of the loss of a second classifier, half-way up the encoder and in training only; 0 for "
        f"none; default: {AUX_WEIGHT} in a residual network",
        default=None,
        at_least=0,
        metavar="WEIGHT",
        group=_LOSS,
    )
    teacher: str | None = flag(
        "checkpoint to learn from besides the labels, by path or bundled name",
        default=None,
        metavar="CKPT",
        group=_LOSS,
    )
    soft_labels: tuple[str, ...] = flag(
        "folders of soft labels for the images, see training.label; several are joined",
        default=(),
        metavar="DIR",
        group=_LOSS,
    )
    unlabelled: str | None = flag(
        "folder of frames that have soft labels and no others, as training.label writes it",
        default=None,
        metavar="DIR",
        group=_LOSS,
    )
    unlabelled_share: float = flag(
        "share of a batch that is unlabelled frames", default=0.25, above=0, below=1, group=_LOSS
    )
    class_map: str | None = flag(
        "what the classes of the soft labels are in the training's: a bundled map such as "
        "cityscapes-to-camvid, or a JSON file; default: classes of equal name",
        default=None,
        metavar="MAP",
        group=_LOSS,
    )
    distill_weight: float = flag(
        "weight of the divergence from teacher and soft labels; labels weigh 1",
        default=1.0,
        at_least=0,
        group=_LOSS,
    )
    feature_weight: float = flag(
        "weight of the distance from the features beside soft labels, see export.features",
        default=1.0,
        at_least=0,
        group=_LOSS,
    )

    color_strength: float = flag(
        "how far training changes light, colours, noise and blur; 0 leaves the images' own",
        default=1.0,
        at_least=0,
        group=_OVERFITTING,
    )
    style: float = flag(
        "probability that an image takes on some of another's light and colour cast",
        default=0.0,
        at_least=0,
        at_most=1,
        group=_OVERFITTING,
    )
    weight_decay: float = flag(
        "weight decay of the convolutions", default=0.01, at_least=0, group=_OVERFITTING
    )
    dropout: float = flag(
        "share of the channels before the classifier that a step sets to 0",
        default=0.0,
        at_least=0,
        below=1,
        group=_OVERFITTING,
    )
    drop_path: float = flag(
        "stochastic depth: how often a step leaves out the deepest block, for each image; earlier ones less",
        default=0.0,
        at_least=0,
        below=1,
        group=_OVERFITTING,
    )
    patience: int = flag(
        "end after N epochs without a better validation mIoU; 0 runs all epochs",
        default=0,
        at_least=0,
        metavar="N",
        group=_OVERFITTING,
    )

    checkpoint_every_steps: int = flag(
        "steps between writes of last.pt, besides each epoch's; 0 for none",
        default=0,
        at_least=0,
        metavar="N",
        group=_RESULTS,
    )
    samples_every: int = flag(
        "epochs between pictures of sample predictions; 0 for none",
        default=10,
        at_least=0,
        metavar="N",
        group=_RESULTS,
    )

    device: str = flag("torch device, for example cpu or cuda", default="cpu", group=_MACHINE)
    precision: Literal["fp32", "bf16", "fp16"] = flag(
        "arithmetic of the network, 16 bits where PyTorch finds it safe; fp16 needs a GPU",
        default="fp32",
        group=_MACHINE,
    )
    compile: bool = flag(
        "compile the network with torch.compile; needs a C++ compiler", default=False, group=_MACHINE
    )
    workers: int = flag("threads that prepare images, a process", default=1, at_least=0, group=_MACHINE)

    def __post_init__(self) -> None:
        """Check every setting before anything is loaded."""
        check_fields(self)
        if self.seed >= 2**63:
            raise ConfigError(f"seed: expected a number of at least 0 and below 2^63, got {self.seed}")
        multiple = self.network_size.config.size_multiple
        for name, size_hw in (("size_hw", self.size_hw), ("crop_hw", self.crop_hw or self.size_hw)):
            if min(size_hw) < multiple or any(side % multiple for side in size_hw):
                nearest = tuple(max(1, round(side / multiple)) * multiple for side in size_hw)
                raise ConfigError(
                    f"{name}: {self.network} needs height and width in multiples of {multiple}, "
                    f"got {size_hw}; the nearest is {nearest}"
                )
        if self.freeze != "none" and self.init_from is None:
            raise ConfigError(
                f"freeze: expected weights that are worth keeping, got {self.freeze} without a checkpoint; "
                "give --init-from or --freeze none"
            )
        check_device(self.device)
        if self.precision == "fp16" and not self.device.startswith("cuda"):
            raise ConfigError(f"precision: expected fp32 or bf16 on {self.device}, got fp16; it needs a GPU")

    @property
    def second_head_weight(self) -> float:
        """Weight of the second classifier's loss in this training; 0 where there is none."""
        if self.aux_weight is not None:
            return self.aux_weight
        return AUX_WEIGHT if isinstance(SIZES[self.network].config, ResidualConfig) else 0.0

    @property
    def network_size(self) -> NetworkSize:
        """What to build: the named size, with the changes that these settings make to it.

        Raises:
            ConfigError: values that the network cannot have.
        """
        size = SIZES[self.network]
        if isinstance(size.config, ResidualConfig):
            config = dataclasses.replace(
                size.config,
                depths=self.depths or size.config.depths,
                residual=not self.plain,
                dropout=self.dropout,
                drop_path=self.drop_path,
            )
            return NetworkSize(size.kind, config)
        for name in ("depths", "plain", "dropout", "drop_path", "aux_weight"):
            if getattr(self, name):
                raise ConfigError(
                    f"{name}: expected a residual network, got {self.network}, which has no such setting; "
                    "leave it out"
                )
        return size
