"""Measures archives, and kills them: `python -m benchmarks.archive`.

What a frame costs, frames a second of one Ray worker and of two beside those of the network alone, memory
over a long recording, and kills at random moments. Exit code 1 where a kill lost a chunk. Ten minutes and
more with the defaults.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.render.document import Paragraph, Table, to_text
from benchmarks.stress.archives import STRUCK, Kill, LostWork
from benchmarks.timing.archives import ArchiveConfig, ArchiveReport, measure_archive
from runtime.base.codec import to_plain
from runtime.base.flags import flag, nested, run_command


@dataclass(frozen=True)
class ArchiveBenchmarkOptions:
    """What the command line asks for."""

    config: ArchiveConfig = nested(ArchiveConfig)
    as_json: bool = flag("print one JSON object and nothing else", default=False, name="--json")


def report_text(report: ArchiveReport) -> str:
    """Return the report for a terminal."""
    cost = report.cost
    parts = ("decode", "resize", "network", "mask", "numbers")
    row = [f"{getattr(cost, part):.2f}" for part in parts]
    heads = tuple(f"{part}, ms" for part in (*parts, "all"))
    blocks: list[Paragraph | Table] = [
        Table((*heads, "network's share"), [(*row, f"{cost.total:.2f}", f"{cost.network / cost.total:.3f}")]),
        Paragraph(
            f"processor time a frame of one worker with one thread, {report.model}, {report.source}: "
            f"{1e3 / cost.total:.0f} frames/s a core"
        ),
    ]
    if report.rates:
        rows = [
            (
                str(rate.workers),
                f"{rate.fps:.1f}",
                f"{rate.bare_fps:.1f}",
                f"{rate.fps / rate.bare_fps:.3f}",
                f"{rate.network_share:.3f}",
                f"{rate.bytes_a_frame:.0f}",
            )
            for rate in sorted(report.rates, key=lambda rate: rate.workers)
        ]
        heads = ("workers", "frames/s", "bare network", "of it", "of time in the network", "bytes a frame")
        blocks += [
            Table(heads, rows),
            Paragraph(
                f"two workers over one: {report.speed_up:.2f}; two workers over the network alone with two "
                f"threads: {report.bare_ratio(2):.3f}; of their time inside the network: "
                f"{report.network_share(2):.3f} (medians of {len(rows) // 2} rounds, {report.model}, "
                f"{report.source})"
            ),
        ]
    if report.kills:
        struck = {who: [kill for kill in report.kills if kill.struck == who] for who in STRUCK}
        strikes = [
            (who, str(len(kills)), str(sum(kill.again for kill in kills)), str(sum(map(_is_lost, kills))))
            for who, kills in struck.items()
        ]
        blocks.append(Table(("killed", "times", "chunks done afterwards", "lost or doubled"), strikes))
    if report.memory is not None:
        memory = report.memory
        blocks.append(
            Paragraph(
                f"memory over {memory.frames:,} small frames: {memory.early:.0f} MB in the second tenth, "
                f"{memory.late:.0f} MB in the last"
            )
        )
    return f"{to_text(blocks)}\n\n{report.machine}"


def command(options: ArchiveBenchmarkOptions) -> None:
    """Measure, print, judge."""
    report = measure_archive(options.config, lambda line: print(line, file=sys.stderr, flush=True))
    print(json.dumps(to_plain(report)) if options.as_json else report_text(report))
    lost = list(filter(_is_lost, report.kills))
    if lost:
        raise LostWork(
            f"archive: expected every chunk once, got {len(lost)} kills that lost some, such as of "
            f"{lost[0].struck}: {lost[0].problem}"
        )


def _is_lost(kill: Kill) -> bool:
    return bool(kill.problem)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; see `--help`."""
    description = "Measure an archive's rate and memory, and kill it at random moments."
    return run_command("benchmarks.archive", description, ArchiveBenchmarkOptions, command, argv)


if __name__ == "__main__":
    sys.exit(main())
