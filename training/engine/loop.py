"""A training from its first step to its last: epochs, validation, and the files it leaves.

Every random choice comes from the seed and the step's place, so a training that was killed at any step and
resumed ends with the weights of an uninterrupted one: on a CPU bit for bit; on a GPU some of PyTorch's
sums have no fixed order.
"""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path

import numpy as np
import torch

from runtime.base.files import is_encodable, make_folder, replacing
from runtime.base.lock import only_run_on
from runtime.contract import Accuracy
from runtime.errors import ConfigError, TrainingError
from training.data import SegmentationDataset
from training.data.pairs import refuse_masks
from training.engine.checkpoint import load_checkpoint, save_checkpoint
from training.engine.config import TrainConfig
from training.engine.distributed import Processes
from training.engine.history import EpochRecord, epochs_since_best, seconds_left, write_results_csv
from training.engine.inference import BATCH_SIZE as EVALUATION_BATCH
from training.engine.inference import evaluate
from training.engine.trainer import Trainer
from training.engine.transfer import Transfer
from training.evaluation.measure import Measurement, accuracy_table
from training.figures.charts import TensorBoard, draw_curves
from training.figures.sheets import sample_predictions, write_sheet

BARE_STEPS = 10  # whose speed the loop is compared with


def train(
    config: TrainConfig,
    train_set: SegmentationDataset,
    val_set: SegmentationDataset,
    out: Path,
    *,
    resume: bool = False,
    processes: Processes | None = None,
) -> Path:
    """Train and leave best.pt, last.pt, results.csv and curves.png in the folder `out`.

    Beside them are a folder `tensorboard`, one of `samples`, and init-from.txt, which says what was
    copied from another training's weights.

    Args:
        config: all settings.
        train_set: what to learn from.
        val_set: what to choose the best epoch by.
        out: the first process writes into it; no other needs to see it.
        resume: continue from the last.pt in `out`, where there is one.
        processes: those that train together, each of which calls this; None for this one alone.

    Returns:
        The path of best.pt: the averaged weights of the epoch with the highest validation mIoU.

    Raises:
        ConfigError: `out` cannot be written, has a name that is not UTF-8, or another training writes into
            it.
        TrainingError: `out` already holds a training and `resume` is False, or the loss stops being a
            number, or diverges.
        CheckpointError: `resume` is True and the last.pt is damaged.
        DatasetError: images and labels that do not fit together.
    """
    processes = processes or Processes()
    last, best = out / "last.pt", out / "best.pt"
    if processes.is_first and last.exists() and not resume:
        raise TrainingError(f"{last} exists: give --resume to continue it, or another --out")
    refuse_masks(train_set)
    val_indices = processes.share(len(val_set), EVALUATION_BATCH)
    for index in val_indices:
        val_set[index]  # a sample that cannot be read ends the training now, not after an epoch
    with closing(Trainer(config, train_set, processes)) as trainer, ExitStack() as files:
        if processes.is_first:
            if not is_encodable(str(out.absolute())):
                raise ConfigError(
                    f"{out}: expected a folder whose whole path is UTF-8, since TensorBoard takes no other; "
                    "rename it, or choose another --out"
                )
            make_folder(out)
            files.enter_context(only_run_on(out, is_folder=True))
        checkpoint = None
        if resume:
            checkpoint = processes.from_first(lambda: load_checkpoint(last) if last.exists() else None)
        if checkpoint is not None:
            trainer.restore(checkpoint)
        board = None
        if processes.is_first:
            if resume and checkpoint is None:
                print(f"nothing to resume in {out}: it holds no last.pt, so training starts", file=sys.stderr)
            _print_start(trainer, train_set, val_set)
            if trainer.transfer is not None and checkpoint is None:
                _tell_transfer(trainer.transfer, out)
            board = files.enter_context(TensorBoard(out / "tensorboard", first_epoch=trainer.epoch + 1))

        def keep(accuracy: Accuracy | None = None) -> None:
            contract = dataclasses.replace(trainer.contract, accuracy=accuracy)
            save_checkpoint(last, trainer.checkpoint(contract, with_training=True))

        def keep_some_steps() -> None:
            due = config.checkpoint_every_steps and trainer.step % config.checkpoint_every_steps == 0
            if due and processes.is_first and not trainer.diverges():
                keep()

        loop_images_per_s = 0.0
        while trainer.epoch < config.epochs and not trainer.out_of_patience:
            loss, rate = trainer.train_epoch(keep_some_steps)
            seconds, started = trainer.train_seconds, time.monotonic()
            loop_images_per_s = len(trainer.batches) * config.batch_size / seconds
            number, accuracy = trainer.epoch + 1, None
            if number % config.validate_every == 0 or number == config.epochs:
                accuracy = _validate(trainer, val_set, val_indices)
            improved = accuracy is not None and accuracy.miou > trainer.best_miou
            trainer.finish_epoch(
                EpochRecord(
                    epoch=number,
                    seconds=seconds + time.monotonic() - started,
                    learning_rate=rate,
                    train_loss=loss,
                    images_per_s=loop_images_per_s,
                    miou=accuracy.miou if accuracy else None,
                    pixel_accuracy=accuracy.pixel_accuracy if accuracy else None,
                    per_class_iou=tuple(accuracy.per_class_iou.values()) if accuracy else (),
                )
            )
            if board is None:
                continue
            board.write_epoch(trainer.history[-1], train_set.classes.names)
            if config.samples_every and number % config.samples_every == 0:
                network = trainer.averaged_network()
                fit = trainer.contract.input.fit
                sheet_bgr = sample_predictions(
                    network, val_set, config.size_hw, fit=fit, device=trainer.device
                )
                write_sheet(out / "samples" / f"epoch-{number:04d}.png", sheet_bgr)
                board.write_samples(sheet_bgr, number)
            if improved:
                contract = dataclasses.replace(trainer.contract, accuracy=accuracy)
                save_checkpoint(best, trainer.checkpoint(contract, with_training=False))
            keep(accuracy)
            write_results_csv(out / "results.csv", trainer.history, train_set.classes.names)
            if accuracy is not None:  # drawing takes as long as many a step
                draw_curves(out / "curves.png", trainer.history, f"{trainer.contract.name}, {out.name}")
            _print_epoch(trainer.history, config, improved=improved)
        if board is not None and trainer.epoch < config.epochs:
            since = epochs_since_best(trainer.history)
            print(f"no better mIoU for {since} epochs: stopped after epoch {trainer.epoch}", file=sys.stderr)
        if loop_images_per_s:
            bare_images_per_s = trainer.bare_images_per_s(min(BARE_STEPS, len(trainer.batches)))
    if processes.is_first:
        if loop_images_per_s:
            print(
                f"loop {loop_images_per_s:.1f} images/s, bare step {bare_images_per_s:.1f} images/s, "
                f"ratio {loop_images_per_s / bare_images_per_s:.2f}\n"
            )
        final = load_checkpoint(best).contract.accuracy
        if final is not None:
            print(accuracy_table(final))
    return best


