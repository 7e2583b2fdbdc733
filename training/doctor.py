"""Checks a data set before a training does: `python -m training.doctor --data camvid --root DIR`.

It reads every pair of image and label once and lists everything that is wrong, then says how the classes
are spread. With `--out` it draws a sheet of samples with their labels for each split. Given a class map
instead (`--class-map cityscapes-to-camvid`), it shows what becomes of each class. With `--soft-labels` and
`--unlabelled` it compares what other networks say with the labels.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from shlex import quote

from runtime.base.codec import to_plain
from runtime.base.files import make_folder
from runtime.base.flags import check_fields, flag, run_command
from runtime.errors import ConfigError, DatasetError
from runtime.segmenter import Segmenter
from training.class_maps.translation import class_names, open_translation
from training.data.catalog import READERS, open_dataset
from training.data.inspection import Finding, inspect_dataset, summary_table
from training.figures.sheets import label_sheet, write_sheet
from training.teaching.inspection import SoftSummary, inspect_soft_labels, inspect_unlabelled, soft_table


@dataclass(frozen=True)
class DoctorOptions:
    """What the command line asks for."""

    data: str | None = flag("kind of data set", default=None, choices=READERS)
    root: str | None = flag("the data set's folder", default=None)
    class_map: str | None = flag(
        "of the soft labels; instead of a data set, show what a class map does: a bundled one such as "
        "cityscapes-to-camvid, or a file",
        default=None,
        metavar="NAME",
    )
    soft_labels: tuple[str, ...] = flag(
        "folders of soft labels for the training images, to compare with their labels",
        default=(),
        metavar="DIR",
    )
    unlabelled: str | None = flag(
        "folder of frames that have soft labels and no others", default=None, metavar="DIR"
    )
    model: Path | None = flag(
        "ONNX file whose classes the map is given", default=None, unset="those that the map names"
    )
    out: Path | None = flag("folder for a PNG of samples of each split", default=None, metavar="DIR")
    as_json: bool = flag("print one JSON object and nothing else", default=False, name="--json")

    def __post_init__(self) -> None:
        """Check that there is one thing to look at."""
        check_fields(self)
        has_soft = bool(self.soft_labels) or self.unlabelled is not None
        if self.data is None and (self.class_map is None or has_soft):
            raise ConfigError(
                "doctor: expected --data and --root, or --class-map alone, got neither; add them"
            )
        if self.data is not None and self.class_map is not None and not has_soft:
            raise ConfigError("doctor: expected --data and --root, or --class-map, and not both; name one")
        if self.data is not None and (self.root is None or self.model is not None):
            raise ConfigError("doctor: expected --root beside --data, and no --model; correct the command")


def command(options: DoctorOptions) -> None:
    """Look at what is named."""
    if options.data is not None and options.root is not None:
        _inspect(options, options.data, options.root)
    elif options.class_map is not None:
        _show_map(options, options.class_map)


def _show_map(options: DoctorOptions, name: str) -> None:
    """Print what a class map does."""
    source, target = class_names(name)
    if options.model is not None:
        with Segmenter(options.model) as segment:
            source = segment.contract.classes.names
    translation = open_translation(name, source, target)
    if options.as_json:
        print(json.dumps(to_plain(translation)))
        return
    print(translation.describe())


def _inspect(options: DoctorOptions, data: str, root: str) -> None:
    """Inspect a data set, draw what is asked for, and print."""
    if options.out is not None:
        make_folder(options.out)
    inspection = inspect_dataset(data, root)
    summaries: dict[str, SoftSummary] = {}
    if not inspection.errors:
        for title, (summary, findings) in _inspect_soft(options, data, root):
            summaries[title] = summary
            inspection = replace(inspection, findings=(*inspection.findings, *findings))
    elif options.soft_labels or options.unlabelled:
        advice = "the soft labels were not looked at, since the data set must be sound first"
        note = Finding("note", "soft labels", "", advice)
        inspection = replace(inspection, findings=(*inspection.findings, note))
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
            **({"soft_labels": to_plain(summaries)} if summaries else {}),
        }
        print(json.dumps(report))
    else:
        print(summary_table(inspection), end="\n\n")
        for title, summary in summaries.items():
            print(soft_table(title, summary), end="\n\n")
        for finding in inspection.findings:
            where = f"{finding.split}: " if finding.split else ""
            print(f"{finding.level}: {where}{finding.message}")
        for path in sheets:
            print(f"drew {path}")
    if inspection.errors:
        found = "1 error" if inspection.errors == 1 else f"{inspection.errors} errors"
        raise DatasetError(f"{root}: expected a sound data set, found {found}; correct the errors listed")
    if not options.as_json:
        soft = _soft_flags(options)
        print(f"\nnext: python -m training.train --data {data} --root {quote(root)} --out runs/{data}{soft}")


def _soft_flags(options: DoctorOptions) -> str:
    """Return what a training with the same soft labels is given."""
    folders = " ".join(map(quote, options.soft_labels))
    given = [f" --soft-labels {folders}"] if folders else []
    given += [f" --unlabelled {quote(options.unlabelled)}"] if options.unlabelled is not None else []
    given += [f" --class-map {quote(options.class_map)}"] if options.class_map is not None else []
    return "".join(given)


def _inspect_soft(
    options: DoctorOptions, data: str, root: str
) -> Iterator[tuple[str, tuple[SoftSummary, list[Finding]]]]:
    """Look at soft labels and unlabelled frames, if there are any."""
    train_set = open_dataset(data, root, "train")
    if options.soft_labels:
        yield "soft labels", inspect_soft_labels(train_set, options.soft_labels, options.class_map)
    if options.unlabelled is not None:
        found = inspect_unlabelled(options.unlabelled, options.class_map, train_set.classes)
        yield "unlabelled frames", found


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; see `--help`."""
    description = "Check a data set or a class map: exit code 1 when something must be corrected."
    return run_command("training.doctor", description, DoctorOptions, command, argv)


if __name__ == "__main__":
    sys.exit(main())
