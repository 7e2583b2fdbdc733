"""Checks a data set before a training does: `python -m training.doctor --data camvid --root DIR`.

It reads every pair of image and label once and lists everything that is wrong, then says how the classes
are spread. With `--out` it draws a sheet of samples with their labels for each split.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

from runtime.base.codec import to_plain
from runtime.base.files import make_folder
from runtime.base.flags import flag, run_command
from runtime.errors import DatasetError
from training.data.catalog import READERS
from training.data.inspection import inspect_dataset, summary_table
from training.figures.sheets import label_sheet, write_sheet


@dataclass(frozen=True)
class DoctorOptions:
    """What the command line asks for."""

    data: str = flag("kind of data set", choices=READERS)
    root: str = flag("the data set's folder")
    out: Path | None = flag("folder for a PNG of samples of each split", default=None, metavar="DIR")
    as_json: bool = flag("print one JSON object and nothing else", default=False, name="--json")


def command(options: DoctorOptions) -> None:
    """Inspect, draw what is asked for, and print."""
    if options.out is not None:
        make_folder(options.out)
    inspection = inspect_dataset(options.data, options.root)
    sheets = []
    if options.out is not None:
        for dataset, chosen in inspection.spread_samples():
            sheets.append(options.out / f"samples-{dataset.split}.png")
            title = f"{dataset.name} {dataset.split}, {len(chosen)} of {len(dataset)} images"
            samples = [dataset[index] for index in chosen]
            write_sheet(sheets[-1], label_sheet(samples, dataset.classes, title))
    if options.as_json:
        report = {
            "errors": inspection.errors,
            "findings": to_plain(inspection.findings),
            "splits": to_plain(inspection.splits),
            "sheets": [str(path) for path in sheets],
        }
        print(json.dumps(report))
    else:
        print(summary_table(inspection), end="\n\n")
        for finding in inspection.findings:
            where = f"{finding.split}: " if finding.split else ""
            print(f"{finding.level}: {where}{finding.message}")
        for path in sheets:
            print(f"drew {path}")
    if inspection.errors:
        found = "1 error" if inspection.errors == 1 else f"{inspection.errors} errors"
        raise DatasetError(
            f"{options.root}: expected a sound data set, found {found}; correct the errors listed"
        )
    if not options.as_json:
        data, root = options.data, quote(options.root)
        print(f"\nnext: python -m training.train --data {data} --root {root} --out runs/{data}")


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; see `--help`."""
    description = "Check a data set: exit code 1 when something must be corrected."
    return run_command("training.doctor", description, DoctorOptions, command, argv)


if __name__ == "__main__":
    sys.exit(main())
