"""Segments a fleet's recordings, each chunk exactly once, in this process or on a cluster.

    python -m runtime.archive drives/ --model seg.onnx --out archive

The work itself is in `runtime.archives`; this module is its command line.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from shlex import quote

from runtime.archives.run import ArchiveOptions, Report, segment_archive
from runtime.base.codec import to_plain
from runtime.base.flags import run_command
from runtime.errors import SourceError


def command(options: ArchiveOptions) -> None:
    """Segment, print the summary, and fail where a recording lacks frames."""
    report = segment_archive(options, lambda line: print(line, file=sys.stderr, flush=True))
    if options.as_json:
        print(json.dumps(to_plain(report)))
    else:
        print(report.as_text())
        print(f"next: {_next(options, report)}")
    if report.failed:
        more = f" and {len(report.failed) - 1} more" if len(report.failed) > 1 else ""
        raise SourceError(
            f"{report.failed[0].recording}: {report.failed[0].reason}{more}; all are in "
            f"{options.out / 'failed.jsonl'}"
        )


def _next(options: ArchiveOptions, report: Report) -> str:
    if report.selected is None:
        return "add --select 200 to this command, for the frames most worth labelling"
    model, out = quote(str(options.model.file)), quote(f"{report.selected}/labels")
    source = quote(f"{report.selected}/images")
    return f"python -m training.label --model {model} --source {source} --out {out}"


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; see `--help`."""
    description = "Segment recordings by the thousand: masks, statistics, and the frames worth labelling."
    return run_command("runtime.archive", description, ArchiveOptions, command, argv)


if __name__ == "__main__":
    sys.exit(main())
