"""Measures the ONNX file that ships, through `Segmenter` and without torch.

python -m benchmarks.accuracy --model seg.onnx --data camvid --root DIR --split val
python -m benchmarks.accuracy --model seg.onnx --data camvid --root DIR --unlabelled drive.mp4 'sea/*.jpg'
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from shlex import quote

from benchmarks.render.document import Table, to_text
from benchmarks.subjects.unknown import UnknownShare, unknown_of, unknown_of_labelled, unknown_rows
from runtime.base.codec import to_plain
from runtime.base.flags import check_fields, flag, nested, run_command
from runtime.errors import ConfigError
from runtime.network.options import ModelOptions
from training.class_maps.translation import open_translation
from training.data.catalog import SplitOptions
from training.data.dataset import SegmentationDataset
from training.evaluation.measure import accuracy_json, accuracy_table, measure_segmenter, warn_if_seen


@dataclass(frozen=True)
class AccuracyOptions:
    """What the command line asks for."""

    data: SplitOptions = nested(SplitOptions)
    model: ModelOptions = nested(ModelOptions)
    ece: bool = flag("also measure the ECE, the error of the confidences", default=False)
    class_map: str | None = flag(
        "bring a model of other classes to those of the labels: a bundled map such as cityscapes-to-camvid, "
        "or a file",
        default=None,
        metavar="NAME",
    )
    limit: int | None = flag("measure on the first so many images only", default=None, at_least=1)
    unlabelled: tuple[str, ...] = flag(
        "videos or images ('sea/*.jpg') without labels: print which share of their pixels, and of the "
        "labelled ones, would be unknown; at most 300 frames of each",
        default=(),
        metavar="SOURCE",
    )
    unknown_below: tuple[float, ...] = flag(
        "probabilities under which a pixel would be unknown",
        default=(0.5, 0.7, 0.9),
        at_least=0,
        at_most=1,
        metavar="P",
    )
    as_json: bool = flag("print one JSON object and nothing else", default=False, name="--json")

    def __post_init__(self) -> None:
        """Check what does not go together."""
        check_fields(self)
        if self.class_map is not None and self.unlabelled:
            raise ConfigError(
                "unlabelled: expected a model of the labels' own classes, got --class-map; leave one out"
            )


def command(options: AccuracyOptions) -> None:
    """Measure and print."""
    dataset = options.data.open_split()
    with options.model.open() as segment:
        if options.data.leave_out is not None:
            warn_if_seen(segment.contract, dataset)
        translation = None
        if options.class_map is not None:
            translation = open_translation(
                options.class_map, segment.contract.classes.names, dataset.classes.names
            )
            print(translation.describe(), file=sys.stderr)
        measured = measure_segmenter(
            segment, dataset, limit=options.limit, ece=options.ece, translation=translation
        )
    unknown = _unknown(options, dataset) if options.unlabelled else []
    if options.as_json:
        print(json.dumps({**accuracy_json(measured), "unknown": to_plain(unknown)}))
        return
    print(accuracy_table(measured.accuracy, measured))
    if unknown:
        print(f"\n{_unknown_text(options, unknown)}")
    chosen = "" if options.model.model is None else f" --model {quote(str(options.model.model))}"
    print(f"\nnext: python -m benchmarks.latency{chosen}")


def _unknown(options: AccuracyOptions, dataset: SegmentationDataset) -> list[UnknownShare]:
    """Measure the labelled images and each source without labels."""
    below, limit = options.unknown_below, options.limit
    with options.model.open(confidence=True) as segment:
        first = unknown_of_labelled(segment, dataset, below, limit)
        return [first, *(unknown_of(segment, source, below, limit) for source in options.unlabelled)]


def _unknown_text(options: AccuracyOptions, unknown: Sequence[UnknownShare]) -> str:
    header = (
        "unknown pixels, %",
        "frames",
        "mean confidence",
        *(f"under {p:g}" for p in options.unknown_below),
    )
    right = ("right of the others", "", "", *(f"{100 * share:.1f}" for share in unknown[0].right))
    first, *others = unknown_rows(unknown)
    return to_text([Table(header, [first, right, *others])])


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; see `--help`."""
    description = "Measure an ONNX file's accuracy through the runtime."
    return run_command("benchmarks.accuracy", description, AccuracyOptions, command, argv)


if __name__ == "__main__":
    sys.exit(main())
