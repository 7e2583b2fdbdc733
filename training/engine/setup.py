"""What a training needs besides its network, built from its settings and its data alone."""

from __future__ import annotations

import torch

from runtime.contract import GraphOutput, ImageInput, ModelContract, Normalization, Origin
from training.data import Augment, AugmentConfig, Batches, SegmentationDataset, class_weights, count_pixels
from training.data.statistics import Bgr
from training.data.synthetic import SyntheticStreets
from training.engine.config import TrainConfig
from training.engine.distributed import Processes
from training.engine.losses import UNWEIGHTED, SegmentationLoss


def build_batches(
    config: TrainConfig, train_set: SegmentationDataset, mean_bgr: Bgr, processes: Processes
) -> Batches:
    """Return the augmented batches of every epoch, of which this process gets its rows.

    Args:
        config: what to do with the samples.
        train_set: where they come from.
        mean_bgr: the colour around images smaller than the crop.
        processes: those that share a batch.

    Raises:
        ConfigError: a batch size that the data or the processes do not allow.
        DatasetError: rendered streets are wanted beside data of other classes.
    """
    blue, green, red = (round(channel) for channel in mean_bgr)
    augmentation = AugmentConfig(
        config.crop_hw or config.size_hw, style=config.style, pad_bgr=(blue, green, red)
    )
    extra_a_batch = round(config.synthetic_share * config.batch_size)
    return Batches(
        train_set,
        Augment(augmentation.with_color_strength(config.color_strength)),
        config.batch_size,
        seed=config.seed,
        workers=config.workers,
        part=processes.rank,
        parts=processes.world_size,
        extra=SyntheticStreets("train", scenes=config.synthetic_scenes) if extra_a_batch else None,
        extra_a_batch=extra_a_batch,
    )


def build_contract(
    config: TrainConfig, train_set: SegmentationDataset, normalization: Normalization, terms: str
) -> ModelContract:
    """Return what the runtime will need to know of the network, without an accuracy."""
    return ModelContract(
        name=f"{train_set.name}-{config.network}",
        input=ImageInput(size_hw=config.size_hw),
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
