"""Whether the frames that `training.label --select` chooses are worth more than others, by trainings.

`python -m benchmarks.selection_ablation --data camvid --root DIR --judged-by labels/soft --out runs/chosen`
trains on N selected frames of the training split, on N evenly spaced ones and on N at random, exports each
and measures the exported files. The same command again goes on after an interruption.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2

from benchmarks.ablation.selection import choose, folder_of, selection_table, ways
from benchmarks.render.document import to_text
from runtime.base.files import replacing
from runtime.base.flags import check_fields, flag, nested, run_command
from runtime.errors import ConfigError
from training.data.catalog import DataOptions
from training.data.pairs import PairedFiles
from training.engine.config import TrainConfig
from training.teaching.soft_labels import SoftLabels

VAL = "val"


@dataclass(frozen=True, kw_only=True)
class SelectionOptions:
    """What the command line asks for."""

    data: DataOptions = nested(DataOptions, group="data")
    base: TrainConfig = nested(TrainConfig, without=("checkpoint_every_steps", "samples_every"))
    out: Path = flag("folder for the trainings and the table", metavar="DIR")
    judged_by: Path = flag(
        "folder of soft labels of the training split, by which frames are selected", metavar="DIR"
    )
    frames: tuple[int, ...] = flag(
        "how many frames to choose; several give columns", default=(50,), at_least=2
    )
    draws: int = flag("trainings on random frames", default=3, at_least=0)
    places: tuple[str, ...] = flag(
        "where to measure: val, or a drive to leave out of the training; several give columns",
        default=(VAL,),
        metavar="DRIVE",
    )
    as_json: bool = flag("print one JSON object and nothing else", default=False, name="--json")

    def __post_init__(self) -> None:
        """Check the numbers."""
        check_fields(self)


def command(options: SelectionOptions) -> None:
    """Choose, train, export and measure each way."""
    from benchmarks.ablation.trained_run import trained_run  # torch takes seconds, which --help does without

    soft, way_names = SoftLabels.open(options.judged_by), ways(options.draws)
    cv2.setNumThreads(1)  # the cores belong to torch and to the loader's own threads
    miou: dict[tuple[str, str, int], float] = {}
    for place in options.places:
        leave_out = None if place == VAL else place
        train_set, val_set = (options.data.open(split, leave_out=leave_out) for split in ("train", "val"))
        if not isinstance(train_set, PairedFiles):
            raise ConfigError(f"data: expected a data set of files, got {options.data.data}; choose another")
        for count in options.frames:
            for way in way_names:
                print(f"{count} frames, {way}, on {place}", file=sys.stderr)
                chosen = choose(train_set, way, count, soft)
                run = trained_run(options.base, chosen, val_set, folder_of(options.out, place, count, way))
                miou[way, place, count] = run.accuracy.miou
    result = [
        {"way": way, "place": place, "frames": count, "miou": value}
        for (way, place, count), value in miou.items()
    ]
    with replacing(options.out / "outcomes.json") as part:
        part.write_text(json.dumps(result, indent=1), encoding="utf-8")
    if options.as_json:
        print(json.dumps({"outcomes": result}))
        return
    print(to_text([selection_table(miou, way_names, options.places, options.frames)]))
    print(f"\ntable: {options.out / 'outcomes.json'}")


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; see `--help`."""
    description = "Compare training on selected frames with as many evenly spaced or random ones."
    return run_command("benchmarks.selection_ablation", description, SelectionOptions, command, argv)


if __name__ == "__main__":
    sys.exit(main())
