"""Data sets and augmentation; numpy and OpenCV only, so measuring needs no torch."""

from training.data.augment import Augment, AugmentConfig
from training.data.catalog import DATASETS, DataOptions, OptionalData, open_dataset
from training.data.dataset import (
    IGNORE,
    Sample,
    SegmentationDataset,
    channel_statistics,
    class_weights,
    count_pixels,
)
from training.data.loader import Batches

__all__ = [
    "DATASETS",
    "IGNORE",
    "Augment",
    "AugmentConfig",
    "Batches",
    "DataOptions",
    "OptionalData",
    "Sample",
    "SegmentationDataset",
    "channel_statistics",
    "class_weights",
    "count_pixels",
    "open_dataset",
]
