"""Trains a segmentation network: `python -m training.train --data camvid --root DIR --out runs/camvid`.

`torchrun --nproc-per-node N -m training.train ...` shares the work of each step among N processes.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

import cv2

from runtime.base.flags import flag, nested, run_command
from training.data.catalog import DataOptions
from training.engine.config import TrainConfig


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """What the command line asks for."""

    data: DataOptions = nested(DataOptions, group="data")
    leave_out: str | None = flag(
        "train on the other recordings of the data set, validate on this",
        default=None,
        metavar="DRIVE",
        group="data",
    )
    config: TrainConfig = nested(TrainConfig)
    out: Path = flag("folder for checkpoints, table, curves and pictures", metavar="DIR", group="results")
    resume: bool = flag(
        "continue from the last.pt in --out; without one, start", default=False, group="results"
    )


def command(options: TrainOptions) -> None:
    """Train, alone or as one of several processes."""
    from training.engine.distributed import joined_processes  # torch takes seconds, which --help does without
    from training.engine.loop import train

    with joined_processes(options.config.device) as processes:
        train_set, val_set = (
            options.data.open(split, leave_out=options.leave_out) for split in ("train", "val")
        )
        cv2.setNumThreads(1)  # the cores belong to torch and to the loader's own threads
        out = options.out
        try:
            best = train(options.config, train_set, val_set, out, resume=options.resume, processes=processes)
        except KeyboardInterrupt:
            if processes.is_first:
                print(f"\n{out} is kept; continue with the same command and --resume", file=sys.stderr)
            raise
        if processes.is_first:
            print(f"\nnext: python -m export.to_onnx {quote(str(best))}")


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; see `--help`."""
    return run_command("training.train", "Train a segmentation network.", TrainOptions, command, argv)


if __name__ == "__main__":
    sys.exit(main())
