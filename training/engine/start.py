"""What a training starts with: batches, contract and loss of its settings and data, or a last.pt."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from runtime.base.codec import DecodeError, from_plain
from runtime.contract import (
    STRETCH,
    ClassMap,
    GraphOutput,
    ImageFit,
    ImageInput,
    ModelContract,
    Normalization,
    Origin,
)
from runtime.errors import ConfigError, DatasetError, TrainingError
from training.data import Augment, AugmentConfig, Batches, SegmentationDataset, class_weights, count_pixels
from training.data.dataset import Bgr
from training.data.synthetic import SyntheticStreets
from training.engine.checkpoint import Checkpoint
from training.engine.config import CHANGEABLE, TrainConfig
from training.engine.distributed import Processes
from training.engine.losses import UNWEIGHTED, SegmentationLoss
from training.network.build import SupervisedNetwork
from training.teaching.lessons import Lessons, Taught, UnlabelledFrames


@dataclass(frozen=True)
class SoftSources:
    """The soft labels of a training.

    Attributes:
        lessons: of the labelled images; None for none.
        unlabelled: frames without labels; None for none.
    """

    lessons: Lessons | None = None
    unlabelled: UnlabelledFrames | None = None

    @classmethod
    def open(cls, config: TrainConfig, classes: ClassMap) -> SoftSources:
        """Open what the settings name.

        Raises:
            DatasetError: folders that cannot be opened or do not fit the classes or each other.
        """
        lessons = Lessons.open(config.soft_labels, config.class_map, classes) if config.soft_labels else None
        unlabelled = None
        if config.unlabelled is not None:
            unlabelled = UnlabelledFrames.open(config.unlabelled, config.class_map, classes)
        if not config.feature_weight:  # nobody would look at them
            lessons = None if lessons is None else lessons.without_features()
            if unlabelled is not None:
                unlabelled = dataclasses.replace(unlabelled, lessons=unlabelled.lessons.without_features())
        if unlabelled is not None:
            if lessons is not None and lessons.groups != unlabelled.lessons.groups:
                raise DatasetError(
                    f"{config.unlabelled}: expected soft labels that group the classes as those of the "
                    "labelled images do, got other groups; label both with the same networks"
                )
            own = unlabelled.lessons
            if lessons is not None and (lessons.features, lessons.features_of) != (
                own.features,
                own.features_of,
            ):
                raise DatasetError(
                    f"{config.unlabelled}: expected features of the file that gave those of the labelled "
                    "images, got others or none; label both with the same file of export.features, or give "
                    "--feature-weight 0"
                )
        return cls(lessons, unlabelled)

    @property
    def said(self) -> tuple[Lessons, ...]:
        """Whatever soft labels there are."""
        frames = None if self.unlabelled is None else self.unlabelled.lessons
        return tuple(lessons for lessons in (self.lessons, frames) if lessons is not None)

    @property
    def groups(self) -> tuple[tuple[int, ...], ...]:
        """The classes whose probabilities each soft label is the sum of; empty without soft labels."""
        return self.said[0].groups if self.said else ()

    @property
    def features(self) -> tuple[int, ...]:
        """How many features of each of two layers stand behind the groups; empty for none."""
        return self.said[0].features if self.said else ()

    @property
    def terms(self) -> str:
        """What the teachers allow, in words."""
        return "; ".join(dict.fromkeys(lessons.terms for lessons in self.said if lessons.terms))

    def digest(self) -> str:
        """Return a SHA-256 a source of all that is taught, in words that a resume compares."""
        frames = () if self.unlabelled is None else (str(len(self.unlabelled)),)
        return " ".join((*(lessons.digest() for lessons in self.said), *frames))


def build_batches(
    config: TrainConfig,
    train_set: SegmentationDataset,
    mean_bgr: Bgr,
    processes: Processes,
    soft: SoftSources,
) -> Batches:
    """Return the augmented batches of every epoch, of which this process gets its rows.

    Args:
        config: what to do with the samples.
        train_set: where they come from.
        mean_bgr: the colour around images smaller than the crop.
        processes: those that share a batch.
        soft: soft labels and frames that have no others.

    Raises:
        ConfigError: a batch size that the data or the processes do not allow.
        DatasetError: rendered streets are wanted beside data of other classes.
    """
    augmentation = AugmentConfig(
        config.crop_hw or config.size_hw,
        style=config.style,
        pad_bgr=border_of(mean_bgr),
        soft_stride=config.network_size.config.stride,
    )
    extras: list[tuple[SegmentationDataset, int]] = []
    if count := round(config.synthetic_share * config.batch_size):
        streets = SyntheticStreets("train", scenes=config.synthetic_scenes, varied=config.synthetic_varied)
        extras.append((streets, count))
    if soft.unlabelled is not None:
        # One at least: a share that rounds to none would leave them out without a word.
        extras.append((soft.unlabelled, max(1, round(config.unlabelled_share * config.batch_size))))
    return Batches(
        train_set if soft.lessons is None else Taught(train_set, soft.lessons),
        Augment(augmentation.with_color_strength(config.color_strength)),
        config.batch_size,
        seed=config.seed,
        workers=config.workers,
        part=processes.rank,
        parts=processes.world_size,
        extras=extras,
        soft_channels=len(soft.groups) + sum(soft.features),
    )


def border_of(mean_bgr: Bgr) -> tuple[int, int, int]:
    """Return the colour around images: of crops in training, of letterboxed frames in the runtime."""
    blue, green, red = (round(channel) for channel in mean_bgr)
    return blue, green, red


def build_contract(
    config: TrainConfig,
    train_set: SegmentationDataset,
    normalization: Normalization,
    mean_bgr: Bgr,
    terms: str,
) -> ModelContract:
    """Return what the runtime will need to know of the network, without an accuracy."""
    fit = STRETCH if config.fit == "stretch" else ImageFit(config.fit, fill_bgr=border_of(mean_bgr))
    return ModelContract(
        name=f"{train_set.name}-{config.network}",
        input=ImageInput(size_hw=config.size_hw, fit=fit),
        output=GraphOutput(stride=config.network_size.config.stride),
        classes=train_set.classes,
        normalization=normalization,
        origin=Origin(tools={"torch": torch.__version__}, terms=terms),
    )


def build_loss(
    config: TrainConfig, train_set: SegmentationDataset, processes: Processes, device: str
) -> SegmentationLoss:
    """Return the loss of the labels; for class weights the first process counts the pixels of `train_set`."""
    weights = None
    if config.loss not in UNWEIGHTED:
        counts = processes.from_first(lambda: count_pixels(train_set))
        weights = torch.tensor(class_weights(counts), dtype=torch.float32).to(device)
    return SegmentationLoss(config.loss, weights, config.loss_stride, config.label_smoothing)


def refuse_lone_values(network: SupervisedNetwork, crop_hw: tuple[int, int]) -> None:
    """Refuse, before a step is made, batches of one image whose deepest features are one pixel.

    A batch norm that measures its batch cannot take a deviation of one value a channel.

    Args:
        network: as it is trained, frozen parts in eval mode.
        crop_hw: of the images.

    Raises:
        ConfigError: there is such a batch norm.
    """
    trial = copy.deepcopy(network).to("meta")  # shapes without memory or time
    try:
        trial(torch.empty((1, *crop_hw, 3), dtype=torch.uint8, device="meta"))
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        height, width = crop_hw
        raise ConfigError(
            f"batch_size: expected at least 2 images a process, since of one image of {height}x{width} the "
            "deepest features are one pixel, of which batch norm cannot learn, got 1; give --batch-size 2 or "
            "a larger --crop"
        ) from None


def resumable_state(
    checkpoint: Checkpoint, config: TrainConfig, contract: ModelContract, present: Mapping[str, object]
) -> dict[str, Any]:
    """Return the training state of a last.pt, if it is of the training that would go on with it.

    Args:
        checkpoint: what last.pt holds.
        config: the settings of the training to resume.
        contract: its network's, without an accuracy.
        present: its state, as it is before it takes over that of the checkpoint.

    Raises:
        TrainingError: a checkpoint without training state, or of a training with other settings or data.
    """
    state = checkpoint.training
    if state is None:
        raise TrainingError("resume: the checkpoint holds no training state; resume from last.pt")
    try:
        theirs = from_plain(TrainConfig, state["train_config"])
    except DecodeError as error:
        raise TrainingError(
            f"resume: last.pt was written by another version of edgeseg ({error}); resume with that version"
        ) from None
    if state.keys() != present.keys():
        other = ", ".join(sorted(state.keys() ^ present.keys()))
        raise TrainingError(
            f"resume: last.pt was written by another version of edgeseg (it differs in {other}); "
            "resume with that version"
        )
    differing = [
        f"{field.name} was {getattr(theirs, field.name)!r}, now {getattr(config, field.name)!r}"
        for field in dataclasses.fields(TrainConfig)
        if field.name not in CHANGEABLE and getattr(theirs, field.name) != getattr(config, field.name)
    ]
    if state["processes"] != present["processes"]:  # sums are split among them
        differing.append(f"processes were {state['processes']}, now {present['processes']}")
    if state["init_sha256"] != present["init_sha256"]:
        differing.append("it started from other weights than those that --init-from now names")
    if state["teacher_sha256"] != present["teacher_sha256"]:
        differing.append("it had another teacher than the one that --teacher now names")
    if state["soft_digest"] != present["soft_digest"]:
        differing.append("it had other soft labels or frames than --soft-labels and --unlabelled now hold")
    if differing:
        raise TrainingError(
            f"resume: expected the settings of the interrupted training, but {'; '.join(differing)}; "
            "give the same flags, or another --out"
        )
    if checkpoint.config != config.network_size.config:
        raise TrainingError(
            f"resume: last.pt was written by another version of edgeseg, whose {config.network} was another "
            "network; resume with that version"
        )
    if dataclasses.replace(checkpoint.contract, accuracy=None) != contract:
        raise TrainingError(
            "resume: expected the data of the interrupted training, got other classes, colours or terms; "
            "give the same --data and --root, or another --out"
        )
    return state
