"""One training of a comparison: trained as far as it is not yet, exported, and measured as exported."""

from __future__ import annotations

import contextlib
import sys
from dataclasses import dataclass
from pathlib import Path

from export.module import export_checkpoint
from runtime.contract import Accuracy
from runtime.segmenter import Segmenter
from training.data import SegmentationDataset
from training.engine.config import TrainConfig
from training.engine.loop import train
from training.evaluation.measure import measure_segmenter


@dataclass(frozen=True)
class TrainedRun:
    """What a training left.

    Attributes:
        checkpoint: path of its best.pt.
        model: path of the exported file.
        accuracy: of that file on the validation split, from the epoch that was best there.
    """

    checkpoint: Path
    model: Path
    accuracy: Accuracy


def trained_run(
    config: TrainConfig, train_set: SegmentationDataset, val_set: SegmentationDataset, folder: Path
) -> TrainedRun:
    """Train in `folder`, going on with what is there, export the best epoch and measure the exported file.

    Raises:
        TrainingError: the folder holds a training with other settings or data.
        EdgesegError: as `train`, `export_checkpoint` and `measure_segmenter`.
    """
    with contextlib.redirect_stdout(sys.stderr):  # stdout is for the comparison
        best = train(config, train_set, val_set, folder, resume=(folder / "last.pt").exists())
    report = export_checkpoint(best)
    with Segmenter(report.path) as segment:
        return TrainedRun(best, Path(report.path), measure_segmenter(segment, val_set).accuracy)
