"""Fuzzes what opens a stranger's file: `python -m tests.fuzz --jobs 2 --keep runs/fuzz`."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from runtime.base.flags import flag, nested, run_command
from runtime.errors import ModelLoadError
from runtime.segmenter import bundled_model
from tests.fuzz.corruption import damaged
from tests.fuzz.fuzzing import FuzzConfig, fuzz, read_originals, report_text

MODEL = "camvid-n"


@dataclass(frozen=True)
class FuzzOptions:
    """What the command line asks for."""

    fuzzing: FuzzConfig = nested(FuzzConfig)
    model: Path | None = flag(f"ONNX file to damage (default: {MODEL} of the box)", default=None)
    checkpoint: Path | None = flag("checkpoint to damage (default: a tiny one is made)", default=None)
    keep: Path | None = flag("write the files that failed here", default=None, metavar="FOLDER")
    json: bool = flag("print every outcome as JSON", default=False)


def command(options: FuzzOptions) -> None:
    """Fuzz and print what happened.

    Raises:
        ModelLoadError: a file neither loaded nor was refused.
    """
    originals = read_originals(options.model or bundled_model(MODEL), options.checkpoint)
    outcomes = fuzz(originals, options.fuzzing)
    failures = [outcome for outcome in outcomes if not outcome.is_fine]
    if options.keep is not None:
        options.keep.mkdir(parents=True, exist_ok=True)
        for failure in failures:
            content = damaged(originals, failure.target, failure.index, options.fuzzing.seed)
            (options.keep / f"{failure.target}-{failure.index}").write_bytes(content)
    if options.json:
        print(json.dumps([dataclasses.asdict(outcome) for outcome in outcomes]))
    else:
        print(report_text(outcomes, options.fuzzing.seed))
    if failures:
        raise ModelLoadError(
            f"fuzz: expected every file to load or to be refused, {len(failures)} did neither; look at them "
            "with --keep FOLDER"
        )


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; see `--help`."""
    return run_command(
        "tests.fuzz",
        "Open damaged checkpoints, ONNX files, contracts, images, labels, videos and answers of servers in a "
        "process of their own: each must load or be refused by a known error, and never crash, hang or run "
        "code.",
        FuzzOptions,
        command,
        argv,
    )


if __name__ == "__main__":
    sys.exit(main())
