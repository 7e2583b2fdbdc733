"""Trains a segmentation network: `python -m training.train --data camvid --root DIR --out runs/camvid`.

Every random choice comes from the seed and the step's place, or from a generator whose state is in
last.pt, so a resumed training ends with the weights of an uninterrupted one.
"""

from __future__ import annotations

import dataclasses
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from shlex import quote

import cv2

from runtime.cli import exit_code, make_parser
from runtime.errors import TrainingError
from training.accuracy import accuracy_table, measured_accuracy
from training.checkpoint import load_checkpoint, save_checkpoint
from training.config import TrainConfig
from training.data import DATASETS, SegmentationDataset, open_dataset
from training.evaluate import evaluate
from training.history import EpochRecord, draw_curves, write_results_csv
from training.losses import LOSSES
from training.network import SIZES
from training.optimization import OPTIMIZERS, SCHEDULES
from training.trainer import Trainer


def train(
    config: TrainConfig,
    train_set: SegmentationDataset,
    val_set: SegmentationDataset,
    out: Path,
    *,
    resume: bool = False,
) -> Path:
    """Train and leave best.pt, last.pt, results.csv and curves.png in the folder `out`.

    Returns:
        The path of best.pt: the averaged weights of the epoch with the highest validation mIoU.

    Raises:
        TrainingError: `out` cannot be written or already holds a training and `resume` is False, or the
            loss stops being a number.
        CheckpointError: `resume` is True and there is nothing to resume.
        DatasetError: images and labels that do not fit together.
    """
    last = out / "last.pt"
    if last.exists() and not resume:
        raise TrainingError(f"{last} exists: give --resume to go on with it, or another --out")
    for index in range(len(val_set)):
        val_set[index]  # a sample that cannot be read ends the training now, not after an epoch
    trainer = Trainer(config, train_set)
    _make_folder(out)
    if resume:
        trainer.restore(load_checkpoint(last))
        print(f"resumed after epoch {trainer.epoch} of {config.epochs}", file=sys.stderr)
    parameters = sum(parameter.numel() for parameter in trainer.network.parameters())
    print(
        f"{config.network}, {parameters / 1e6:.2f} M parameters; {train_set.name}, {len(train_set)} images, "
        f"{len(val_set)} to validate; {config.epochs} epochs of {len(trainer.batches)} steps",
        file=sys.stderr,
    )
    while trainer.epoch < config.epochs:
        started = time.monotonic()
        loss, rate = trainer.train_epoch()
        number, accuracy = trainer.epoch + 1, None
        if number % config.validate_every == 0 or number == config.epochs:
            confusion = evaluate(
                trainer.averaged_network(),
                val_set,
                config.size_hw,
                device=config.device,
                progress=sys.stderr.isatty(),
            )
            accuracy = measured_accuracy(confusion, val_set)
        improved = accuracy is not None and accuracy.miou > trainer.best_miou
        contract = dataclasses.replace(trainer.contract, accuracy=accuracy)
        trainer.history.append(
            EpochRecord(
                epoch=number,
                seconds=time.monotonic() - started,
                learning_rate=rate,
                train_loss=loss,
                miou=accuracy.miou if accuracy else None,
                pixel_accuracy=accuracy.pixel_accuracy if accuracy else None,
                per_class_iou=tuple(accuracy.per_class_iou.values()) if accuracy else (),
            )
        )
        if improved:
            save_checkpoint(out / "best.pt", trainer.checkpoint(contract, with_training=False))
        save_checkpoint(last, trainer.checkpoint(contract, with_training=True))
        write_results_csv(out / "results.csv", trainer.history, train_set.classes.names)
        draw_curves(out / "curves.png", trainer.history, f"{trainer.contract.name}, {out.name}")
        _print_epoch(trainer.history[-1], config.epochs, improved=improved)
    best = out / "best.pt"
    final = load_checkpoint(best).contract.accuracy
    if final is not None:
        print(accuracy_table(final))
    return best


def _make_folder(out: Path) -> None:
    """Make sure before the first epoch that its results can be kept."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise TrainingError(
            f"{out}: expected a folder that can be written, got {error.strerror}; choose another --out"
        ) from None


def _print_epoch(record: EpochRecord, epochs: int, *, improved: bool) -> None:
    """Print one line an epoch on stderr."""
    accuracy = "" if record.miou is None else f"  mIoU {record.miou:.4f}{' *' if improved else ''}"
    left = (epochs - record.epoch) * record.seconds
    print(
        f"epoch {record.epoch:4d}/{epochs}  loss {record.train_loss:.4f}  {record.seconds:5.1f} s"
        f"  about {left / 60:.0f} min left{accuracy}",
        file=sys.stderr,
        flush=True,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; see `--help`."""
    default = TrainConfig()
    parser = make_parser("training.train", "Train a segmentation network.")
    parser.add_argument("--data", required=True, choices=DATASETS, help="kind of data set")
    parser.add_argument("--root", help="the data set's folder; not needed for synthetic")
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoints, table and curves")
    parser.add_argument("--resume", action="store_true", help="go on with the last.pt in --out")
    parser.add_argument("--network", default=default.network, choices=SIZES, help="network and size")
    parser.add_argument(
        "--size", nargs=2, type=int, default=default.size_hw, metavar=("H", "W"), help="input size in pixels"
    )
    parser.add_argument("--epochs", type=int, default=default.epochs, help="passes over the training split")
    parser.add_argument("--batch-size", type=int, default=default.batch_size, help="images a step")
    parser.add_argument("--optimizer", default=default.optimizer, choices=OPTIMIZERS, help="optimizer")
    parser.add_argument("--learning-rate", type=float, default=default.learning_rate, help="its peak")
    parser.add_argument(
        "--weight-decay", type=float, default=default.weight_decay, help="of convolution weights"
    )
    parser.add_argument(
        "--schedule", default=default.schedule, choices=SCHEDULES, help="learning rate's shape"
    )
    parser.add_argument(
        "--warmup-epochs", type=int, default=default.warmup_epochs, help="epochs of linear rise"
    )
    parser.add_argument("--loss", default=default.loss, choices=LOSSES, help="training loss")
    parser.add_argument(
        "--average-decay", type=float, default=default.average_decay, help="of the weights' average, a step"
    )
    parser.add_argument(
        "--validate-every", type=int, default=default.validate_every, help="epochs between validations"
    )
    parser.add_argument(
        "--precision", default=default.precision, choices=("fp32", "bf16"), help="arithmetic of the network"
    )
    parser.add_argument("--workers", type=int, default=default.workers, help="threads that prepare images")
    parser.add_argument("--seed", type=int, default=default.seed, help="of every random choice")
    parser.add_argument("--device", default=default.device, help="torch device, for example cpu or cuda")
    args = vars(parser.parse_args(argv))
    args["size_hw"] = tuple(args.pop("size"))
    data, root, out, resume = (args.pop(name) for name in ("data", "root", "out", "resume"))

    def command() -> None:
        config = TrainConfig(**args)
        train_set, val_set = open_dataset(data, root, "train"), open_dataset(data, root, "val")
        cv2.setNumThreads(1)  # the cores belong to torch and to the loader's own threads
        try:
            best = train(config, train_set, val_set, out, resume=resume)
        except KeyboardInterrupt:
            print(
                f"\n{out} keeps the finished epochs; the same command with --resume goes on", file=sys.stderr
            )
            raise
        print(f"\nnext: python -m export.to_onnx {quote(str(best))}")

    return exit_code(command)


if __name__ == "__main__":
    sys.exit(main())
