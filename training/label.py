"""Labels recordings with any ONNX networks, and chooses the frames that a person should correct.

python -m training.label --model seg.onnx --source drive.mp4 --out labels/drive
python -m training.label --out labels/drive --select 50
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Literal

from runtime.base.files import make_folder
from runtime.base.flags import check_fields, flag, run_command
from runtime.base.lock import only_run_on
from runtime.errors import ConfigError
from runtime.network.session import MAX_THREADS
from training.teaching.annotation import write_tasks
from training.teaching.ensemble import Ensemble
from training.teaching.frames import Recording
from training.teaching.labelling import LabelFolder, LabelRecord, label_recording
from training.teaching.selection import select_to_correct


@dataclass(frozen=True)
class LabelOptions:
    """What the command line asks for."""

    out: Path = flag("folder for frames and labels; running the command again goes on", metavar="DIR")
    model: tuple[Path, ...] = flag(
        "ONNX file with a contract; several are asked together", default=(), repeated=True, metavar="FILE"
    )
    source: str | None = flag(
        "folder of images, video or bag", default=None, unset="the frames that --out holds"
    )
    topic: str | None = flag("topic of the bag that holds the pictures", default=None, unset="the only one")
    every: int = flag("take one frame in so many", default=1, at_least=1)
    limit: int | None = flag("take so many frames at most", default=None, at_least=1)
    weight: tuple[float, ...] = flag(
        "of each model in the mean of their log-probabilities, in their order; none for equal ones",
        default=(),
        repeated=True,
        above=0,
    )
    class_map: tuple[str, ...] = flag(
        "brings models of other classes to common ones: a bundled map, such as cityscapes-to-camvid, or a "
        "file",
        default=(),
        repeated=True,
        metavar="NAME",
    )
    flip: bool = flag("also ask about each frame's mirror image", default=False)
    scales: tuple[float, ...] = flag(
        "ask about each frame at these sizes; others than 1 need a file exported with --dynamic",
        default=(1.0,),
        above=0,
        metavar="FACTOR",
    )
    stride: int = flag("side of the cell of a soft label", default=4, at_least=1, unit="pixels")
    void_below: float = flag(
        "probability under which a pixel's hard label is void", default=0.5, at_least=0, at_most=1
    )
    select: int | None = flag(
        "also choose so many frames for a person to correct", default=None, at_least=1, metavar="N"
    )
    select_by: Literal["evenly", "unsure"] = flag(
        "which those are: evenly spaced over the recording, or the most unsure and unlike ones",
        default="evenly",
    )
    threads: int | None = flag(
        "worker threads of each network",
        default=None,
        unset="physical cores, at most 4",
        at_least=1,
        at_most=MAX_THREADS,
    )

    def __post_init__(self) -> None:
        """Check that something is to be done."""
        check_fields(self)
        if bool(self.model) != (self.source is not None):
            given, lacking = ("--model", "--source") if self.model else ("--source", "--model")
            raise ConfigError(f"label: expected {lacking} beside {given}, got none; add it")
        if not self.model and self.select is None:
            raise ConfigError("label: expected --model and --source, or --select, got none; say what to do")


def command(options: LabelOptions) -> None:
    """Label, choose, draw and print."""
    make_folder(options.out)
    with only_run_on(options.out, is_folder=True):
        if options.source is not None:
            _label(options, options.source)
        if options.select is not None:
            _select(options.out, options.select, options.select_by)
        else:
            out = quote(str(options.out))
            print(f"\nnext: python -m training.label --out {out} --select 50")


def _label(options: LabelOptions, source: str) -> None:
    record = LabelRecord.of(
        source,
        options.model,
        options.class_map,
        options.topic,
        every=options.every,
        weights=options.weight,
        flip=options.flip,
        scales=options.scales,
        stride=options.stride,
        void_below=options.void_below,
    )
    recording = Recording(source, options.topic, options.every, options.limit)
    with Ensemble(
        options.model,
        weights=options.weight,
        class_maps=options.class_map,
        flip=options.flip,
        scales=options.scales,
        stride=options.stride,
        threads=options.threads,
    ) as ensemble:
        print(ensemble.describe(), file=sys.stderr)
        folder, names, known = label_recording(options.out, recording, ensemble, record)
    print(f"{len(names)} frames in {options.out}, {known} of them labelled before")
    if names:
        sheets = folder.draw_sheets(names, "labels")
        print("look at " + ", ".join(str(sheet) for sheet in sheets))


def _select(out: Path, count: int, by: Literal["evenly", "unsure"]) -> None:
    folder = LabelFolder.open(out)
    rounds = [int(each.name[6:]) for each in out.glob("round-*") if each.name[6:].isdecimal()]
    taken = [path.stem for path in out.glob("round-*/images/*.png")]
    chosen = select_to_correct(folder.soft, count, lambda name: folder.sample(name).image_bgr, taken, by)
    if not chosen:
        raise ConfigError(f"{out}: expected frames that no round holds yet, found none; label more of them")
    names = [name for name, _ in chosen]
    task = out / f"round-{max(rounds, default=0) + 1}"
    write_tasks(task, names, folder.sample, folder.classes, folder.soft.teacher.terms)
    print(f"{len(names)} frames to correct in {task}; how unsure each is, 0 to 1:")
    for name, unsure in chosen:
        print(f"{unsure:.3f}  {name}")
    sheets = folder.draw_sheets(names, task.name)
    print("look at " + ", ".join(str(sheet) for sheet in sheets))
    root = quote(str(task))
    print(
        "\nnext: correct them in CVAT or Label Studio, or in any painter that keeps a palette; then "
        f"python -m training.doctor --data folder --root {root}"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; see `--help`."""
    description = "Label a recording with any ONNX networks; choose the frames that a person should correct."
    return run_command("training.label", description, LabelOptions, command, argv)


if __name__ == "__main__":
    sys.exit(main())
