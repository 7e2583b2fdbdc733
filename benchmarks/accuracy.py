"""Measures the ONNX file that ships, through `Segmenter` and without torch.

python -m benchmarks.accuracy --model seg.onnx --data camvid --root DIR --split val
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from shlex import quote

from runtime.base.flags import flag, nested, run_command
from runtime.network.options import ModelOptions
from training.data.catalog import SplitOptions
from training.evaluation.measure import accuracy_json, accuracy_table, measure_segmenter, warn_if_seen


@dataclass(frozen=True)
class AccuracyOptions:
    """What the command line asks for."""

    data: SplitOptions = nested(SplitOptions)
    model: ModelOptions = nested(ModelOptions)
    ece: bool = flag("also measure the ECE, the error of the confidences", default=False)
    limit: int | None = flag("measure on the first so many images only", default=None, at_least=1)
    as_json: bool = flag("print one JSON object and nothing else", default=False, name="--json")


def command(options: AccuracyOptions) -> None:
    """Measure and print."""
    dataset = options.data.open_split()
    with options.model.open() as segment:
        if options.data.leave_out is not None:
            warn_if_seen(segment.contract, dataset)
        measured = measure_segmenter(segment, dataset, limit=options.limit, ece=options.ece)
    if options.as_json:
        print(json.dumps(accuracy_json(measured)))
        return
    print(accuracy_table(measured.accuracy, measured))
    chosen = "" if options.model.model is None else f" --model {quote(str(options.model.model))}"
    print(f"\nnext: python -m benchmarks.latency{chosen}")


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; see `--help`."""
    description = "Measure an ONNX file's accuracy through the runtime."
    return run_command("benchmarks.accuracy", description, AccuracyOptions, command, argv)


if __name__ == "__main__":
    sys.exit(main())
