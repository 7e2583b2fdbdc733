"""Checks a data set before a training does: `python -m training.doctor --data camvid --root DIR`.

It reads every pair of image and label once and lists everything that is wrong, then says how the classes
are spread. With `--out` it draws a sheet of samples with their labels for each split.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from shlex import quote

import numpy as np

from runtime.base.codec import to_plain
from runtime.base.command import exit_code, make_parser
from runtime.errors import DatasetError
from training.data.catalog import READERS
from training.data.inspection import Inspection, inspect_dataset
from training.figures.sheet import draw_samples

SHEET_SAMPLES = 8


def draw_sheets(inspection: Inspection, out: Path) -> list[Path]:
    """Draw `samples-SPLIT.png` in the folder `out` for each split with a sound sample; return the paths.

    Raises:
        DatasetError: `out` cannot be written.
    """
    paths = []
    for dataset, readable in inspection.readable:
        if not readable:
            continue
        spread = np.linspace(0, len(readable) - 1, min(SHEET_SAMPLES, len(readable))).round().astype(int)
        samples = [dataset[readable[place]] for place in spread]
        path = out / f"samples-{dataset.split}.png"
        title = f"{dataset.name} {dataset.split}, {len(samples)} of {len(dataset)} images"
        try:
            draw_samples(path, samples, dataset.classes, title)
        except OSError as error:
            raise DatasetError(
                f"{path}: expected a folder that can be written, got {error.strerror}; choose another --out"
            ) from None
        paths.append(path)
    return paths


def summary_table(inspection: Inspection) -> str:
    """Return images, sizes and drives of each split, then each class's share of pixels and of images."""
    splits = inspection.splits
    lines = []
    for summary in splits:
        sizes = ", ".join(f"{size} ({count})" for size, count in list(summary.sizes.items())[:4])
        drives = ", ".join(f"{drive} ({count})" for drive, count in summary.drives.items())
        lines.append(f"{summary.split}: {summary.images} pairs; {sizes}" + (f"; {drives}" if drives else ""))
    if not splits:
        return ""
    width = max(len(name) for name in [*splits[0].pixel_share, "share of pixels, images"])
    lines += ["", f"{'share of pixels, images':<{width}}" + "".join(f"{s.split:>16}" for s in splits)]
    for name in splits[0].pixel_share:
        shares = "".join(f"{s.pixel_share[name]:>9.2%}{s.image_share[name]:>7.0%}" for s in splits)
        lines.append(f"{name:<{width}}{shares}")
    lines.append(f"{'void':<{width}}" + "".join(f"{s.void_share:>9.2%}{'':7}" for s in splits).rstrip())
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; see `--help`."""
    parser = make_parser("training.doctor", "Check a data set: exit code 1 when something must be corrected.")
    parser.add_argument("--data", required=True, choices=tuple(READERS), help="kind of data set")
    parser.add_argument("--root", required=True, help="the data set's folder")
    parser.add_argument("--out", type=Path, help="folder for a sheet of samples of each split, as PNG")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    args = parser.parse_args(argv)

    def command() -> None:
        inspection = inspect_dataset(args.data, args.root, progress=sys.stderr.isatty())
        sheets = [] if args.out is None else draw_sheets(inspection, args.out)
        if args.json:
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
                f"{args.root}: expected a sound data set, found {found}; correct what is listed"
            )
        if not args.json:
            root = quote(args.root)
            print(f"\nnext: python -m training.train --data {args.data} --root {root} --out runs/{args.data}")

    return exit_code(command)


if __name__ == "__main__":
    sys.exit(main())
