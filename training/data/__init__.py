"""Data sets and augmentation; numpy and OpenCV only, so measuring needs no torch."""

from training.data.augment import Augment, AugmentConfig
from training.data.catalog import DATASETS, DataOptions, OptionalData, open_dataset
from training.data.dataset import IGNORE, Sample, SegmentationDataset
from training.data.loader import Batches
from training.data.statistics import channel_statistics, class_weights, count_pixels

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