def _validate(trainer: Trainer, val_set: SegmentationDataset, indices: Sequence[int]) -> Accuracy:
    """Measure the averaged weights; each process its share, all of them get the whole."""
    measured = evaluate(
        trainer.averaged_network(),
        val_set,
        trainer.config.size_hw,
        fit=trainer.contract.input.fit,
        indices=indices,
        device=trainer.device,
        progress=trainer.processes.is_first,
    )
    confusion = measured.confusion
    counts = torch.from_numpy(np.column_stack((confusion.matrix, confusion.missed))).to(trainer.device)
    total = trainer.processes.total(counts).cpu().numpy()
    confusion.matrix, confusion.missed = total[:, :-1], total[:, -1]
    return Measurement(val_set, len(val_set), confusion).accuracy


def _print_start(trainer: Trainer, train_set: SegmentationDataset, val_set: SegmentationDataset) -> None:
    """Print on stderr what is trained on what, and from where."""
    config, steps = trainer.config, len(trainer.batches)
    if trainer.epoch or trainer.step:
        at = f" and step {trainer.step} of {steps}" if trainer.step else ""
        print(f"resumed after epoch {trainer.epoch} of {config.epochs}{at}", file=sys.stderr)
    parameters = sum(parameter.numel() for parameter in trainer.network.parameters())
    together = trainer.processes.world_size
    print(
        f"{config.network}, {parameters / 1e6:.2f} M parameters; {train_set.name}, {len(train_set)} images, "
        f"{len(val_set)} to validate; {config.epochs} epochs of {steps} steps"
        + (f"; {together} processes, {config.batch_size // together} images each a step" * (together > 1)),
        file=sys.stderr,
    )


def _tell_transfer(transfer: Transfer, out: Path) -> None:
    """Say what was taken over, on stderr and in a file that stays with the training."""
    text = transfer.describe()
    print(text, file=sys.stderr)
    with replacing(out / "init-from.txt") as part:
        part.write_text(f"{text}\n", encoding="utf-8")


def _print_epoch(history: Sequence[EpochRecord], config: TrainConfig, *, improved: bool) -> None:
    """Print one line an epoch on stderr."""
    record = history[-1]
    accuracy = "" if record.miou is None else f"  mIoU {record.miou:.4f}{' *' if improved else ''}"
    left = seconds_left(history, config.epochs, config.validate_every)
    print(
        f"epoch {record.epoch:4d}/{config.epochs}  loss {record.train_loss:.4f}  {record.seconds:5.1f} s"
        f"  about {left / 60:.0f} min left{accuracy}",
        file=sys.stderr,
        flush=True,
    )
