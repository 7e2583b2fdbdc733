"""Compares metres with the geometry of rendered streets: `python -m benchmarks.ground --out ground`.

Range scans and grids of exact masks must meet the renderer's own geometry; those of a network's masks are
counted by distance: what is called free and is not, and the other way round.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.render.canvas import MISSING, available
from benchmarks.render.charts import draw_wrong_cells
from benchmarks.render.document import Table, to_text
from benchmarks.subjects.street_ground import (
    DistanceBin,
    Errors,
    StreetGroundConfig,
    StreetGroundReport,
    measure_street_ground,
)
from benchmarks.timing.ground_cost import GroundCost, measure_ground_cost
from runtime.base.codec import to_plain
from runtime.base.files import write_text
from runtime.base.flags import flag, nested, run_command
from runtime.ground.pose import pitch_error_rows
from runtime.network.options import ModelOptions

_HEIGHTS_M = (0.3, 0.6, 1.0, 1.5)


@dataclass(frozen=True)
class GroundBenchmark:
    """What the command line asks for."""

    model: ModelOptions = nested(ModelOptions)
    config: StreetGroundConfig = nested(StreetGroundConfig)
    cost_rounds: int = flag(
        "pairs of frames of 1280x720 that tell what metres cost; 0 for none", default=40, at_least=0
    )
    out: Path | None = flag("folder for report.json and the figure", default=None, metavar="DIR")
    as_json: bool = flag("print one JSON object and nothing else", default=False, name="--json")


def cost_table(cost: GroundCost) -> Table:
    """Return the milliseconds of the mask, of its parts on the ground, and of what these add."""
    rows = {
        "mask alone": cost.mask_ms,
        "added by confidence and metres": cost.added_ms,
        **{f"of these, {name}": part_ms for name, part_ms in cost.parts_ms.items()},
    }
    names = tuple(cost.mask_ms)
    return Table(
        (f"ms a frame of 1280x720, {cost.rounds} pairs", *names),
        [(name, *(f"{values[key]:.2f}" for key in names)) for name, values in rows.items()],
    )


def report_text(report: StreetGroundReport, cost: GroundCost | None, model: str) -> str:
    """Return the report for a terminal."""
    cell_cm = 100 * report.cell_m
    compared = {
        "scan, up to 10 m": report.scan,
        "scan, 10 to 20 m": report.scan_far,
        "scan to kerbs, up to 10 m": report.kerb,
        "grid, up to 10 m": report.grid,
    }
    exact = Table(
        ("exact masks", "rays", "median cm", "p90 cm", "bias cm", "missed %"),
        [(name, *_numbers(errors)) for name, errors in compared.items()],
    )
    heads = ("m", "free cells", "others", "false free %", "false occupied %", "free, not called free %")
    tables = [Table((f"{heads[0]}, exact masks", *heads[1:]), _rows(report.exact))]
    if report.network:
        tables.append(Table((f"{heads[0]}, {model}", *heads[1:]), _rows(report.network)))
    bound = Table(*pitch_error_rows(_HEIGHTS_M))
    costs = [] if cost is None else [cost_table(cost)]
    title = f"{report.frames} rendered frames, cells of {cell_cm:g} cm"
    return "\n\n".join([title, *(to_text([table]) for table in (exact, *tables, bound, *costs))])


def _numbers(errors: Errors) -> tuple[str, ...]:
    lengths = (f"{100 * value:.1f}" for value in (errors.median_m, errors.p90_m, errors.bias_m))
    return (str(errors.rays), *lengths, f"{100 * errors.missed:.2f}")


def _rows(bins: Sequence[DistanceBin]) -> list[tuple[str, ...]]:
    return [
        (
            f"{each.from_m:g} to {each.to_m:g}",
            str(each.free_cells),
            str(each.other_cells),
            *(f"{100 * share:.2f}" for share in (each.false_free, each.false_occupied, each.lost)),
        )
        for each in bins
    ]


def command(options: GroundBenchmark) -> None:
    """Measure, print, write."""
    with options.model.open() as segment:
        report = measure_street_ground(options.config, lambda image_bgr: segment(image_bgr).mask)
    cost = measure_ground_cost(options.model, options.cost_rounds) if options.cost_rounds else None
    text = report_text(report, cost, options.model.file.stem)
    found = to_plain({"streets": report, "cost": cost})
    print(json.dumps(found) if options.as_json else text)
    if options.out is not None:
        write_text(options.out / "report.json", json.dumps(found, indent=1) + "\n")
        write_text(options.out / "report.txt", text + "\n")
        if available():
            write_text(options.out / "wrong-cells.svg", draw_wrong_cells(report.network).file())
        else:
            print(MISSING, file=sys.stderr)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; see `--help`."""
    description = "Compare grid and range scan with the exact geometry of rendered streets."
    return run_command("benchmarks.ground", description, GroundBenchmark, command, argv)


if __name__ == "__main__":
    sys.exit(main())
